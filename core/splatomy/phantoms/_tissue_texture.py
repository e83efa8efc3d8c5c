"""Colour, fine relief and wetness of living tissue, as maps over the material coordinates.

Colour follows the blood: light that comes back is the scatter colour times exp(-blood * absorption), so
that capillaries, arteries, veins and pale fat all lie on one physically plausible family of colours.

Source: the Beer-Lambert form of haemoglobin contrast in tissue optics (Jacques, Phys. Med. Biol. 58, 2013);
the amounts are ours, set by eye against clinical frames.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Float32 = NDArray[np.float32]

_FLESH = np.array([0.90, 0.64, 0.55], np.float32)
_FAT = np.array([0.92, 0.64, 0.30], np.float32)
_BLOOD = np.array([0.42, 1.55, 1.60], np.float32)
_VEIN = np.array([1.15, 1.35, 0.95], np.float32)
CHANNELS = 6
"""Red, green, blue (linear albedo), slope along s, slope along t, wetness."""


def noise(
    rng: np.random.Generator, shape: tuple[int, int], wavelength: tuple[float, float], octaves: int = 1
) -> Float32:
    """Smooth noise (rows, columns) of unit variance; each octave halves wavelength and amplitude.

    wavelength: of the coarsest octave along rows and columns, in samples.
    """
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        # A lattice node every half wavelength; the random margin hides the lattice from the border.
        step = np.maximum(np.array(wavelength) / 2 ** (octave + 1), 1.0)
        nodes = np.ceil(np.array(shape) / step).astype(int) + 4
        lattice = rng.normal(size=nodes).astype(np.float32)
        size = np.round(nodes * step).astype(int)
        fine = cv2.resize(lattice, (int(size[1]), int(size[0])), interpolation=cv2.INTER_CUBIC)
        row, column = (int(x) for x in rng.uniform(0, 1, 2) * np.minimum(size - shape, 2 * step))
        total += 0.5**octave * fine[row : row + shape[0], column : column + shape[1]]
    return total / max(float(total.std()), 1e-6)


def smooth_step(low: float, high: float, x: Float32) -> Float32:
    """0 below ``low``, 1 above ``high``, smooth in between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _grow(
    rng: np.random.Generator, size_mm: NDArray[np.float64], trunks: int, radius_mm: float, tip_mm: float
) -> list[tuple[NDArray[np.float64], float]]:
    """Segments ((2, 2) ends in mm, radius) of branching trees that start anywhere and wander."""
    ends: list[tuple[NDArray[np.float64], float]] = []
    stack = []
    for _ in range(trunks):
        angle = rng.uniform(0, 2 * np.pi)
        start = rng.uniform(0, 1, 2) * size_mm
        stack.append((start, angle, radius_mm * rng.uniform(0.6, 1.0)))
        stack.append((start, angle + np.pi, stack[-1][2]))
    while stack:
        at, angle, radius = stack.pop()
        bend = 0.0
        while radius > tip_mm and np.all((at > -10) & (at < size_mm + 10)):
            bend = 0.7 * bend + rng.normal(0, 0.055)
            angle += bend
            step = max(0.7, 1.2 * radius)
            following = at + step * np.array([np.cos(angle), np.sin(angle)])
            ends.append((np.stack([at, following]), radius))
            at = following
            radius *= 1 - 0.016 * step
            if rng.uniform() < 0.05 * step:
                side = rng.choice([-1.0, 1.0])
                stack.append((at, angle + side * rng.uniform(0.4, 0.9), radius * rng.uniform(0.4, 0.7)))
                angle -= 0.15 * side
    return ends


def _vessels(
    rng: np.random.Generator, shape: tuple[int, int], per_mm: float, trunks: int, radius_mm: float
) -> Float32:
    """Share of every texel that vessels cover, (rows, columns) in [0, 1]."""
    drawn = np.zeros(shape, np.uint8)
    size_mm = np.array([shape[1], shape[0]]) / per_mm
    for ends, radius in _grow(rng, size_mm, trunks, radius_mm, tip_mm=0.10):
        width = 2 * radius * per_mm
        # A line thinner than a texel is drawn one texel wide and fainter.
        level = int(255 * min(1.0, width))
        (x0, y0), (x1, y1) = np.round(ends * per_mm * 16).astype(int)
        layer = max(1, round(width))
        cv2.line(drawn, (int(x0), int(y0)), (int(x1), int(y1)), level, layer, cv2.LINE_AA, 4)
    return np.asarray(drawn / np.float32(255), np.float32)


def tissue_texture(rng: np.random.Generator, size_mm: tuple[float, float], texels_per_mm: float) -> Float32:
    """Texture maps (rows, columns, CHANNELS) over a patch of (width, height) mm, texel centres spread evenly.

    Slopes are of the fine relief (fluid film, capillaries), without unit; it shades, the mesh lacks it.
    """
    n = texels_per_mm
    shape = (max(8, round(size_mm[1] * n)), max(8, round(size_mm[0] * n)))

    def waves(row_mm: float, column_mm: float, octaves: int) -> Float32:
        return noise(rng, shape, (row_mm * n, column_mm * n), octaves)

    arteries = _vessels(rng, shape, n, trunks=3, radius_mm=0.8)
    veins = _vessels(rng, shape, n, trunks=2, radius_mm=1.5)
    veins = ndimage.gaussian_filter(veins, 0.35 * n)
    capillaries = ndimage.gaussian_filter(_vessels(rng, shape, n, trunks=12, radius_mm=0.3), 0.06 * n)
    fat = smooth_step(0.25, 0.95, waves(30, 38, 3))
    lobules = waves(4.0, 4.0, 2)
    fibres = waves(2.2, 16.0, 3)
    blood = 0.70 + 0.24 * waves(34, 34, 3) + 0.13 * waves(9, 9, 3) + 0.11 * waves(2.4, 2.4, 4)
    blood = blood * (1 - 0.62 * fat) + 0.05 * fat * lobules - 0.06 * (1 - fat) * fibres
    blood = np.maximum(blood, 0.08) + 1.05 * arteries + 0.50 * capillaries
    scatter = _FLESH * (1 - fat[..., None]) + _FAT * fat[..., None]
    scatter = scatter * (1 + 0.05 * (lobules * fat + fibres * (1 - fat)))[..., None]
    albedo = scatter * np.exp(-blood[..., None] * _BLOOD - 0.75 * veins[..., None] * _VEIN)
    ridge = ndimage.gaussian_filter(arteries, 0.3 * n)
    height_mm = 0.060 * waves(3.4, 3.4, 2) + 0.016 * waves(1.1, 1.1, 2) + 0.14 * ridge + 0.15 * veins
    height_mm += 0.05 * fat * lobules
    slope_t, slope_s = np.gradient(height_mm, 1 / n)
    wet = 0.25 + 0.75 * smooth_step(-0.6, 0.9, waves(14, 14, 2))
    maps = [np.clip(albedo, 0.01, 0.95), slope_s[..., None], slope_t[..., None], wet[..., None]]
    return np.ascontiguousarray(np.concatenate(maps, -1), np.float32)
