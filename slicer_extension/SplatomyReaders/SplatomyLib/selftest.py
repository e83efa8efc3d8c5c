"""Tests that run inside Slicer, with the real application, widgets and engine.

They need an engine (section Engine of a module, or ``splatomy`` on the path) and some minutes of processor
time. ``slicer_extension/run_self_tests.py`` runs them without a window.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import slicer

from SplatomyLib import bridge_case, bridge_frames, bridge_inputs, bridge_masks, bridge_volumes, reading
from SplatomyLib.process import Runner
from SplatomyLib.protocol import Job, State
from SplatomyLib.session import session

_PATIENCE_S = 600.0


def waited(until: Callable[[], bool]) -> None:
    """Lets the application turn until something is so."""
    end = time.monotonic() + _PATIENCE_S
    while not until():
        if time.monotonic() > end:
            raise AssertionError("the engine did not answer in time")
        slicer.app.processEvents()
        session().logic.poll()
        time.sleep(0.05)


def engine() -> None:
    """An engine is found and says what it is."""
    logic = session().logic
    for command in session().candidates():
        run = logic.check(command, lambda _text: None)
        waited(lambda run=run: run.job.state.is_over)
        if logic.engine is not None:
            return
    raise AssertionError("There is no engine. Put splatomy on the path, or choose it in the section Engine.")


def phantom(*words: str) -> Path:
    """An input that the engine makes."""
    out = Path(tempfile.mkdtemp()) / "input"
    command = ["phantom", *words, "--out", str(out)]
    run = session().logic.command("phantom", command, lambda _run: None)
    waited(lambda: run.job.state.is_over)
    assert run.job.state is State.DONE, run.job.text(0)
    return out


def settings(source: Path, **more: Any) -> SimpleNamespace:
    """Parameters without a panel."""
    common = {
        "inputPath": source, "browser": None, "preset": "draft", "device": "cpu", "steps": 40,
        "outputFolder": source.parent / "runs", "livePreview": True,
    }  # fmt: skip
    return SimpleNamespace(**{**common, **more})


def _loaded(actions: Any, parameters: Any) -> Any:
    found: list[Any] = []
    problems: list[str] = []
    run = actions.load(parameters, found.append, problems.append)
    waited(lambda: run.job.state.is_over)
    assert found, problems
    parameters.browser = found[0].nodes["browser"]
    return found[0]


def _reconstructed(actions: Any, parameters: Any) -> Any:
    ended: list[Any] = []
    actions.reconstruct(parameters, ended.append)
    waited(lambda: bool(ended))
    assert ended[0].job.state is State.DONE, ended[0].job.text(0)
    return session().logic.load_result(ended[0])


def endoscopy(logic: Any) -> None:
    """A clip: loaded, masks proposed and edited, reconstructed, shown, saved."""
    engine()
    logic.use(session())
    actions = logic.actions
    source = phantom("tissue", "--preset", "tiny", "--seed", "3")
    parameters = settings(source, firstFrame=0, lastFrame=0, frameStep=1)
    _loaded(actions, parameters)
    browser = parameters.browser
    told: list[str] = []
    actions.make_masks(parameters, False, told.append)
    waited(lambda: bool(told))
    assert "frames confirmed" in told[0], told
    shown, picture = actions.mask_node(browser), actions.picture_node(browser)
    browser.SetSelectedItemNumber(2)
    slicer.app.processEvents()
    painted = np.zeros((1, *bridge_inputs.picture_shape(browser)), np.uint8)
    painted[0, 5:15, 5:25] = 1
    segment = shown.GetSegmentation().GetNthSegmentID(0)
    slicer.util.updateSegmentBinaryLabelmapFromArray(painted, shown, segment, picture)
    browser.SetSelectedItemNumber(5)
    slicer.app.processEvents()
    masks, _states = bridge_inputs.masks_of_input(browser)
    assert np.array_equal(masks[2], painted[0] > 0)
    stack = actions.to_stack(browser)
    assert np.array_equal(bridge_masks.read_stack(stack[1], masks.shape), masks)
    actions.from_stack(browser, stack)
    actions.confirm(browser, everything=True)
    assert actions.save_masks(browser) > 0
    loaded = _reconstructed(actions, parameters)
    assert loaded.problems == [], loaded.problems
    assert loaded.nodes["meshes"].GetNumberOfDataNodes() == len(masks)
    bundle = source.parent / "case.mrb"
    bridge_case.save_bundle(slicer.mrmlScene, bundle)
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(bundle))
    again = slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode")
    frames = [node for node in again if "masks" in bridge_inputs.parts_of(node)]
    found, _states = bridge_inputs.masks_of_input(frames[0])
    assert np.array_equal(found, masks)


def angiography(logic: Any) -> None:
    """A DSA run: loaded, reconstructed with a live preview, shown; a second run is cancelled in time."""
    engine()
    logic.use(session())
    actions = logic.actions
    source = phantom("vessels", "--preset", "tiny", "--seed", "0")
    parameters = settings(
        source,
        geometryPath=Path(),
        maskRunPath=Path(),
        binning=1,
        method="dynamic_vessels",
        views=12,
        steps=60,
    )
    _loaded(actions, parameters)
    loaded = _reconstructed(actions, parameters)
    assert loaded.problems == [], loaded.problems
    volume = loaded.nodes["volume"]
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    assert np.isfinite(bridge_volumes.values_of(volume)).all()
    assert bridge_frames.times_of(loaded.nodes["volume_4d"]).size > 1
    parameters.steps = 100_000
    ended: list[Any] = []
    run = actions.reconstruct(parameters, ended.append)
    waited(lambda: run.job.stage == "train")
    run.runner.cancel()
    waited(lambda: bool(ended))
    assert run.job.state is State.STOPPED
    assert (run.out / "run.json").is_file()


def surface(logic: Any) -> None:
    """Views of an object: loaded, its surface and figures in the scene."""
    engine()
    logic.use(session())
    source = phantom("object", "--preset", "tiny", "--seed", "0")
    parameters = settings(source, masksPath=Path(), method="pulled_surface", steps=60)
    _loaded(logic.actions, parameters)
    loaded = _reconstructed(logic.actions, parameters)
    assert loaded.problems == [], loaded.problems
    assert loaded.nodes["mesh"].GetPolyData().GetPointData().HasArray("evidence")
    assert loaded.nodes["metrics"].GetNumberOfRows() > 0


def readers() -> None:
    """Files and folders through Slicer's own reading; a program that does not exist."""
    engine()
    source = phantom("vessels", "--preset", "tiny", "--seed", "0")
    assert reading.kind_of(source) == reading.DSA
    out = source.parent / "run"
    words = ["reconstruct", str(source), "--out", str(out), "--preset", "draft", "--set", "steps=40"]
    run = session().logic.command("run", words, lambda _run: None)
    waited(lambda: run.job.state.is_over)
    assert run.job.state is State.DONE, run.job.text(0)
    node = slicer.util.loadNodeFromFile(str(out / "scene" / "gaussians.ply"), "SplatomyFile")
    assert node.GetPolyData().GetPointData().HasArray("opacity")
    assert slicer.app.ioManager().loadNodes("SplatomyFile", {"fileName": str(out / "run.json")}) is not None
    assert slicer.mrmlScene.GetFirstNodeByName("run volume") is not None
    runner = Runner(session().logic.new_pipe(), Job("none"))
    runner.start(["no-such-program"], {})
    assert runner.job.state is State.FAILED
