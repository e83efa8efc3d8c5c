"""Where Gaussians start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from splatomy.errors import InputError
from splatomy.scene import Volume


@dataclass(frozen=True)
class GaussianCloud:
    """Gaussians that somebody trained, in the world of the pictures they belong to.

    means_mm: (N, 3). quats_wxyz: (N, 4), unit. scales_mm: (N, 3) standard deviations. opacity: (N,) in
    [0, 1]. sh: (N, K, 3) coefficients of spherical harmonics, the mean colour first.
    """

    means_mm: NDArray[np.float32]
    quats_wxyz: NDArray[np.float32]
    scales_mm: NDArray[np.float32]
    opacity: NDArray[np.float32]
    sh: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.means_mm)

    def scaled(self, factor: float) -> GaussianCloud:
        """The same in a world whose unit is ``factor`` times smaller."""
        by = np.float32(factor)
        return replace(self, means_mm=self.means_mm * by, scales_mm=self.scales_mm * by)


def gaussian_cloud(attributes: Mapping[str, NDArray[Any]]) -> GaussianCloud:
    """Gaussians of a 3DGS PLY's vertex attributes by name, each (N,); of disks, which have two scales, the
    third is a hundredth of the smaller one. Rows with values that are not finite are left out.

    Raises:
        InputError: attributes are missing, or no row is finite.
    """
    scales = [f"scale_{i}" for i in range(3) if f"scale_{i}" in attributes]
    wanted = ["x", "y", "z", "opacity", "f_dc_0", "f_dc_1", "f_dc_2", *(f"rot_{i}" for i in range(4))]
    missing = [name for name in (*wanted, "scale_0", "scale_1") if name not in attributes]
    if missing:
        raise InputError(
            f"The Gaussians lack {', '.join(missing)}; expected the attributes of a 3DGS PLY (x, opacity, "
            "scale_0, rot_0, f_dc_0 and so on): export them again from the program that trained them."
        )

    def columns(*names: str) -> NDArray[np.float32]:
        return np.stack([np.asarray(attributes[name], np.float32) for name in names], 1)

    rest = 0
    while f"f_rest_{rest}" in attributes:
        rest += 1
    sh = columns("f_dc_0", "f_dc_1", "f_dc_2")[:, None]
    if rest:
        # Stored as all higher coefficients of red, then of green, then of blue.
        higher = columns(*(f"f_rest_{i}" for i in range(rest - rest % 3)))
        sh = np.concatenate([sh, higher.reshape(len(sh), 3, -1).transpose(0, 2, 1)], 1)
    quats, log_scales = columns(*(f"rot_{i}" for i in range(4))), columns(*scales)
    if len(scales) == 2:
        log_scales = np.concatenate([log_scales, log_scales.min(1, keepdims=True) - np.log(100.0)], 1)
    means, logit = columns("x", "y", "z"), np.asarray(attributes["opacity"], np.float32)
    length = np.linalg.norm(quats, axis=1)
    rows = np.concatenate([means, log_scales, logit[:, None], sh.reshape(len(sh), -1)], 1)
    good = np.isfinite(rows).all(1) & np.isfinite(length) & (length > 1e-6) & (np.abs(log_scales) < 60).all(1)
    if not good.any():
        raise InputError("The Gaussian PLY holds no finite Gaussian; expected trained ones: export it again.")
    return GaussianCloud(
        means[good],
        (quats[good] / length[good, None]).astype(np.float32),
        np.exp(log_scales[good]).astype(np.float32),
        (1 / (1 + np.exp(-logit[good].clip(-30, 30)))).astype(np.float32),
        sh[good].astype(np.float32),
    )


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
