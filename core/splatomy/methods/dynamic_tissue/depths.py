"""What measured depths say about the bare tissue: without strays, edges of instruments and noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

_WINDOW = 0.012
"""Standard deviation, in image widths, of the window in which tissue is nearly flat."""
_RIM, _SURE_RIM = 0.018, 0.045
"""Within the first distance of an instrument, in image widths, its depth bleeds into the tissue's; from the
second on a measured depth is worth as much as any."""
_STRAYS = 4.0
_LEAST_STRAY = 0.004
_ROUNDS = 2
_PROBED_PAIRS = 6
_RIDGE = 0.05
_SHARED_NOISE = 2.0
"""Noise that a matcher's window gives to all of its pixels looks like motion of the tissue: the whole is
about so many times larger than the part that is seen."""


def cleaned(inverse: Float32, weight: Float32, seen: Bool, noise: float) -> tuple[Float32, Float32]:
    """Inverse depths (H, W) without strays and with less noise, and their weights (H, W).

    inverse: measured, in any unit. weight: 0 = unknown. seen: where tissue is visible. noise: standard
    deviation of the measured values, of ``noise_of``.

    A value counts less the nearer an instrument is, and not at all beside it or where most of its
    surroundings are unknown: there a matcher's window has seen something else. What is left is drawn
    towards the plane of its surroundings, as far as the noise explains the distance: the seed trains on
    every value as it comes.

    Source: the local form of the Wiener filter (Lee, TPAMI 2, 1980), about planes instead of means: in
    inverse depth a plane is affine.
    """
    width = weight.shape[1]
    known = weight > 0
    if not known.any():
        return inverse, weight
    away = cv2.distanceTransform(seen.astype(np.uint8), cv2.DIST_L2, 3)
    if seen.all():
        away = np.full(weight.shape, width, np.float32)
    weight = weight * ((away - _RIM * width) / ((_SURE_RIM - _RIM) * width)).clip(0, 1).astype(np.float32)
    sigma = max(1.0, _WINDOW * width)
    # Beside large gaps of the measurement the window hung over them.
    share = cv2.GaussianBlur(known.astype(np.float32), (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    weight = weight * (4 * share - 2).clip(0, 1)
    weight[~known] = 0
    trusted = weight
    plane = inverse
    for _ in range(_ROUNDS):
        if not trusted.any():
            return inverse, trusted
        plane = planes(inverse, trusted, sigma)
        off = np.abs(inverse - plane)
        typical = 1.4826 * float(np.median(off[trusted > 0]))
        stray = off > np.maximum(_STRAYS * typical, _LEAST_STRAY * np.abs(plane))
        trusted = np.where(stray, np.float32(0), weight)
    spread = cv2.GaussianBlur((inverse - plane) ** 2 * trusted, (0, 0), sigma)
    spread = spread / np.maximum(cv2.GaussianBlur(trusted, (0, 0), sigma), 1e-6)
    share = ((_SHARED_NOISE * noise) ** 2 / np.maximum(spread, 1e-20)).clip(0, 1)
    calm = inverse + share * (plane - inverse)
    return np.where(trusted > 0, calm, inverse).astype(np.float32), trusted.astype(np.float32)


def planes(values: Float32, weight: Float32, sigma_px: float) -> Float32:
    """The value (H, W) of the weighted plane through each pixel's surroundings; anything without weight."""
    height, width = weight.shape
    factor = max(1, int(sigma_px / 2.5))
    size = (max(2, width // factor), max(2, height // factor))
    sigma = sigma_px * size[0] / width
    offset = np.float32(np.average(values, weights=weight))
    v = np.where(weight > 0, values - offset, np.float32(0)) * weight
    mass, moment = (
        np.asarray(cv2.resize(a, size, interpolation=cv2.INTER_AREA), np.float32) for a in (weight, v)
    )
    rows, columns = np.indices(mass.shape, dtype=np.float32)
    x, y = (columns - size[0] / 2) / sigma, (rows - size[1] / 2) / sigma

    def gathered(image: Float32) -> NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float64)

    total = np.maximum(gathered(mass), 1e-6)
    mx, my, mv = (gathered(a) / total for a in (x * mass, y * mass, moment))
    xx, yy, xy = (gathered(a * mass) / total for a in (x * x, y * y, x * y))
    xv, yv = gathered(x * moment) / total - mx * mv, gathered(y * moment) / total - my * mv
    # The ridge makes the plane level where too little is known to tilt it.
    xx, yy, xy = xx - mx * mx + _RIDGE, yy - my * my + _RIDGE, xy - mx * my
    determinant = xx * yy - xy * xy
    across, down = (xv * yy - yv * xy) / determinant, (yv * xx - xv * xy) / determinant
    level = mv + across * (x - mx) + down * (y - my)
    return offset + np.asarray(cv2.resize(level.astype(np.float32), (width, height)), np.float32)


def noise_of(read: Callable[[int], tuple[Float32, Float32]], num_frames: int) -> float:
    """The standard deviation of measured inverse depths: what changes between frames, but for the motion.

    read: frame -> inverse depths (H, W) and weights (H, W); called by several threads. 0 with fewer than two
    frames: then all structure counts as real.
    """
    if num_frames < 2:
        return 0.0

    def of_pair(frame: int) -> list[float]:
        (here, weight), (there, other) = read(frame), read(frame + 1)
        both = ((weight > 0) & (other > 0)).astype(np.float32)
        if both.sum() < 100:
            return []
        change = np.where(both > 0, there - here, np.float32(0))
        rest = change - planes(change, both, max(1.0, _WINDOW * both.shape[1]))
        return [1.4826 * float(np.median(np.abs(rest[both > 0]))) / math.sqrt(2)]

    pairs = np.unique(np.linspace(0, num_frames - 2, _PROBED_PAIRS).astype(int)).tolist()
    with ThreadPoolExecutor() as pool:
        found = [value for values in pool.map(of_pair, pairs) for value in values]
    return float(np.median(found)) if found else 0.0
