"""Colours of the surface: as recorded, by evidence, by depth, by how far it moved or is off a reference."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import QPointF, QRectF, Qt
from PyQt6.QtGui import QColor, QLinearGradient, QPainter, QPen

_GREY = np.array([118, 124, 130], np.float32)
_STOPS = 12
_MAPS = {
    "evidence": cv2.COLORMAP_CIVIDIS,
    "depth": cv2.COLORMAP_VIRIDIS,
    "deformation": cv2.COLORMAP_PLASMA,
    "distance": cv2.COLORMAP_PLASMA,
}


class Colouring(StrEnum):
    """What the colours of the surface say."""

    TEXTURE = "texture"
    EVIDENCE = "evidence"
    DEPTH = "depth"
    DEFORMATION = "deformation"
    DISTANCE = "distance"


_TITLES = {
    Colouring.TEXTURE: "Tissue colours",
    Colouring.EVIDENCE: "Observed or not",
    Colouring.DEPTH: "Depth",
    Colouring.DEFORMATION: "Deformation",
    Colouring.DISTANCE: "Distance to reference",
}


def colouring_titles(moves: bool) -> list[tuple[Colouring, str]]:
    """Colourings of a surface with their names; moves: of a clip, which has no reference mesh; what is
    still is not deformed.
    """
    without = Colouring.DISTANCE if moves else Colouring.DEFORMATION
    titles = _TITLES if moves else _TITLES | {Colouring.TEXTURE: "Colours as seen"}
    return [(kind, text) for kind, text in titles.items() if kind is not without]


@dataclass(frozen=True)
class Scale:
    """A colour scale: what it shows, its unit, and the values at its ends."""

    kind: Colouring
    title: str
    unit: str
    low: float
    high: float

    def colours(self, values: NDArray[np.floating]) -> NDArray[np.uint8]:
        """Values of any shape as RGB, (..., 3); NaN becomes grey."""
        share = (np.nan_to_num(values) - self.low) / max(self.high - self.low, 1e-12)
        out = colour_map(self.kind)[np.clip(share * 255, 0, 255).astype(np.uint8)]
        out[np.isnan(values)] = _GREY.astype(np.uint8)
        return out


def colour_map(kind: Colouring) -> NDArray[np.uint8]:
    """The 256 colours of a scale, RGB; all are readable by the colour-blind."""
    codes = np.arange(256, dtype=np.uint8)[:, None]
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(codes, _MAPS[kind.value]), cv2.COLOR_BGR2RGB)[:, 0])


def greyed(colours: NDArray[np.uint8], evidence: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Colours (V, 3) that fade to grey as evidence (V,) falls from all to none."""
    share = np.asarray(evidence, np.float32)[:, None]
    return np.asarray(np.rint(share * colours + (1 - share) * _GREY), np.uint8)


def paint_scale(painter: QPainter, scale: Scale, width: int, height: int) -> None:
    """The scale as a bar at the left of a view of that size."""
    tall = max(60.0, min(180.0, height - 150.0))
    bar = QRectF(20, height * 0.5 - tall / 2, 14, tall)
    title = f"{scale.title}, {scale.unit}" if scale.unit else scale.title
    painter.save()
    text_width = painter.fontMetrics().horizontalAdvance(title)
    ground = QRectF(8, bar.top() - 30, min(max(90.0, text_width + 18.0), width - 16.0), tall + 42)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(0, 0, 0, 140))
    painter.drawRoundedRect(ground, 6, 6)
    painter.setPen(Qt.GlobalColor.white)
    top = QRectF(ground.left(), ground.top() + 2, ground.width(), 22)
    painter.drawText(top, Qt.AlignmentFlag.AlignCenter, title)
    gradient = QLinearGradient(bar.bottomLeft(), bar.topLeft())
    colours = colour_map(scale.kind)
    for stop in np.linspace(0, 1, _STOPS):
        r, g, b = (int(c) for c in colours[round(stop * 255)])
        gradient.setColorAt(float(stop), QColor(r, g, b))
    painter.setPen(QPen(Qt.GlobalColor.white, 1))
    painter.setBrush(gradient)
    painter.drawRect(bar)
    for share in (0.0, 0.5, 1.0):
        y = bar.bottom() - share * bar.height()
        value = scale.low + share * (scale.high - scale.low)
        painter.drawLine(QPointF(bar.right(), y), QPointF(bar.right() + 4, y))
        text = f"{value:.0%}" if scale.kind is Colouring.EVIDENCE else f"{value:.3g}"
        painter.drawText(QRectF(bar.right() + 6, y - 9, 52, 18), Qt.AlignmentFlag.AlignVCenter, text)
    painter.restore()
