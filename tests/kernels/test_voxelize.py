"""Conformance of the voxelisers: mass, brute force, numba against torch."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
import torch
from torch import Tensor

from splatomy.geometry.rigid import rotation_from_quat
from splatomy.kernels.voxelize import voxelize

SHAPE = (13, 22, 19)
SPACING_MM = (0.9, 0.6, 1.1)


def affine() -> Tensor:
    """A rotated, flipped, anisotropic grid about the origin."""
    axes = rotation_from_quat(np.array([1.0, 0.3, -0.5, 0.2])) * (np.array(SPACING_MM) * [1, -1, 1])
    matrix = np.eye(4)
    matrix[:3, :3] = axes
    matrix[:3, 3] = -axes @ ((np.array(SHAPE) - 1) / 2)
    return torch.tensor(matrix)


def scene(num: int, seed: int, columns: int | None = None) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    means = (torch.rand(num, 3, generator=generator) - 0.5) * 14
    quats = torch.randn(num, 4, generator=generator)
    scales = 0.08 + 1.5 * torch.rand(num, 3, generator=generator)
    density = torch.rand(*((num,) if columns is None else (num, columns)), generator=generator)
    return [means, quats, scales, density]


def with_gradients(
    parameters: list[Tensor], backend: str, dtype: torch.dtype, **options: object
) -> dict[str, Tensor]:
    leaves = [p.to(dtype).clone().requires_grad_() for p in parameters]
    volume = voxelize(*leaves, SHAPE, affine(), backend=backend, **options)  # type: ignore[arg-type]
    weights = torch.randn(volume.shape, generator=torch.Generator().manual_seed(5))
    (volume * weights.to(dtype)).sum().backward()
    names = ("means", "quats", "scales", "density")
    return {"volume": volume.detach(), **{n: p.grad for n, p in zip(names, leaves, strict=True)}}  # type: ignore[dict-item]


@pytest.mark.parametrize("box_average", [False, True])
@pytest.mark.parametrize(("columns", "supersample"), [(None, 1), (3, 1), (None, 2)])
def test_numba_equals_torch(columns: int | None, supersample: int, box_average: bool) -> None:
    """Values and all gradients; 2e-5 of the largest is float32 rounding over sums of some 100 terms."""
    parameters = scene(120, 0, columns)
    options = {"box_average": box_average, "supersample": supersample}
    wanted = with_gradients(parameters, "torch", torch.float64, **options)
    got = with_gradients(parameters, "numba", torch.float32, **options)
    assert wanted["volume"].shape == (SHAPE if columns is None else (columns, *SHAPE))
    for name, value in wanted.items():
        error = (got[name].double() - value).abs().max() / value.abs().max()
        assert error < 2e-5, (name, float(error))


def centres() -> Tensor:
    grid = torch.stack(torch.meshgrid(*(torch.arange(n).double() for n in SHAPE), indexing="ij"), -1)
    return grid @ affine()[:3, :3].T + affine()[:3, 3]


def density_at(points: Tensor, parameters: list[Tensor]) -> Tensor:
    means, quats, scales, density = (p.double() for p in parameters)
    axes = torch.from_numpy(rotation_from_quat(quats.numpy())) / scales[:, None, :]
    d = torch.einsum("...ni,nij->...nj", points[..., None, :] - means, axes)
    return (density * torch.exp(-0.5 * (d * d).sum(-1))).sum(-1)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_point_values_are_the_density(backend: str) -> None:
    """Without the box average: the sum of Gaussians at the voxel centres, beyond a cutoff of 7 sigma."""
    parameters = scene(40, 1)
    got = voxelize(*parameters, SHAPE, affine(), backend=backend, box_average=False, cutoff_sigma=7.0)  # type: ignore[arg-type]
    assert torch.allclose(got.double(), density_at(centres(), parameters), atol=1e-5)


def test_box_average_is_near_the_voxel_mean() -> None:
    """Against the mean of 6^3 points per voxel: within 10 % of the peak at sigma 0.5 voxels, 1 % at 1.5.

    The second moment stands for the box; its shape beyond that is lost in thin Gaussians.
    """
    offsets = (torch.arange(6).double() + 0.5) / 6 - 0.5
    inner = torch.stack(torch.meshgrid(offsets, offsets, offsets, indexing="ij"), -1).reshape(-1, 3)
    for voxels, limit in ((0.5, 0.1), (1.5, 0.01)):
        parameters = [torch.tensor([[0.21, -0.13, 0.3]]), torch.tensor([[1.0, 0.3, -0.5, 0.2]])]
        parameters += [voxels * torch.tensor([SPACING_MM]), torch.ones(1)]
        points = centres()[None] + (inner @ affine()[:3, :3].T)[:, None, None, None]
        wanted = density_at(points, parameters).mean(0)
        got = voxelize(*parameters, SHAPE, affine(), cutoff_sigma=6.0)
        assert float((got - wanted).abs().max() / wanted.max()) < limit


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("supersample", [1, 2])
@pytest.mark.parametrize("sigma_voxels", [0.05, 0.1, 0.3, 0.5, 1.0, 3.0])
def test_mass_is_the_integral(sigma_voxels: float, supersample: int, backend: str) -> None:
    """Sum x voxel volume = density (2 pi)^1.5 s0 s1 s2 wherever it lies; 0.3 %: box cut at 3.7 sigma."""
    shape, spacing = (30, 31, 32), 0.7
    matrix = torch.diag(torch.tensor([spacing, spacing, spacing, 1.0]))
    scales = spacing * sigma_voxels * torch.tensor([[1.0, 1.2, 0.8]])
    for shift in (0.0, 0.17, 0.5):
        volume = voxelize(
            torch.full((1, 3), (15 + shift) * spacing), torch.tensor([[0.3, 0.1, -0.8, 0.4]]), scales,
            torch.tensor([2.0]), shape, matrix, backend=backend, supersample=supersample,  # type: ignore[arg-type]
        )  # fmt: skip
        wanted = 2 * (2 * math.pi) ** 1.5 * float(scales.prod())
        assert float(volume.double().sum()) * spacing**3 == pytest.approx(wanted, rel=3e-3)


@pytest.mark.parametrize("box_average", [False, True])
def test_finite_differences(box_average: bool) -> None:
    """Central differences in float64; the wide cutoff (2e-11) keeps the boxes' jumping edges out of them."""
    means = torch.tensor([[0.3, 0.1, 0], [2.0, -1.5, 1]], dtype=torch.float64)
    quats = torch.tensor([[1.0, 0.2, 0, 0], [0.5, 1, -0.3, 2]], dtype=torch.float64)
    scales = torch.tensor([[0.4, 0.3, 0.5], [0.4, 1.2, 0.9]], dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (means, quats, scales, torch.tensor([1.0, 0.3]).double())]
    weights = torch.randn(SHAPE, generator=torch.Generator().manual_seed(2)).double()

    def loss(*values: Tensor) -> Tensor:
        return (voxelize(*values, SHAPE, affine(), cutoff_sigma=7.0, box_average=box_average) * weights).sum()

    for which, gradient in enumerate(torch.autograd.grad(loss(*inputs), inputs)):
        for entry in np.ndindex(*gradient.shape):
            values = []
            for sign in (1, -1):
                moved = [t.detach().clone() for t in inputs]
                moved[which][entry] += sign * 1e-5
                with torch.no_grad():
                    values.append(float(loss(*moved)))
            assert float(gradient[entry]) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5, abs=1e-6)


