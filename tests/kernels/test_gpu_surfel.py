"""Conformance of the GPU surfel splatter: on a CUDA device, and with its kernels run on the host."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from surfel_scenes import PARAMETERS, camera, error_of, loss_of, render_with_gradients, scene
from test_gpu_xray import on_both, running_on
from torch import Tensor

from splatomy.kernels import _gpu_surfel
from splatomy.kernels.surfel import MAX_DEPTH_MM, MIN_ALPHA, SurfelRender, splat_surfels

BAD = (math.nan, math.inf, -math.inf, 0.0, -1.0, 1e-30, 1e30, -1e30, 3e38, 1e-42, 1e5, 1e-5)
SMALL = (*camera(20, 14), 20, 14)
View = tuple[Tensor, Tensor, int, int]


def draw(
    parameters: list[Tensor], view: View, device: str, exact: bool = False, near_mm: float = 1.0
) -> dict[str, Tensor]:
    """The render, all gradients of ``loss_of``, and the screen gradient; as ``render_with_gradients``."""
    leaves = [p.detach().to(device).clone().requires_grad_() for p in parameters]
    k, pose, width, height = view
    k, pose = k.to(device), pose.to(device).clone().requires_grad_()
    screen = torch.zeros(len(leaves[0]), 2, device=device)
    background = torch.linspace(0, 1, leaves[4].shape[1], device=device).requires_grad_()
    with running_on(device, exact):
        rest = (background, pose, k, (width, height), (near_mm, MAX_DEPTH_MM), screen)
        render = SurfelRender(*_gpu_surfel.Splat.apply(*leaves, *rest))
        loss_of(SurfelRender(*(v.cpu() for v in render))).backward()
    out = {name: value.detach().cpu() for name, value in render._asdict().items()}
    named = zip((*PARAMETERS, "pose", "background"), (*leaves, pose, background), strict=True)
    out |= {f"d_{name}": leaf.grad.cpu() for name, leaf in named if leaf.grad is not None}
    return {**out, "screen": screen.cpu()}


def assert_same(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """5e-5 of the largest is float32 rounding; a hit at the threshold may fall on the other side of it.

    Such a flip changes a pixel by MIN_ALPHA of its value at most, so 1 in 1000 pixels may do so.
    """
    for name, value in wanted.items():
        assert got[name].isfinite().all(), name
        # A distortion of one hit is 0: (1/30 mm)^2 times the rounding of its two products is left of it.
        error = error_of(got[name], value) if value.abs().max() > 1e-12 else (got[name] - value).abs()
        assert (error > 5e-5).double().mean() <= 1e-3, (name, float(error.max()))
        assert error.max() <= 2 * MIN_ALPHA, (name, float(error.max()))
    assert torch.equal(got["screen"][:, 1], wanted["screen"][:, 1])


@on_both
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(
    ("num", "width", "height", "seed"), [(1, 1, 1, 0), (60, 16, 16, 1), (150, 37, 21, 2), (100, 7, 40, 4)]
)
def test_gpu_equals_torch(num: int, width: int, height: int, seed: int, exact: bool, device: str) -> None:
    view = (*camera(width, height), width, height)
    parameters = scene(num, width, height, seed)
    wanted = render_with_gradients(parameters, view, "torch", torch.float64)
    assert_same(draw(parameters, view, device, exact), wanted)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_crowd_equals_torch() -> None:
    """Lists longer than a batch and than what is sorted in shared memory."""
    view = (*camera(83, 64), 83, 64)
    for num in (700, 6000):
        parameters = scene(num, 83, 64, 3)
        parameters[3] = parameters[3] * (0.1 if num > 1000 else 1.0)
        wanted = render_with_gradients(parameters, view, "torch", torch.float64)
        for exact in (False, True):
            assert_same(draw(parameters, view, "cuda", exact), wanted)


@on_both
def test_background_gradient_is_the_light_left(device: str) -> None:
    got = draw(scene(40, 20, 14, 1), SMALL, device)
    parameters = [p.double() for p in scene(40, 20, 14, 1)]
    background = torch.linspace(0, 1, 5).double().requires_grad_()
    loss_of(splat_surfels(*parameters, *SMALL, background=background)).backward()
    assert background.grad is not None
    assert error_of(got["d_background"], background.grad).max() < 5e-5


@on_both
@pytest.mark.parametrize("channels", [1, 6, 14])
def test_any_number_of_colours(device: str, channels: int) -> None:
    """One, two or three groups of eight values: values and gradients as from torch."""
    parameters = scene(40, 20, 14, 6)
    parameters[4] = torch.rand(40, channels, generator=torch.Generator().manual_seed(1))
    wanted = render_with_gradients(parameters, SMALL, "torch", torch.float64)
    assert_same(draw(parameters, SMALL, device), wanted)


@on_both
def test_too_little_room_is_made_up_for(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists that turn out too short are made again with the room that was asked for."""
    parameters = scene(60, 20, 14, 2)
    wanted = render_with_gradients(parameters, SMALL, "torch", torch.float64)
    monkeypatch.setattr(_gpu_surfel, "capacity_of", lambda asked, num, most: max(asked, 3))
    where = torch.device(device, torch.cuda.current_device()) if device == "cuda" else torch.device(device)
    _gpu_surfel.demand_of("surfels", where).zero_()
    assert_same(draw(parameters, SMALL, device), wanted)


