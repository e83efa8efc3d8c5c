"""A few static views of one vessel tree (coronary or biplane runs): one frame of each, laid over another.

The heart moves, the runs are not simultaneous and the table may have moved between them, so each view
gives the frame in which its vessels are full and rest, and its detector is shifted until the views agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.filters import apply_hysteresis_threshold
from skimage.morphology import skeletonize

from splatomy.capture import Capture
from splatomy.events import Notice, Progress, Task
from splatomy.geometry.cameras import Cameras

Float = NDArray[np.float64]
Image = NDArray[np.float32]
# Standard deviations of vessels on a picture of that side; binned pictures show them narrower.
_WIDTHS_PX, _WIDTHS_IMAGE_PX = (1.5, 2.5, 4.0, 6.0), 512
# Ridge strengths of vessels, in medians of the positive ones, which are mostly background.
_LOW, _HIGH = 4.0, 10.0
_FULL_SHARE = 0.85
_POINTS = 160
_DEPTH_STEP_MM = 1.5
_REACH_MM = 70.0
_OUTSIDE_WEIGHT = 0.25
_TOLERANCE_PX = 5.0
_SETTLING = 3
_MIN_AGREEMENT = 0.15
# A shift of 100 px must bring a tenth more agreement: what the views leave open stays where it was.
_SHIFT_COST = 1e-5
_SEARCH = ((24.0, 24.0, 3), (16.0, 12.0, 2), (8.0, 6.0, 2), (5.0, 3.0, 2), (3.0, 1.5, 2), (3.0, 0.75, 1))
"""Tolerance px, step px and number of steps to each side, from coarse to fine."""


def ridges(image: Image) -> Image:
    """The strength (H, W) of bright lines: the largest curvature across, less that along, over the widths.

    Source: Frangi et al., MICCAI 1998 (Hessian at several scales); the difference in place of their ratio.
    """
    best = np.zeros(image.shape, np.float32)
    for width in _WIDTHS_PX:
        sigma = width * max(image.shape) / _WIDTHS_IMAGE_PX
        blurred = cv2.GaussianBlur(image, (0, 0), sigma)
        xx = cv2.Sobel(blurred, cv2.CV_32F, 2, 0, scale=1 / 4)
        yy = cv2.Sobel(blurred, cv2.CV_32F, 0, 2, scale=1 / 4)
        xy = cv2.Sobel(blurred, cv2.CV_32F, 1, 1, scale=1 / 4)
        mean, half = (xx + yy) / 2, np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
        best = np.maximum(best, sigma**2 * np.maximum(half - mean - np.abs(half + mean), 0))
    return best


def vessel_mask(image: Image, min_pixels: int = 60) -> NDArray[np.bool_]:
    """Where a subtracted picture (H, W) shows vessels: ridges that rise clearly somewhere."""
    strength = ridges(image)
    if not strength.any():
        return np.zeros(image.shape, bool)
    typical = float(np.median(strength[strength > 0]))
    found = apply_hysteresis_threshold(strength, _LOW * typical, _HIGH * typical)
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(found.astype(np.uint8), connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= min_pixels
    keep[0] = False
    return np.asarray(keep[pieces]) if count > 1 else np.zeros(image.shape, bool)


def vessels_alone(image: Image, mask: NDArray[np.bool_]) -> Image:
    """The picture's height over its surroundings inside the vessel mask and a thin rim, zero elsewhere."""
    near = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    outside = (~near).astype(np.float32)
    weight = cv2.GaussianBlur(outside, (0, 0), 12.0)
    ground = cv2.GaussianBlur(image * outside, (0, 0), 12.0) / np.maximum(weight, 1e-3)
    return np.where(near, np.maximum(image - ground, 0), np.float32(0)).astype(np.float32)


def resting_frames(images: Image, count: int = 3) -> list[int]:
    """The frames of a static run (T, H, W) that are full of contrast and change least, best first.

    The heart rests longest at the end of diastole; without an ECG the pictures themselves say when.
    """
    small = np.stack([cv2.resize(f, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA) for f in images])
    filling = np.array([float(np.percentile(ridges(f), 98)) for f in images])
    full = np.flatnonzero(filling >= _FULL_SHARE * filling.max())
    steps = np.abs(np.diff(small, axis=0)).mean((1, 2))
    change = np.r_[steps[:1], steps] + np.r_[steps, steps[-1:]] if len(images) > 1 else np.zeros(1)
    return [int(f) for f in full[np.argsort(change[full], kind="stable")][:count]]


