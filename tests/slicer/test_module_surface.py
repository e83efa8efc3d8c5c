"""The Surface panel over the real engine and real MRML nodes; the application's widgets are stand-ins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import slicer

from application import Application, opened, waited
from splatomy.cli.phantom.object import written_object
from splatomy.events import finish


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest image set with cameras, object masks and depth."""
    folder = tmp_path_factory.mktemp("slicer") / "object"
    finish(written_object(folder, "tiny", 0, None))
    return folder


def test_image_sets_find_the_module(app: Application, dsa: Path, tmp_path: Path) -> None:
    from SplatomyLib.reading import kind_of

    assert kind_of(dsa) == "dsa" and kind_of(tmp_path) == ""
    colmap, depth = tmp_path / "colmap", tmp_path / "depth"
    (colmap / "sparse" / "0").mkdir(parents=True)
    for name in ("pose", "intrinsic"):
        (depth / name).mkdir(parents=True)
    nerf = tmp_path / "nerf"
    nerf.mkdir()
    (nerf / "transforms.json").write_text("{}")
    assert [kind_of(path) for path in (colmap, depth, nerf, nerf / "transforms.json")] == ["views"] * 4


def test_steps_and_masks_become_settings_of_the_method(app: Application, tmp_path: Path) -> None:
    widget = opened("SplatomySurface")
    parameters = widget.parameters
    assert not widget.ui.gaussiansButton.checked and parameters.method == "pulled_surface"
    assert widget.logic.actions.options(parameters) == {}
    parameters.masksPath = tmp_path
    assert widget.logic.actions.words(parameters) == ["--masks", str(tmp_path)]
    # Nothing is loaded: the buttons of the result do nothing, and say nothing wrong.
    widget.ui.evidenceButton.click()
    widget.ui.gaussiansButton.click()
    assert app.shown == []


def without_a_row(browser: Any) -> np.ndarray:
    """The first view's object mask, as a person left it who took its topmost row away."""
    from SplatomyLib.bridge_inputs import parts_of, picture_shape
    from SplatomyLib.bridge_view_masks import VIEW_MASKS, read_view_masks

    sequence, shape = parts_of(browser)[VIEW_MASKS], picture_shape(browser)
    mask = read_view_masks(sequence, shape)[0][0].copy()
    mask[np.flatnonzero(mask.any(1))[0]] = False
    picture = browser.GetProxyNode(parts_of(browser)["frames"])
    node = browser.GetProxyNode(sequence)
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask[None].astype(np.uint8), node, "object", picture)
    return mask


@pytest.mark.verify
def test_an_object_becomes_a_mesh_with_evidence_and_figures(
    app: Application, views: Path, tmp_path: Path
) -> None:
    widget = opened("SplatomySurface")
    ui, parameters = widget.ui, widget.parameters
    parameters.outputFolder = tmp_path / "runs"
    widget.open_run(views)
    waited(widget, lambda: parameters.browser is not None)
    assert ui.applyButton.enabled and ui.seekWidget.given["setMRMLSequenceBrowserNode"] is not None
    painted = without_a_row(parameters.browser)
    parameters.steps = 60
    ui.applyButton.click()
    run = widget.session.logic.runs[-1]
    waited(widget, lambda: run.job.state.is_over)
    assert run.job.text(0).startswith("Done"), run.job.text(0)
    options = json.loads((run.out / "run.json").read_text())["input_options"]
    used = (run.out / options["target"]).resolve()
    assert used.parent == tmp_path / "runs" / f"{run.out.name}.masks"
    first = min(used.iterdir())
    assert np.array_equal(cv2.imread(str(first), cv2.IMREAD_UNCHANGED) > 0, painted)
    loaded = widget.results.loaded
    assert loaded is not None and loaded.problems == []
    mesh = loaded.nodes["mesh"]
    display = mesh.GetDisplayNode()
    assert display.GetActiveScalarName() == "evidence" and mesh.GetPolyData().GetNumberOfPolys() > 100
    ui.coloursButton.click()
    assert display.GetActiveScalarName() == "RGB"
    ui.evidenceButton.click()
    assert display.GetActiveScalarName() == "evidence"
    table = ui.figuresTable.given["setMRMLTableNode"]
    assert table is loaded.nodes["metrics"] and table.GetNumberOfRows() > 0
    gaussians = loaded.nodes["gaussians"].GetDisplayNode()
    assert not gaussians.GetVisibility()
    ui.gaussiansButton.click()
    assert gaussians.GetVisibility()
