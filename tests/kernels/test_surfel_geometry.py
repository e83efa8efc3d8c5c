"""What a surfel render must be by geometry: ray and plane, normals, medians, blending, the frame's edge."""

from __future__ import annotations

import math

import pytest
import torch
from surfel_scenes import camera
from torch import Tensor

from splatomy.geometry.rigid import rotation_from_quat
from splatomy.kernels.surfel import MIN_ALPHA, splat_surfels

WIDTH, HEIGHT = 45, 34
BACKENDS = ["torch", "numba"]
TILTED = [[0.9, 0.35, -0.2, 0.1], [0.8, -0.5, 0.1, 0.3], [1.0, 0.1, 0.6, 0.0]]


def plain(opacity: float = 1.0, quat: list[float] | None = None, z_mm: float = 50.0) -> list[Tensor]:
    """One surfel on the optical axis of the world's first camera, 8 mm by 5 mm."""
    rows = ([[0.0, 0, z_mm]], [quat or [1.0, 0, 0, 0]], [[8.0, 5.0]], [opacity], [[1.0, 0.5]])
    return [torch.tensor(r) for r in rows]


def rays(intrinsics: Tensor) -> Tensor:
    """Pixel-centre rays of depth 1 in the camera, (H, W, 3), float64."""
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    return torch.stack([x, y, torch.ones_like(x)], -1).double() @ torch.linalg.inv(intrinsics).T


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("quat", TILTED)
def test_a_tilted_plane_has_its_own_depth_and_normal(backend: str, quat: list[float]) -> None:
    """Expected and median depth are those of ray and plane to 1e-3 mm, as is the normal to 1e-5."""
    k, pose = camera(WIDTH, HEIGHT)
    parameters = plain(quat=quat)
    render = splat_surfels(*parameters, k, pose, WIDTH, HEIGHT, backend=backend)
    normal = pose[:3, :3] @ torch.from_numpy(rotation_from_quat(torch.tensor(quat).double().numpy()))[:, 2]
    centre = pose[:3, :3] @ parameters[0][0].double() + pose[:3, 3]
    depth = (normal @ centre) / (rays(k) @ normal)
    seen = render.alpha > 0
    assert seen.sum() > 200
    for got in (render.depth_mm, render.median_depth_mm):
        assert (got[seen] - depth[seen]).abs().max() < 1e-3
        assert (got[~seen] == 0).all()
    facing = -normal if normal @ centre > 0 else normal
    unit = render.normal[seen] / render.alpha[seen][:, None]
    assert (unit - facing).abs().max() < 1e-5
    assert render.distortion.max() < 1e-8 / depth.max() ** 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_alpha_is_the_gaussian_of_the_hit(backend: str) -> None:
    """alpha = opacity exp(-(u^2 + v^2) / 2) on the plane, capped at 0.999, dropped below 1/255."""
    k, pose = camera(WIDTH, HEIGHT)
    parameters = plain(0.8, TILTED[0])
    alpha = splat_surfels(*parameters, k, pose, WIDTH, HEIGHT, backend=backend).alpha
    axes = pose[:3, :3] @ torch.from_numpy(rotation_from_quat(parameters[1][0].double().numpy()))
    centre = pose[:3, :3] @ parameters[0][0].double() + pose[:3, 3]
    hit = rays(k) * ((axes[:, 2] @ centre) / (rays(k) @ axes[:, 2]))[..., None] - centre
    uv = hit @ axes[:, :2] / parameters[2][0].double()
    wanted = 0.8 * torch.exp(-uv.square().sum(-1) / 2)
    certain = (wanted - MIN_ALPHA).abs() > 1e-5
    wanted = torch.where(wanted < MIN_ALPHA, 0.0, wanted)
    assert (alpha - wanted)[certain].abs().max() < 1e-5
    opaque = splat_surfels(*plain(), k, pose, WIDTH, HEIGHT, backend=backend).alpha
    assert opaque.max() <= 0.999 + 1e-6


