"""Blurred synthetic tubes with exact truth, for the extraction tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from splatomy.capture import Grid
from splatomy.scene import Volume


@dataclass(frozen=True)
class Tubes:
    """volume: blurred values. truth: voxel centres inside. points_mm, radius_mm: true centrelines."""

    volume: Volume
    truth: np.ndarray
    points_mm: np.ndarray
    radius_mm: np.ndarray


def make_tubes(
    size: int = 120,
    spacing_mm: float = 0.4,
    sigma_mm: float = 0.3,
    noise: float = 1e-4,
    brightness: tuple[float, float] = (0.003, 0.02),
    count: int = 24,
    seed: int = 0,
) -> Tubes:
    """Curved tubes of radii 0.3-2.5 mm (Murray-like: many thin, few thick) with haze and noise."""
    rng = np.random.default_rng(seed)
    grid = Grid.centred((size,) * 3, (spacing_mm,) * 3)
    half = size * spacing_mm / 2
    points, radii, bright = [], [], []
    for i in range(count):
        r = 0.3 * (2.5 / 0.3) ** (0.5 * ((i % 8) / 7) + 0.5 * rng.random() * ((i % 8) / 7))
        r = r if i % 8 else 0.3 + 0.15 * rng.random()
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        p = rng.uniform(-0.8, 0.8, 3) * half
        curve = [p]
        for _ in range(int(1.6 * half / 0.2)):
            direction += 0.03 * rng.normal(size=3) - 0.004 * curve[-1] / half
            direction /= np.linalg.norm(direction)
            curve.append(curve[-1] + 0.2 * direction)
        curve = np.array(curve)
        curve = curve[np.all(np.abs(curve) < half - r - 0.5, 1)]
        points.append(curve)
        radii.append(np.full(len(curve), r))
        bright.append(np.full(len(curve), np.exp(rng.uniform(*np.log(brightness)))))
    pts, rad = np.concatenate(points), np.concatenate(radii)
    fine = Grid.centred((2 * size,) * 3, (spacing_mm / 2,) * 3)
    values = np.zeros(fine.shape, np.float32)
    truth = np.zeros(grid.shape, bool)
    for curve, r, b in zip(points, radii, bright, strict=True):
        if len(curve) < 2:
            continue
        _paint(values, fine, curve, r[0], b[0])
        _mark(truth, grid, curve, r[0])
    values = gaussian_filter(values, sigma_mm / (spacing_mm / 2))
    values = values.reshape(size, 2, size, 2, size, 2).mean((1, 3, 5))
    haze = gaussian_filter(rng.normal(size=grid.shape).astype(np.float32), 4)
    haze = 2 * noise * np.abs(haze / haze.std())
    grain = gaussian_filter(rng.normal(size=grid.shape).astype(np.float32), 0.7)
    values = values + haze + noise * grain / grain.std()
    volume = Volume(np.maximum(values, 0).astype(np.float32), grid.affine_mm)
    return Tubes(volume, truth, pts, rad)


def _box(grid: Grid, curve: np.ndarray, reach: float):
    spacing, origin = grid.spacing_mm, grid.affine_mm[:3, 3]
    low = np.maximum(np.floor((curve.min(0) - reach - origin) / spacing).astype(int), 0)
    high = np.minimum(np.ceil((curve.max(0) + reach - origin) / spacing).astype(int) + 1, grid.shape)
    index = np.stack(np.meshgrid(*[np.arange(a, b) for a, b in zip(low, high)], indexing="ij"), -1)
    distance, _ = cKDTree(_dense(curve)).query(
        index * spacing + origin, distance_upper_bound=reach, workers=2
    )
    return tuple(slice(a, b) for a, b in zip(low, high)), distance


def _dense(curve: np.ndarray) -> np.ndarray:
    t = np.linspace(0, len(curve) - 1, 4 * len(curve))
    return np.stack([np.interp(t, np.arange(len(curve)), c) for c in curve.T], -1)


def _paint(values: np.ndarray, grid: Grid, curve: np.ndarray, radius: float, bright: float) -> None:
    h = grid.spacing_mm[0]
    where, distance = _box(grid, curve, radius + h)
    occupied = np.clip((radius - distance) / h + 0.5, 0, 1)
    values[where] = np.maximum(values[where], bright * occupied)


def _mark(truth: np.ndarray, grid: Grid, curve: np.ndarray, radius: float) -> None:
    where, distance = _box(grid, curve, radius + grid.spacing_mm[0])
    truth[where] |= distance < radius
