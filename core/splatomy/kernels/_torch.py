"""The reference kernels in plain torch: exact, differentiable by autograd, on any device.

Geometry (N of everything) is computed in float64 whatever the input, the pairs of a Gaussian with a
pixel or voxel in the input's own type. On CUDA the sums are accumulated in no fixed order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CUTOFF_SIGMA = math.sqrt(2 * math.log(1000.0))
"""Half size of a Gaussian's box in standard deviations: it ends where the weight is 1e-3 of the peak."""
NEAR_MM = 0.2
"""Gaussians at a depth of this or less are skipped (4DRGS)."""

# Parameters outside these limits make a Gaussian be skipped: far beyond any use, and narrow enough
# that no intermediate overflows, so that every backend skips the same ones.
MAX_MEAN_MM = 1e6
MIN_SCALE_MM, MAX_SCALE_MM = 1e-5, 1e5
MIN_QUAT_NORM, MAX_QUAT_NORM = 1e-12, 1e12
MAX_DENSITY = 1e12
MAX_VARIANCE = 1e13
MIN_DETERMINANT = 1e-28

_MAX_PAIRS = 1 << 22
_MAX_LATTICE_NORM = 6


def lattice(size: int) -> list[tuple[int, ...]]:
    """One of each pair (k, -k) of integer vectors of ``size`` dimensions with 0 < |k|^2 <= 6."""
    vectors = itertools.product(range(-2, 3), repeat=size)
    zero = (0,) * size
    return [k for k in vectors if k > zero and sum(x * x for x in k) <= _MAX_LATTICE_NORM]


def lattice_ratio(centres: Tensor, covariances: Tensor) -> Tensor:
    """The sum of exp(-d^T covariance^-1 d / 2) over all integer points d + centre, over its integral, (N,).

    centres: (N, D). covariances: (N, D, D), with no eigenvalue below 1/12: then the terms left out
    are below 1e-4 of the whole.

    Source: Poisson's summation formula, 1 + 2 sum_k exp(-2 pi^2 k^T covariance k) cos(2 pi k.centre).
    """
    k = torch.tensor(lattice(centres.shape[1]), dtype=centres.dtype, device=centres.device)
    spread = torch.einsum("li,nij,lj->nl", k, covariances, k)
    return 1 + 2 * (torch.exp(-2 * math.pi**2 * spread) * torch.cos(2 * math.pi * centres @ k.T)).sum(1)


def rotations(quats_wxyz: Tensor) -> Tensor:
    """Rotation matrices (N, 3, 3) of quaternions (N, 4), normalised here."""
    w, x, y, z = (quats_wxyz / quats_wxyz.norm(dim=1, keepdim=True)).unbind(1)
    entries = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(entries, 1).reshape(-1, 3, 3)


def usable(means_mm: Tensor, quats_wxyz: Tensor, scales_mm: Tensor, density: Tensor) -> Tensor:
    """Which Gaussians lie inside the limits above, (N,) bool; NaN and infinity do not.

    density: (N,) or (N, C).
    """
    norm = quats_wxyz.double().norm(dim=1)
    moderate = density.abs() <= MAX_DENSITY
    return (
        (means_mm.abs() <= MAX_MEAN_MM).all(1)
        & ((scales_mm >= MIN_SCALE_MM) & (scales_mm <= MAX_SCALE_MM)).all(1)
        & (norm >= MIN_QUAT_NORM)
        & (norm <= MAX_QUAT_NORM)
        & (moderate if density.ndim == 1 else moderate.all(1))
    )