@dataclass(frozen=True)
class _Silhouette:
    """One frame's vessels: mask (H, W), points (P, 2) px on their centrelines, distance (H, W) px to them."""

    frame: int
    mask: NDArray[np.bool_]
    points_px: Float
    distance_px: NDArray[Any]
    camera: Cameras

    @staticmethod
    def of(image: Image, frame: int, camera: Cameras) -> _Silhouette:
        mask = vessel_mask(image)
        line = np.argwhere(skeletonize(mask))[:, ::-1].astype(np.float64)
        chosen = np.linspace(0, len(line) - 1, min(_POINTS, len(line))).astype(int)
        distance: NDArray[Any] = np.full(mask.shape, np.float32(sum(mask.shape)))
        if mask.any():
            distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
        return _Silhouette(frame, mask, line[chosen], distance, camera)

    def moved(self, shift_px: Float) -> _Silhouette:
        """The same with the camera's detector shifted by (x, y) px."""
        return replace(self, camera=shifted(self.camera, shift_px))

    def seen_at(self, pixels: Float, tolerance_px: float) -> Float:
        """How near (..., 2) pixels are to a vessel, in [0, 1]; a fixed low value outside the picture."""
        height, width = self.mask.shape
        column, row = np.rint(pixels[..., 0]).astype(int), np.rint(pixels[..., 1]).astype(int)
        inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
        out = np.full(pixels.shape[:-1], _OUTSIDE_WEIGHT)
        out[inside] = np.exp(-0.5 * (self.distance_px[row[inside], column[inside]] / tolerance_px) ** 2)
        return out


def shifted(cameras: Cameras, shift_px: Float) -> Cameras:
    """The cameras with principal points moved by (x, y) px, (2,) or (N, 2)."""
    k = cameras.intrinsics.copy()
    k[:, :2, 2] += shift_px
    return replace(cameras, intrinsics=k)


def _along_rays(view: _Silhouette, points_px: Float) -> Float:
    """World points (P, D, 3) in mm on the rays of pixels (P, 2), about the isocentre."""
    middle = float(view.camera.camera_from_world[0, 2, 3])
    depths = middle + np.arange(-_REACH_MM, _REACH_MM + 1e-6, _DEPTH_STEP_MM)
    pixels = np.repeat(points_px, len(depths), axis=0)[None]
    points = view.camera.unproject(pixels, np.tile(depths, len(points_px))[None])
    return points.reshape(len(points_px), len(depths), 3)


def _pixels_of(view: _Silhouette, points_mm: Float) -> Float:
    return view.camera.project(points_mm.reshape(-1, 3))[0].reshape(*points_mm.shape[:-1], 2)


def _supported(views: list[_Silhouette], points_mm: Float, tolerance_px: float) -> Float:
    """How well all the views show a vessel at points (P, D, 3), (P, D) in [0, 1]."""
    seen = np.ones(points_mm.shape[:2])
    for view in views:
        seen *= view.seen_at(_pixels_of(view, points_mm), tolerance_px)
    return seen


def agreement(view: _Silhouette, others: list[_Silhouette], tolerance_px: float) -> float:
    """The share of a view's vessels for which one place in space lies on vessels of the others."""
    if not len(view.points_px) or not others:
        return 0.0
    return float(_supported(others, _along_rays(view, view.points_px), tolerance_px).max(1).mean())


def _fit(new: _Silhouette, fixed: list[_Silhouette], start_px: Float, levels: Iterable[int]) -> Task[Float]:
    """The detector shift (2,) px of ``new`` at which it and the fixed views agree best with each other."""
    shift = start_px.astype(np.float64)
    for level in levels:
        tolerance, step, reach = _SEARCH[level]
        sides = []
        for view in fixed:
            points = _along_rays(view, view.points_px)
            others = [v for v in fixed if v is not view]
            sides.append((_pixels_of(new, points), _supported(others, points, tolerance)))
        offsets = step * np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 2, indexing="ij"), -1)
        tried = shift + offsets.reshape(-1, 2)
        scores = []
        for n, candidate in enumerate(tried):
            score = agreement(new.moved(candidate), fixed, tolerance)
            score -= _SHIFT_COST * float(candidate @ candidate)
            for pixels, weight in sides:
                score += float((weight * new.seen_at(pixels + candidate, tolerance)).max(1).mean())
            scores.append(score)
            if n % 16 == 0:
                yield Progress("lay views", level, len(_SEARCH))
        shift = tried[int(np.argmax(scores))]
    return np.asarray(shift)


