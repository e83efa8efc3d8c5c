"""The opacity curve of a volume rendering over the histogram of its values, edited by dragging."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import QPointF, QRectF, QSize, Qt, pyqtSignal
from PyQt6.QtGui import QColor, QLinearGradient, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF
from PyQt6.QtWidgets import QWidget

from splatomy_gui.panels.angiography.looks import Point
from splatomy_gui.theme import current_theme

_REACH_PX = 9.0


class OpacityEditor(QWidget):
    """Drag a point; double-click adds one or takes it away; the dashed line is the surface's threshold."""

    changing = pyqtSignal(object)
    """Points while one is dragged."""
    changed = pyqtSignal(object, object)
    """Points before and after a change."""

    def __init__(self) -> None:
        super().__init__()
        self.points: tuple[Point, ...] = ()
        self._range = (0.0, 1.0)
        self._unit = ""
        self._bars: NDArray[np.float64] = np.zeros(0)
        self._colours: tuple[tuple[float, tuple[float, float, float]], ...] = ()
        self._level: float | None = None
        self._held: int | None = None
        self._before: tuple[Point, ...] = ()
        self.setMinimumHeight(120)
        self.setMouseTracking(True)
        self.setToolTip(
            "How opaque each value is, over the histogram (logarithmic). Drag a point; double-click adds or "
            "removes one"
        )

    def sizeHint(self) -> QSize:
        """Wide and low."""
        return QSize(280, 150)

    def set_histogram(self, counts: NDArray[np.float64], low: float, high: float, unit: str) -> None:
        """Another volume's values. counts: (B,) between low and high."""
        self._range, self._unit = (low, high), unit
        bars = np.log1p(counts)
        self._bars = bars / max(float(bars.max(initial=0)), 1e-9)
        self.update()

    def set_points(self, points: tuple[Point, ...]) -> None:
        """Another curve."""
        self.points = points
        self.update()

    def set_colours(self, colours: tuple[tuple[float, tuple[float, float, float]], ...]) -> None:
        """The colours of the values, for the strip below."""
        self._colours = colours
        self.update()

    def set_level(self, level: float | None) -> None:
        """The value of the surface."""
        self._level = level
        self.update()

    # -- geometry --------------------------------------------------------------------------------

    def _box(self) -> QRectF:
        return QRectF(8, 8, max(10, self.width() - 16), max(10, self.height() - 40))

    def place_of(self, point: Point) -> QPointF:
        """Where a value and opacity lie in the widget."""
        box, (low, high) = self._box(), self._range
        share = min(1.0, max(0.0, (point[0] - low) / (high - low)))
        return QPointF(box.left() + share * box.width(), box.bottom() - point[1] * box.height())

    def _point_at(self, place: QPointF) -> Point:
        box, (low, high) = self._box(), self._range
        across = min(1.0, max(0.0, (place.x() - box.left()) / box.width()))
        up = min(1.0, max(0.0, (box.bottom() - place.y()) / box.height()))
        return low + across * (high - low), up

    def _near(self, place: QPointF) -> int | None:
        gaps = [(self.place_of(point) - place).manhattanLength() for point in self.points]
        nearest = int(np.argmin(gaps)) if gaps else 0
        return nearest if gaps and gaps[nearest] < 1.5 * _REACH_PX else None

    # -- pointer ---------------------------------------------------------------------------------

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Takes hold of a point."""
        if event is not None and event.button() is Qt.MouseButton.LeftButton:
            self._held, self._before = self._near(event.position()), self.points

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Moves the held point between its neighbours."""
        if event is None or self._held is None:
            return
        value, opacity = self._point_at(event.position())
        low, high = self._range
        gap = (high - low) * 1e-3
        n = self._held
        value = max(value, self.points[n - 1][0] + gap) if n > 0 else value
        value = min(value, self.points[n + 1][0] - gap) if n + 1 < len(self.points) else value
        self.points = (*self.points[:n], (value, opacity), *self.points[n + 1 :])
        self.update()
        self.changing.emit(self.points)

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:
        """Lets the point go."""
        if self._held is not None:
            self._held = None
            if self.points != self._before:
                self.changed.emit(self._before, self.points)

    def mouseDoubleClickEvent(self, event: QMouseEvent | None) -> None:
        """Adds a point, or takes the one there away; two always stay."""
        if event is None:
            return
        before, near = self.points, self._near(event.position())
        if near is None:
            self.points = tuple(sorted((*before, self._point_at(event.position()))))
        elif len(before) > 2:
            self.points = (*before[:near], *before[near + 1 :])
        self._held = None
        if self.points != before:
            self.update()
            self.changed.emit(before, self.points)

    # -- painting --------------------------------------------------------------------------------

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Paints histogram, curve, threshold and colours."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        theme, box = current_theme(), self._box()
        painter.fillRect(self.rect(), theme.colour("base"))
        width = box.width() / max(1, len(self._bars))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(theme.colour("border"))
        for number, share in enumerate(self._bars):
            height = share * box.height()
            painter.drawRect(QRectF(box.left() + number * width, box.bottom() - height, width + 0.5, height))
        if self.points:
            self._paint_curve(painter)
        if self._level is not None:
            x = self.place_of((self._level, 0)).x()
            painter.setPen(QPen(theme.colour("caution"), 1.5, Qt.PenStyle.DashLine))
            painter.drawLine(QPointF(x, box.top()), QPointF(x, box.bottom()))
        self._paint_strip(painter)
        painter.end()

    def _paint_curve(self, painter: QPainter) -> None:
        theme, box = current_theme(), self._box()
        first, last = self.points[0], self.points[-1]
        line = [QPointF(box.left(), self.place_of(first).y())]
        line += [self.place_of(point) for point in self.points]
        line += [QPointF(box.right(), self.place_of(last).y())]
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(theme.colour("link"), 2))
        painter.drawPolyline(QPolygonF(line))
        painter.setBrush(theme.colour("link"))
        painter.setPen(QPen(theme.colour("base"), 1))
        for point in self.points:
            painter.drawEllipse(self.place_of(point), 5, 5)

    def _paint_strip(self, painter: QPainter) -> None:
        theme, box, (low, high) = current_theme(), self._box(), self._range
        strip = QRectF(box.left(), box.bottom() + 4, box.width(), 7)
        if self._colours:
            gradient = QLinearGradient(strip.topLeft(), strip.topRight())
            for value, rgb in self._colours:
                share = (value - low) / (high - low)
                if 0 <= share <= 1:
                    gradient.setColorAt(share, QColor.fromRgbF(*rgb))
            painter.fillRect(strip, gradient)
        painter.setPen(theme.colour("muted"))
        area = QRectF(box.left(), strip.bottom() + 1, box.width(), 16)
        painter.drawText(area, Qt.AlignmentFlag.AlignLeft, f"{low:.3g}")
        painter.drawText(area, Qt.AlignmentFlag.AlignRight, f"{high:.3g} {self._unit}")
