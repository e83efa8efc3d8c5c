"""Live sessions in the Endoscopy module: the real engine, real nodes, stand-ins for the widgets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from application import Application, opened, waited
from splatomy.cli.phantom.stream import written_stream
from splatomy.events import finish
from splatomy.phantoms.stream import PRESETS
from SplatomyLib.bridge_nodes import points_of, unit_of
from SplatomyLib.files import UnusableFile
from SplatomyLib.geometry import World
from SplatomyLib.live import LivePoints, live_text, read_arrays
from SplatomyLib.preview import LivePreview
from SplatomyLib.protocol import Job


def block(number: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(number)
    return {
        "xyz": rng.normal(size=(5, 3)).astype(np.float32),
        "rgb": rng.integers(0, 255, (5, 3)).astype(np.uint8),
        "confidence": np.full(5, 200, np.uint8),
    }


def snapshot(folder: Path, generation: int, blocks: dict[str, str], **fields: Any) -> Path:
    path = folder / f"snapshot_{generation}.json"
    entries = [{"key": key, "file": name, "count": 5} for key, name in blocks.items()]
    path.write_text(json.dumps({"contract": 1, "generation": generation, "blocks": entries, **fields}))
    return path


def test_arrays_are_read_as_the_engine_wrote_them(tmp_path: Path) -> None:
    save_file(block(1), tmp_path / "a.safetensors")
    for name, values in read_arrays(tmp_path / "a.safetensors").items():
        np.testing.assert_array_equal(values, block(1)[name])
    for junk in (b"", b"\xff" * 64, (tmp_path / "a.safetensors").read_bytes()[:40]):
        (tmp_path / "junk").write_bytes(junk)
        with pytest.raises(UnusableFile):
            read_arrays(tmp_path / "junk")


def test_only_new_blocks_are_read_and_a_lost_one_changes_nothing(tmp_path: Path) -> None:
    for number in range(3):
        save_file(block(number), tmp_path / f"b{number}.safetensors")
    points = LivePoints()
    points.take(snapshot(tmp_path, 1, {"0_0": "b0.safetensors", "1_0": "b1.safetensors"}))
    points.take(snapshot(tmp_path, 2, {"0_0": "b0.safetensors", "1_0": "b2.safetensors"}, metric=True))
    assert points.reads == 3 and points.metric
    expected = np.concatenate([block(0)["xyz"], block(2)["xyz"]])
    np.testing.assert_array_equal(points.arrays("xyz", 3), expected)
    with pytest.raises(OSError):
        points.take(snapshot(tmp_path, 3, {"0_0": "gone.safetensors"}))
    np.testing.assert_array_equal(points.arrays("xyz", 3), expected)
    with pytest.raises(UnusableFile):
        points.take(snapshot(tmp_path, 4, {"0_0": "../b0"}).with_name("nothing.json"))


def test_the_preview_shows_points_and_marks_in_place(scene: Any, tmp_path: Path) -> None:
    save_file(block(0), tmp_path / "b0.safetensors")
    preview = LivePreview(scene, "live", World("first camera", metric=False), every_s=0.5)
    preview.offer({"points": str(snapshot(tmp_path, 1, {"0": "b0.safetensors"}))})
    assert preview.show(0.0)
    marks = [{"id": "1", "name": "Vessel", "position": [1.0, 2.0, 3.0]}]
    preview.offer({"points": str(snapshot(tmp_path, 2, {"0": "b0.safetensors"}, marks=marks, metric=True))})
    assert not preview.show(0.4) and preview.show(0.6)
    model = next(node for node in preview.nodes() if node.IsA("vtkMRMLModelNode"))
    np.testing.assert_allclose(points_of(model.GetPolyData()), block(0)["xyz"], atol=1e-6)
    fiducials = next(node for node in preview.nodes() if node.IsA("vtkMRMLMarkupsFiducialNode"))
    assert fiducials.GetNumberOfControlPoints() == 1 and fiducials.GetNthControlPointLabel(0) == "Vessel"
    assert len(preview.nodes()) == 2


def test_events_of_a_session_are_told_in_words() -> None:
    job = Job("live", patience_s=90.0)
    lines = [
        {"event": "live", "state": "lost", "rung": 2, "metrics": {"fps": 4.0, "dropped": 7, "psnr": None}},
        {"event": "command", "id": "a", "state": "received", "generation": 3},
        {"event": "command", "id": "a", "state": "rejected", "generation": 3, "reason": "No tissue."},
        {"event": "live", "state": 7, "metrics": [1]},
    ]
    job.feed("\n".join(map(json.dumps, lines[:3])).encode() + b"\n", b"", 0.0)
    assert "go back to a place" in job.text(0.0) and "7 frames dropped" in job.text(0.0)
    assert job.commands["a"] == ("rejected", "No tissue.")
    job.feed(json.dumps(lines[3]).encode() + b"\n", b"", 1.0)
    assert live_text(job.live) == "Live, 7"
    job.ask_to_stop(2.0)
    assert job.force(60.0).name == "NONE" and job.force(93.0).name == "TERMINATE"


def test_a_session_of_the_module(app: Application, tmp_path: Path) -> None:
    preset = replace(PRESETS["tiny"], duration_s=150.0, fps=2.0, path_s=60.0)
    preset = replace(preset, disturbances=(), instrument_mm=0.0)
    finish(written_stream(tmp_path / "stream", preset, 0))
    widget = opened("SplatomyEndoscopy")
    ui, parameters = widget.ui, widget.parameters
    parameters.outputFolder = tmp_path / "runs"
    ui.liveStartButton.click()
    waited(widget, lambda: bool(app.shown))
    assert "Name a source" in app.shown[-1] and not widget.live.running
    parameters.liveSource = str(tmp_path / "stream")
    ui.liveStartButton.click()
    waited(widget, lambda: widget.live.running and bool(widget.live.run.preview.points.record))
    run = widget.live.run
    waited(widget, lambda: "tracking" in ui.liveLabel.text and ui.liveFreezeButton.enabled)
    model = next(node for node in run.preview.nodes() if node.IsA("vtkMRMLModelNode"))
    assert model.GetPolyData().GetNumberOfPoints() > 100 and unit_of(model) == "mm"
    ui.liveFreezeButton.click()
    waited(widget, lambda: ui.liveLabel.text.endswith("Freeze: applied"))
    ui.liveUndoButton.click()
    waited(widget, lambda: ui.liveLabel.text.endswith("Undo: applied"))
    ui.cancelButton.click()
    waited(widget, lambda: run.job.state.is_over)
    assert run.job.result and (run.out / "run.json").is_file()
    assert not ui.liveFreezeButton.enabled and ui.liveStartButton.enabled
    log = [json.loads(line) for line in (run.out / "commands.jsonl").read_text().splitlines()]
    assert [line["command"] for line in log] == ["freeze", "undo"]
