"""Start page, dropping every kind of input, plain-words errors, saving and undo, as a person would."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from driving import LONG_MS, drop, open_by_drop
from PyQt6.QtCore import Qt

from splatomy.capture import Grid
from splatomy.io.volume import write_volume
from splatomy.scene import Volume
from splatomy_gui.inputs import Kind


def test_cards_lead_to_workspaces(window: Any, qtbot: Any) -> None:
    for key, card in window.start_page.cards.items():
        qtbot.mouseClick(card, Qt.MouseButton.LeftButton)
        assert window.workspace_key == key and window.step_key == "load"
        qtbot.mouseClick(window.bar_buttons["start"], Qt.MouseButton.LeftButton)
        assert window.stack.currentWidget() is window.start_page


def test_dropped_clip_opens_as_a_case(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    open_by_drop(window, qtbot, tiny_clip)
    session = window.session
    assert session.kind is Kind.ENDOSCOPY and window.step_key == "masks"
    assert (session.folder / "case.json").is_file() and session.clock.count == 8
    assert "clip" not in session.folder.name
    # Scrub to the end with the keyboard, then play one loop's first step back.
    qtbot.keyClick(window, Qt.Key.Key_End)
    assert session.clock.frame == 7
    qtbot.keyClick(window, Qt.Key.Key_A)
    assert session.clock.frame == 6


def test_confirming_is_undone_saved_and_opened_again(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    open_by_drop(window, qtbot, tiny_clip)
    session = window.session
    before = session.review
    qtbot.keyClick(window, Qt.Key.Key_Return)
    assert session.review.counts()["confirmed"] == 1 and session.clock.frame == 1 and session.dirty
    qtbot.keyClick(window, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert session.review.frames[0] is before.frames[0]
    qtbot.keyClick(window, Qt.Key.Key_Y, Qt.KeyboardModifier.ControlModifier)
    with qtbot.waitSignal(session.saved, timeout=LONG_MS):
        qtbot.keyClick(window, Qt.Key.Key_S, Qt.KeyboardModifier.ControlModifier)
    assert not session.dirty
    folder = session.folder
    qtbot.keyClick(window, Qt.Key.Key_W, Qt.KeyboardModifier.ControlModifier)
    assert session.case is None
    drop(window, folder)
    qtbot.waitUntil(lambda: session.case is not None, timeout=LONG_MS)
    assert session.review.counts()["confirmed"] == 1


def test_dropped_run_opens_the_angiography_page(window: Any, qtbot: Any, tiny_case: Path) -> None:
    open_by_drop(window, qtbot, tiny_case)
    assert window.session.kind is Kind.ANGIOGRAPHY and window.session.clock.count == 24
    assert window.session.frames.line_integrals is not None


def test_dropped_volume_is_inspected_without_a_run(window: Any, qtbot: Any, tmp_path: Path) -> None:
    values = np.zeros((20, 22, 24), np.float32)
    values[8:12, 8:12] = 0.05
    path = tmp_path / "volume.nii.gz"
    write_volume(path, Volume(values, Grid.centred((20, 22, 24), (1.0, 1.0, 1.0)).affine_mm))
    drop(window, path)
    qtbot.waitUntil(lambda: window.step_key == "inspect" and window.page is not None, timeout=LONG_MS)
    qtbot.waitUntil(lambda: window.page.volume is not None, timeout=LONG_MS)
    assert window.page.volume.values.max() == np.float32(0.05)
    qtbot.mouseClick(window.stepper.buttons["load"], Qt.MouseButton.LeftButton)
    assert window.step_key == "load"


def test_a_bad_file_is_explained(window: Any, qtbot: Any, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no pictures here")
    drop(window, path)
    qtbot.waitUntil(lambda: bool(window.dialogs), timeout=LONG_MS)
    dialog = window.dialogs[-1]
    assert "cannot be opened" in dialog.what.text() and "notes.txt" in dialog.problem.text()
    assert dialog.advice.text() and "Traceback" not in dialog.why.text()
    qtbot.mouseClick(dialog.details_button, Qt.MouseButton.LeftButton)
    assert dialog.details.isVisible()
    qtbot.mouseClick(dialog.copy_button, Qt.MouseButton.LeftButton)
    dialog.close()
    qtbot.mouseClick(window.bar_buttons["endoscopy"], Qt.MouseButton.LeftButton)
    assert window.workspace_key == "endoscopy"


def test_a_moved_input_is_asked_for(window: Any, qtbot: Any, tiny_clip: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(tiny_clip, moved)
    open_by_drop(window, qtbot, moved)
    session = window.session
    folder = session.folder
    qtbot.keyClick(window, Qt.Key.Key_W, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: not session.tasks.running, timeout=LONG_MS)
    moved.rename(tmp_path / "elsewhere")
    drop(window, folder)
    qtbot.waitUntil(lambda: bool(window.dialogs), timeout=LONG_MS)
    assert "no longer where it was" in window.dialogs[-1].text()
    window.dialogs[-1].close()
    session.open_case(folder, source=tmp_path / "elsewhere")
    qtbot.waitUntil(lambda: session.case is not None, timeout=LONG_MS)


def test_nothing_of_ours_blocks_the_window(app: Any, qtbot: Any, tiny_clip: Path) -> None:
    """Opening, scrubbing and saving run off the GUI thread."""
    import threading

    from splatomy.io import case as case_module

    threads: list[str] = []
    real = case_module.save_case

    def noted(*values: Any) -> None:
        threads.append(threading.current_thread().name)
        real(*values)

    window = app.window
    case_module.save_case = noted
    try:
        open_by_drop(window, qtbot, tiny_clip)
        qtbot.keyClick(window, Qt.Key.Key_Return)
        with qtbot.waitSignal(window.session.saved, timeout=LONG_MS):
            window.session.save()
    finally:
        case_module.save_case = real
    assert len(threads) == 2 and "MainThread" not in threads
