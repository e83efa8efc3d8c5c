"""The live page, driven as at the table: a session with an engine of its own, tools, answers, undo."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from driving import LONG_MS
from PyQt6.QtCore import QPoint, Qt

from splatomy.cli.phantom.stream import written_stream
from splatomy.events import finish
from splatomy.phantoms.stream import PRESETS
from splatomy_gui.worker import JobState

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture(scope="session")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny stream, without smoke, darkness or instruments, that is longer than a busy machine needs."""
    folder = tmp_path_factory.mktemp("stream") / "stream"
    preset = replace(PRESETS["tiny"], duration_s=150.0, fps=2.0, path_s=60.0)
    preset = replace(preset, disturbances=(), instrument_mm=0.0, width_px=96, height_px=80)
    finish(written_stream(folder, preset, 0))
    return folder


def live_page(window: Any, qtbot: Any) -> Any:
    window.show_workspace("endoscopy", "load")
    qtbot.mouseClick(window.stepper.buttons["live"], LEFT)
    assert window.step_key == "live"
    # The first 3D view makes Qt build the window anew, and without a window manager nobody activates it.
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow, timeout=LONG_MS)
    return window.page


def place(view: Any, x: float, y: float) -> QPoint:
    """Where a pixel of the frame lies in the view."""
    return view.mapFromScene(x + 0.5, y + 0.5)


def drag(qtbot: Any, view: Any, corners: list[tuple[float, float]]) -> None:
    port = view.viewport()
    qtbot.mousePress(port, LEFT, pos=place(view, *corners[0]))
    for corner in corners[1:]:
        qtbot.mouseMove(port, place(view, *corner))
    qtbot.mouseRelease(port, LEFT, pos=place(view, *corners[-1]))


def answered(page: Any, qtbot: Any, command: Any) -> Any:
    """Does something that sends a command and waits for the engine's last word on it."""
    with qtbot.waitSignal(page.desk.changed, timeout=LONG_MS, check_params_cb=_is_answer) as heard:
        command()
    return heard.args[0]


def _is_answer(asked: Any) -> bool:
    return asked.state in ("applied", "rejected")


