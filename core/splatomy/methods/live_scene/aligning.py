"""How well a motion lays rendered points on a frame, and the equations of a better one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from splatomy.gaussians.recorded import Recorded
from splatomy.methods.live_scene.config import Config
from splatomy.methods.live_scene.frames import Float, Level

_WHOLE = 0.999
_DEPTH_SHARE = 0.1
"""Errors of depth are alike over whole regions: surfels flatten every hump. Those of texture are not."""
_SURROUNDINGS = 0.06
_DIMMEST = 0.02
_HUBER = 1.345
_WORST = 5.0
_OTHER_SURFACE = 10.0
FEWEST_PIXELS = 60
MOST_PIXELS = 5_000
_OUT_OF_SIGHT_MM = -1e4


@dataclass(frozen=True)
class Points:
    """Rendered pixels in the camera they were rendered for: (N, 3) mm, normals (N, 3), grey, texture (N,)."""

    points: Tensor
    normals: Tensor
    grey: Tensor
    texture: Tensor


@dataclass(frozen=True)
class Sampled:
    """What a frame shows where points fall, each (N,); slope, rays: (N, 2) and (N, 3)."""

    grey: Tensor
    texture: Tensor
    slope: Tensor
    depth: Tensor
    rays: Tensor
    valid: Tensor


@dataclass(frozen=True)
class Residuals:
    """Moved points and normals (N, 3), what is found there, and the errors of texture (N,)."""

    moved: Tensor
    found: Sampled
    normals: Tensor
    brightness: Tensor
    lit: Tensor


@dataclass(frozen=True)
class Target:
    """A level of a frame that points are projected into: maps (1, 5, h, w), depth (h, w), the intrinsics."""

    maps: Tensor
    depth: Tensor
    camera: tuple[float, float, float, float]

    @staticmethod
    def of(level: Level) -> Target:
        """The target that a level is."""
        # Nothing of an unusable pixel may enter, not even through its neighbours' slopes.
        good = level.usable.to(level.grey.dtype)
        shown = texture_of(level.grey, good)
        slope_x, slope_y = torch.zeros_like(shown), torch.zeros_like(shown)
        slope_x[:, 1:-1] = 0.5 * (shown[:, 2:] - shown[:, :-2]) * good[:, 2:] * good[:, :-2]
        slope_y[1:-1] = 0.5 * (shown[2:] - shown[:-2]) * good[2:] * good[:-2]
        k = level.intrinsics
        camera = float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])
        return Target(
            torch.stack([level.grey * good, shown, slope_x, slope_y, good])[None], level.depth, camera
        )

    def sample(self, points: Tensor) -> Sampled:
        """Brightness, its slopes and depth where points (N, 3) of the camera fall."""
        height, width = self.depth.shape
        fx, fy, cx, cy = self.camera
        z = points[:, 2].clamp_min(1e-3)
        x, y = fx * points[:, 0] / z + cx, fy * points[:, 1] / z + cy
        inside = (points[:, 2] > 1e-3) & (x >= 1) & (y >= 1) & (x <= width - 2) & (y <= height - 2)
        grid = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], -1)[None, None]
        found = grid_sample(self.maps, grid, align_corners=True)[0, :, 0]
        column = x.round().clamp(0, width - 1).long()
        row = y.round().clamp(0, height - 1).long()
        valid = inside & (found[4] > _WHOLE)
        # Interpolated over a step, depth would lie where nothing is.
        depth = torch.where(valid, self.depth[row, column], 0.0)
        rays = torch.stack([(column - cx) / fx, (row - cy) / fy, torch.ones_like(x)], 1)
        return Sampled(found[0], found[1], found[2:4].T, depth, rays, valid)


class Fit:
    """The sums over the points of one level that a step needs, recorded on a GPU.

    On a device each step is some seventy small kernels: to start them takes ten times as long as they do.
    """

    def __init__(self, device: torch.device) -> None:
        self._recorded = Recorded(self._work, device)
        self._fixed = device.type == "cuda"
        self._count = 0
        self._config = Config()
        self._points: Points | None = None
        self._target: Target | None = None
        self._told = torch.zeros(_LENGTH, device=device)

    def take(self, points: Points, target: Target, config: Config) -> None:
        """Takes the points and the level that the next motions are tried on."""
        self._config, self._count = config, len(points.points)
        if not self._fixed:
            self._points, self._target = points, target
            return
        # A recording reads what lies where it lay then.
        if self._target is None or self._points is None or _kind(self._target) != _kind(target):
            self._target = Target(target.maps.clone(), target.depth.clone(), target.camera)
            self._points = _padded(points)
            return
        self._target.maps.copy_(target.maps)
        self._target.depth.copy_(target.depth)
        new = _padded(points)
        for name in ("points", "normals", "texture"):
            getattr(self._points, name).copy_(getattr(new, name))

    def residuals(self, points: Points, motion: Float, light: tuple[float, float]) -> Residuals:
        """The residuals of points themselves; the level is that which was taken last."""
        if self._target is None:
            raise ValueError("there is no level yet")
        return _residuals(points, self._target, _place(motion, light).to(points.points.device))

    def solved_for(self, motion: Float, light: tuple[float, float]) -> tuple[Float, Float, int, float]:
        """The matrix (8, 8) and the right side (8,) of a step, the number of points, and the cost.

        A step: shift mm, turn rad, log gain, offset. The cost: mean robust errors of texture and depth;
        infinite without overlap.
        """
        place = _place(motion, light).to(self._told.device)
        if self._target is None:
            raise ValueError("there is no level yet")
        key = (_kind(self._target), self._config.depth_sigma, self._config.colour_sigma)
        self._recorded(key, {"place": place, "count": float(max(self._count, 1))})
        told = self._told.double().cpu().numpy()
        normal, right = np.split(told[:72].reshape(8, 9), [8], axis=1)
        added, added_right = np.split(told[72:114].reshape(6, 7), [6], axis=1)
        normal[:6, :6] += added
        right[:6] += added_right
        count = int(told[114])
        return normal, right[:, 0], count, float(told[115]) if count >= FEWEST_PIXELS else float("inf")

    def _work(self, given: Mapping[str, Tensor]) -> None:
        if self._points is None or self._target is None:
            raise ValueError("there is no level yet")
        r = _residuals(self._points, self._target, given["place"])
        texture, plane = _normal_equations(r, self._target.camera, self._config)
        cost = _cost(r, self._config, given["count"])
        count = r.found.valid.sum()
        # All that the host needs comes in one piece: to wait for a device costs more than the sums.
        self._told.copy_(torch.cat([texture.flatten(), plane.flatten(), torch.stack([count, cost])]))


_LENGTH = 8 * 9 + 6 * 7 + 2


def _kind(target: Target) -> tuple[object, ...]:
    return (*target.maps.shape, *target.camera)


def _padded(points: Points) -> Points:
    """The points with others that no camera sees, up to ``MOST_PIXELS``."""
    missing = MOST_PIXELS - len(points.points)
    away = points.points.new_zeros(missing, 3)
    away[:, 2] = _OUT_OF_SIGHT_MM
    nothing = torch.zeros_like(away)
    return Points(
        torch.cat([points.points, away]),
        torch.cat([points.normals, nothing]),
        points.grey,
        torch.cat([points.texture, nothing[:, 0]]),
    )


def _place(motion: Float, light: tuple[float, float]) -> Tensor:
    """A motion and an exposure as one tensor (14,)."""
    bright = float(np.exp(np.clip(light[0], -5, 5)))
    return torch.as_tensor(np.concatenate([motion[:3].ravel(), [bright, light[1]]]), dtype=torch.float32)


def _residuals(points: Points, target: Target, place: Tensor) -> Residuals:
    moving = place[:12].view(3, 4)
    turn = moving[:, :3]
    moved = points.points @ turn.T + moving[:, 3]
    found = target.sample(moved)
    lit = place[12] * points.texture
    return Residuals(moved, found, points.normals @ turn.T, found.texture - lit - place[13], lit)


def _cost(r: Residuals, config: Config, count: Tensor) -> Tensor:
    keep = r.found.valid
    deep = keep & (r.found.depth > 0)
    off = (r.found.depth - r.moved[:, 2]).abs() / (config.depth_sigma * r.moved[:, 2])
    cost = _mean_of((r.brightness.abs() / config.colour_sigma).clamp_max(_WORST), keep)
    cost = cost + _mean_of(off.clamp_max(_WORST), deep)
    # A pose that throws most of the map out of the picture must not win by the little that is left.
    return cost / (keep.sum() / count).clamp_min(0.05)


def _normal_equations(
    r: Residuals, camera: tuple[float, float, float, float], config: Config
) -> tuple[Tensor, Tensor]:
    """Matrix and right side of texture (8, 9) and of depth (6, 7), each beside the other."""
    (along, weight), (toward, sure, gap) = _along(r, camera, config), _toward(r, config)
    p, one = r.moved, torch.ones_like(gap)
    colour = torch.cat([along, torch.linalg.cross(p, along), -r.lit[:, None], -one[:, None]], 1)
    plane = torch.cat([toward, torch.linalg.cross(p, toward)], 1)
    texture = (colour * weight[:, None]).T @ torch.cat([colour, -r.brightness[:, None]], 1)
    return texture, (plane * sure[:, None]).T @ torch.cat([plane, -gap[:, None]], 1)


def _along(r: Residuals, camera: tuple[float, float, float, float], config: Config) -> tuple[Tensor, Tensor]:
    """How the texture under points changes with shifts, (N, 3) per mm, and the weights of errors (N,)."""
    p, z = r.moved, r.moved[:, 2].clamp_min(1e-3)
    gx, gy = r.found.slope[:, 0] * camera[0] / z, r.found.slope[:, 1] * camera[1] / z
    along = torch.stack([gx, gy, -(gx * p[:, 0] + gy * p[:, 1]) / z], 1)
    weight = torch.where(r.found.valid, _huber(r.brightness / config.colour_sigma), 0.0)
    return along, weight / config.colour_sigma**2


def _toward(r: Residuals, config: Config) -> tuple[Tensor, Tensor, Tensor]:
    """How the way to the seen surface changes as points shift, (N, 3), weights, and that way in mm, (N,)."""
    z = r.moved[:, 2].clamp_min(1e-3)
    sigma = config.depth_sigma * z
    gap = ((r.found.rays * r.found.depth[:, None] - r.moved) * r.normals).sum(1)
    # Beyond a few deviations it is another surface, not an error of this one.
    deep = r.found.valid & (r.found.depth > 0) & (gap.abs() < _OTHER_SURFACE * sigma)
    return -r.normals, torch.where(deep, _DEPTH_SHARE * _huber(gap / sigma) / sigma**2, 0.0), gap


def pulls_of(points: Points, target: Target, config: Config) -> tuple[Tensor, Tensor]:
    """How each point for itself is drawn to what a frame shows: the equations of its shift in the camera.

    Matrices (N, 3, 3) and right sides (N, 3).
    """
    found = target.sample(points.points)
    keep = found.valid
    # The contrast and offset that the camera's exposure makes of the map's texture.
    shown, told = points.texture, found.texture
    middle, mean = _mean_of(shown, keep), _mean_of(told, keep)
    contrast = _mean_of((shown - middle) * (told - mean), keep)
    contrast = contrast / _mean_of((shown - middle).square(), keep).clamp_min(1e-9)
    lit = contrast * shown
    r = Residuals(points.points, found, points.normals, told - mean - lit + contrast * middle, lit)
    (along, weight), (toward, sure, gap) = _along(r, target.camera, config), _toward(r, config)
    matrix = weight[:, None, None] * along[:, :, None] * along[:, None, :]
    matrix = matrix + sure[:, None, None] * toward[:, :, None] * toward[:, None, :]
    right = -(weight * r.brightness)[:, None] * along - (sure * gap)[:, None] * toward
    return matrix, right


def _mean_of(values: Tensor, chosen: Tensor) -> Tensor:
    """The mean of the chosen values; 0 of none."""
    return torch.where(chosen, values, 0.0).sum() / chosen.sum().clamp_min(1)


def _huber(error: Tensor) -> Tensor:
    return _HUBER / error.abs().clamp_min(_HUBER)


def texture_of(grey: Tensor, good: Tensor) -> Tensor:
    """Brightness (h, w) over that of its surroundings, less 1, halved; 0 where not ``good``.

    The lamp moves with the camera: how bright a place is depends on where it is seen from, and would pull
    the camera away. Its texture does not.
    """
    reach = max(2, round(_SURROUNDINGS * grey.shape[1]))
    stack = torch.stack([grey * good, good])[:, None]
    for _ in range(2):
        # One direction at a time: a square window costs its area for every pixel.
        stack = avg_pool2d(stack, (2 * reach + 1, 1), 1, (reach, 0))
        stack = avg_pool2d(stack, (1, 2 * reach + 1), 1, (0, reach))
    around = stack[0, 0] / stack[1, 0].clamp_min(1e-3)
    return 0.5 * (grey / around.clamp_min(_DIMMEST) - 1) * good
