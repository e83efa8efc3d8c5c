"""Drawing masks with every tool, by mouse, pen and keys, and taking it back bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from masking import ALT, CONTROL, LEFT, NONE, RIGHT, SHIFT, click, drag, open_masks, place, wait_for
from PyQt6.QtCore import QEvent, QPointF, Qt
from PyQt6.QtGui import QInputDevice, QPointingDevice, QPointingDeviceUniqueId, QTabletEvent
from PyQt6.QtWidgets import QApplication

from splatomy.prepare.masks import paint
from splatomy.review import FrameReview, ReviewState


def same(one: FrameReview, other: FrameReview) -> bool:
    """Whether two frames agree in every bit of every layer, and in their state."""
    layers = [(getattr(one, n), getattr(other, n)) for n in ("auto", "add", "erase")]
    return one.state is other.state and all(
        (a is None and b is None) or (a is not None and b is not None and np.array_equal(a, b))
        for a, b in layers
    )


def hidden(page: Any) -> Any:
    return page.session.review.hidden(page.session.clock.frame)


def test_a_stroke_is_what_the_engine_would_paint(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    page = open_masks(window, qtbot, tiny_clip)
    qtbot.keyClick(window, Qt.Key.Key_Delete)
    assert not hidden(page).any()
    page.options.brush_size.setValue(6)
    points = drag(page, qtbot, [(10, 10), (30, 14), (34, 30)])
    expected = paint(np.zeros((52, 64), bool), [points[0], *points, points[-1]], 3.0).mask
    assert np.array_equal(hidden(page), expected) and expected.sum() > 100
    assert page.session.review.frames[0].state is ReviewState.EDITED
    # The right button, Alt and the eraser all take away; Alt with the eraser paints.
    drag(page, qtbot, [(30, 14), (30, 14)], RIGHT)
    assert not hidden(page)[14, 30]
    drag(page, qtbot, [(10, 10), (10, 10)], LEFT, ALT)
    assert not hidden(page)[10, 10]
    qtbot.keyClick(window, Qt.Key.Key_E)
    drag(page, qtbot, [(34, 30), (34, 30)])
    assert not hidden(page)[30, 34]
    drag(page, qtbot, [(34, 30), (34, 30)], LEFT, ALT)
    assert hidden(page)[30, 34]
    qtbot.keyClick(window, Qt.Key.Key_X)
    drag(page, qtbot, [(50, 40), (50, 40)])
    assert hidden(page)[40, 50]


def test_only_the_dirty_rectangle_is_shown_again(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    page = open_masks(window, qtbot, tiny_clip)
    qtbot.keyClick(window, Qt.Key.Key_Delete)
    page.options.brush_size.setValue(4)
    viewport = page.view.viewport()
    before = page.session.review.frames[0]
    qtbot.mousePress(viewport, LEFT, NONE, place(page, 20, 20))
    qtbot.mouseMove(viewport, place(page, 24, 20))
    # In mid-stroke it is seen, and nothing is changed yet.
    assert page.view.mask_item._pixels[20, 22] != 0 and page.view.mask_item._pixels[40, 40] == 0
    assert page.session.review.frames[0] is before
    qtbot.keyClick(window, Qt.Key.Key_Escape)
    qtbot.mouseRelease(viewport, LEFT, NONE, place(page, 24, 20))
    assert page.session.review.frames[0] is before and not page.view.mask_item._pixels.any()


def test_brush_sizes(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    page = open_masks(window, qtbot, tiny_clip)
    brush = page.tools.brush
    for _ in range(60):
        qtbot.keyClick(window, Qt.Key.Key_BracketLeft)
    assert brush.size_px == 2
    qtbot.keyClick(window, Qt.Key.Key_BracketRight)
    assert brush.size_px == 3
    for _ in range(60):
        qtbot.keyClick(window, Qt.Key.Key_BracketRight)
    assert brush.size_px == 200 and page.options.size_text.text() == "200 px"
    page.options.brush_size.setValue(100)
    page.view.resized.emit(1)
    assert brush.size_px == 112


def test_areas_and_whole_frames(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    page = open_masks(window, qtbot, tiny_clip)
    qtbot.keyClick(window, Qt.Key.Key_Delete)
    qtbot.keyClick(window, Qt.Key.Key_L)
    drag(page, qtbot, [(5, 5), (25, 5), (25, 20), (5, 20)])
    assert hidden(page)[12, 15] and not hidden(page)[30, 15]
    qtbot.keyClick(window, Qt.Key.Key_P)
    for x, y in ((40, 30), (60, 30), (60, 48), (40, 48), (20, 48)):
        click(page, qtbot, x, y)
    # The last corner is taken back, then Enter closes.
    click(page, qtbot, 30, 30, RIGHT)
    qtbot.keyClick(window, Qt.Key.Key_Return)
    assert hidden(page)[40, 50] and not hidden(page)[45, 30] and page.session.clock.frame == 0
    click(page, qtbot, 2, 40)
    qtbot.keyClick(window, Qt.Key.Key_Escape)
    share = hidden(page).mean()
    qtbot.keyClick(window, Qt.Key.Key_BracketRight, CONTROL)
    wait_for(page, qtbot, "grow mask")
    assert hidden(page).mean() > share
    qtbot.keyClick(window, Qt.Key.Key_BracketLeft, CONTROL)
    wait_for(page, qtbot, "shrink mask")
    assert hidden(page).mean() == share
    qtbot.keyClick(window, Qt.Key.Key_F)
    click(page, qtbot, 50, 40)
    wait_for(page, qtbot, "fill")
    assert not hidden(page)[40, 50] and hidden(page)[12, 15]
    before = hidden(page)
    qtbot.keyClick(window, Qt.Key.Key_I, CONTROL | SHIFT)
    assert np.array_equal(hidden(page), ~before)
    qtbot.keyClick(window, Qt.Key.Key_D)
    qtbot.keyClick(window, Qt.Key.Key_K)
    assert page.session.clock.frame == 1 and np.array_equal(hidden(page), ~before)


def test_two_hundred_steps_are_taken_back_bit_for_bit(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    page = open_masks(window, qtbot, tiny_clip)
    session, rng = page.session, np.random.default_rng(0)
    page.options.brush_size.setValue(7)
    start = session.review.frames
    keys = (Qt.Key.Key_K, Qt.Key.Key_Return, Qt.Key.Key_Backspace, Qt.Key.Key_Delete)
    while session.undo.index() < 200:
        kind = rng.integers(10)
        if kind < 6:
            button = LEFT if kind < 4 else RIGHT
            drag(page, qtbot, [tuple(rng.uniform(4, 48, 2)), tuple(rng.uniform(4, 48, 2))], button)
        elif kind == 6:
            qtbot.keyClick(window, Qt.Key.Key_I, CONTROL | SHIFT)
        else:
            session.clock.show(int(rng.integers(8)))
            qtbot.keyClick(window, keys[rng.integers(len(keys))])
    assert session.undo.count() == 200
    end = session.review.frames
    for _ in range(200):
        qtbot.keyClick(window, Qt.Key.Key_Z, CONTROL)
    assert session.undo.index() == 0
    assert all(same(a, b) for a, b in zip(session.review.frames, start, strict=True))
    for _ in range(200):
        qtbot.keyClick(window, Qt.Key.Key_Y, CONTROL)
    assert all(same(a, b) for a, b in zip(session.review.frames, end, strict=True))


def test_pen_pressure(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    page = open_masks(window, qtbot, tiny_clip)
    page.options.brush_size.setValue(20)
    pen = QPointingDevice(
        "pen",
        1,
        QInputDevice.DeviceType.Stylus,
        QPointingDevice.PointerType.Pen,
        QInputDevice.Capability.Position | QInputDevice.Capability.Pressure,
        1,
        1,
        "",
        QPointingDeviceUniqueId(),
    )

    def dot(pressure: float) -> int:
        qtbot.keyClick(window, Qt.Key.Key_Delete)
        spot = QPointF(place(page, 32, 26))
        for kind, force in ((QEvent.Type.TabletPress, pressure), (QEvent.Type.TabletRelease, 0.0)):
            held = LEFT if kind == QEvent.Type.TabletPress else Qt.MouseButton.NoButton
            on_screen = QPointF(page.view.viewport().mapToGlobal(spot.toPoint()))
            tilt = (0.0, 0.0, 0.0, 0.0, 0.0)
            event = QTabletEvent(kind, pen, spot, on_screen, force, *tilt, NONE, LEFT, held)
            QApplication.sendEvent(page.view.viewport(), event)
        return int(hidden(page).sum())

    light, firm = dot(0.3), dot(1.0)
    assert 0 < light < 0.2 * firm
    qtbot.mouseClick(page.options.pressure, LEFT, pos=page.options.pressure.rect().center())
    if page.options.pressure.isChecked():
        page.options.pressure.setChecked(False)
    assert dot(0.3) == firm
