"""Brush and eraser: strokes on a frame that are seen at once and become one edit when they end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from PyQt6.QtCore import QPointF, QRect, QRectF, Qt
from PyQt6.QtGui import QColor, QMouseEvent, QPainter, QPen, QTabletEvent

from splatomy.review import Mask

if TYPE_CHECKING:
    from splatomy_gui.views.frame_view import FrameView

SMALLEST_PX, LARGEST_PX = 2, 200
SIZE_STEP = 1.12
_LEAST_STEP_PX = 1


def cosmetic_pen(colour: QColor, width: float = 1.4, style: Qt.PenStyle = Qt.PenStyle.SolidLine) -> QPen:
    """A pen of that width on the screen, whatever the zoom."""
    pen = QPen(colour, width, style)
    pen.setCosmetic(True)
    return pen


def takes_away(event: QMouseEvent | QTabletEvent) -> bool:
    """True if the right button or Alt asks for the opposite of what the tool does."""
    right = event.button() is Qt.MouseButton.RightButton
    return right != bool(event.modifiers() & Qt.KeyboardModifier.AltModifier)


def larger(size_px: int, steps: int) -> int:
    """The brush size some steps of 12 % up or down, at least by a pixel each."""
    for _ in range(abs(steps)):
        scaled = size_px * SIZE_STEP if steps > 0 else size_px / SIZE_STEP
        moved = max(round(scaled), size_px + _LEAST_STEP_PX)
        size_px = moved if steps > 0 else min(round(scaled), size_px - _LEAST_STEP_PX)
    return int(np.clip(size_px, SMALLEST_PX, LARGEST_PX))


class BrushTool:
    """A round brush, or an eraser; the circle at the pointer shows what it would touch.

    begin: gives the mask (H, W) to draw on, or None when that is not possible now.
    ended: gets what the stroke touched, (H, W), and whether it hides.
    """

    def __init__(
        self, view: FrameView, begin: Callable[[], Mask | None], ended: Callable[[Mask, bool], None]
    ) -> None:
        self._view, self._begin, self._ended = view, begin, ended
        self.size_px = 24
        self.hides = True
        self.uses_pressure = True
        self._before: Mask | None = None
        self._touched: Mask = np.zeros((0, 0), bool)
        self._shown: Mask = np.zeros((0, 0), bool)
        self._stroke_hides = True
        self._last = QPointF()
        self._pointer: QPointF | None = None

    @property
    def drawing(self) -> bool:
        """True in mid-stroke."""
        return self._before is not None

    def press(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> bool:
        """Begins a stroke."""
        before = self._begin()
        if before is None:
            return False
        self._before = before
        self._touched, self._shown = np.zeros(before.shape, bool), before.copy()
        self._stroke_hides = self.hides != takes_away(event)
        self._last = point
        self._draw_to(point, pressure)
        return True

    def move(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> None:
        """Goes on with it."""
        self._draw_to(point, pressure)

    def release(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> None:
        """Ends it."""
        if self._before is None:
            return
        # A pen that is lifted has no pressure left; its last place was drawn with what it had.
        if not isinstance(event, QTabletEvent):
            self._draw_to(point, pressure)
        self._before = None
        self._ended(self._touched, self._stroke_hides)

    def cancel(self) -> bool:
        """Drops the stroke; False if there is none."""
        if self._before is None:
            return False
        self._view.set_mask(self._before)
        self._before = None
        return True

    def finish(self) -> bool:
        """Nothing to close by a key."""
        return False

    def hover(self, point: QPointF) -> None:
        """Moves the circle."""
        old, self._pointer = self._pointer, point
        for place in (old, point):
            if place is not None:
                self._view.update_tool(self._circle(place))

    def leave(self) -> None:
        """Hides the circle."""
        self._pointer = None
        self._view.update_tool()

    def set_size(self, size_px: int) -> None:
        """Another diameter."""
        old = None if self._pointer is None else self._circle(self._pointer)
        self.size_px = int(np.clip(size_px, SMALLEST_PX, LARGEST_PX))
        if old is not None and self._pointer is not None:
            self._view.update_tool(old.united(self._circle(self._pointer)))

    def paint(self, painter: QPainter) -> None:
        """The circle, light in dark, so that it is seen on any tissue."""
        if self._pointer is None:
            return
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        centre, radius = self._pointer + QPointF(0.5, 0.5), self.size_px / 2
        for colour, width in ((QColor(0, 0, 0, 190), 3.2), (QColor("white"), 1.4)):
            hides = self._stroke_hides if self.drawing else self.hides
            style = Qt.PenStyle.SolidLine if hides else Qt.PenStyle.DashLine
            painter.setPen(cosmetic_pen(colour, width, style))
            painter.drawEllipse(centre, radius, radius)

    def _circle(self, place: QPointF) -> QRectF:
        border = self.size_px / 2 + 1 + 4 / max(self._view.zoom, 1e-3)
        return QRectF(place.x() + 0.5 - border, place.y() + 0.5 - border, 2 * border, 2 * border)

    def _draw_to(self, point: QPointF, pressure: float) -> None:
        """One segment: only its box is touched, shown and painted again."""
        # Slow to load, and loaded by the page on another thread before a stroke can begin.
        from splatomy.prepare.masks import touch

        if self._before is None:
            return
        radius = 0.5 * self.size_px * (pressure if self.uses_pressure else 1.0)
        a, b = (self._last.x(), self._last.y()), (point.x(), point.y())
        top, bottom, left, right = touch(self._touched, a, b, radius)
        self._last = point
        if top < bottom:
            part = (slice(top, bottom), slice(left, right))
            self._shown[part] = np.where(self._touched[part], self._stroke_hides, self._before[part])
            self._view.set_mask(self._shown, QRect(left, top, right - left, bottom - top))
        self.hover(point)