BAD = (math.nan, math.inf, -math.inf, 0.0, -1.0, 1e-30, 1e30, -1e30, 3e38, 1e-42)


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("box_average", [False, True])
def test_bad_parameters_are_skipped(backend: str, box_average: bool) -> None:
    generator = np.random.default_rng(0)
    for seed in range(8):
        parameters = scene(40, seed)
        for i in range(0, 40, 2):
            target = parameters[generator.integers(4)].reshape(40, -1)
            target[i, generator.integers(target.shape[1])] = BAD[generator.integers(len(BAD))]
        parameters[1][1] = 0
        got = with_gradients(parameters, backend, torch.float32, box_average=box_average)
        broken = ~torch.cat([p.reshape(40, -1) for p in parameters], 1).isfinite().all(1)
        broken[1] = True
        for name, value in got.items():
            assert value.isfinite().all(), name
            if name != "volume":
                assert (value[broken] == 0).all(), name
        clean = [p[~broken] for p in parameters]
        alone = voxelize(*clean, SHAPE, affine(), backend=backend, box_average=box_average)  # type: ignore[arg-type]
        assert torch.equal(alone, got["volume"])


def test_huge_scales_agree() -> None:
    """Gaussians from 1e-4 to 1e4 mm, and means far away: one volume from both backends."""
    parameters = scene(60, 9)
    parameters[2][::3] = 10.0 ** torch.linspace(-4, 4, 60).reshape(20, 3)
    parameters[0][1::3] *= 10.0 ** torch.linspace(0, 9, 20)[:, None]
    for box_average in (False, True):
        wanted = voxelize(*(p.double() for p in parameters), SHAPE, affine(), box_average=box_average)
        got = voxelize(*parameters, SHAPE, affine(), box_average=box_average)
        assert float((got - wanted).abs().max() / wanted.max()) < 1e-4


def test_threads_do_not_change_a_bit() -> None:
    parameters, threads, results = scene(300, 7), numba.get_num_threads(), []
    try:
        for count in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            numba.set_num_threads(count)
            results.append(with_gradients(parameters, "numba", torch.float32))
    finally:
        numba.set_num_threads(threads)
    for name, value in results[0].items():
        assert torch.equal(value, results[1][name]), name


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_no_gaussians(backend: str) -> None:
    got = with_gradients(scene(0, 0), backend, torch.float32)
    assert got["volume"].shape == SHAPE
    assert not got["volume"].any()


def test_wrong_arguments() -> None:
    parameters = scene(3, 0)
    with pytest.raises(ValueError, match="singular"):
        voxelize(*parameters, SHAPE, torch.diag(torch.tensor([1.0, 0, 1, 1])))
    with pytest.raises(ValueError, match="NaN"):
        voxelize(*parameters, SHAPE, torch.full((4, 4), math.nan))
    with pytest.raises(ValueError, match="shape"):
        voxelize(*parameters, (3, 0, 2), affine())
    with pytest.raises(ValueError, match="supersample"):
        voxelize(*parameters, SHAPE, affine(), supersample=0)