@dataclass(frozen=True)
class ChosenViews:
    """What was chosen of V views: frames (V,), shifts_px (V, 2) x, y, agreement (V,) in [0, 1]."""

    frames: NDArray[np.intp]
    shifts_px: Float
    agreement: Float
    masks: NDArray[np.bool_]


def lay_views(images: list[Image], cameras: list[Cameras]) -> Task[ChosenViews]:
    """One resting, well-filled frame of each static run (T, H, W), and detector shifts that make them agree.

    cameras: one (N = 1) per run. The best filled run keeps its place; the others join it one
    after the other, the next best first, each with whichever of its resting frames agrees best.
    A run's unknown table position enters as a shift of its detector, which leaves its depth as it was.

    Source: ours.
    """
    candidates: list[list[_Silhouette]] = []
    for run, camera in zip(images, cameras, strict=True):
        candidates.append([_Silhouette.of(run[f], f, camera) for f in resting_frames(run)])
        yield Progress("find vessels", len(candidates), len(images))
    filling = [
        float(np.percentile(ridges(r[c[0].frame]), 98)) for r, c in zip(images, candidates, strict=True)
    ]
    order = [int(n) for n in np.argsort(-np.array(filling), kind="stable")]
    plain = {order[0]: candidates[order[0]][0]}
    shifts = np.zeros((len(images), 2))
    for count, number in enumerate(order[1:], start=1):
        fixed = [view.moved(shifts[n]) for n, view in plain.items()][:_SETTLING]
        best = (-1.0, np.zeros(2), candidates[number][0])
        # A pair leaves its shift along the epipolar lines open, so nothing moves before there are three.
        for silhouette in candidates[number] if count > 1 or len(order) == 2 else ():
            shift = yield from _fit(silhouette, fixed, np.zeros(2), range(3))
            score = agreement(silhouette.moved(shift), fixed, _TOLERANCE_PX)
            if score > best[0]:
                best = (score, shift, silhouette)
        plain[number], shifts[number] = best[2], best[1]
        if count == 1 and len(order) > 2:
            continue
        # The best three settle each other; a poorly filled further view must not drag them along.
        moving = order[1:_SETTLING] if count < _SETTLING else [number]
        for level in (level for level in range(len(_SEARCH)) for _ in range(2)):
            for n in moving:
                others = [plain[m].moved(shifts[m]) for m in order[:_SETTLING] if m != n and m in plain]
                shifts[n] = yield from _fit(plain[n], others, shifts[n], (level,))
    views = [plain[n].moved(shifts[n]) for n in range(len(images))]
    settled = order[:_SETTLING]
    agreed = [
        agreement(views[n], [views[m] for m in settled if m != n], _TOLERANCE_PX) for n in range(len(images))
    ]
    frames = np.array([v.frame for v in views], dtype=np.intp)
    return ChosenViews(frames, shifts, np.array(agreed), np.stack([v.mask for v in views]))


def directions_of(cameras: Cameras) -> NDArray[np.intp]:
    """The number (N,) of each camera's viewing direction; directions within a degree are one."""
    axes = cameras.camera_from_world[:, 2, :3]
    found: list[int] = []
    out = np.zeros(len(cameras), np.intp)
    for n, axis in enumerate(axes):
        near = [i for i, first in enumerate(found) if axis @ axes[first] > np.cos(np.radians(1.0))]
        out[n] = near[0] if near else len(found)
        if not near:
            found.append(n)
    return out


def are_static_views(cameras: Cameras | None, frames_per_view: tuple[int, ...]) -> bool:
    """True when every run of the input was taken from one direction."""
    if cameras is None or sum(frames_per_view) != len(cameras) or min(frames_per_view, default=0) < 2:
        return False
    starts = np.cumsum([0, *frames_per_view])
    return all(directions_of(cameras[slice(int(a), int(b))]).max() == 0 for a, b in pairwise(starts))


