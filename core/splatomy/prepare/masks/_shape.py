"""Which proposed pieces are instruments: those with sharp borders, not pale tissue under a strong light."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.prepare.masks._colour import warmth
from splatomy.prepare.masks._flow import Bool, Codes, Float32

_REACH_SHARE = 0.01
"""Distance from a border within which colour or lightness must change, as a share of the longer side."""
_WARMTH_STEP, _LIGHTNESS_STEP = 10.0, 15.0
_RIM_SHARE = 0.015
"""The rim of a round picture glares: borders as near to it as this say nothing."""
_OVERLAP = 0.5


def with_sharp_borders(mask: Bool, small: Codes, outside: Bool, before: Bool | None, least: float) -> Bool:
    """The pieces of a mask (H, W) of whose border a share of at least ``least`` is sharp.

    small: (h, w, 3), the picture at working size. outside: (H, W), True = shows nothing. before: (H, W) the
    mask of the last frame: what mostly lies on it is kept as it was then.

    Overexposed tissue is as white as an instrument but fades into its surroundings; an instrument in front
    of the tissue has an edge.
    """
    if not mask.any():
        return mask
    size = small.shape[1::-1]
    sharp, rim = _sharp(small), _near_border(_shrunk(outside, size))
    labels = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)[1]
    kept = np.zeros(int(labels.max()) + 1, bool)
    for number in range(1, len(kept)):
        piece = np.asarray(labels == number)
        if before is not None and before[piece].mean() > _OVERLAP:
            kept[number] = True
            continue
        inner = _shrunk(piece, size).astype(np.uint8)
        edge = (cv2.dilate(inner, np.ones((3, 3), np.uint8)) > inner) & ~rim
        kept[number] = edge.any() and sharp[edge].mean() >= least
    return np.asarray(kept[labels])


def _shrunk(mask: Bool, size: tuple[int, int]) -> Bool:
    return np.asarray(cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0)


def _near_border(outside: Bool) -> Bool:
    """Where the picture's own border, or that of what lies outside of it, is near."""
    reach = 2 * max(2, round(_RIM_SHARE * max(outside.shape))) + 1
    framed = np.pad(outside, 1, constant_values=True).astype(np.uint8)
    return np.asarray(cv2.dilate(framed, np.ones((reach, reach), np.uint8))[1:-1, 1:-1] > 0)


def _sharp(small: Codes) -> Bool:
    """Where warmth or lightness changes strongly within a short distance, (h, w)."""
    warm, _ = warmth(small)
    light = cv2.cvtColor(small, cv2.COLOR_RGB2LAB)[..., 0].astype(np.float32) * np.float32(100 / 255)
    reach = 2 * max(1, round(_REACH_SHARE * max(small.shape))) + 1
    smooth = np.asarray(cv2.GaussianBlur(light, (0, 0), 1.0), np.float32)
    return (_span(warm, reach) > _WARMTH_STEP) | (_span(smooth, reach) > _LIGHTNESS_STEP)


def _span(values: Float32, side_px: int) -> NDArray[np.float32]:
    """Largest minus smallest value about each pixel."""
    kernel = np.ones((side_px, side_px), np.uint8)
    return np.asarray(cv2.dilate(values, kernel) - cv2.erode(values, kernel), np.float32)
