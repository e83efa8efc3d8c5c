"""Where Gaussians start."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from splatomy.scene import Volume


def noise_level(values: NDArray[np.float32]) -> float:
    """The spread of a reconstruction's empty space: the median absolute value of its negative voxels."""
    sample = values.reshape(-1)[::7]
    negative = sample[sample < 0]
    if negative.size < 100:
        return float(np.std(sample)) if sample.size else 0.0
    return 1.4826 * float(np.median(-negative))


def sample_bright_voxels(
    volume: Volume, count: int, floor_per_mm: float, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Centres (M, 3) in mm and values (M,) of at most ``count`` voxels over the floor.

    Voxels are drawn without replacement, with chances that grow with the value's root: bright trunks
    do not use up the draw, faint twigs are not lost. Centres are jittered within their voxel.
    """
    where = np.flatnonzero(volume.values > floor_per_mm)
    if len(where) == 0:
        return np.zeros((0, 3), np.float32), np.zeros(0, np.float32)
    values = volume.values.reshape(-1)[where]
    if len(where) > count:
        # Exponential keys give a weighted draw without replacement in one sort.
        keys = rng.exponential(size=len(where)) / np.sqrt(values)
        where = where[np.sort(np.argpartition(keys, count)[:count])]
        values = volume.values.reshape(-1)[where]
    index = np.stack(np.unravel_index(where, volume.values.shape), -1) + rng.uniform(
        -0.5, 0.5, (len(where), 3)
    )
    centres = index @ volume.affine_mm[:3, :3].T + volume.affine_mm[:3, 3]
    return centres.astype(np.float32), values.astype(np.float32)


def neighbour_distance_mm(points_mm: NDArray[np.floating], neighbours: int = 3) -> NDArray[np.float32]:
    """Root mean squared distance to the nearest neighbours, (M,) mm: the start of an isotropic scale."""
    if len(points_mm) <= neighbours:
        return np.ones(len(points_mm), np.float32)
    distance, _ = cKDTree(points_mm).query(points_mm, k=neighbours + 1, workers=-1)
    return np.sqrt((distance[:, 1:] ** 2).mean(1) + 1e-7).astype(np.float32)
