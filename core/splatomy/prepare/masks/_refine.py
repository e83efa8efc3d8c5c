"""From probabilities at working size to a clean mask at full size."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.prepare.masks._flow import Bool, Codes, Float32

_RADIUS_SHARE = 0.025
_EPSILON = 1e-3
_CLOSING_SHARE = 0.008
_SLACK_SHARE = 0.0015


def _box(values: NDArray[np.floating], radius_px: int) -> Float32:
    size = (2 * radius_px + 1, 2 * radius_px + 1)
    return np.asarray(cv2.blur(values, size, borderType=cv2.BORDER_REFLECT))


def _disc(diameter_px: int) -> Codes:
    return np.asarray(
        cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter_px, diameter_px)), dtype=np.uint8
    )


def guided(probability: Float32, small: Codes, full: Codes) -> Float32:
    """The probability (H, W) at full size, its edges laid on those of the picture.

    probability: (h, w) in [0, 1]. small: (h, w, 3), the picture at that size. full: (H, W, 3).

    Source: He, Sun, Tang, "Guided image filtering" (TPAMI 2013) with a colour guide, eq. 19 to 21; fitted
    at working size and applied at full size as in He, Sun, "Fast guided filter" (2015).
    """
    radius = max(2, round(_RADIUS_SHARE * max(probability.shape)))
    guide = small.astype(np.float32) / 255
    mean_i, mean_p = _box(guide, radius), _box(probability, radius)
    pairs = guide[..., [0, 0, 0, 1, 1, 2]] * guide[..., [0, 1, 2, 1, 2, 2]]
    products = mean_i[..., [0, 0, 0, 1, 1, 2]] * mean_i[..., [0, 1, 2, 1, 2, 2]]
    # Six channels are over what OpenCV filters at once.
    spread = np.concatenate(
        [_box(half, radius) for half in (pairs[..., :3].copy(), pairs[..., 3:].copy())], -1
    )
    rr, rg, rb, gg, gb, bb = np.moveaxis(spread - products, -1, 0).astype(np.float64)
    rr, gg, bb = rr + _EPSILON, gg + _EPSILON, bb + _EPSILON
    cross = _box(guide * probability[..., None], radius) - mean_i * mean_p[..., None]
    # The inverse of a symmetric 3x3 matrix by its cofactors.
    c_rr, c_rg, c_rb = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    c_gg, c_gb, c_bb = rr * bb - rb * rb, rg * rb - rr * gb, rr * gg - rg * rg
    determinant = rr * c_rr + rg * c_rg + rb * c_rb
    x, y, z = np.moveaxis(cross.astype(np.float64), -1, 0)
    slope = np.stack(
        [c_rr * x + c_rg * y + c_rb * z, c_rg * x + c_gg * y + c_gb * z, c_rb * x + c_gb * y + c_bb * z], -1
    )
    slope = np.asarray(slope / determinant[..., None], dtype=np.float32)
    offset = mean_p - np.einsum("hwc,hwc->hw", slope, mean_i)
    size = full.shape[1::-1]
    slope = cv2.resize(_box(slope, radius), size, interpolation=cv2.INTER_LINEAR)
    offset = cv2.resize(_box(offset, radius), size, interpolation=cv2.INTER_LINEAR)
    out = np.einsum("hwc,hwc->hw", slope, full.astype(np.float32) / 255) + offset
    return np.asarray(np.clip(out, 0, 1), dtype=np.float32)


def _marked(labels: NDArray[np.int32], where: Bool) -> NDArray[np.int64]:
    """The numbers of the components that ``where`` touches, without the background's 0."""
    found = np.unique(labels[where])
    return found[found > 0].astype(np.int64)


def rim_of(outside: Bool) -> Bool:
    """Pixels (H, W) of the picture next to its border or to what lies outside of it."""
    framed = np.pad(outside, 1, constant_values=True).astype(np.uint8)
    grown = cv2.dilate(framed, np.ones((3, 3), np.uint8))[1:-1, 1:-1] > 0
    return np.asarray(grown & ~outside)


def cleaned(mask: Bool, outside: Bool, smallest_share: float, hole_share: float) -> Bool:
    """Only what enters from the border of the picture, closed, and without small holes.

    outside: (H, W), True = shows nothing. Shares are of the picture's pixels.
    """
    rim = rim_of(outside)
    labels, areas = _components(mask)
    kept = np.zeros(len(areas), bool)
    kept[_marked(labels, mask & rim)] = True
    kept &= areas >= smallest_share * mask.size
    out = np.asarray(kept[labels])
    closing = _disc(2 * round(_CLOSING_SHARE * max(mask.shape) / 2) + 1)
    out = cv2.morphologyEx(out.astype(np.uint8), cv2.MORPH_CLOSE, closing) > 0
    return filled(out & ~outside, rim, hole_share)


def filled(mask: Bool, rim: Bool, hole_share: float) -> Bool:
    """The mask without its holes of at most ``hole_share`` of the picture."""
    labels, areas = _components(~mask)
    hole = areas <= hole_share * mask.size
    hole[_marked(labels, ~mask & rim)] = False
    hole[0] = False
    return np.asarray(mask | hole[labels])


def _components(mask: Bool) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Connected components (8 neighbours): their numbers (H, W), and their areas; 0 = not in the mask."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = np.asarray(stats[:count, cv2.CC_STAT_AREA], dtype=np.int64)
    areas[0] = 0
    return np.asarray(labels), areas


def touched_parts(mask: Bool, seeds: Bool) -> Bool:
    """The connected parts of ``mask`` that ``seeds`` touch."""
    labels, areas = _components(mask)
    kept = np.zeros(len(areas), bool)
    kept[_marked(labels, mask & seeds)] = True
    return np.asarray(kept[labels])


def expected_overlap(probability: Float32, mask: Bool) -> float:
    """Intersection over union with the truth that the probabilities (H, W) themselves expect of the mask.

    A few pixels count as found in any case, so that an empty mask of an empty picture is sure.
    """
    both = float(probability[mask].sum())
    either = float(mask.sum() + probability.sum()) - both
    slack = _SLACK_SHARE * mask.size + 1
    return (both + slack) / (either + slack)
