"""Conformance of the GPU voxeliser: on a CUDA device, and with its kernels run on the host."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_gpu_xray import on_both, running_on
from test_voxelize import BAD, SHAPE, affine, scene, with_gradients
from torch import Tensor

from splatomy.kernels import _gpu_voxelize
from splatomy.kernels.voxelize import voxelize
from splatomy.kernels.xray import CUTOFF_SIGMA


def draw(parameters: list[Tensor], device: str, box_average: bool, exact: bool = False) -> dict[str, Tensor]:
    """Volume and gradients of a fixed random loss; density (N, C)."""
    leaves = [p.to(device).clone().requires_grad_() for p in parameters]
    with running_on(device, exact):
        rest = (SHAPE, affine(), CUTOFF_SIGMA, 1 / 12 if box_average else 0.0)
        volume = _gpu_voxelize.Voxelize.apply(*leaves, *rest)
        weights = torch.randn(volume.shape, generator=torch.Generator().manual_seed(5)).to(device)
        (volume * weights).sum().backward()
    named = zip(("means", "quats", "scales", "density"), leaves, strict=True)
    gradients = {name: leaf.grad.cpu() for name, leaf in named if leaf.grad is not None}
    return {"volume": volume.detach().cpu(), **gradients}


@on_both
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("box_average", [False, True])
@pytest.mark.parametrize("columns", [1, 3, 6])
def test_gpu_equals_torch(columns: int, box_average: bool, exact: bool, device: str) -> None:
    """Values and all gradients; 2e-5 of the largest is float32 rounding over sums of some 100 terms."""
    parameters = scene(120, 0, columns)
    wanted = with_gradients(parameters, "torch", torch.float64, box_average=box_average)
    got = draw(parameters, device, box_average, exact)
    for name, value in wanted.items():
        error = (got[name].double() - value).abs().max() / value.abs().max()
        assert error < 2e-5, (name, float(error))


@on_both
def test_giants_and_full_lists(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gaussians over the whole grid, and lists with no room: what finds none is drawn all the same."""
    parameters = scene(40, 4, 2)
    parameters[2][::4] = 40.0
    wanted = with_gradients(parameters, "torch", torch.float64, box_average=True)
    for room in (0, 97):
        monkeypatch.setattr(_gpu_voxelize, "capacity_of", lambda asked, num, room=room: room)
        got = draw(parameters, device, True)
        for name, value in wanted.items():
            error = (got[name].double() - value).abs().max() / value.abs().max()
            assert error < 2e-5, (name, float(error))


@on_both
@pytest.mark.parametrize("box_average", [False, True])
def test_bad_parameters_are_skipped(device: str, box_average: bool) -> None:
    generator = np.random.default_rng(0)
    for seed in range(4):
        parameters = scene(40, seed, 1)
        for i in range(0, 40, 2):
            target = parameters[generator.integers(4)].reshape(40, -1)
            target[i, generator.integers(target.shape[1])] = BAD[generator.integers(len(BAD))]
        parameters[1][1] = 0
        got = draw(parameters, device, box_average, exact=True)
        broken = ~torch.cat([p.reshape(40, -1) for p in parameters], 1).isfinite().all(1)
        broken[1] = True
        for name, value in got.items():
            assert value.isfinite().all(), name
            if name != "volume":
                assert (value[broken] == 0).all(), name
        alone = draw([p[~broken] for p in parameters], device, box_average, exact=True)
        assert torch.equal(alone["volume"], got["volume"])


@on_both
def test_huge_scales_agree(device: str) -> None:
    """Gaussians from 1e-4 to 1e4 mm, and means far away: the volume of the torch backend."""
    parameters = scene(60, 9, 1)
    parameters[2][::3] = 10.0 ** torch.linspace(-4, 4, 60).reshape(20, 3)
    parameters[0][1::3] *= 10.0 ** torch.linspace(0, 9, 20)[:, None]
    for box_average in (False, True):
        wanted = voxelize(*(p.double() for p in parameters), SHAPE, affine(), box_average=box_average)
        got = draw(parameters, device, box_average)["volume"]
        assert float((got - wanted).abs().max() / wanted.max()) < 1e-4


@on_both
def test_no_gaussians(device: str) -> None:
    got = draw(scene(0, 0, 1), device, True)
    assert got["volume"].shape == (1, *SHAPE)
    assert not got["volume"].any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_public_function_takes_the_gpu() -> None:
    parameters = [p.cuda() for p in scene(60, 3)]
    wanted = voxelize(*parameters, SHAPE, affine(), backend="torch")
    for supersample in (1, 2):
        wanted = voxelize(*parameters, SHAPE, affine(), backend="torch", supersample=supersample)
        got = voxelize(*parameters, SHAPE, affine(), supersample=supersample)
        assert got.is_cuda and float((got - wanted).abs().max() / wanted.max()) < 2e-5