def test_a_session_from_start_to_end(window: Any, qtbot: Any, stream: Path, tmp_path: Path) -> None:
    window.session.settings.set("cases_folder", str(tmp_path / "cases"))
    page = live_page(window, qtbot)
    table = window.actions_table
    assert not page.start_button.isEnabled() and "Choose a recording" in page.start_button.toolTip()
    assert not table["live_mask"].isEnabled()
    page.source.recording.edit.setFocus()
    qtbot.keyClicks(page.source.recording.edit, str(stream))
    qtbot.mouseClick(page.start_button, LEFT)
    assert page.running and not page.start_button.isEnabled() and table["live_mask"].isEnabled()
    job = page.job
    qtbot.waitUntil(lambda: bool(page.surface.record) or job.state.ended, timeout=LONG_MS)
    assert not job.state.ended, job.problem
    qtbot.waitUntil(lambda: page.status.lamp.colour == "good", timeout=LONG_MS)
    qtbot.waitUntil(lambda: page._shown_frame is not None, timeout=LONG_MS)
    qtbot.waitUntil(lambda: page.surface.num_points > 0 and not page.surface._uploads, timeout=LONG_MS)
    names = [n for n in page.scene_view.plotter.actors if n.startswith("block ")]
    assert names and "dropped" in page.status.counts.text()
    qtbot.waitUntil(lambda: page.status.gauge.median_s is not None, timeout=LONG_MS)
    assert "mm" in page.age.text() and "relative" not in page.age.text()

    # A line around a place, drawn on the picture, which stands still meanwhile while the video goes on.
    qtbot.keyClick(window, Qt.Key.Key_B)
    assert page.tools.name == "live_mask"
    view, before = page.frame_view, page.video.count
    port = view.viewport()
    qtbot.mousePress(port, LEFT, pos=place(view, 20, 20))
    held = page._shown_frame
    qtbot.waitUntil(lambda: page.inset.isVisible() and page.video.count > before + 1, timeout=LONG_MS)
    assert page._shown_frame == held
    for corner in ((50, 20), (50, 50)):
        qtbot.mouseMove(port, place(view, *corner))
    asked = answered(page, qtbot, lambda: qtbot.mouseRelease(port, LEFT, pos=place(view, 20, 50)))
    assert not page.inset.isVisible() and asked.fields["what"] == "add" and asked.fields["frame"] == held
    assert window.session.undo.undoText() == "Mask" or asked.state == "rejected", asked.reason
    assert asked.state == "applied", asked.reason

    qtbot.keyClick(window, Qt.Key.Key_M)
    asked = answered(page, qtbot, lambda: qtbot.mouseClick(port, LEFT, pos=place(view, 70, 60)))
    assert asked.state == "applied", asked.reason
    qtbot.waitUntil(lambda: bool(page.surface.record.get("marks")), timeout=LONG_MS)

    control = Qt.KeyboardModifier.ControlModifier
    asked = answered(page, qtbot, lambda: qtbot.keyClick(window, Qt.Key.Key_Z, control))
    assert asked.text == "Undo mark" and asked.state == "applied"
    qtbot.waitUntil(lambda: not page.surface.record.get("marks"), timeout=LONG_MS)

    qtbot.keyClick(window, Qt.Key.Key_F)
    qtbot.waitUntil(lambda: page.desk.waiting == 0, timeout=LONG_MS)
    assert page.surface.frozen and window.session.undo.undoText() == "Freeze"
    window.session.undo.undo()
    qtbot.waitUntil(lambda: not page.surface.frozen, timeout=LONG_MS)
    assert not table["live_freeze"].isChecked()

    qtbot.keyClick(window, Qt.Key.Key_P)
    kept = job.run / "snapshots" / "001"
    qtbot.waitUntil(lambda: (kept / "snapshot.json").is_file(), timeout=LONG_MS)
    assert (kept / "video.png").read_bytes()[1:4] == b"PNG" and (kept / "surface.png").is_file()

    # As the engine tells it, so that the panel of all jobs and this page agree.
    job.pause()
    qtbot.waitUntil(lambda: page.pause_button.text() == "Resume", timeout=LONG_MS)
    assert job.state is JobState.PAUSED
    qtbot.mouseClick(page.pause_button, LEFT)
    qtbot.waitUntil(lambda: page.pause_button.text() == "Pause", timeout=LONG_MS)
    assert job.state is JobState.RUNNING

    qtbot.mouseClick(page.stop_button, LEFT)
    qtbot.waitUntil(lambda: job.state.ended, timeout=LONG_MS)
    assert job.state is JobState.DONE, job.problem
    assert page.status.state.text() == "Ended" and not table["live_mask"].isEnabled()
    log = [json.loads(line) for line in (job.run / "commands.jsonl").read_text().splitlines()]
    assert [line["command"] for line in log] == ["mask", "mark", "undo", "freeze", "undo"]
    assert page.refine_button.isEnabled()


def test_what_cannot_be_opened_is_told(window: Any, qtbot: Any, tmp_path: Path) -> None:
    window.session.settings.set("cases_folder", str(tmp_path / "cases"))
    page = live_page(window, qtbot)
    page.source.kind.setCurrentIndex(3)
    assert "rtsp" in page.start_button.toolTip()
    page.source.network.clear()
    qtbot.keyClicks(page.source.network, "rtsp://127.0.0.1:1/none")
    qtbot.mouseClick(page.start_button, LEFT)
    qtbot.waitUntil(lambda: page.job is not None and page.job.state.ended, timeout=LONG_MS)
    assert page.job.state is JobState.FAILED and "gives no picture" in page.job.problem.why
    qtbot.waitUntil(lambda: bool(window.dialogs), timeout=LONG_MS)
    window.dialogs[-1].close()
    assert page.start_button.isEnabled()
