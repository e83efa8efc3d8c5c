"""A whole job in the window: load, reconstruct, look, export; and an engine that is killed in mid-run."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from driving import LONG_MS, open_by_drop
from PyQt6.QtCore import Qt

from splatomy.io.volume import read_volume
from splatomy_gui.worker import JobState

RUN_MS = 240_000


def start_run(window: Any, qtbot: Any, case: Path, steps: int) -> Any:
    """Opens a run and starts a draft with few steps, by the form; the job."""
    open_by_drop(window, qtbot, case)
    qtbot.mouseClick(window.stepper.buttons["reconstruct"], Qt.MouseButton.LeftButton)
    page = window.page
    page.preset.setCurrentIndex(page.preset.findData("draft"))
    qtbot.mouseClick(page.advanced, Qt.MouseButton.LeftButton)
    for name, text in (("steps", str(steps)), ("num_start", "800"), ("snapshot_every_s", "0.2")):
        field = page._form.field(name)
        field.selectAll()
        qtbot.keyClicks(field, text)
    assert "minute" not in page.estimate.text() and "GiB" in page.estimate.text()
    qtbot.mouseClick(page.start_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: bool(window.session.queue.jobs), timeout=LONG_MS)
    return window.session.queue.jobs[-1]


def test_sample_run_to_exported_mesh_and_volume(window: Any, qtbot: Any, tiny_case: Path) -> None:
    job = start_run(window, qtbot, tiny_case, 40)
    field = window.page._form.field("steps")
    field.selectAll()
    qtbot.keyClicks(field, "3")
    assert not window.page.start_button.isEnabled() and "expected 20" in window.page.start_button.toolTip()
    qtbot.waitUntil(lambda: job.state.ended, timeout=RUN_MS)
    assert job.state is JobState.DONE, job.problem
    assert job.history["loss"]
    qtbot.waitUntil(lambda: window.session.result is not None, timeout=LONG_MS)
    qtbot.mouseClick(window.page.inspect_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: window.step_key == "inspect", timeout=LONG_MS)
    qtbot.waitUntil(lambda: window.page.volume is not None, timeout=LONG_MS)
    # A real picture from the view's own camera, made by a process that views the finished run.
    viewer = window.session.viewer()
    with qtbot.waitSignal(viewer.rendered, timeout=RUN_MS) as shown:
        viewer.render(window.page.scene_view.engine_camera((64, 48)), (64, 48))
    assert shown.args[0] == viewer.newest and Path(shown.args[1]).read_bytes()[1:4] == b"PNG"
    qtbot.mouseClick(window.stepper.buttons["export"], Qt.MouseButton.LeftButton)
    qtbot.mouseClick(window.page.rows[0][2], Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: window.page.written.count() == 1, timeout=RUN_MS)
    mesh = Path(window.page.written.item(0).text())
    assert mesh.read_bytes().startswith(b"ply") and mesh.parent == window.session.folder / "exports"
    qtbot.mouseClick(window.page.rows[1][2], Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: window.page.written.count() == 2, timeout=RUN_MS)
    volume = read_volume(Path(window.page.written.item(1).text()))
    assert volume.values.max() > 0
    qtbot.mouseClick(window.page.slicer_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: window.page.written.count() == 3, timeout=LONG_MS)
    scene = Path(window.page.written.item(2).text())
    for part in scene.read_text().split("fileName=")[1:]:
        assert (scene.parent / part.split('"')[1]).is_file()


@pytest.mark.verify
def test_engine_killed_in_mid_run(window: Any, qtbot: Any, tiny_case: Path) -> None:
    job = start_run(window, qtbot, tiny_case, 100_000)
    qtbot.waitUntil(lambda: job.stage == "train" and job.step > 0, timeout=RUN_MS)
    os.kill(job.engine.pid, signal.SIGKILL)
    qtbot.waitUntil(lambda: bool(window.dialogs), timeout=LONG_MS)
    dialog = window.dialogs[-1]
    assert "memory" in dialog.why.text() and "Continue" in dialog.advice.text()
    dialog.close()
    assert job.state is JobState.FAILED
    qtbot.mouseClick(window.bar_buttons["jobs"], Qt.MouseButton.LeftButton)
    page = window.jobs_page
    assert page.chosen is job and page.continue_button.isEnabled()
    qtbot.mouseClick(page.continue_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: window.session.queue.jobs[-1] is not job, timeout=LONG_MS)
    again = window.session.queue.jobs[-1]
    qtbot.waitUntil(lambda: again.stage == "train" and again.step > 0, timeout=RUN_MS)
    again.stop()
    qtbot.waitUntil(lambda: again.state.ended, timeout=RUN_MS)
    assert again.state is JobState.STOPPED
