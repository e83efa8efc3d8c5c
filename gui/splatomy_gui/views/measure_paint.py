"""Measurements painted over any view that can say where a world point lies in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import QPointF, QRectF, Qt
from PyQt6.QtGui import QColor, QPainter, QPen, QPolygonF

from splatomy_gui.measuring import MeasureKind
from splatomy_gui.measuring_tool import Drawn

_OBSERVED, _SYNTHETIC = "#5ee7ff", "#ffb347"
PlaceOf = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""World points (N, 3) to places in the widget (N, 2) in px, NaN = not in sight."""


def paint_measurements(
    painter: QPainter, drawn: Sequence[Drawn], place_of: PlaceOf, chosen: int | None = None
) -> None:
    """Lines, points and values; those at synthetic places dashed and marked, the chosen one thicker."""
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    for item in drawn:
        places = place_of(np.asarray(item.points, dtype=np.float64).reshape(-1, 3))
        points = [QPointF(x, y) for x, y in places if np.isfinite([x, y]).all()]
        if len(points) == len(item.points):
            _paint(painter, item, points, item.id == chosen)
    painter.restore()


def _paint(painter: QPainter, item: Drawn, points: list[QPointF], is_chosen: bool) -> None:
    # The canvas is dark in every theme.
    colour = QColor(_SYNTHETIC if item.synthetic else _OBSERVED)
    if item.id == 0:
        colour = QColor(Qt.GlobalColor.white)
    width = 3.0 if is_chosen else 2.0
    style = Qt.PenStyle.DashLine if item.synthetic else Qt.PenStyle.SolidLine
    # A dark rim keeps thin lines readable on bright tissue.
    closed = item.kind in (MeasureKind.AREA, MeasureKind.DIAMETER) and len(points) > 2
    shape = QPolygonF([*points, points[0]] if closed else points)
    for pen in (QPen(QColor(0, 0, 0, 160), width + 2.5), QPen(colour, width, style)):
        painter.setPen(pen)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawPolyline(shape)
    painter.setPen(QPen(QColor(0, 0, 0, 200), 1.2))
    painter.setBrush(colour)
    for point in points:
        painter.drawEllipse(point, 4.0, 4.0)
    _paint_text(painter, item, points, is_chosen)


def _paint_text(painter: QPainter, item: Drawn, points: list[QPointF], is_chosen: bool) -> None:
    text = f"{item.text} (not observed)" if item.synthetic else item.text
    middle = points[1] if item.kind is MeasureKind.ANGLE and len(points) == 3 else points[-1]
    metrics = painter.fontMetrics()
    box = QRectF(0, 0, metrics.horizontalAdvance(text) + 12, metrics.height() + 4)
    box.moveTopLeft(middle + QPointF(10, -box.height() - 4))
    room = painter.viewport()
    box.moveLeft(max(2.0, min(box.left(), room.width() - box.width() - 2)))
    box.moveTop(max(2.0, min(box.top(), room.height() - box.height() - 2)))
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(0, 0, 0, 210 if is_chosen else 160))
    painter.drawRoundedRect(box, 4, 4)
    painter.setPen(Qt.GlobalColor.white)
    painter.drawText(box, Qt.AlignmentFlag.AlignCenter, text)