def static_views(capture: Capture, frames_per_view: tuple[int, ...]) -> Task[Capture]:
    """Static runs as what can be reconstructed of them: pictures of the vessels alone.

    Several runs become one picture each, of vessels at rest, on cameras that agree; one run keeps its
    frames. What lies outside the vessels is set to zero: the heart's motion leaves more there than
    contrast. ``details`` gets ``image_curves``, the mean line integral in each run's vessels over
    time, and ``given_target``, the vessel masks that came with the input, or None; ``target`` holds the
    masks found here.
    """
    if capture.cameras is None:
        raise ValueError("static_views needs cameras")
    starts = np.cumsum([0, *frames_per_view])[:-1]
    runs = [capture.images[s : s + n, ..., 0] for s, n in zip(starts, frames_per_view, strict=True)]
    if len(runs) == 1:
        return (yield from _one_run(capture))
    chosen = yield from lay_views(runs, [capture.cameras[int(s)] for s in starts])
    picked = capture.frames(starts + chosen.frames)
    if picked.cameras is None:
        raise ValueError("static_views needs cameras")
    pictures = [vessels_alone(i[..., 0], m) for i, m in zip(picked.images, chosen.masks, strict=True)]
    agrees = chosen.agreement >= _MIN_AGREEMENT
    text = "; ".join(
        f"view {n}: frame {f}, detector shifted by {x:.1f}, {y:.1f} px, {100 * a:.0f} % of its vessels found "
        f"in the others{'' if a >= _MIN_AGREEMENT else ', too few: not used'}"
        for n, (f, (x, y), a) in enumerate(
            zip(chosen.frames, chosen.shifts_px, chosen.agreement, strict=True)
        )
    )
    problem = (
        "The views were not taken at the same time and the heart moves, so one full, resting frame of each "
        f"stands for it and the result is a rough cloud, no measurement ({text})."
    )
    yield Notice("warning", "rough-views", problem)
    unused = np.broadcast_to(~agrees[:, None, None], chosen.masks.shape)
    curves = [
        (f"view {n}", capture.times_s[s : s + len(run)].tolist(), run[:, mask].mean(1).tolist())
        for n, (s, run, mask) in enumerate(zip(starts, runs, chosen.masks, strict=True))
    ]
    return picked.prepared(
        "one resting frame per view; detectors shifted until views agree; background outside vessels zero",
        images=np.stack(pictures)[..., None],
        times_s=np.zeros(len(pictures)),
        cameras=shifted(picked.cameras, np.where(agrees[:, None], chosen.shifts_px, 0.0)),
        occluded=np.array(unused),
        target=chosen.masks,
        problems=(*capture.problems, problem),
        details={
            **capture.details,
            "given_target": picked.target,
            "view_frames": chosen.frames.tolist(),
            "view_shifts_px": chosen.shifts_px.round(2).tolist(),
            "view_agreement": chosen.agreement.round(3).tolist(),
            "image_curves": curves,
        },
    )


def _one_run(capture: Capture) -> Task[Capture]:
    """A single static run: every frame's vessels alone."""
    images = capture.images[..., 0]
    masks, pictures = np.zeros(images.shape, bool), np.zeros_like(images)
    for t, image in enumerate(images):
        masks[t] = vessel_mask(image)
        pictures[t] = vessels_alone(image, masks[t])
        yield Progress("find vessels", t + 1, len(images))
    problem = (
        "All frames share one viewing direction: the vessels are laid into the plane through the isocentre, "
        "so their course over time is measured but depth and lengths along the view are not."
    )
    yield Notice("warning", "one-direction", problem)
    filled = masks.mean(0) > 0.25
    peak = images.max(0)
    rows, columns = np.nonzero(filled)
    curves = []
    if len(rows):
        curves.append(("mean of all vessels", capture.times_s.tolist(), images[:, filled].mean(1).tolist()))
    rank = np.argsort(peak[filled], kind="stable")
    for name, share in (("strongest vessel", 0.99), ("typical vessel", 0.5)):
        if len(rank):
            n = rank[int(share * (len(rank) - 1))]
            box = images[:, max(rows[n] - 1, 0) : rows[n] + 2, max(columns[n] - 1, 0) : columns[n] + 2]
            place = f"{name} (column {columns[n]}, row {rows[n]})"
            curves.append((place, capture.times_s.tolist(), box.mean((1, 2)).tolist()))
    return capture.prepared(
        "background outside vessels zero",
        images=pictures[..., None],
        target=masks,
        problems=(*capture.problems, problem),
        details={**capture.details, "given_target": capture.target, "image_curves": curves},
    )
