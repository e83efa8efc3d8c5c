"""The scale of a scene from the known diameter of an instrument's shaft."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.capture import Capture

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

_MOST_FRAMES = 24
_SMALLEST_SHARE = 0.004
_SHAFT_SHARE = 0.6
_MISFIT = 0.06
_BINS = 24


def _tip_width(piece: Bool) -> tuple[float, Float] | None:
    """Width in px that a shaft's cone reaches at its tip, and the tip (2,) px; None when it is no shaft.

    piece: (H, W) one connected instrument, which enters from the picture's border.
    """
    height, width = piece.shape
    y, x = np.nonzero(piece)
    points = np.stack([x, y], -1).astype(np.float64)
    centre = points.mean(0)
    _, spread, axes = np.linalg.svd(points - centre, full_matrices=False)
    if spread[1] > 0.5 * spread[0]:
        return None
    border = (x == 0) | (y == 0) | (x == width - 1) | (y == height - 1)
    if border.sum() < 3:
        return None
    axis = axes[0] if (points[border].mean(0) - centre) @ axes[0] < 0 else -axes[0]
    along = (points - centre) @ axis
    # Where the border cuts the shaft obliquely, its full width does not show.
    start, end = float(np.percentile(along[border], 95)), float(along.max())
    if end - start < 0.08 * width:
        return None
    edges = np.linspace(start, start + _SHAFT_SHARE * (end - start), _BINS + 1)
    step = edges[1] - edges[0]
    counts, _ = np.histogram(along, edges)
    middle, widths = 0.5 * (edges[1:] + edges[:-1]), counts / step
    slope, offset = np.polyfit(middle, widths, 1)
    for _ in range(5):
        misfit = np.abs(slope * middle + offset - widths)
        slope, offset = np.polyfit(middle, widths, 1, w=1 / (1 + (misfit / (np.median(misfit) + 0.1)) ** 2))
    misfit = np.abs(slope * middle + offset - widths)
    at_tip = float(slope * end + offset)
    if np.median(misfit) > _MISFIT * np.median(widths) or at_tip < 4:
        return None
    return at_tip, centre + end * axis


def shaft_depth(capture: Capture, diameter_mm: float) -> float | None:
    """Millimetres per unit of the capture's depth, or None when no shaft tells.

    A shaft of diameter D at depth z appears f D / z wide; the tissue next to its tip is taken to lie at the
    tip's depth, which is right when the instrument works on it and too small when it hovers.
    """
    if capture.occluded is None or capture.depth_mm is None or capture.cameras is None:
        return None
    frames = np.unique(np.linspace(0, len(capture) - 1, min(_MOST_FRAMES, len(capture))).astype(int))
    factors = []
    for t in frames.tolist():
        hidden = np.asarray(capture.occluded[t])
        depth = np.asarray(capture.depth_mm[t])
        focal = float(capture.cameras.intrinsics[t, 0, 0])
        count, pieces, stats, _ = cv2.connectedComponentsWithStats(hidden.astype(np.uint8), connectivity=8)
        rows, columns = np.ogrid[: hidden.shape[0], : hidden.shape[1]]
        for number in range(1, count):
            if stats[number, cv2.CC_STAT_AREA] < _SMALLEST_SHARE * hidden.size:
                continue
            found = _tip_width(np.asarray(pieces == number))
            if found is None:
                continue
            width, tip = found
            near = (columns - tip[0]) ** 2 + (rows - tip[1]) ** 2 < (1.5 * width) ** 2
            around = depth[near & np.isfinite(depth)]
            if len(around) > 20:
                factors.append(focal * diameter_mm / width / float(np.median(around)))
    if len(factors) < 2:
        return None
    return float(np.median(factors))
