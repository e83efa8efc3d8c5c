"""Conformance of the X-ray kernels: torch against the exact integral, numba against torch."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
import torch
from torch import Tensor

from splatomy.geometry.cameras import Cameras
from splatomy.geometry.conebeam import cone_beam, rays
from splatomy.geometry.rigid import rotation_from_quat
from splatomy.kernels.xray import splat, splat_many

WIDTH, HEIGHT = 80, 64
NAMES = ("means_mm", "quats_wxyz", "scales_mm", "density_per_mm")


def cameras() -> Cameras:
    """Two C-arm views with an offset detector and a roll, and a skew that the general case has."""
    views = cone_beam(
        [0.4, 1.9],
        [0.3, -0.2],
        750.0,
        1200.0,
        WIDTH,
        HEIGHT,
        (0.6, 0.63),
        offset_px=(1.3, -2.1),
        roll_rad=0.2,
    )
    views.intrinsics[:, 0, 1] = 2.5
    return views


def camera() -> tuple[Tensor, Tensor]:
    views = cameras()
    return torch.tensor(views.intrinsics[0]), torch.tensor(views.camera_from_world[0])


def scene(num: int, seed: int, extent_mm: float = 24.0, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    means = (torch.rand(num, 3, generator=generator) - 0.5) * extent_mm
    quats = torch.randn(num, 4, generator=generator)
    scales = 0.15 + 2 * torch.rand(num, 3, generator=generator)
    density = torch.rand(num, generator=generator)
    return [t.to(dtype).requires_grad_() for t in (means, quats, scales, density)]


def render_with_gradients(
    parameters: list[Tensor], backend: str, dtype: torch.dtype = torch.float32, **options: object
) -> dict[str, Tensor]:
    """Image, gradients of a fixed random loss, and the screen gradient."""
    leaves = [p.detach().to(dtype).clone().requires_grad_() for p in parameters]
    screen = torch.zeros(len(leaves[0]), 2)
    image = splat(
        *leaves,
        *camera(),
        WIDTH,
        HEIGHT,
        backend=backend,
        screen_gradient=screen,
        **options,  # type: ignore[arg-type]
    )
    loss_weights = torch.randn(HEIGHT, WIDTH, generator=torch.Generator().manual_seed(5))
    (image * loss_weights.to(dtype)).sum().backward()
    gradients = {name: p.grad for name, p in zip(NAMES, leaves, strict=True) if p.grad is not None}
    return {"image": image.detach(), "screen": screen, **gradients}


def assert_close(got: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float) -> None:
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        error = (got[name].double() - value.double()).abs().max() / value.abs().max()
        assert error < tolerance, (name, float(error))


@pytest.mark.parametrize("pixel_average", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_numba_equals_torch(seed: int, pixel_average: bool) -> None:
    """Values and all gradients; 2e-5 of the largest is float32 rounding over sums of some 100 terms."""
    parameters = scene(150, seed)
    wanted = render_with_gradients(parameters, "torch", torch.float64, pixel_average=pixel_average)
    got = render_with_gradients(parameters, "numba", pixel_average=pixel_average)
    assert_close(got, wanted, 2e-5)
    assert torch.equal(got["screen"][:, 1], wanted["screen"][:, 1])


def test_needles_equal_torch() -> None:
    """Slanted needles, 100 : 1 on the detector; they lose two more digits than round ones."""
    parameters = scene(40, 3)
    with torch.no_grad():
        parameters[2].copy_(torch.tensor([0.05, 5.0, 0.05]).expand(40, 3))
    wanted = render_with_gradients(parameters, "torch", torch.float64)
    assert_close(render_with_gradients(parameters, "numba"), wanted, 1e-3)


def line_integrals(parameters: list[Tensor]) -> np.ndarray:
    """Exact integrals (N, H, W) along the pixel-centre rays, float64; sheet dsa-4drgs, section 5."""
    means, quats, scales, density = (p.detach().double().numpy() for p in parameters)
    source, directions = rays(cameras(), 0)
    axes = rotation_from_quat(quats) / scales[:, None, :]
    w = np.einsum("hwi,nij->nhwj", directions, axes)
    o = np.einsum("ni,nij->nj", source - means, axes)[:, None, None]
    a, b, c = (w * w).sum(-1), (w * o).sum(-1), (o * o).sum(-1)
    integral: np.ndarray = density[:, None, None] * np.sqrt(2 * math.pi / a) * np.exp(-(c - b * b / a) / 2)
    return integral


def test_torch_equals_the_exact_line_integral() -> None:
    """Per Gaussian, error over its peak: median 1.4e-4, 95 % 1.6e-3 and maximum 1.7 % are the sheet's.

    The Jacobian is that of the mean, so the footprint is exact at the mean alone.
    """
    parameters = [p.detach() for p in scene(60, 4, 12.0, torch.float64)]
    exact = line_integrals(parameters)
    errors = []
    for i, wanted in enumerate(exact):
        got = splat(*(p[i : i + 1] for p in parameters), *camera(), WIDTH, HEIGHT, cutoff_sigma=8.0).numpy()
        errors.append(np.abs(got - wanted).max() / wanted.max())
    assert np.median(errors) < 2e-3
    assert np.max(errors) < 1.7e-2


def test_peak_is_exact_at_the_mean() -> None:
    """On the ray through the mean the integral is exact: eta is that ray's, not the optical axis's."""
    intrinsics, pose = camera()
    pixel = torch.tensor([71.0, 7.0, 1.0], dtype=torch.float64)
    in_camera = torch.linalg.solve(intrinsics, pixel) * 740.0
    mean = ((in_camera - pose[:3, 3]) @ pose[:3, :3])[None]
    rest = [p.detach()[:1] for p in scene(1, 6, dtype=torch.float64)[1:]]
    image = splat(mean, *rest, intrinsics, pose, WIDTH, HEIGHT)
    assert float(image[7, 71]) == pytest.approx(line_integrals([mean, *rest])[0, 7, 71], rel=1e-9)


def test_image_mass_is_the_integral() -> None:
    """A small Gaussian at the isocentre: image sum x pixel area there = density (2 pi)^1.5 s0 s1 s2.

    0.2 %: the box ends at 3.7 sigma (7e-4), the magnification varies across it.
    """
    views = cone_beam([0.7], 0.0, 750.0, 1200.0, WIDTH, HEIGHT, (0.6, 0.6))
    k, pose = torch.tensor(views.intrinsics[0]), torch.tensor(views.camera_from_world[0])
    scales = torch.tensor([[0.5, 1.1, 0.8]])
    for backend in ("torch", "numba"):
        image = splat(
            torch.zeros(1, 3), torch.tensor([[0.3, 0.1, -0.8, 0.4]]), scales, torch.ones(1),
            k, pose, WIDTH, HEIGHT, backend=backend,  # type: ignore[arg-type]
        )  # fmt: skip
        mass = float(image.sum()) * (0.6 * 750 / 1200) ** 2
        assert mass == pytest.approx((2 * math.pi) ** 1.5 * float(scales.prod()), rel=2e-3)


@pytest.mark.parametrize("sigma_px", [0.02, 0.1, 0.3, 1.0])
def test_pixel_average_keeps_the_sum(sigma_px: float) -> None:
    """Wherever a thin Gaussian lies between the pixels, its image's sum is its integral, to 0.5 %."""
    views = cone_beam([0.0], 0.0, 750.0, 1200.0, WIDTH, HEIGHT, (0.6, 0.6))
    k, pose = torch.tensor(views.intrinsics[0]), torch.tensor(views.camera_from_world[0])
    pitch = 0.6 * 750 / 1200
    for shift in (0.0, 0.2, 0.5):
        image = splat(
            torch.tensor([[0.0, shift * pitch, shift * pitch]]), torch.tensor([[1.0, 0, 0, 0]]),
            torch.full((1, 3), sigma_px * pitch), torch.ones(1),
            k, pose, WIDTH, HEIGHT, pixel_average=True,
        )  # fmt: skip
        wanted = (2 * math.pi) ** 1.5 * (sigma_px * pitch) ** 3
        assert float(image.sum()) * pitch**2 == pytest.approx(wanted, rel=5e-3)


