"""Volume and vessel-label metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from skimage.morphology import skeletonize

Array = NDArray[Any]


def volume_rmse(prediction: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    """Root mean square difference of two volumes of one shape, in their unit (1/mm)."""
    _same_shape(prediction, truth)
    return float(np.sqrt(np.mean((np.asarray(prediction, dtype=np.float64) - truth) ** 2)))


def dice(label: Array, truth: Array) -> float:
    """2 |A and B| / (|A| + |B|) of two labels of one shape (> 0 = inside); 1 when both are empty."""
    _same_shape(label, truth)
    a, b = label > 0, truth > 0
    total = int(a.sum()) + int(b.sum())
    return 2.0 * int((a & b).sum()) / total if total else 1.0


def mask_overlap(mask: Array, truth: Array) -> dict[str, float]:
    """dice, precision and recall of two masks of one shape; precision or recall is NaN over an empty mask."""
    _same_shape(mask, truth)
    a, b = mask > 0, truth > 0
    both = int((a & b).sum())
    return {
        "dice": dice(mask, truth),
        "precision": both / int(a.sum()) if a.any() else float("nan"),
        "recall": both / int(b.sum()) if b.any() else float("nan"),
    }


def dice_best(values: NDArray[np.floating], truth: Array) -> tuple[float, float]:
    """The largest Dice of ``values >= level`` over all levels, and that level.

    Every level is tried: one sort of the values and cumulative counts. Values <= 0 are never called
    vessel, so a volume without positive values scores 0 at infinity.

    Args:
        values: (I, J, K), any unit.
        truth: (I, J, K), > 0 = vessel.
    """
    _same_shape(values, truth)
    inside = truth > 0
    total = int(inside.sum())
    positive = values > 0
    ordered_index = np.argsort(-values[positive], kind="stable")
    ordered = values[positive][ordered_index]
    if not ordered.size or not total:
        return 0.0, float("inf")
    hits = np.cumsum(inside[positive][ordered_index])
    score = 2.0 * hits / (np.arange(1, len(ordered) + 1) + total)
    # Equal values are taken together: only the last of each run is a real threshold.
    last = np.append(ordered[1:] != ordered[:-1], True)
    best = int(np.argmax(np.where(last, score, -1.0)))
    return float(score[best]), float(ordered[best])


def cldice(label: Array, truth: Array) -> float:
    """Harmonic mean of the skeletons' shares inside the other label; 0 when either is empty.

    Source: Shit et al., clDice, CVPR 2021, with exact skeletons.
    """
    _same_shape(label, truth)
    a, b = label > 0, truth > 0
    line_a, line_b = _skeleton(a), _skeleton(b)
    if not line_a.any() or not line_b.any():
        return 0.0
    precision = float(b[line_a].mean())
    recall = float(a[line_b].mean())
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def recall_by_radius(
    label: Array,
    affine_mm: NDArray[np.floating],
    points_mm: NDArray[np.floating],
    radius_mm: NDArray[np.floating],
    below_mm: float = 0.5,
    at_least_mm: float = 0.0,
) -> float:
    """Share of true centreline points of thin vessels that the label covers; NaN without such points.

    A point with ``at_least_mm <= radius < below_mm`` counts as covered when the nearest label voxel's
    centre is within max(radius, one voxel edge) of it. Points outside the label's grid count too.

    Args:
        label: (I, J, K), > 0 = vessel.
        affine_mm: (4, 4), voxel-centre index -> world mm.
        points_mm: true centreline points, (M, 3), evenly spaced along the vessels.
        radius_mm: true radii, (M,).
        below_mm: upper end of the radii, excluded.
        at_least_mm: lower end, included.

    Source: ours.
    """
    chosen = (radius_mm >= at_least_mm) & (radius_mm < below_mm)
    if not chosen.any():
        return float("nan")
    voxels = np.argwhere(label > 0)
    if not len(voxels):
        return 0.0
    world = voxels @ affine_mm[:3, :3].T + affine_mm[:3, 3]
    edge = float(np.linalg.norm(affine_mm[:3, :3], axis=0).max())
    distance, _ = cKDTree(world).query(points_mm[chosen], workers=-1)
    return float(np.mean(distance <= np.maximum(radius_mm[chosen], edge)))


def time_error_s(
    prediction_s: NDArray[np.floating], truth_s: NDArray[np.floating], mask: NDArray[np.bool_] | None = None
) -> float:
    """Median absolute difference of two time maps, in s, where both are known (and the mask is True).

    It is the contract's ``arrival_error_s`` or peak error; NaN when nothing can be compared.
    """
    _same_shape(prediction_s, truth_s)
    known = np.isfinite(prediction_s) & np.isfinite(truth_s)
    if mask is not None:
        known &= mask
    if not known.any():
        return float("nan")
    return float(np.median(np.abs(prediction_s[known] - truth_s[known])))


def volume_metrics(values: NDArray[np.floating], label: Array, truth: Array) -> dict[str, float]:
    """dice_own, dice_best (with its level) and cldice of a volume and its own label against a true label."""
    best, level = dice_best(values, truth)
    return {
        "dice_own": dice(label, truth),
        "dice_best": best,
        "dice_best_level": level,
        "cldice": cldice(label, truth),
    }


def _skeleton(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Skeleton of a mask, thinned in its bounding box alone, for speed."""
    out = np.zeros(mask.shape, dtype=bool)
    if not mask.any():
        return out
    box = tuple(
        slice(int(hit.min()), int(hit.max()) + 1)
        for hit in (
            np.flatnonzero(mask.any(axis=tuple(b for b in range(mask.ndim) if b != a)))
            for a in range(mask.ndim)
        )
    )
    out[box] = skeletonize(np.ascontiguousarray(mask[box])) > 0
    return out


def _same_shape(prediction: Array, truth: Array) -> None:
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction must have the truth's shape {truth.shape}, got {prediction.shape}")
