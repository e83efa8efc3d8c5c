"""Conformance of the gsplat backend, on a machine with CUDA and gsplat: against torch on the CPU."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from surfel_scenes import camera, error_of, render_with_gradients, scene
from torch import Tensor

from splatomy.errors import MissingBackendError
from splatomy.kernels import _gsplat
from splatomy.kernels.surfel import splat_surfels

HAS_GSPLAT = importlib.util.find_spec("gsplat") is not None
needs_gsplat = pytest.mark.skipif(
    not (torch.cuda.is_available() and HAS_GSPLAT),
    reason="needs a CUDA device and gsplat (pip install 'splatomy[gpu]')",
)


@pytest.mark.skipif(HAS_GSPLAT, reason="gsplat is installed here")
def test_missing_gsplat_says_what_to_install() -> None:
    with pytest.raises(MissingBackendError, match="pip install"):
        _gsplat._load()


def view_of(width: int, height: int) -> tuple[Tensor, Tensor, int, int]:
    return (*camera(width, height, skew=0.0), width, height)


def twist(d_pose: Tensor, pose: Tensor) -> Tensor:
    """The gradient by a small rigid motion (6,): the other entries depend on how the normal is computed."""
    turn = d_pose[:3] @ pose[:3].T
    turn = turn - turn.T
    return torch.stack([turn[2, 1], turn[0, 2], turn[1, 0], *d_pose[:3, 3]])


@needs_gsplat
@pytest.mark.parametrize(("num", "width", "height", "seed"), [(200, 50, 37, 1), (1500, 163, 96, 2)])
def test_gsplat_equals_torch(num: int, width: int, height: int, seed: int) -> None:
    """Tilted up to about 60 degrees: 2 % of the largest at the most, and 0.2 % but for 2 values in 100.

    The low-pass is centred on the middle of the box there and not on the projected centre, and ends with
    the tiles of the box: that shows where a surfel is thin in the image.
    """
    view = view_of(width, height)
    parameters = scene(num, width, height, seed, (1.0, 3.0))
    parameters[1] = torch.tensor([1.0, 0, 0, 0]) + 0.3 * parameters[1].clamp(-1, 1)
    wanted = render_with_gradients(parameters, view, "torch", torch.float64)
    got = render_with_gradients(parameters, view, "gsplat", device="cuda")
    for out in (wanted, got):
        out["d_pose"] = twist(out["d_pose"], view[1])
    # Its boxes are those of opaque surfels, so that a faint one beyond the edge counts as visible too.
    assert (got["radius_px"] > 0)[wanted["radius_px"] > 0].double().mean() >= 0.99
    assert torch.equal(got["radius_px"] > 0, got["screen"][:, 1] > 0)
    del wanted["radius_px"], wanted["screen"]
    for name, value in wanted.items():
        error = error_of(got[name], value)
        assert got[name].isfinite().all(), name
        assert error.max() <= 2e-2, (name, float(error.max()))
        assert (error > 2e-3).double().mean() <= 0.02 or name == "d_pose", name


@needs_gsplat
def test_screen_gradient_is_near_that_of_torch() -> None:
    """10 % of the largest, for a loss of the colours: gsplat's leaves out what turns with the ray."""
    view = view_of(50, 37)
    surfels = scene(200, 50, 37, 3, (1.0, 3.0))
    surfels[1] = torch.tensor([1.0, 0, 0, 0]) + 0.3 * surfels[1].clamp(-1, 1)
    weights = torch.randn(37, 50, 5, generator=torch.Generator().manual_seed(2))
    screens = []
    for backend, device in (("torch", "cpu"), ("gsplat", "cuda")):
        leaves = [p.to(device).requires_grad_() for p in surfels]
        screen = torch.zeros(200, 2, device=device)
        render = splat_surfels(
            *(*leaves, *view),
            backend=backend,  # type: ignore[arg-type]
            screen_gradient=screen,
        )
        (render.colour * weights.to(device)).sum().backward()
        screens.append(screen.cpu())
    assert error_of(screens[1][:, 0], screens[0][:, 0]).max() < 0.1


@needs_gsplat
def test_a_tilted_plane_has_its_own_depth() -> None:
    """Ray and plane meet at the rendered depth to 1e-3 mm, where gsplat's own depth is the centre's."""
    k, pose, width, height = view_of(45, 34)
    surfel = [
        torch.tensor([[0.0, 0, 50]]), torch.tensor([[0.9, 0.35, -0.2, 0.1]]), torch.tensor([[8.0, 5.0]]),
        torch.ones(1), torch.ones(1, 1),
    ]  # fmt: skip
    wanted = splat_surfels(*(p.double() for p in surfel), k, pose, width, height)
    got = splat_surfels(*(p.cuda() for p in surfel), k, pose, width, height, backend="gsplat")
    both = (wanted.alpha > 0.1) & (got.alpha.cpu() > 0.1)
    assert both.sum() > 200
    for name in ("depth_mm", "median_depth_mm"):
        assert (getattr(got, name).cpu() - getattr(wanted, name))[both].abs().max() < 1e-3, name


@needs_gsplat
@pytest.mark.parametrize("channels", [1, 2, 3, 5, 7, 20])
def test_any_number_of_colours_has_finite_gradients(channels: int) -> None:
    """Whatever the number is padded to, no unwritten memory reaches a gradient."""
    view = view_of(50, 37)
    parameters = scene(200, 50, 37, 4, (1.0, 3.0))
    parameters[4] = torch.rand(200, channels)
    # Fill the cache with NaN, so that memory which is not written shows.
    torch.full((1 << 22,), float("nan"), device="cuda")
    got = render_with_gradients(parameters, view, "gsplat", device="cuda")
    for name, value in got.items():
        assert value.isfinite().all(), name


@needs_gsplat
def test_wild_surfels_and_nothing_to_draw() -> None:
    """Surfels that are not finite, behind, or through the near plane are left out, and take no gradient."""
    view = view_of(50, 37)
    parameters = scene(50, 50, 37, 5, (1.0, 3.0))
    parameters[0][0, 0] = float("nan")
    parameters[2][1, 1] = float("inf")
    parameters[1][2] = 0
    parameters[0][3, 2] = -100
    parameters[2][4] = 1e3
    got = render_with_gradients(parameters, view, "gsplat", device="cuda")
    for name, value in got.items():
        assert value.isfinite().all(), name
        if name.startswith("d_") and name != "d_pose":
            assert not value[:4].any(), name
    for num in (0, 4):
        got = render_with_gradients([p[:num] for p in parameters], view, "gsplat", device="cuda")
        assert not got["alpha"].any() and not got["d_means_mm"].any()