@pytest.mark.parametrize("pixel_average", [False, True])
def test_finite_differences(pixel_average: bool) -> None:
    """Central differences in float64 of three hand-placed Gaussians, and of the camera.

    The wide cutoff keeps the boxes' edges, which jump, out of the differences.
    """
    means = torch.tensor([[0.0, 0, 0], [4.0, -3, 2], [-5.0, 2, 6]], dtype=torch.float64)
    quats = torch.tensor([[1.0, 0, 0, 0], [0.5, 1, -0.3, 2], [0.2, 0.1, 3, 1]], dtype=torch.float64)
    scales = torch.tensor([[1.0, 1, 1], [0.4, 2, 0.9], [1.5, 0.3, 0.6]], dtype=torch.float64)
    density = torch.tensor([1.0, 0.3, 2.0], dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (means, quats, scales, density, *camera())]
    weights = torch.linspace(-1, 2, WIDTH * HEIGHT, dtype=torch.float64).reshape(HEIGHT, WIDTH) ** 3

    def loss(*values: Tensor) -> Tensor:
        image = splat(*values, WIDTH, HEIGHT, cutoff_sigma=9.0, pixel_average=pixel_average)
        return (image * weights).sum()

    gradients = torch.autograd.grad(loss(*inputs), inputs)
    for which, gradient in enumerate(gradients):
        for entry in np.ndindex(*gradient.shape):
            step, values = 1e-5, []
            for sign in (1, -1):
                moved = [t.detach().clone() for t in inputs]
                moved[which][entry] += sign * step
                with torch.no_grad():
                    values.append(float(loss(*moved)))
            slope = (values[0] - values[1]) / (2 * step)
            # A camera gradient exists in 3 + 2 of the intrinsics and the first three rows of the pose.
            assert float(gradient[entry]) == pytest.approx(
                slope, rel=1e-5, abs=1e-6 * float(gradient.abs().max())
            )


