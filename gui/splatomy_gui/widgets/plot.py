"""A small line plot with a logarithmic or plain axis, painted by Qt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from PyQt6.QtCore import QPointF, QRectF, QSize, Qt
from PyQt6.QtGui import QPainter, QPaintEvent, QPen, QPolygonF
from PyQt6.QtWidgets import QSizePolicy, QWidget

from splatomy_gui.theme import current_theme

_COLOURS = ("link", "good", "caution", "bad")
_MOST_POINTS = 400


class LinePlot(QWidget):
    """Series of (x, y); each in a colour of its own with its name and newest value."""

    def __init__(self, title: str, logarithmic: bool = False) -> None:
        super().__init__()
        self.empty = "no values yet"
        """What is said while there are none."""
        self.title, self.logarithmic = title, logarithmic
        self._series: dict[str, list[tuple[float, float]]] = {}
        self.setMinimumHeight(90)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setToolTip(f"{title} over the steps")

    def sizeHint(self) -> QSize:
        """A plot is wide."""
        return QSize(320, 140)

    def set_series(self, series: Mapping[str, Sequence[tuple[float, float]]]) -> None:
        """Shows other series; long ones are thinned."""
        self._series = {}
        for name, points in series.items():
            stride = max(1, len(points) // _MOST_POINTS)
            kept = [*points[::stride], *points[-1:]]
            usable = [(x, y) for x, y in kept if math.isfinite(y) and (y > 0 or not self.logarithmic)]
            if usable:
                self._series[name] = usable
        self.update()

    def _height(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Paints axes, lines and names."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        theme = current_theme()
        painter.fillRect(self.rect(), theme.colour("base"))
        painter.setPen(theme.colour("text"))
        painter.drawText(8, 16, self.title)
        box = QRectF(52, 24, self.width() - 62, self.height() - 46)
        points = [point for series in self._series.values() for point in series]
        if not points:
            painter.setPen(theme.colour("muted"))
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, self.empty)
            painter.end()
            return
        left, right = min(x for x, _ in points), max(x for x, _ in points)
        low, high = min(self._height(y) for _, y in points), max(self._height(y) for _, y in points)
        width, height = max(right - left, 1e-9), high - low
        if height < 1e-9:
            low, height = low - 0.5, 1.0
        painter.setPen(QPen(theme.colour("border"), 1))
        painter.drawRect(box)
        painter.setPen(theme.colour("muted"))
        for share in (0.0, 0.5, 1.0):
            value = low + share * height
            shown = 10**value if self.logarithmic else value
            y = box.bottom() - share * box.height()
            area = QRectF(0, y - 8, 48, 16)
            painter.drawText(
                area, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, f"{shown:.3g}"
            )
        painter.drawText(
            QRectF(box.left(), box.bottom() + 2, box.width(), 16),
            Qt.AlignmentFlag.AlignRight,
            f"step {right:.0f}",
        )
        x_text = 8.0 + painter.fontMetrics().horizontalAdvance(self.title) + 14
        for (name, series), colour in zip(self._series.items(), _COLOURS * 4, strict=False):
            painter.setPen(QPen(theme.colour(colour), 1.8))
            painter.drawPolyline(
                QPolygonF(
                    QPointF(
                        box.left() + (x - left) / width * box.width(),
                        box.bottom() - (self._height(y) - low) / height * box.height(),
                    )
                    for x, y in series
                )
            )
            text = f"{name} {series[-1][1]:.4g}"
            painter.drawText(QPointF(x_text, 16), text)
            x_text += painter.fontMetrics().horizontalAdvance(text) + 14
        painter.end()
