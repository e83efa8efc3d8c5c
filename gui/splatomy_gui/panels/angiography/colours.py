"""Colours of times (red comes first, blue last, as in colour-coded DSA) and of picked points."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import QPointF
from PyQt6.QtGui import QColor, QPainter

_ANCHORS = np.array(
    [
        (0.80, 0.05, 0.10),
        (0.98, 0.45, 0.05),
        (0.98, 0.85, 0.10),
        (0.35, 0.80, 0.25),
        (0.10, 0.75, 0.80),
        (0.15, 0.40, 0.95),
        (0.45, 0.20, 0.80),
    ]
)
SERIES = ("#ff8577", "#7db8f5", "#58c78a", "#e8b64c", "#c792ea", "#4dd0e1")
"""Colours of picked points and their curves."""


def time_table() -> NDArray[np.uint8]:
    """The colours of early to late, (256, 3)."""
    at = np.linspace(0, len(_ANCHORS) - 1, 256)
    columns = [np.interp(at, np.arange(len(_ANCHORS)), _ANCHORS[:, c]) for c in range(3)]
    return np.rint(np.stack(columns, -1) * 255).astype(np.uint8)


def time_colours(times_s: NDArray[np.floating], low: float, high: float) -> NDArray[np.uint8]:
    """RGBA (..., 4) of times; unknown (NaN) ones are transparent."""
    known = np.isfinite(times_s)
    share = (np.where(known, times_s, low) - low) / max(high - low, 1e-9)
    made = np.empty((*times_s.shape, 4), np.uint8)
    made[..., :3] = time_table()[np.clip(share * 255, 0, 255).astype(np.uint8)]
    made[..., 3] = np.where(known, 255, 0)
    return made


def paint_points(
    painter: QPainter,
    points: Sequence[tuple[float, float, float]],
    places_of: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> None:
    """Numbered dots in the colours of their curves. places_of: world (N, 3) to px (N, 2), NaN = unseen."""
    for number, (point, name) in enumerate(zip(points, SERIES, strict=False)):
        x, y = places_of(np.array([point]))[0]
        if np.isfinite([x, y]).all():
            painter.setPen(QColor("black"))
            painter.setBrush(QColor(name))
            painter.drawEllipse(QPointF(x, y), 5, 5)
            painter.setPen(QColor(name))
            painter.drawText(QPointF(x + 8, y - 6), str(number + 1))