BAD = (math.nan, math.inf, -math.inf, 0.0, -1.0, 1e-30, 1e30, -1e30, 3e38, 1e-42)


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("pixel_average", [False, True])
def test_bad_parameters_are_skipped(backend: str, pixel_average: bool) -> None:
    """Gaussians with any wild parameter leave a finite image and finite gradients, zero where not finite."""
    generator = np.random.default_rng(0)
    for seed in range(8):
        parameters = [p.detach().clone() for p in scene(40, seed)]
        for i in range(0, 40, 2):
            target = parameters[generator.integers(4)].reshape(40, -1)
            target[i, generator.integers(target.shape[1])] = BAD[generator.integers(len(BAD))]
        parameters[1][1] = 0
        parameters[0][3] = torch.from_numpy(cameras().centres_mm[0]).float()
        got = render_with_gradients(parameters, backend, pixel_average=pixel_average)
        broken = ~torch.cat([p.reshape(40, -1) for p in parameters], 1).isfinite().all(1)
        broken[1] = broken[3] = True
        for name, value in got.items():
            assert value.isfinite().all(), name
            if name != "image":
                assert (value[broken] == 0).all(), name
        clean = [p[~broken] for p in parameters]
        alone = splat(*clean, *camera(), WIDTH, HEIGHT, backend=backend, pixel_average=pixel_average)
        assert torch.equal(alone, got["image"])


def test_backends_skip_the_same_gaussians() -> None:
    """Extreme but finite scales, means and densities: one image from both backends."""
    parameters = [p.detach().clone() for p in scene(60, 9)]
    parameters[2][::3] = 10.0 ** torch.linspace(-8, 8, 60).reshape(20, 3)
    parameters[0][1::3] *= 10.0 ** torch.linspace(0, 9, 20)[:, None]
    wanted = splat(*(p.double() for p in parameters), *camera(), WIDTH, HEIGHT)
    got = splat(*parameters, *camera(), WIDTH, HEIGHT)
    # Relative to each pixel: the giants are far brighter than the rest.
    assert ((got - wanted).abs() <= 1e-4 * wanted.abs().max() + 1e-3 * wanted.abs()).all()


