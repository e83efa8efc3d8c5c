"""Voxelisation: the attenuation of 3-D Gaussians on a regular grid."""

from __future__ import annotations

import torch
from torch import Tensor

from splatomy.checks import check_shapes
from splatomy.kernels import _gpu_voxelize, _torch
from splatomy.kernels.xray import CUTOFF_SIGMA, Backend, check_alike, resolve_backend


def voxelize(
    means_mm: Tensor,
    quats_wxyz: Tensor,
    scales_mm: Tensor,
    density_per_mm: Tensor,
    shape: tuple[int, int, int],
    affine_mm: Tensor,
    *,
    backend: Backend = "auto",
    box_average: bool = True,
    supersample: int = 1,
    cutoff_sigma: float = CUTOFF_SIGMA,
) -> Tensor:
    """Attenuation of the voxels, (I, J, K) in 1/mm, or (C, I, J, K) for C columns of density.

    means_mm: Gaussian centres in the world, (N, 3).
    quats_wxyz: rotations, (N, 4), normalised here; Sigma = R diag(scales^2) R^T.
    scales_mm: standard deviations, (N, 3).
    density_per_mm: attenuation at the centres, (N,) or (N, C), any sign.
    affine_mm: voxel-centre index -> world, (4, 4); it may rotate, flip, shear and be anisotropic.
    box_average: approximate the mean over each voxel, which keeps thin Gaussians whole: in index space
        the covariance gets I/12, the second moment of a voxel, and the weights are scaled so that their
        sum over the infinite grid is the Gaussian's integral. Without it, the value at the voxel's
        centre, sum_i density_i exp(-d^T Sigma_i^-1 d / 2).
    supersample: evaluate this many points per axis and voxel and average them; the fine grid is held
        in memory, ``supersample**3`` times the result.
    cutoff_sigma: half size in standard deviations of a Gaussian's box of voxels.

    Gaussians with a parameter that is not finite or outside the limits of ``_torch`` are skipped and
    get zero gradients. All backends give the gradients of all four parameters; the numba backend is
    float32 and gives the same values for any number of threads. The gpu backend adds up a volume in no
    fixed order, unless under ``torch.use_deterministic_algorithms``.

    Raises:
        ValueError: shapes, types or devices disagree, or the affine is singular or not finite.
        MissingBackendError: the gpu backend was asked for and cannot be used here.

    Source: sheet dsa-4drgs, section 6; the box average and its normalisation (``lattice_ratio``) are ours.
    """
    check_shapes(
        means_mm=(means_mm, "N 3"),
        quats_wxyz=(quats_wxyz, "N 4"),
        scales_mm=(scales_mm, "N 3"),
        density_per_mm=(density_per_mm, "N" if density_per_mm.ndim == 1 else "N C"),
        affine_mm=(affine_mm, "4 4"),
    )
    check_alike(means_mm, quats_wxyz=quats_wxyz, scales_mm=scales_mm, density_per_mm=density_per_mm)
    _check_grid(shape, affine_mm, supersample, cutoff_sigma)
    chosen = resolve_backend(backend, means_mm, gpu_parts=_gpu_voxelize.PARTS)
    fine_shape = (shape[0] * supersample, shape[1] * supersample, shape[2] * supersample)
    affine = affine_mm.detach().double().to(means_mm.device if chosen == "torch" else "cpu").clone()
    # Voxel 0's samples lie on both sides of its centre.
    affine[:3, 3] += affine[:3, :3].sum(1) * (1 / supersample - 1) / 2
    affine[:3, :3] /= supersample
    columns = density_per_mm[:, None] if density_per_mm.ndim == 1 else density_per_mm
    arguments = (means_mm, quats_wxyz, scales_mm, columns, fine_shape, affine, cutoff_sigma)
    cell_variance = 1 / 12 if box_average else 0.0
    if chosen == "torch":
        volume = _torch.voxelize(*arguments, cell_variance)
    elif chosen == "gpu":
        volume = _gpu_voxelize.Voxelize.apply(*arguments, cell_variance)
    else:
        # Imported on use: Numba takes a second to load, and a GPU run never needs it.
        from splatomy.kernels._numba_voxelize import Voxelize

        volume = Voxelize.apply(*arguments, cell_variance)
    if supersample > 1:
        volume = torch.nn.functional.avg_pool3d(volume, supersample)
    return volume[0] if density_per_mm.ndim == 1 else volume


def _check_grid(
    shape: tuple[int, int, int], affine_mm: Tensor, supersample: int, cutoff_sigma: float
) -> None:
    if len(shape) != 3 or min(shape) < 1 or max(shape) > _gpu_voxelize.MAX_SIZE:
        raise ValueError(f"shape must be three sizes from 1 to {_gpu_voxelize.MAX_SIZE}, got {tuple(shape)}")
    if not torch.isfinite(affine_mm).all():
        raise ValueError("affine_mm holds NaN or infinity")
    axes = affine_mm[:3, :3].double()
    if not torch.linalg.det(axes).abs() > 1e-12 * axes.norm(dim=0).prod():
        raise ValueError("affine_mm is singular")
    if supersample < 1:
        raise ValueError(f"supersample must be at least 1, got {supersample}")
    if not 0 < cutoff_sigma < 1e3:
        raise ValueError(f"cutoff_sigma must lie in (0, 1000), got {cutoff_sigma}")