def project(
    means_mm: Tensor,
    quats_wxyz: Tensor,
    scales_mm: Tensor,
    intrinsics: Tensor,
    camera_from_world: Tensor,
    cell_variance: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Image means (N, 2) px, covariances (N, 3) xx xy yy px^2, their determinants (N,) and depths (N,) mm."""
    rotation = camera_from_world[:3, :3]
    centre = means_mm @ rotation.T + camera_from_world[:3, 3]
    x, y, z = centre.unbind(1)
    fx, skew, fy = intrinsics[0, 0], intrinsics[0, 1], intrinsics[1, 1]
    slope_x, slope_y = (fx * x + skew * y) / z, fy * y / z
    zero = torch.zeros_like(z)
    jacobian = torch.stack([fx / z, skew / z, -slope_x / z, zero, fy / z, -slope_y / z], 1).reshape(-1, 2, 3)
    rows = jacobian @ rotation @ rotations(quats_wxyz) * scales_mm[:, None, :]
    xx, xy, yy = (rows[:, 0] ** 2).sum(1), (rows[:, 0] * rows[:, 1]).sum(1), (rows[:, 1] ** 2).sum(1)
    # |r0 x r1|^2 is xx yy - xy^2 without the cancellation that ruins needles.
    determinant = torch.linalg.cross(rows[:, 0], rows[:, 1], dim=1).square().sum(1)
    determinant = determinant + cell_variance * (xx + yy) + cell_variance**2
    mean = torch.stack([slope_x + intrinsics[0, 2], slope_y + intrinsics[1, 2]], 1)
    return mean, torch.stack([xx + cell_variance, xy, yy + cell_variance], 1), determinant, z


def chord_lengths(
    means_mm: Tensor, quats_wxyz: Tensor, scales_mm: Tensor, camera_from_world: Tensor
) -> Tensor:
    """Integral of each unit-peak Gaussian along the ray through its own mean, (N,) mm.

    Source: sheet dsa-4drgs, section 5: sqrt(2 pi det(C) / det(C2)) is sqrt(2 pi / (C^-1)_33), and as
    J^-1 e3 is the unit ray w, (C^-1)_33 = w^T Sigma^-1 w: no determinants are needed.
    """
    rotation = camera_from_world[:3, :3]
    centre = means_mm @ rotation.T + camera_from_world[:3, 3]
    ray = centre / centre.norm(dim=1, keepdim=True) @ rotation
    whitened = torch.einsum("nij,ni->nj", rotations(quats_wxyz), ray) / scales_mm
    return math.sqrt(2 * math.pi) / whitened.norm(dim=1)


def splat(
    means_mm: Tensor,
    quats_wxyz: Tensor,
    scales_mm: Tensor,
    density_per_mm: Tensor,
    intrinsics: Tensor,
    camera_from_world: Tensor,
    width_px: int,
    height_px: int,
    cutoff_sigma: float,
    cell_variance: float,
    screen_gradient: Tensor | None,
) -> Tensor:
    """Image (H, W) of line integrals; see ``kernels.xray.splat``. ``cell_variance`` is 0 or 1/12 px^2."""
    k, pose = intrinsics.double(), camera_from_world.double()
    size = torch.tensor([width_px, height_px], device=means_mm.device)

    def boxes(mean: Tensor, cov: Tensor) -> tuple[Tensor, Tensor]:
        return _boxes(mean, cov[:, [0, 2]], size, cutoff_sigma)

    with torch.no_grad():
        index = torch.nonzero(usable(means_mm, quats_wxyz, scales_mm, density_per_mm))[:, 0]
        at, quat, scale = (t[index].double() for t in (means_mm, quats_wxyz, scales_mm))
        mean, cov, determinant, depth = project(at, quat, scale, k, pose, cell_variance)
        low, count = boxes(mean, cov)
        drawn = (depth > NEAR_MM) & (count > 0).all(1) & (cov[:, [0, 2]] <= MAX_VARIANCE).all(1)
        drawn &= determinant >= MIN_DETERMINANT
        index, low, count = index[drawn], low[drawn], count[drawn]
    # Only Gaussians that are drawn enter the graph, so that no NaN of another reaches a gradient.
    at, quat, scale = (t[index].double() for t in (means_mm, quats_wxyz, scales_mm))
    mean, cov, determinant, _ = project(at, quat, scale, k, pose, cell_variance)
    if screen_gradient is not None and torch.is_grad_enabled():
        if density_per_mm.requires_grad and not mean.requires_grad:
            mean.requires_grad_()
        if mean.requires_grad:
            mean.register_hook(_screen_gradient_hook(screen_gradient, index, size))
    weight = density_per_mm[index].double() * chord_lengths(at, quat, scale, pose)
    if cell_variance > 0:
        full = torch.stack([cov[:, 0], cov[:, 1], cov[:, 1], cov[:, 2]], 1).reshape(-1, 2, 2)
        xx, yy = cov[:, 0] - cell_variance, cov[:, 2] - cell_variance
        sharp = determinant - cell_variance * (xx + yy) - cell_variance**2
        weight = weight * (sharp.clamp_min(0) / determinant).sqrt() / lattice_ratio(mean, full)
    root = cov[:, 2].sqrt()
    width = (determinant / cov[:, 2]).sqrt()
    zero = torch.zeros_like(root)
    # Rows (y, x) of the inverse Cholesky factor of the covariance in the order (y, x).
    whiten = torch.stack([1 / root, zero, -cov[:, 1] / (cov[:, 2] * width), 1 / width], 1).reshape(-1, 2, 2)
    image = _sum_boxes(
        (height_px, width_px),
        low.flip(1),
        count.flip(1),
        mean.flip(1),
        whiten,
        weight[:, None],
        means_mm.dtype,
    )
    return image.reshape(height_px, width_px)


def _screen_gradient_hook(buffer: Tensor, index: Tensor, size: Tensor) -> Callable[[Tensor], None]:
    def accumulate(gradient: Tensor) -> None:
        with torch.no_grad():
            ndc = (gradient * (size / 2)).norm(dim=1).to(buffer.dtype)
            buffer[:, 0].index_add_(0, index, ndc)
            buffer[:, 1].index_add_(0, index, torch.ones_like(ndc))

    return accumulate


def voxelize(
    means_mm: Tensor,
    quats_wxyz: Tensor,
    scales_mm: Tensor,
    density_per_mm: Tensor,
    shape: tuple[int, int, int],
    affine_mm: Tensor,
    cutoff_sigma: float,
    cell_variance: float,
) -> Tensor:
    """Volumes (C, I, J, K) of density (N, C); see ``kernels.voxelize``. ``cell_variance``: 0 or 1/12."""
    affine = affine_mm.double()
    index_from_world = torch.linalg.inv(affine[:3, :3])
    size = torch.tensor(shape, device=means_mm.device)

    def place(index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean, quat, scale = (t[index].double() for t in (means_mm, quats_wxyz, scales_mm))
        centre = (mean - affine[:3, 3]) @ index_from_world.T
        rows = index_from_world @ rotations(quat) * scale[:, None, :]
        cell = cell_variance * torch.eye(3, dtype=torch.float64, device=rows.device)
        return centre, rows, rows @ rows.mT + cell, scale

    with torch.no_grad():
        index = torch.nonzero(usable(means_mm, quats_wxyz, scales_mm, density_per_mm))[:, 0]
        centre, rows, cov, _ = place(index)
        variance = torch.diagonal(cov, dim1=1, dim2=2)
        low, count = _boxes(centre, variance, size, cutoff_sigma)
        drawn = (count > 0).all(1) & (variance <= MAX_VARIANCE).all(1)
        index, low, count = index[drawn], low[drawn], count[drawn]
    centre, rows, cov, scale = place(index)
    weight = density_per_mm[index].double()
    if cell_variance > 0:
        # Eigenvalues lie between 1/12 and 3 MAX_VARIANCE, so in float64 the factor exists.
        factor = torch.linalg.cholesky(cov)
        whiten = torch.linalg.solve_triangular(
            factor, torch.eye(3, dtype=factor.dtype, device=factor.device).expand_as(factor), upper=False
        )
        sharp = scale.prod(1) * torch.linalg.det(index_from_world).abs()
        blurred = torch.diagonal(factor, dim1=1, dim2=2).prod(1)
        weight = weight * (sharp / blurred / lattice_ratio(centre, cov))[:, None]
    else:
        whiten = torch.linalg.inv(rows)
    total = _sum_boxes(shape, low, count, centre, whiten, weight, means_mm.dtype)
    return total.reshape(-1, *shape)


def _boxes(centre: Tensor, variance: Tensor, size: Tensor, cutoff_sigma: float) -> tuple[Tensor, Tensor]:
    """First integer points (N, D) and counts (N, D) of the boxes centre +- cutoff sigma inside [0, size)."""
    half = cutoff_sigma * variance.sqrt()
    low = torch.ceil(centre - half).nan_to_num(0.0).clamp_min(0).minimum(size).long()
    high = (torch.floor(centre + half) + 1).nan_to_num(0.0).clamp_min(0).minimum(size).long()
    return low, high - low


def _sum_boxes(
    shape: tuple[int, ...],
    low: Tensor,
    count: Tensor,
    centre: Tensor,
    whiten: Tensor,
    weight: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    """Sum (C, P) over N boxes of weight exp(-|whiten (point - centre)|^2 / 2) at a grid's P points.

    low, count: (N, D) integer boxes. centre: (N, D). whiten: (N, D, D). weight: (N, C).
    """
    total = torch.zeros(weight.shape[1], math.prod(shape), dtype=dtype, device=weight.device)
    # Offsets from the box's corner are small, so they keep their precision in float32.
    corner, whiten, weight = (low - centre).to(dtype), whiten.to(dtype), weight.to(dtype)
    pairs = count.prod(1)
    ends = pairs.cumsum(0).cpu()
    first = 0
    if len(pairs) == 0:
        # Keep the graph, so that backward() of an empty image gives zeros instead of an error.
        total = total + 0 * (corner.sum() + whiten.sum() + weight.sum())
    while first < len(pairs):
        done = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(torch.searchsorted(ends, torch.tensor(done + _MAX_PAIRS), right=True)))
        part = slice(first, last)
        args = (shape, low[part], count[part], pairs[part], corner[part], whiten[part], weight[part])
        if torch.is_grad_enabled() and last - first < len(pairs):
            # One chunk's intermediates at a time: they are computed again in the backward pass.
            where, values = checkpoint(_pair_values, *args, use_reentrant=False)
        else:
            where, values = _pair_values(*args)
        total = total.index_add(1, where, values)
        first = last
    return total


def _pair_values(
    shape: tuple[int, ...],
    low: Tensor,
    count: Tensor,
    pairs: Tensor,
    corner: Tensor,
    whiten: Tensor,
    weight: Tensor,
) -> tuple[Tensor, Tensor]:
    """Flat grid positions (Q,) and values (C, Q) of every pair in the boxes of ``_sum_boxes``."""
    owner = torch.repeat_interleave(torch.arange(len(pairs), device=pairs.device), pairs)
    rest = torch.arange(len(owner), device=pairs.device) - (pairs.cumsum(0) - pairs)[owner]
    steps = []
    for axis in reversed(range(len(shape))):
        steps.append(rest % count[owner, axis])
        rest = rest // count[owner, axis]
    offset = torch.stack(steps[::-1], 1)
    point = low[owner] + offset
    where = torch.zeros_like(owner)
    for axis, size in enumerate(shape):
        where = where * size + point[:, axis]
    d = offset.to(corner.dtype) + corner[owner]
    power = torch.einsum("qij,qj->qi", whiten[owner], d).square().sum(1)
    return where, (weight[owner] * torch.exp(-0.5 * power)[:, None]).T
