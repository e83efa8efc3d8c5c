"""A picture of where sources and detectors stood about the patient; what is missing is said in red."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import QPointF, QSize, Qt
from PyQt6.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF
from PyQt6.QtWidgets import QWidget

from splatomy_gui.panels.angiography.colours import SERIES
from splatomy_gui.theme import current_theme

_COLOURS = SERIES[1:]
"""Without the reddish one, since red says that something is missing."""
_MOST_POSES, _MOST_NAMES = 48, 5
_GUESSED_SAD_MM, _GUESSED_SID_MM, _GUESSED_DETECTOR_MM = 750.0, 1200.0, 300.0
_NEEDED = {
    "primary_deg": "angles",
    "source_to_isocentre_mm": "source to isocentre (SAD)",
    "source_to_detector_mm": "source to detector (SID)",
    "pixel_mm": "pixel size",
}


class GeometryView(QWidget):
    """Drag turns it. Distances that are missing are drawn as usual ones, dashed."""

    def __init__(self) -> None:
        super().__init__()
        self._runs: list[tuple[NDArray[np.float64], NDArray[np.float64], bool]] = []
        self.problem = ""
        self._yaw, self._pitch = 0.6, 0.45
        self._dragged_from: tuple[QPointF, float, float] | None = None
        self.setMinimumHeight(150)
        self.setToolTip("Where the sources (dots) and detectors (frames) stood; drag to turn the picture")

    def sizeHint(self) -> QSize:
        """A square picture."""
        return QSize(260, 200)

    @property
    def count(self) -> int:
        """Number of poses on show."""
        return sum(len(sources) for sources, _, _ in self._runs)

    def show_views(self, views: Sequence[dict[str, Any]]) -> None:
        """The runs of a report: angles in degrees as ranges, lengths in mm, None = missing."""
        self._runs = [_poses(view) for view in views if view.get("primary_deg") is not None]
        missing = [name for key, name in _NEEDED.items() if any(view.get(key) is None for view in views)]
        self.problem = f"Missing: {', '.join(missing)}. Give a geometry file." if missing else ""
        self.update()

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Begins to turn."""
        if event is not None:
            self._dragged_from = (event.position(), self._yaw, self._pitch)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Turns."""
        if event is None or self._dragged_from is None:
            return
        start, yaw, pitch = self._dragged_from
        shift = event.position() - start
        self._yaw = yaw + shift.x() / 120
        self._pitch = float(np.clip(pitch + shift.y() / 120, -1.5, 1.5))
        self.update()

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:
        """Ends it."""
        self._dragged_from = None

    def _seen(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """World points (N, 3) as seen by the viewer: right, up, near."""
        cos_y, sin_y, cos_p, sin_p = (
            np.cos(self._yaw),
            np.sin(self._yaw),
            np.cos(self._pitch),
            np.sin(self._pitch),
        )
        right = points[:, 0] * cos_y + points[:, 1] * sin_y
        depth = -points[:, 0] * sin_y + points[:, 1] * cos_y
        return np.stack(
            [right, points[:, 2] * cos_p + depth * sin_p, points[:, 2] * sin_p - depth * cos_p], -1
        )

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Paints patient, poses and what is missing."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        theme = current_theme()
        painter.fillRect(self.rect(), theme.colour("base"))
        reach = max((float(np.abs(s).max()) for s, _, _ in self._runs), default=_GUESSED_SAD_MM) * 1.15
        scale = min(self.width(), self.height()) / (2 * reach)

        def place(point: NDArray[np.float64]) -> QPointF:
            return QPointF(self.width() / 2 + point[0] * scale, self.height() / 2 - point[1] * scale)

        self._paint_patient(painter, scale, place)
        for number, (sources, corners, known) in enumerate(self._runs):
            colour = QColor(_COLOURS[number % len(_COLOURS)])
            style = Qt.PenStyle.SolidLine if known else Qt.PenStyle.DashLine
            seen = self._seen(sources)
            painter.setPen(QPen(colour, 1.5, style))
            painter.drawPolyline(QPolygonF([place(p) for p in seen]))
            for pose in sorted({0, len(sources) // 2, len(sources) - 1}):
                outline = self._seen(corners[pose])
                faint = QColor(colour)
                faint.setAlpha(60)
                painter.setBrush(faint)
                painter.setPen(QPen(colour, 1, style))
                painter.drawPolygon(QPolygonF([place(p) for p in outline]))
                painter.setPen(QPen(colour, 0.8, Qt.PenStyle.DotLine))
                painter.drawLine(place(seen[pose]), place(outline.mean(0)))
            painter.setBrush(colour)
            painter.setPen(Qt.PenStyle.NoPen)
            for point in seen:
                painter.drawEllipse(place(point), 2.6, 2.6)
        self._paint_legend(painter)
        if self.problem:
            painter.setPen(theme.colour("bad"))
            area = self.rect().adjusted(8, 6, -8, -6)
            painter.drawText(area, Qt.AlignmentFlag.AlignTop | Qt.TextFlag.TextWordWrap, self.problem)
        painter.end()

    def _paint_legend(self, painter: QPainter) -> None:
        """What dots and frames are, and which colour is which run; red alone says that something lacks."""
        line, y = painter.fontMetrics().lineSpacing(), self.height() - 8
        names = [f"Run {number}" for number in range(len(self._runs))] if len(self._runs) > 1 else []
        for number, name in reversed(list(enumerate(names[:_MOST_NAMES]))):
            painter.setPen(QColor(_COLOURS[number % len(_COLOURS)]))
            painter.drawText(8, y, name)
            y -= line
        if self._runs:
            painter.setPen(current_theme().colour("muted"))
            painter.drawText(8, y, "dots: source, frames: detector")

    def _paint_patient(self, painter: QPainter, scale: float, place: Any) -> None:
        """A body about the isocentre, head up, so that sides are plain."""
        theme = current_theme()
        angle = np.linspace(0, 2 * np.pi, 40)
        painter.setPen(QPen(theme.colour("muted"), 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        for z, wide, deep in ((-260.0, 150.0, 90.0), (0.0, 85.0, 100.0), (110.0, 45.0, 55.0)):
            ring = np.stack([wide * np.cos(angle), deep * np.sin(angle), np.full(40, z)], -1)
            painter.drawPolyline(QPolygonF([place(p) for p in self._seen(ring)]))
        names = {"L": (190.0, 0, 0), "R": (-190.0, 0, 0), "H": (0, 0, 170.0), "A": (0, -150.0, 0)}
        for name, at in names.items():
            painter.drawText(place(self._seen(np.array([at], dtype=np.float64))[0]), name)
        middle = place(np.zeros(3))
        painter.setPen(QPen(theme.colour("caution"), 1.5))
        painter.drawLine(middle - QPointF(5, 0), middle + QPointF(5, 0))
        painter.drawLine(middle - QPointF(0, 5), middle + QPointF(0, 5))


def _poses(view: dict[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
    """Sources (N, 3), detector corners (N, 4, 3) mm about the isocentre; whether all lengths are known."""
    count = max(1, min(_MOST_POSES, int(view.get("frames") or 1)))
    (a0, a1), (b0, b1) = view["primary_deg"], view.get("secondary_deg") or (0.0, 0.0)
    a, b = np.radians(np.linspace(a0, a1, count)), np.radians(np.linspace(b0, b1, count))
    sad = view.get("source_to_isocentre_mm") or _GUESSED_SAD_MM
    sid = view.get("source_to_detector_mm") or _GUESSED_SID_MM
    pixel = view.get("pixel_mm")
    size = [_GUESSED_DETECTOR_MM] * 2
    if pixel is not None:
        size = [pixel[0] * view["width_px"], pixel[1] * view["height_px"]]
    outward = np.stack([np.cos(a) * np.cos(b), np.sin(a) * np.cos(b), np.sin(b)], -1)
    across = np.stack([-np.sin(a), np.cos(a), np.zeros(count)], -1)
    down = np.stack([np.sin(b) * np.cos(a), np.sin(b) * np.sin(a), -np.cos(b)], -1)
    middle = -(sid - sad) * outward
    signs = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) / 2
    corners = (
        middle[:, None]
        + signs[None, :, :1] * size[0] * across[:, None]
        + signs[None, :, 1:] * size[1] * down[:, None]
    )
    known = all(view.get(key) is not None for key in _NEEDED)
    return sad * outward, corners, known