@on_both
def test_bad_parameters_are_skipped(device: str) -> None:
    """Surfels with a wild parameter leave a finite image and finite gradients, zero where not finite."""
    generator = np.random.default_rng(0)
    num = 40
    for seed in range(3):
        parameters = scene(num, 20, 14, seed)
        for i in range(0, num, 2):
            target = parameters[generator.integers(5)].reshape(num, -1)
            target[i, generator.integers(target.shape[1])] = BAD[generator.integers(len(BAD))]
        parameters[1][1] = 0
        # On the camera's centre.
        pose = SMALL[1]
        parameters[0][3] = (-pose[:3, :3].T @ pose[:3, 3]).float()
        got = draw(parameters, SMALL, device, exact=True)
        broken = ~torch.cat([p.reshape(num, -1) for p in parameters], 1).isfinite().all(1)
        broken[1] = broken[3] = True
        for name, value in got.items():
            assert value.isfinite().all(), (seed, name)
            if name.startswith("d_") and name not in ("d_pose", "d_background"):
                assert (value[broken] == 0).all(), name
        assert not got["radius_px"][broken].any()
        alone = draw([p[~broken] for p in parameters], SMALL, device, exact=True)
        for name in ("colour", "alpha", "depth_mm", "normal"):
            assert torch.equal(alone[name], got[name]), name


@on_both
def test_deterministic_mode_does_not_change_a_bit(device: str) -> None:
    parameters = scene(80, 20, 14, 7)
    first, second = (draw(parameters, SMALL, device, exact=True) for _ in range(2))
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@on_both
def test_nothing_to_draw(device: str) -> None:
    """No surfels, none with opacity, or all behind: the background, and a backward pass of zeros."""
    clear, behind = scene(5, 20, 14, 0), scene(5, 20, 14, 1)
    clear[3].zero_()
    behind[0][:, 2] -= 500
    for parameters in (scene(0, 20, 14, 0), clear, behind):
        got = draw(parameters, SMALL, device)
        assert torch.equal(got["colour"], torch.linspace(0, 1, 5).expand(14, 20, 5))
        for name, value in got.items():
            assert name in ("colour", "d_background") or not value.any(), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_public_function_takes_the_gpu() -> None:
    """Cameras on the host or on the device, and a CUDA graph, give the picture of the torch backend."""
    k, pose, width, height = SMALL
    surfels = [p.cuda() for p in scene(60, width, height, 3)]
    wanted = splat_surfels(*surfels, *SMALL, backend="torch")
    for view in ((k, pose, width, height), (k.cuda(), pose.cuda(), width, height)):
        got = splat_surfels(*surfels, *view, backend="gpu")
        for name in ("colour", "alpha", "normal"):
            assert error_of(getattr(got, name), getattr(wanted, name)).max() < 1e-4, name
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        picture = splat_surfels(*surfels, *view)
    graph.replay()
    torch.cuda.synchronize()
    assert error_of(picture.colour, wanted.colour).max() < 1e-4
