"""Conformance of the surfel kernels: numba against torch, values and all gradients."""

from __future__ import annotations

import numba
import pytest
import torch
from surfel_scenes import camera, error_of, render_with_gradients, scene

from splatomy.kernels.surfel import MIN_ALPHA, splat_surfels

SIZES = [(1, 1, 1, 0), (60, 16, 16, 1), (200, 50, 37, 2), (700, 83, 64, 3), (300, 7, 90, 4)]


@pytest.mark.parametrize(("num", "width", "height", "seed"), SIZES)
def test_numba_equals_torch(num: int, width: int, height: int, seed: int) -> None:
    """5e-5 of the largest is float32 rounding; a hit at the threshold may fall on the other side of it.

    Such a flip changes a pixel by MIN_ALPHA of its value at most, so 1 in 1000 pixels may do so.
    """
    view = (*camera(width, height), width, height)
    parameters = scene(num, width, height, seed)
    wanted = render_with_gradients(parameters, view, "torch", torch.float64)
    got = render_with_gradients(parameters, view, "numba")
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        assert got[name].isfinite().all(), name
        error = error_of(got[name], value)
        assert (error > 5e-5).double().mean() <= 1e-3, (name, float(error.max()))
        assert error.max() <= 2 * MIN_ALPHA, (name, float(error.max()))
    assert torch.equal(got["screen"][:, 1], wanted["screen"][:, 1])


def test_float32_torch_is_close_too() -> None:
    view = (*camera(50, 37), 50, 37)
    parameters = scene(200, 50, 37, 5)
    wanted = render_with_gradients(parameters, view, "torch", torch.float64)
    got = render_with_gradients(parameters, view, "torch")
    for name, value in wanted.items():
        assert (error_of(got[name], value) > 1e-4).double().mean() <= 1e-3, name


@pytest.mark.parametrize("channels", [0, 1, 3, 8, 17])
def test_any_number_of_colours(channels: int) -> None:
    """The colours do not disturb each other: each is what it would be alone."""
    view = (*camera(40, 30), 40, 30)
    parameters = scene(80, 40, 30, 6)
    colours = torch.rand(80, channels, generator=torch.Generator().manual_seed(1))
    surfels = parameters[:4]
    together = splat_surfels(*surfels, colours, *view).colour
    assert together.shape == (30, 40, channels)
    for c in range(channels):
        alone = splat_surfels(*surfels, colours[:, c : c + 1], *view).colour
        assert torch.equal(alone[..., 0], together[..., c])


def test_threads_do_not_change_a_bit() -> None:
    view = (*camera(83, 64), 83, 64)
    parameters = scene(500, 83, 64, 7)
    threads = numba.get_num_threads()
    results = []
    try:
        for count in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            numba.set_num_threads(count)
            results.append(render_with_gradients(parameters, view, "numba"))
    finally:
        numba.set_num_threads(threads)
    for name, value in results[0].items():
        assert torch.equal(value, results[1][name]), name


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_order_of_the_surfels_does_not_matter(backend: str) -> None:
    """A permutation of the surfels, which all have their own depths, leaves every pixel as it is."""
    view = (*camera(50, 37), 50, 37)
    parameters = scene(150, 50, 37, 8)
    mixed = torch.randperm(150, generator=torch.Generator().manual_seed(0))
    wanted = render_with_gradients(parameters, view, backend)
    got = render_with_gradients([p[mixed] for p in parameters], view, backend)
    for name, value in wanted.items():
        per_surfel = name in ("screen", "radius_px") or (name.startswith("d_") and name != "d_pose")
        assert error_of(got[name], value[mixed] if per_surfel else value).max() < 1e-6, name


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_screen_gradient_is_that_of_the_principal_point(backend: str) -> None:
    """A shift of (cx, cy) moves the image of a surfel as a whole; two backward passes add up."""
    (k, pose), (width, height) = camera(40, 30), (40, 30)
    leaves = [p[:1].double() for p in scene(1, width, height, 9)]
    leaves[0] = torch.tensor([[0.0, 0, 40]], dtype=torch.float64)
    k.requires_grad_()
    weights = torch.randn(height, width, generator=torch.Generator().manual_seed(1)).double()
    (splat_surfels(*leaves, k, pose, width, height).alpha * weights).sum().backward()
    assert k.grad is not None
    wanted = torch.hypot(k.grad[0, 2] * width / 2, k.grad[1, 2] * height / 2)
    buffer = torch.zeros(1, 2)
    again = [p.detach().float().requires_grad_() for p in leaves]
    for _ in range(2):
        render = splat_surfels(
            *(*again, k.detach(), pose, width, height),
            backend=backend,  # type: ignore[arg-type]
            screen_gradient=buffer,
        )
        (render.alpha * weights.float()).sum().backward()
    assert buffer[0].tolist() == pytest.approx([2 * float(wanted), 2.0], rel=1e-4)