@pytest.mark.parametrize("backend", BACKENDS)
def test_three_layers_blend_from_near_to_far(backend: str) -> None:
    """Parallel layers of alpha 0.4: weights 0.4, 0.24, 0.144; the second is the median."""
    k = torch.tensor([[100.0, 0, 20], [0, 100, 15], [0, 0, 1]])
    depths = torch.tensor([60.0, 50.0, 55.0])
    parameters = [
        torch.stack([torch.zeros(3), torch.zeros(3), depths], 1), torch.tensor([[1.0, 0, 0, 0]]).expand(3, 4),
        torch.full((3, 2), 1e4), torch.full((3,), 0.4), torch.eye(3),
    ]  # fmt: skip
    background = torch.tensor([10.0, 20.0, 30.0])
    render = splat_surfels(
        *parameters, k, torch.eye(4), WIDTH, HEIGHT, background=background, backend=backend
    )
    weights = torch.tensor([0.144, 0.4, 0.24])
    assert render.colour[15, 20].tolist() == pytest.approx((weights + 0.216 * background).tolist(), rel=1e-5)
    assert float(render.alpha[15, 20]) == pytest.approx(0.784, rel=1e-5)
    assert float(render.median_depth_mm[15, 20]) == pytest.approx(55.0, rel=1e-6)
    inverse = float((weights / depths).sum()) / 0.784
    assert float(render.depth_mm[15, 20]) == pytest.approx(1 / inverse, rel=1e-6)
    pairs = sum(
        float(weights[i] * weights[j] * (1 / depths[i] - 1 / depths[j]) ** 2)
        for i in range(3)
        for j in range(i)
    )
    assert float(render.distortion[15, 20]) == pytest.approx(pairs, rel=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_surfel_beyond_the_edge_still_reaches_in(backend: str) -> None:
    """The same surfel in a frame cropped so that its centre lies outside gives the same pixels."""
    k, pose = camera(WIDTH, HEIGHT)
    parameters = plain(0.9, TILTED[1])
    whole = splat_surfels(*parameters, k, pose, WIDTH, HEIGHT, backend=backend)
    column = int(torch.nonzero(whole.alpha.sum(0)).max()) - 4
    cropped = k.clone()
    cropped[0, 2] -= column
    part = splat_surfels(*parameters, cropped, pose, WIDTH - column, HEIGHT, backend=backend)
    assert part.alpha.max() > 0
    for got, wanted in zip(part[:5], whole[:5], strict=True):
        assert (got - wanted[:, column:]).abs().max() <= 1e-5 * wanted.abs().max()
    assert float(part.radius_px[0]) > 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_tiny_surfel_keeps_the_size_of_a_pixel(backend: str) -> None:
    """Far below a pixel the low-pass rules: alpha = opacity exp(-d^2) at the distance d in px."""
    k = torch.tensor([[100.0, 0, 20], [0, 100, 15], [0, 0, 1]])
    parameters = [
        torch.tensor([[0.15, 0.1, 50.0]]), torch.tensor([[1.0, 0.1, 0.2, 0]]),
        torch.full((1, 2), 1e-4), torch.full((1,), 0.9), torch.ones(1, 1),
    ]  # fmt: skip
    alpha = splat_surfels(*parameters, k, torch.eye(4), WIDTH, HEIGHT, backend=backend).alpha
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    wanted = 0.9 * torch.exp(-((x - 20.3) ** 2 + (y - 15.2) ** 2))
    assert (alpha - torch.where(wanted < MIN_ALPHA, 0.0, wanted)).abs().max() < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_edge_on_behind_and_through_the_near_plane(backend: str) -> None:
    """Edge-on: a line at the depth of the centre. Behind: nothing. Through the near plane: its far part."""
    k, eye = torch.tensor([[100.0, 0, 20], [0, 100, 15], [0, 0, 1]]), torch.eye(4)
    turn = [math.cos(math.pi / 4), 0.0, math.sin(math.pi / 4), 0.0]
    edge = splat_surfels(*plain(0.9, turn), k, eye, WIDTH, HEIGHT, backend=backend)
    seen = edge.alpha > 0
    columns = torch.nonzero(seen)[:, 1]
    assert len(columns) > 0 and int(columns.min()) >= 17 and int(columns.max()) <= 23
    assert (edge.depth_mm[seen] - 50).abs().max() < 1e-3
    for z in (-50.0, 0.0, 1.0):
        assert not splat_surfels(*plain(z_mm=z), k, eye, WIDTH, HEIGHT, backend=backend).alpha.any()
    # A wall along the axis, 3 mm beside the camera and 8 mm to each side of its centre at a depth of 5 mm.
    wall = plain(1.0, turn, 5.0)
    wall[0][0, 0] = 3.0
    wall[2].fill_(8.0)
    render = splat_surfels(*wall, k, eye, WIDTH * 20, HEIGHT, near_mm=2.0, backend=backend)
    seen = render.alpha > 0
    assert seen.any()
    x = torch.arange(WIDTH * 20).expand(HEIGHT, -1)
    depth = 3.0 / ((x - 20) / 100)
    assert (render.depth_mm[seen] - depth[seen]).abs().max() < 1e-3
    assert render.depth_mm[seen].min() >= 2.0 - 1e-5
    assert not render.alpha[:, :21].any()
