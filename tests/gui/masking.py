"""What a person does on the mask page, for several tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from driving import LONG_MS, open_by_drop
from PyQt6.QtCore import QPoint, QPointF, Qt

LEFT, RIGHT = Qt.MouseButton.LeftButton, Qt.MouseButton.RightButton
NONE, SHIFT = Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.ShiftModifier
CONTROL, ALT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.AltModifier


def open_masks(window: Any, qtbot: Any, source: Path) -> Any:
    """Opens an input; its mask page, ready."""
    open_by_drop(window, qtbot, source)
    qtbot.waitUntil(lambda: window.step_key == "masks" and window.page.ready, timeout=LONG_MS)
    return window.page


def place(page: Any, x: float, y: float) -> QPoint:
    """Where a pixel of the frame is on the view."""
    return page.view.mapFromScene(QPointF(x + 0.5, y + 0.5))


def drag(
    page: Any, qtbot: Any, points: list[tuple[float, float]], button: Any = LEFT, modifier: Any = NONE
) -> list[tuple[float, float]]:
    """Drags through pixels of the frame; the points that the view understood."""
    viewport = page.view.viewport()
    places = [place(page, *point) for point in points]
    qtbot.mousePress(viewport, button, modifier, places[0])
    for each in places[1:]:
        qtbot.mouseMove(viewport, each)
    qtbot.mouseRelease(viewport, button, modifier, places[-1])
    return [(p.x(), p.y()) for p in (page.view.point_at(each) for each in places)]


def click(page: Any, qtbot: Any, x: float, y: float, button: Any = LEFT, modifier: Any = NONE) -> None:
    """Clicks a pixel of the frame."""
    qtbot.mouseClick(page.view.viewport(), button, modifier, place(page, x, y))


def wait_for(page: Any, qtbot: Any, title: str) -> None:
    """Waits until no work of that title is going on on another thread."""
    tasks = page.session.tasks
    qtbot.waitUntil(lambda: all(title not in task.title for task in tasks.running), timeout=LONG_MS)


def reject_all(window: Any, page: Any, qtbot: Any) -> None:
    """Drops the masks of all frames, by key, and shows the first frame."""
    for frame in range(page.session.clock.count):
        page.session.clock.show(frame)
        qtbot.keyClick(window, Qt.Key.Key_Backspace)
    qtbot.keyClick(window, Qt.Key.Key_Home)
