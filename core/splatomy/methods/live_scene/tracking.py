"""Where the camera is: each frame against the rendered map, coarse to fine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from splatomy.geometry.rigid import rigid, rotation_from_vector
from splatomy.methods.live_scene.aligning import FEWEST_PIXELS, MOST_PIXELS, Fit, Points, Target, texture_of
from splatomy.methods.live_scene.config import Config
from splatomy.methods.live_scene.frames import GREY, Float, Level

_SOLID = 0.9
_WHOLE = 0.999
_LEAST_TEXTURE = 0.01
_ITERATIONS = (10, 6, 5)
"""From the coarsest picture to the finest."""
_CONVERGED = 3e-4
_INLIER = 3.0
_STEADY_GAIN, _STEADY_OFFSET = 0.05, 1.0
"""Pull of contrast and offset to none, in shares of what the picture tells of them."""


@dataclass(frozen=True)
class View:
    """The map as a camera sees it: colour (h, w, 3), alpha, depth (h, w) mm; 0 = nothing."""

    colour: Tensor
    alpha: Tensor
    depth: Tensor


@dataclass(frozen=True)
class Found:
    """A pose and how well it explains the frame.

    inliers: share of the compared pixels whose texture and depth agree. likeness: correlation of the frame's
    texture with the map's, 1 where the map has none to tell places apart by. coverage: share of the usable
    pixels that the map covers. residual: median depth error over its expectation. gain: of the frame's
    brightness against the map's.
    """

    camera_from_world: Float
    inliers: float
    likeness: float
    coverage: float
    residual: float
    gain: float


class Tracker:
    """Finds poses; holds no state of the map."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._fits: dict[int, Fit] = {}

    def _fit(self, level: Level) -> Fit:
        """What motions are tried with on levels of a size: made once, since a recording is kept there."""
        return self._fits.setdefault(level.factor, Fit(level.grey.device))

    def track(
        self,
        view: View,
        seen_from: Float,
        levels: Sequence[Level],
        starts: Sequence[Float],
        prior: Float | None = None,
    ) -> Found:
        """The pose of a frame.

        view: the map as seen from ``seen_from`` (4, 4) at the size of the finest level. levels: the frame,
        the coarsest first. starts: poses to try; the one that explains the coarsest picture best is taken on.

        Source: direct alignment, Gauss-Newton on brightness and point-to-plane depth together with gain and
        offset of the exposure (Kerl et al., IROS 2013; Endo-2DTAM for the plane term), against the map as in
        EndoGSLAM; Huber weights from the sheet online-incremental, 4.2.
        """
        typical = _typical(view, levels[-1])
        finest = levels[-1].factor
        sets = [points_of(view, level, level.factor // finest) for level in levels]
        fits = [self._fit(level) for level in levels]
        for fit, points, level in zip(fits, sets, levels, strict=True):
            fit.take(points, Target.of(level), self.config)
        inverse = np.linalg.inv(seen_from)
        trials = [np.asarray(start @ inverse) for start in starts]
        trials.append(_shift_between(view, levels[0], levels[0].factor // finest, typical))
        motion = trials[0]
        if len(trials) > 1:
            costs = [fits[0].solved_for(trial, (0.0, 0.0))[-1] for trial in trials]
            motion = trials[int(np.argmin(costs))]
        wanted = None if prior is None else prior @ inverse
        light = (0.0, 0.0)
        for n, fit in enumerate(fits):
            rounds = _ITERATIONS[min(n, len(_ITERATIONS) - 1)]
            motion, light = self._aligned(fit, motion, light, rounds, typical, wanted)
        inliers, likeness, residual, gain = self._agreement(fits[-1], sets[-1], motion, light)
        wide = levels[-1].usable
        covered = (view.alpha[: wide.shape[0], : wide.shape[1]] > _SOLID) & wide
        coverage = float(covered.sum()) / max(float(wide.sum()), 1.0)
        pose = _orthonormal(motion @ seen_from)
        return Found(pose, inliers, likeness, coverage, residual, gain)

    def judged(self, view: View, pose: Float, level: Level) -> Found:
        """A pose that was given, the view being the map as seen from it, with the exposure of the frame."""
        points, fit = points_of(view, level, 1), self._fit(level)
        fit.take(points, Target.of(level), self.config)
        inliers, likeness, residual, gain = self._agreement(fit, points, np.eye(4), (0.0, 0.0))
        covered = (view.alpha > _SOLID) & level.usable
        coverage = float(covered.sum()) / max(float(level.usable.sum()), 1.0)
        return Found(pose, inliers, likeness, coverage, residual, gain)

    def _aligned(
        self,
        fit: Fit,
        motion: Float,
        light: tuple[float, float],
        rounds: int,
        typical: float,
        wanted: Float | None,
    ) -> tuple[Float, tuple[float, float]]:
        config = self.config
        scale = np.array([1 / typical] * 3 + [1.0] * 3 + [1.0, 1.0])
        for _ in range(rounds):
            normal, right, count, _ = fit.solved_for(motion, light)
            if count < FEWEST_PIXELS:
                return motion, light
            # A blurred map has less contrast, and nothing else tells the two pictures' textures apart.
            for row, share in ((6, _STEADY_GAIN), (7, _STEADY_OFFSET)):
                pull = share * normal[row, row]
                normal[row, row] += pull
                right[row] -= pull * light[row - 6]
            if wanted is not None and config.prior_weight > 0:
                normal, right = _with_prior(normal, right, motion, wanted, typical, config, count)
            scaled = normal / np.outer(scale, scale)
            step = np.linalg.solve(scaled + 1e-6 * np.diag(np.diag(scaled)) + 1e-6 * np.eye(8), right / scale)
            step = np.asarray(step / scale)
            if not np.isfinite(step).all():
                return motion, light
            motion = rigid(rotation_from_vector(step[3:6]), step[:3]) @ motion
            light = (light[0] + float(step[6]), light[1] + float(step[7]))
            if np.abs(step[:3]).max() / typical < _CONVERGED and np.abs(step[3:6]).max() < _CONVERGED:
                break
        return motion, light

    def _agreement(
        self, fit: Fit, points: Points, motion: Float, light: tuple[float, float]
    ) -> tuple[float, float, float, float]:
        """Inliers, likeness, residual and gain, as ``Found`` has them."""
        r = fit.residuals(points, motion, light)
        keep = r.found.valid
        if int(keep.sum()) < FEWEST_PIXELS:
            return 0.0, 0.0, float("inf"), 1.0
        good = r.brightness.abs() < _INLIER * self.config.colour_sigma
        deep = keep & (r.found.depth > 0)
        residual = 0.0
        if deep.any():
            off = (r.found.depth - r.moved[:, 2]).abs() / (self.config.depth_sigma * r.moved[:, 2])
            good &= ~deep | (off < _INLIER)
            residual = float(off[deep].median())
        gain = r.found.grey[keep].median() / points.grey[keep].median().clamp_min(1e-3)
        shown, wanted = r.found.texture[keep], points.texture[keep]
        power = float(wanted.square().mean())
        likeness = 1.0
        if power > _LEAST_TEXTURE**2:
            other = float(shown.square().mean())
            likeness = float((shown * wanted).mean()) / max((power * other) ** 0.5, 1e-9)
        return float(good[keep].float().mean()), likeness, residual, float(gain.clamp(0.01, 100))


def _with_prior(
    normal: Float, right: Float, motion: Float, wanted: Float, typical: float, config: Config, count: int
) -> tuple[Float, Float]:
    """The equations with a pull towards a given motion, as strong as ``prior_weight`` of all pixels."""
    away = wanted @ np.linalg.inv(motion)
    turn = 0.5 * np.array([away[2, 1] - away[1, 2], away[0, 2] - away[2, 0], away[1, 0] - away[0, 1]])
    miss = np.concatenate([away[:3, 3], turn])
    sigma = np.array([config.depth_sigma * typical] * 3 + [config.depth_sigma] * 3)
    pull = config.prior_weight * 0.01 * count / sigma**2
    normal = normal.copy()
    normal[:6, :6] += np.diag(pull)
    return normal, np.concatenate([right[:6] + pull * miss, right[6:]])


def _shift_between(view: View, level: Level, factor: int, typical: float) -> Float:
    """The sideways motion (4, 4) that lays the view's texture on that of a level: a start for wide steps.

    Source: phase correlation (Kuglin and Hines 1975).
    """
    grey = (view.colour * torch.tensor(GREY, device=view.colour.device)).sum(2)
    stack = torch.stack([grey, (view.alpha > _SOLID).to(grey.dtype)])[:, None]
    grey, share = avg_pool2d(stack, factor)[:, 0] if factor > 1 else stack[:, 0]
    height, width = (min(a, b) for a, b in zip(grey.shape, level.grey.shape, strict=True))
    seen = texture_of(grey, (share > _WHOLE).to(grey.dtype))[:height, :width]
    shown = texture_of(level.grey, level.usable.to(grey.dtype))[:height, :width]
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    first, second = (np.ascontiguousarray(t.float().cpu().numpy()) for t in (seen, shown))
    (right, down), _ = cv2.phaseCorrelate(first, second, window)
    k = level.intrinsics
    out = np.eye(4)
    out[:2, 3] = right * typical / float(k[0, 0]), down * typical / float(k[1, 1])
    return out if np.isfinite(out).all() else np.eye(4)


def _typical(view: View, level: Level) -> float:
    known = view.depth[view.alpha > _SOLID]
    if not len(known):
        known = level.depth[level.depth > 0]
    return float(known.median()) if len(known) else 1.0


def points_of(view: View, level: Level, factor: int, most: int = MOST_PIXELS) -> Points:
    """The view's solid pixels, binned by ``factor``, as points with normals; at most ``most``."""
    colour, alpha, depth = view.colour, view.alpha, view.depth
    solid = ((alpha > _SOLID) & (depth > 0)).float()
    grey = (colour * torch.tensor(GREY, device=colour.device)).sum(2)
    if factor > 1:
        stack = torch.stack([grey, solid, depth * solid])[:, None]
        grey, share, depth = avg_pool2d(stack, factor)[:, 0]
        solid = (share > _WHOLE).float()
    height, width = grey.shape
    k = level.intrinsics
    x = (torch.arange(width, device=grey.device) - float(k[0, 2])) / float(k[0, 0])
    y = (torch.arange(height, device=grey.device) - float(k[1, 2])) / float(k[1, 1])
    points = torch.stack([x * depth, y[:, None] * depth, depth], 2)
    across, down = torch.zeros_like(points), torch.zeros_like(points)
    across[:, 1:-1] = points[:, 2:] - points[:, :-2]
    down[1:-1] = points[2:] - points[:-2]
    normal = torch.linalg.cross(down, across)
    size = normal.norm(dim=2)
    keep = (solid > 0) & (size > 0)
    keep[0], keep[-1], keep[:, 0], keep[:, -1] = False, False, False, False
    whole = keep.clone()
    whole[1:-1, 1:-1] = keep[1:-1, 1:-1] & keep[:-2, 1:-1] & keep[2:, 1:-1] & keep[1:-1, :-2] & keep[1:-1, 2:]
    chosen = whole.flatten().nonzero()[:, 0]
    if len(chosen) > most:
        chosen = chosen[:: -(-len(chosen) // most)]
    unit = normal / size.clamp_min(1e-12)[..., None]
    shown = texture_of(grey, solid)
    return Points(
        points.reshape(-1, 3)[chosen],
        unit.reshape(-1, 3)[chosen],
        grey.flatten()[chosen],
        shown.flatten()[chosen],
    )


def _orthonormal(pose: Float) -> Float:
    u, _, v = np.linalg.svd(pose[:3, :3])
    return rigid(u @ v, pose[:3, 3])
