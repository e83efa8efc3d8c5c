"""The load page: crop and trim by mouse, options that are undone, and a case that was opened elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from driving import LONG_MS, drop, open_by_drop
from PyQt6.QtCore import QPointF, Qt

LEFT, NONE = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
CONTROL = Qt.KeyboardModifier.ControlModifier


def inspected(window: Any, qtbot: Any, path: Path) -> Any:
    """Drops a clip; the load page with its first picture."""
    drop(window, path)
    qtbot.waitUntil(lambda: window.page is not None and window.page.inspection is not None, timeout=LONG_MS)
    page = window.page
    qtbot.waitUntil(lambda: page.preview.view.frame_box.width() == 64, timeout=LONG_MS)
    return page


def test_crop_and_trim_are_drawn_undone_and_used(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    page = inspected(window, qtbot, tiny_clip)
    view = page.preview.view
    qtbot.mouseClick(page.preview.whole_button, LEFT)
    whole = page.crop.text()
    # From the lower right corner of the box inwards.
    ends = [view.mapFromScene(QPointF(*point)) for point in ((64, 52), (50, 44), (48, 40))]
    qtbot.mousePress(view.viewport(), LEFT, NONE, ends[0])
    for end in ends[1:]:
        qtbot.mouseMove(view.viewport(), end)
    qtbot.mouseRelease(view.viewport(), LEFT, NONE, ends[-1])
    x, y, width, height = (int(n) for n in page.crop.text().split(","))
    assert (x, y) == (0, 0) and abs(width - 48) <= 1 and abs(height - 40) <= 1
    drawn = page.crop.text()
    slider = page.preview.slider
    start = QPointF(slider._x(slider.last), 10).toPoint()
    qtbot.mousePress(slider, LEFT, NONE, start)
    qtbot.mouseMove(slider, QPointF(slider._x(5), 10).toPoint())
    qtbot.mouseRelease(slider, LEFT, NONE, QPointF(slider._x(3), 10).toPoint())
    assert page.frames.text() == f"0:{slider.last + 1}" and slider.last < 7
    trimmed = page.frames.text()
    undo, redo = window.actions_table["undo"], window.actions_table["redo"]
    undo.trigger()
    assert page.frames.text() == "" and slider.last == 7
    undo.trigger()
    assert page.crop.text() == whole
    redo.trigger()
    redo.trigger()
    assert (page.crop.text(), page.frames.text()) == (drawn, trimmed)
    count = slider.last + 1
    qtbot.mouseClick(page.open_button, LEFT)
    qtbot.waitUntil(lambda: window.session.case is not None, timeout=LONG_MS)
    assert window.session.frames.size_px == (width, height) and window.session.clock.count == count


def test_typed_options_are_undone(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    page = inspected(window, qtbot, tiny_clip)
    page.frames.setFocus()
    qtbot.keyClicks(page.frames, "0:4")
    qtbot.keyClick(page.frames, Qt.Key.Key_Return)
    assert page.preview.slider.last == 3
    page.layout_choice.setFocus()
    qtbot.keyClick(page.layout_choice, Qt.Key.Key_Down)
    assert page.layout_choice.value() == "mono"
    window.actions_table["undo"].trigger()
    assert page.layout_choice.value() is None
    window.actions_table["undo"].trigger()
    assert page.frames.text() == "" and page.preview.slider.last == 7


def test_load_page_shows_the_case_that_is_open(
    window: Any, qtbot: Any, tiny_clip: Path, tmp_path: Path
) -> None:
    # A page that was built, and used, before the case was opened.
    qtbot.mouseClick(window.bar_buttons["endoscopy"], LEFT)
    open_by_drop(window, qtbot, tiny_clip)
    first = window.session.folder
    other = tmp_path / "other"
    shutil.copytree(tiny_clip, other)
    drop(window, other)
    qtbot.waitUntil(
        lambda: window.step_key == "load" and window.page.inspection.path == other, timeout=LONG_MS
    )
    qtbot.mouseClick(window.page.open_button, LEFT)
    qtbot.waitUntil(lambda: window.session.folder != first, timeout=LONG_MS)
    drop(window, first)
    qtbot.waitUntil(lambda: window.session.folder == first, timeout=LONG_MS)
    qtbot.waitUntil(lambda: not window.session.tasks.running, timeout=LONG_MS)
    assert window.step_key == "masks"
    qtbot.mouseClick(window.stepper.buttons["load"], LEFT)
    source = window.session.opened.source
    qtbot.waitUntil(lambda: window.page.inspection.path == source, timeout=LONG_MS)
    assert window.page.name.text() == source.name and window.step_key == "load"


def test_a_run_without_geometry_is_given_one(
    window: Any, qtbot: Any, tiny_case: Path, tmp_path: Path
) -> None:
    case, geometry = tmp_path / "run", tmp_path / "geometry.json"
    shutil.copytree(tiny_case, case)
    (case / "transforms.json").rename(geometry)
    drop(window, case)
    qtbot.waitUntil(lambda: window.page is not None and window.page.inspection is not None, timeout=LONG_MS)
    page = window.page
    told = page.problems.text()
    assert "geometry is unknown" in told and "A reconstruction needs" not in told
    # Without it the frames can still be looked at.
    assert page.open_button.isEnabled()
    page.geometry_file.set_path(geometry)
    qtbot.mouseClick(page.check_button, LEFT)
    qtbot.waitUntil(lambda: "geometry" not in page.problems.text(), timeout=LONG_MS)
    page.frames.setText("3:4")
    qtbot.mouseClick(page.check_button, LEFT)
    qtbot.waitUntil(lambda: "A reconstruction needs a second frame" in page.problems.text(), timeout=LONG_MS)
