"""A plot of curves with axes, units and a cursor, painted by Qt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import QPointF, QRectF, QSize, Qt, pyqtSignal
from PyQt6.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF
from PyQt6.QtWidgets import QWidget

from splatomy_gui.theme import current_theme


@dataclass(frozen=True)
class Curve:
    """One curve. x, y: (N,); NaN leaves a gap. colour: #rrggbb."""

    name: str
    colour: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]


class CurvePlot(QWidget):
    """Curves over one axis; a press or drag tells where, and the cursor shows where it is."""

    moved = pyqtSignal(float)
    """The x under the pointer while it is pressed."""
    pressed = pyqtSignal(float)
    """The x where it was pressed."""

    def __init__(self, title: str, x_unit: str, y_unit: str, empty: str) -> None:
        super().__init__()
        self.title, self.x_unit, self.y_unit, self.empty = title, x_unit, y_unit, empty
        self.curves: tuple[Curve, ...] = ()
        self._cursor: float | None = None
        self._marks: tuple[tuple[float, str], ...] = ()
        self.setMinimumHeight(130)
        self.setToolTip(f"{title}; press to move the cursor")

    def sizeHint(self) -> QSize:
        """A plot is wide."""
        return QSize(280, 190)

    def set_curves(self, curves: Sequence[Curve]) -> None:
        """Shows other curves."""
        self.curves = tuple(curve for curve in curves if np.isfinite(curve.y).any())
        self.update()

    def set_cursor_at(self, x: float | None) -> None:
        """Moves the upright line."""
        self._cursor = x
        self.update()

    def set_marks(self, marks: Sequence[tuple[float, str]]) -> None:
        """Upright lines with a letter each."""
        self._marks = tuple(marks)
        self.update()

    # -- geometry --------------------------------------------------------------------------------

    def _box(self) -> QRectF:
        return QRectF(46, 24, max(10, self.width() - 56), max(10, self.height() - 58))

    def _limits(self) -> tuple[float, float, float, float]:
        x = np.concatenate([c.x for c in self.curves])
        y = np.concatenate([c.y for c in self.curves])
        low, high = min(0.0, float(np.nanmin(y))), float(np.nanmax(y))
        left, right = float(x.min()), float(x.max())
        return left, max(right, left + 1e-9), low, max(high * 1.05, low + 1e-9)

    def _place(self, x: float, y: float) -> QPointF:
        box, (left, right, low, high) = self._box(), self._limits()
        across, up = (x - left) / (right - left), (y - low) / (high - low)
        return QPointF(box.left() + across * box.width(), box.bottom() - up * box.height())

    # -- pointer ---------------------------------------------------------------------------------

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Tells where."""
        self.mouseMoveEvent(event)
        if event is not None and self.curves and event.button() is Qt.MouseButton.LeftButton:
            self.pressed.emit(self._x_at(event.position().x()))

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Tells where."""
        if event is None or not self.curves or not event.buttons() & Qt.MouseButton.LeftButton:
            return
        self.moved.emit(self._x_at(event.position().x()))

    def _x_at(self, place: float) -> float:
        box, (left, right, _, _) = self._box(), self._limits()
        share = min(1.0, max(0.0, (place - box.left()) / box.width()))
        return left + share * (right - left)

    def place_at(self, x: float) -> QPointF:
        """Where an x lies in the widget, at the middle of its height."""
        return QPointF(self._place(x, 0.0).x(), self._box().center().y())

    # -- painting --------------------------------------------------------------------------------

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Paints axes, curves, cursor and names."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        theme = current_theme()
        painter.fillRect(self.rect(), theme.colour("base"))
        painter.setPen(theme.colour("text"))
        painter.drawText(8, 16, self.title)
        if not self.curves:
            painter.setPen(theme.colour("muted"))
            area = self.rect().adjusted(12, 24, -12, -8)
            painter.drawText(area, Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap, self.empty)
            painter.end()
            return
        self._paint_axes(painter)
        for curve in self.curves:
            painter.setPen(QPen(QColor(curve.colour), 2))
            points = [
                self._place(float(x), float(y)) for x, y in zip(curve.x, curve.y, strict=True) if y == y
            ]
            painter.drawPolyline(QPolygonF(points))
        self._paint_lines(painter)
        painter.end()

    def _paint_axes(self, painter: QPainter) -> None:
        theme, box = current_theme(), self._box()
        left, right, low, high = self._limits()
        painter.setPen(QPen(theme.colour("border"), 1))
        painter.drawRect(box)
        painter.setPen(theme.colour("muted"))
        for value in _ticks(low, high, 4):
            y = self._place(left, value).y()
            area = QRectF(0, y - 8, 42, 16)
            painter.drawText(
                area, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, f"{value:.3g}"
            )
        for value in _ticks(left, right, 5):
            x = self._place(value, low).x()
            painter.drawText(
                QRectF(x - 26, box.bottom() + 2, 52, 16), Qt.AlignmentFlag.AlignHCenter, f"{value:.3g}"
            )
        area = QRectF(box.left(), box.bottom() + 17, box.width(), 16)
        painter.drawText(area, Qt.AlignmentFlag.AlignHCenter, self.x_unit)
        painter.drawText(QRectF(box.left(), 3, box.width(), 16), Qt.AlignmentFlag.AlignRight, self.y_unit)

    def _paint_lines(self, painter: QPainter) -> None:
        theme, box = current_theme(), self._box()
        left, right, _, _ = self._limits()
        for x, text in self._marks:
            if left <= x <= right:
                place = self._place(x, 0).x()
                painter.setPen(QPen(theme.colour("caution"), 1.5, Qt.PenStyle.DashLine))
                painter.drawLine(QPointF(place, box.top()), QPointF(place, box.bottom()))
                painter.drawText(QPointF(place + 3, box.top() + 12), text)
        if self._cursor is not None and left <= self._cursor <= right:
            place = self._place(self._cursor, 0).x()
            painter.setPen(QPen(theme.colour("text"), 1))
            painter.drawLine(QPointF(place, box.top()), QPointF(place, box.bottom()))


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round values within a range, at most about ``most``."""
    step = 10.0 ** math.floor(math.log10(max(high - low, 1e-12) / most))
    step *= next(n for n in (1, 2, 5, 10) if (high - low) / (n * step) <= most)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]