def test_threads_do_not_change_a_bit() -> None:
    parameters = scene(300, 7)
    threads = numba.get_num_threads()
    results = []
    try:
        for count in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            numba.set_num_threads(count)
            results.append(render_with_gradients(parameters, "numba"))
    finally:
        numba.set_num_threads(threads)
    for name, value in results[0].items():
        assert torch.equal(value, results[1][name]), name


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_screen_gradient_is_the_means_gradient_in_ndc(backend: str) -> None:
    """A shift of the detector moves every image mean: one Gaussian's screen gradient is that of cx, cy."""
    leaves = [p.detach()[:1].double().requires_grad_() for p in scene(1, 11, 4.0)]
    k, pose = camera()
    k.requires_grad_()
    weights = torch.randn(HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)).double()
    (splat(*leaves, k, pose, WIDTH, HEIGHT) * weights).sum().backward()
    wanted = math.hypot(float(k.grad[0, 2]) * WIDTH / 2, float(k.grad[1, 2]) * HEIGHT / 2)
    buffer = torch.zeros(1, 2)
    again = [p.detach().float().requires_grad_() for p in leaves]
    for _ in range(2):
        image = splat(
            *again,
            k.detach(),
            pose,
            WIDTH,
            HEIGHT,
            backend=backend,
            screen_gradient=buffer,  # type: ignore[arg-type]
        )
        (image * weights.float()).sum().backward()
    assert buffer[0].tolist() == pytest.approx([2 * wanted, 2.0], rel=1e-4)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_many_cameras(backend: str) -> None:
    views, parameters = cameras(), scene(30, 12)
    density = torch.stack([parameters[3], 2 * parameters[3]]).detach().requires_grad_()
    k, pose = torch.tensor(views.intrinsics), torch.tensor(views.camera_from_world)
    screen = torch.zeros(30, 2)
    images = splat_many(
        *parameters[:3],
        density,
        k,
        pose,
        WIDTH,
        HEIGHT,
        backend=backend,
        screen_gradient=screen,  # type: ignore[arg-type]
    )
    images.sum().backward()
    for c in range(2):
        assert torch.equal(
            images[c], splat(*parameters[:3], density[c], k[c], pose[c], WIDTH, HEIGHT, backend=backend)
        )  # type: ignore[arg-type]
    assert density.grad.shape == (2, 30)
    assert screen[:, 1].max() == 2


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_nothing_to_draw(backend: str) -> None:
    """No Gaussians, or all behind the source: a zero image that still takes a backward pass."""
    for parameters in (scene(0, 0), scene(5, 0)):
        with torch.no_grad():
            parameters[0].add_(torch.from_numpy(2 * cameras().centres_mm[0]))
        got = render_with_gradients(parameters, backend)
        assert not any(value.any() for value in got.values())


def test_wrong_arguments() -> None:
    parameters, (k, pose) = [p.detach() for p in scene(3, 0)], camera()
    with pytest.raises(ValueError, match="quats_wxyz"):
        splat(parameters[0], parameters[2], *parameters[2:], k, pose, WIDTH, HEIGHT)
    with pytest.raises(ValueError, match="float32"):
        splat(*(p.double() for p in parameters), k, pose, WIDTH, HEIGHT, backend="numba")
    with pytest.raises(ValueError, match="as means_mm is"):
        splat(*parameters[:3], parameters[3].double(), k, pose, WIDTH, HEIGHT)
    with pytest.raises(ValueError, match="NaN"):
        splat(*parameters, k * math.nan, pose, WIDTH, HEIGHT)
    with pytest.raises(ValueError, match="pixels"):
        splat(*parameters, k, pose, 0, HEIGHT)
    with pytest.raises(ValueError, match="backend"):
        splat(*parameters, k, pose, WIDTH, HEIGHT, backend="cuda")  # type: ignore[arg-type]
