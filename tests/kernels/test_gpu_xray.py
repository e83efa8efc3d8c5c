"""Conformance of the GPU X-ray splatter: on a CUDA device, and with its kernels run on the host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from cuda_on_host import COMPILER, kernels_on_host
from test_xray import BAD, HEIGHT, NAMES, WIDTH, assert_close, camera, cameras, scene
from torch import Tensor

from splatomy.kernels import _gpu_lists, _gpu_xray
from splatomy.kernels.xray import CUTOFF_SIGMA, splat, splat_many

HOST = pytest.param("cpu", marks=pytest.mark.skipif(COMPILER is None, reason="needs a host C++ compiler"))
CUDA = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
)
on_both = pytest.mark.parametrize("device", [HOST, CUDA])


@contextmanager
def running_on(device: str, exact: bool = False) -> Iterator[None]:
    """Kernels of CPU tensors run on the host; ``exact`` asks torch for deterministic algorithms."""
    torch.use_deterministic_algorithms(exact)
    try:
        if device == "cpu":
            with kernels_on_host():
                yield
        else:
            yield
    finally:
        torch.use_deterministic_algorithms(False)


def draw(
    parameters: list[Tensor], device: str, pixel_average: bool, exact: bool = False, view: int | None = 0
) -> dict[str, Tensor]:
    """Image, all gradients of a fixed random loss, and the screen gradient; all views for ``view`` None."""
    views = cameras()
    camera_tensors = [torch.tensor(views.intrinsics), torch.tensor(views.camera_from_world)]
    if view is not None:
        camera_tensors = [t[view] for t in camera_tensors]
    leaves = [p.detach().to(device).clone().requires_grad_() for p in parameters]
    k, pose = (t.to(device).requires_grad_() for t in camera_tensors)
    screen = torch.zeros(len(leaves[0]), 2, device=device)
    with running_on(device, exact):
        rest = (WIDTH, HEIGHT, CUTOFF_SIGMA, 1 / 12 if pixel_average else 0.0, screen)
        image = _gpu_xray.Splat.apply(*leaves, k, pose, *rest)
        weights = torch.randn(image.shape, generator=torch.Generator().manual_seed(5)).to(device)
        (image * weights).sum().backward()
    named = zip((*NAMES, "intrinsics", "pose"), (*leaves, k, pose), strict=True)
    gradients = {name: leaf.grad.cpu() for name, leaf in named if leaf.grad is not None}
    return {"image": image.detach().cpu(), "screen": screen.cpu(), **gradients}


def oracle(parameters: list[Tensor], pixel_average: bool, view: int | None = 0) -> dict[str, Tensor]:
    """The same by the torch backend in float64."""
    views = cameras()
    camera_tensors = [torch.tensor(views.intrinsics), torch.tensor(views.camera_from_world)]
    draw_one = splat_many if view is None else splat
    if view is not None:
        camera_tensors = [t[view] for t in camera_tensors]
    leaves = [p.detach().double().clone().requires_grad_() for p in parameters]
    k, pose = (t.requires_grad_() for t in camera_tensors)
    screen = torch.zeros(len(leaves[0]), 2)
    options = {"backend": "torch", "pixel_average": pixel_average, "screen_gradient": screen}
    image = draw_one(*leaves, k, pose, WIDTH, HEIGHT, **options)  # type: ignore[arg-type]
    weights = torch.randn(image.shape, generator=torch.Generator().manual_seed(5))
    (image * weights.double()).sum().backward()
    named = zip((*NAMES, "intrinsics", "pose"), (*leaves, k, pose), strict=True)
    gradients = {name: leaf.grad for name, leaf in named if leaf.grad is not None}
    return {"image": image.detach(), "screen": screen, **gradients}


@on_both
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("pixel_average", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_gpu_equals_torch(device: str, seed: int, pixel_average: bool, exact: bool) -> None:
    """Values, all gradients and the camera's; 2e-5 of the largest is float32 rounding."""
    parameters = scene(150, seed)
    wanted = oracle(parameters, pixel_average)
    got = draw(parameters, device, pixel_average, exact)
    assert_close(got, wanted, 2e-5)
    assert torch.equal(got["screen"][:, 1], wanted["screen"][:, 1])


@on_both
def test_needles_equal_torch(device: str) -> None:
    """Slanted needles, 100 : 1 on the detector; they lose two more digits than round ones."""
    parameters = scene(40, 3)
    with torch.no_grad():
        parameters[2].copy_(torch.tensor([0.05, 5.0, 0.05]).expand(40, 3))
    assert_close(draw(parameters, device, False), oracle(parameters, False), 1e-3)


