"""Wild surfels and wrong arguments: a clean render, or one precise error."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from surfel_scenes import camera, error_of, render_with_gradients, scene

from splatomy.kernels.surfel import splat_surfels

WIDTH, HEIGHT, NUM = 40, 30, 40
BAD = (math.nan, math.inf, -math.inf, 0.0, -1.0, 1e-30, 1e30, -1e30, 3e38, 1e-42, 1e5, 1e-5)
VIEW = (*camera(WIDTH, HEIGHT), WIDTH, HEIGHT)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_bad_parameters_are_skipped(backend: str) -> None:
    """Surfels with a wild parameter leave a finite image and finite gradients, zero where not finite."""
    generator = np.random.default_rng(0)
    for seed in range(6):
        parameters = scene(NUM, WIDTH, HEIGHT, seed)
        for i in range(0, NUM, 2):
            target = parameters[generator.integers(5)].reshape(NUM, -1)
            target[i, generator.integers(target.shape[1])] = BAD[generator.integers(len(BAD))]
        parameters[1][1] = 0
        # On the camera's centre.
        pose = VIEW[1]
        parameters[0][3] = (-pose[:3, :3].T @ pose[:3, 3]).float()
        got = render_with_gradients(parameters, VIEW, backend)
        broken = ~torch.cat([p.reshape(NUM, -1) for p in parameters], 1).isfinite().all(1)
        broken[1] = broken[3] = True
        for name, value in got.items():
            assert value.isfinite().all(), (seed, name)
            if name.startswith("d_") and name != "d_pose":
                assert (value[broken] == 0).all(), name
        assert not got["radius_px"][broken].any()
        clean = [p[~broken] for p in parameters]
        alone = render_with_gradients(clean, VIEW, backend)
        for name in ("colour", "alpha", "depth_mm", "normal"):
            assert torch.equal(alone[name], got[name]), name


def test_backends_skip_the_same_surfels() -> None:
    """Extreme but finite scales, places and opacities: one image from both backends."""
    parameters = scene(60, WIDTH, HEIGHT, 9)
    parameters[2][::3] = 10.0 ** torch.linspace(-8, 8, 40).reshape(20, 2)
    parameters[0][1::3] *= 10.0 ** torch.linspace(-3, 9, 20)[:, None]
    parameters[3][2::3] = torch.linspace(-0.5, 1.5, 20)
    wanted = splat_surfels(*(p.double() for p in parameters), *VIEW)
    got = splat_surfels(*parameters, *VIEW)
    assert torch.equal(got.radius_px > 0, wanted.radius_px > 0)
    for name in ("colour", "alpha", "normal"):
        error = error_of(getattr(got, name), getattr(wanted, name))
        assert (error > 1e-3).double().mean() <= 2e-3, (name, float(error.max()))


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_nothing_to_draw(backend: str) -> None:
    """No surfels, none with opacity, or all behind: the background, and a backward pass of zeros."""
    clear, behind = scene(5, WIDTH, HEIGHT, 0), scene(5, WIDTH, HEIGHT, 1)
    clear[3].zero_()
    behind[0][:, 2] -= 500
    for parameters in (scene(0, WIDTH, HEIGHT, 0), clear, behind):
        got = render_with_gradients(parameters, VIEW, backend)
        assert torch.equal(got["colour"], torch.linspace(0, 1, 5).expand(HEIGHT, WIDTH, 5))
        for name, value in got.items():
            assert name == "colour" or not value.any(), name


def test_wrong_arguments() -> None:
    parameters, (k, pose, *size) = scene(3, WIDTH, HEIGHT, 0), VIEW
    with pytest.raises(ValueError, match="scales_mm"):
        splat_surfels(*parameters[:2], torch.ones(3, 3), *parameters[3:], k, pose, *size)
    with pytest.raises(ValueError, match="background"):
        splat_surfels(*parameters, k, pose, *size, background=torch.ones(4))
    with pytest.raises(ValueError, match="float32"):
        splat_surfels(*(p.double() for p in parameters), k, pose, *size, backend="numba")
    with pytest.raises(ValueError, match="cuda"):
        splat_surfels(*parameters, k, pose, *size, backend="gsplat")
    with pytest.raises(ValueError, match="gradient of the intrinsics"):
        splat_surfels(*parameters, k.clone().requires_grad_(), pose, *size, backend="numba")
    with pytest.raises(ValueError, match="as means_mm is"):
        splat_surfels(*parameters[:4], parameters[4].double(), k, pose, *size)
    with pytest.raises(ValueError, match="NaN"):
        splat_surfels(*parameters, k * math.nan, pose, *size)
    with pytest.raises(ValueError, match="focal"):
        splat_surfels(*parameters, -k, pose, *size)
    with pytest.raises(ValueError, match="pixels"):
        splat_surfels(*parameters, k, pose, 0, HEIGHT)
    with pytest.raises(ValueError, match="near_mm"):
        splat_surfels(*parameters, k, pose, *size, near_mm=0.0)
    with pytest.raises(ValueError, match="backend"):
        splat_surfels(*parameters, k, pose, *size, backend="cuda")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="plain buffer"):
        splat_surfels(*parameters, k, pose, *size, screen_gradient=torch.zeros(3, 2).requires_grad_())
