"""The local lumen value: each voxel climbs to the ridge of its own vessel."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

# The 13 directions of a voxel's 26 neighbours, up to sign.
_DIRECTIONS = np.array(
    [(i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1) if (i, j, k) > (0, 0, 0)],
    dtype=np.int64,
)
# Along a curved or fading ridge a voxel is no maximum in the few directions close to the tangent:
# 1 along an axis, up to 4 for an oblique one; on a wall it is a maximum in hardly any.
_MIN_MAXIMA = 9


@numba.njit(cache=True)
def find_ridges(values: NDArray[np.float32], candidates: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which candidate voxels (V, 3), none on the border, are maxima in >= 9 of 13 directions, (V,)."""
    out = np.zeros(len(candidates), dtype=np.bool_)
    for v in range(len(candidates)):
        i, j, k = candidates[v]
        here = values[i, j, k]
        maxima = 0
        for d in range(13):
            a, b, c = _DIRECTIONS[d]
            if here >= values[i + a, j + b, k + c] and here >= values[i - a, j - b, k - c]:
                maxima += 1
        out[v] = maxima >= _MIN_MAXIMA
    return out


@numba.njit(cache=True)
def climb(
    values: NDArray[np.float32],
    candidates: NDArray[np.int32],
    ridge_value: NDArray[np.float32],
    step_mm: NDArray[np.float64],
    max_steps: int,
) -> NDArray[np.float32]:
    """Value (V,) of the ridge that steepest ascent from each candidate voxel (V, 3) reaches.

    values: what is climbed, (I, J, K). ridge_value: > 0 on ridges, (I, J, K).
    step_mm: lengths of the 13 directions, (13,). A climb that ends on a peak without a ridge gives
    the peak's value.
    """
    out = np.zeros(len(candidates), dtype=np.float32)
    last = np.array(values.shape) - 1
    for v in range(len(candidates)):
        i, j, k = candidates[v]
        for _ in range(max_steps):
            if ridge_value[i, j, k] > 0 or i < 1 or j < 1 or k < 1:
                break
            if i >= last[0] or j >= last[1] or k >= last[2]:
                break
            here = values[i, j, k]
            best, bi, bj, bk = 0.0, i, j, k
            for d in range(13):
                for sign in (-1, 1):
                    a = i + sign * _DIRECTIONS[d, 0]
                    b = j + sign * _DIRECTIONS[d, 1]
                    c = k + sign * _DIRECTIONS[d, 2]
                    slope = (values[a, b, c] - here) / step_mm[d]
                    if slope > best:
                        best, bi, bj, bk = slope, a, b, c
            if best == 0.0:
                break
            i, j, k = bi, bj, bk
        out[v] = ridge_value[i, j, k] if ridge_value[i, j, k] > 0 else values[i, j, k]
    return out


def direction_lengths(spacing_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lengths of the 13 directions, (13,) mm."""
    return np.asarray(np.linalg.norm(_DIRECTIONS * spacing_mm, axis=1))