@on_both
def test_many_cameras_at_once(device: str) -> None:
    """All views in one launch, each with its own densities, some of them zero."""
    parameters = scene(60, 12)
    density = torch.stack([parameters[3], 2 * parameters[3]]).detach()
    density[0, ::3] = 0
    views = [*parameters[:3], density]
    assert_close(draw(views, device, True, view=None), oracle(views, True, view=None), 2e-5)


@on_both
def test_giants_and_full_lists(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gaussians over the whole image, and lists with no room: what finds none is drawn all the same."""
    parameters = scene(40, 4)
    with torch.no_grad():
        parameters[2][::4] = 60.0
    wanted = oracle(parameters, False)
    for room in (0, 1, 97, 1000):
        monkeypatch.setattr(_gpu_xray, "capacity_of", lambda asked, num, room=room: room)
        assert_close(draw(parameters, device, False), wanted, 2e-5)


@on_both
def test_the_demand_is_told(device: str) -> None:
    """After a call the host knows how many members were asked for, and makes room for more than that."""
    draw(scene(150, 0), device, False)
    if device == "cuda":
        torch.cuda.synchronize()
    where = torch.device(device, torch.cuda.current_device()) if device == "cuda" else torch.device(device)
    asked = int(_gpu_lists.demand_of("xray", where))
    assert asked >= 150
    assert _gpu_lists.capacity_of(asked, 0) >= 1.25 * asked


@on_both
@pytest.mark.parametrize("pixel_average", [False, True])
def test_bad_parameters_are_skipped(device: str, pixel_average: bool) -> None:
    """Gaussians with any wild parameter leave a finite image and finite gradients, zero where not finite."""
    generator = np.random.default_rng(0)
    for seed in range(4):
        parameters = [p.detach().clone() for p in scene(40, seed)]
        for i in range(0, 40, 2):
            target = parameters[generator.integers(4)].reshape(40, -1)
            target[i, generator.integers(target.shape[1])] = BAD[generator.integers(len(BAD))]
        parameters[1][1] = 0
        parameters[0][3] = torch.from_numpy(cameras().centres_mm[0]).float()
        got = draw(parameters, device, pixel_average, exact=True)
        broken = ~torch.cat([p.reshape(40, -1) for p in parameters], 1).isfinite().all(1)
        broken[1] = broken[3] = True
        for name, value in got.items():
            assert value.isfinite().all(), name
            if name not in ("image", "intrinsics", "pose"):
                assert (value[broken] == 0).all(), name
        alone = draw([p[~broken] for p in parameters], device, pixel_average, exact=True)
        assert torch.equal(alone["image"], got["image"])


@on_both
def test_gpu_skips_the_same_gaussians(device: str) -> None:
    """Extreme but finite scales, means and densities: the image of the torch backend."""
    parameters = [p.detach().clone() for p in scene(60, 9)]
    parameters[2][::3] = 10.0 ** torch.linspace(-8, 8, 60).reshape(20, 3)
    parameters[0][1::3] *= 10.0 ** torch.linspace(0, 9, 20)[:, None]
    wanted, got = oracle(parameters, False)["image"], draw(parameters, device, False)["image"]
    assert ((got - wanted).abs() <= 1e-4 * wanted.abs().max() + 1e-3 * wanted.abs()).all()


@on_both
def test_deterministic_mode_does_not_change_a_bit(device: str) -> None:
    """Twice the same, and with the Gaussians listed by other threads."""
    parameters = scene(300, 7)
    first, second = (draw(parameters, device, True, exact=True) for _ in range(2))
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@on_both
def test_nothing_to_draw(device: str) -> None:
    for parameters in (scene(0, 0), scene(5, 0)):
        with torch.no_grad():
            parameters[0].add_(torch.from_numpy(2 * cameras().centres_mm[0]))
        assert not any(value.any() for value in draw(parameters, device, False).values())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_public_function_takes_the_gpu() -> None:
    """Cameras on the host or on the device, and a CUDA graph, give the image of the torch backend."""
    parameters = [p.detach().cuda() for p in scene(100, 3)]
    k, pose = camera()
    wanted = splat(*parameters, k, pose, WIDTH, HEIGHT, backend="torch")
    for view in ((k, pose), (k.cuda(), pose.cuda())):
        for backend in ("auto", "gpu"):
            got = splat(*parameters, *view, WIDTH, HEIGHT, backend=backend)  # type: ignore[arg-type]
            assert ((got - wanted).abs().max() / wanted.max()) < 2e-5
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        image = splat(*parameters, *view, WIDTH, HEIGHT)
    graph.replay()
    torch.cuda.synchronize()
    assert ((image - wanted).abs().max() / wanted.max()) < 2e-5


def test_gpu_needs_a_gpu() -> None:
    parameters = [p.detach() for p in scene(3, 0)]
    with pytest.raises(ValueError, match="float32 CUDA tensors"):
        splat(*parameters, *camera(), WIDTH, HEIGHT, backend="gpu")
