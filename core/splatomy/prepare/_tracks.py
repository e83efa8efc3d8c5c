"""Points of the tissue followed through a clip, and how far a rigid motion explains them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.capture import Capture
from splatomy.events import Progress, Task
from splatomy.prepare._self_rectify import grey_codes
from splatomy.prepare._stereo import highlights

Float = NDArray[np.float64]
Image = NDArray[np.float32]
Bool = NDArray[np.bool_]

_WORK_WIDTH_PX = 640
_ALIVE = 400
_RETURN_PX = 0.7
_WINDOW_PX = 21


@dataclass(frozen=True)
class Tracks:
    """Followed points: pixels (P, T, 2) of the capture's pictures, NaN where a point is not seen."""

    pixels: Float

    @property
    def seen(self) -> Bool:
        """(P, T)."""
        return np.isfinite(self.pixels[..., 0])

    def common(self, first: int, second: int) -> NDArray[np.int64]:
        """Numbers of the points seen in both frames."""
        return np.flatnonzero(self.seen[:, first] & self.seen[:, second])


def _usable(picture: Image, hidden: Bool | None) -> NDArray[np.uint8]:
    """Where points may be followed: 255 on visible tissue away from instruments and highlights."""
    blocked = highlights(picture)
    if hidden is not None:
        rim = max(3, round(hidden.shape[1] / 64)) | 1
        blocked |= cv2.dilate(hidden.astype(np.uint8), np.ones((rim, rim), np.uint8)) > 0
    return np.where(blocked, 0, 255).astype(np.uint8)


def _followed(first: NDArray[np.uint8], second: NDArray[np.uint8], points: Image) -> tuple[Image, Bool]:
    """Where points (N, 2) are in the second picture, and which came back to their start (N,)."""
    # The library makes its own outputs when given none, which its type hints do not say.
    tracker: Any = cv2.calcOpticalFlowPyrLK
    options = {"winSize": (_WINDOW_PX, _WINDOW_PX), "maxLevel": 4}
    ahead, good, _ = tracker(first, second, points[:, None], None, **options)
    back, returned, _ = tracker(second, first, ahead, None, **options)
    kept = (good.ravel() > 0) & (returned.ravel() > 0)
    kept &= np.linalg.norm(back[:, 0] - points, axis=1) < _RETURN_PX
    return ahead[:, 0], kept


def follow(capture: Capture) -> Task[Tracks]:
    """Corners of the visible tissue, followed from frame to frame and topped up where they are lost.

    Source: Shi and Tomasi, CVPR 1994; Lucas and Kanade, IJCAI 1981, in both directions.
    """
    frames, height, width, _ = capture.images.shape
    factor = min(1.0, _WORK_WIDTH_PX / width)
    size = (round(width * factor), round(height * factor))
    # With pixel centres at integers, shrinking moves the corner at -1/2, not the first centre.
    scale = np.array([width / size[0], height / size[1]])
    apart = max(5, round(0.018 * size[0]))
    columns: list[Float] = []
    points, numbers = np.zeros((0, 2), np.float32), np.zeros(0, np.int64)
    total = 0
    before: NDArray[np.uint8] | None = None
    for t in range(frames):
        picture = np.asarray(capture.images[t], np.float32)
        hidden = None if capture.occluded is None else np.asarray(capture.occluded[t])
        if factor < 1:
            picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.float32)
            if hidden is not None:
                hidden = cv2.resize(hidden.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        codes, allowed = grey_codes(picture), _usable(picture, hidden)
        if before is not None and len(points):
            moved, kept = _followed(before, codes, points)
            x, y = np.rint(moved).astype(int).T
            inside = (x >= 2) & (y >= 2) & (x < size[0] - 2) & (y < size[1] - 2)
            kept &= inside & (allowed[np.clip(y, 0, size[1] - 1), np.clip(x, 0, size[0] - 1)] > 0)
            points, numbers = moved[kept], numbers[kept]
        if len(points) < 0.8 * _ALIVE:
            free = allowed.copy()
            for x, y in np.rint(points).astype(int).tolist():
                cv2.circle(free, (x, y), apart, 0, -1)
            fresh = cv2.goodFeaturesToTrack(codes, _ALIVE - len(points), 0.01, apart, mask=free)
            if fresh is not None:
                points = np.concatenate([points, fresh[:, 0]]).astype(np.float32)
                numbers = np.concatenate([numbers, total + np.arange(len(fresh))])
                total += len(fresh)
        columns.append(np.concatenate([numbers[:, None], (points + 0.5) * scale - 0.5], 1))
        before = codes
        yield Progress("follow points", t + 1, frames)
    pixels = np.full((total, frames, 2), np.nan)
    for t, column in enumerate(columns):
        pixels[column[:, 0].astype(int), t] = column[:, 1:]
    return Tracks(pixels)


@dataclass(frozen=True)
class RigidFit:
    """How well one rigid motion explains the points of two frames.

    moved_px: median displacement. residual_px: median misfit of the rigid motion. inliers: share within
    the tolerance. points: their number.
    """

    moved_px: float
    residual_px: float
    inliers: float
    points: int


def rigid_fit(first_px: Float, second_px: Float, intrinsics: Float, depth: Float | None) -> RigidFit:
    """The fit of the best essential matrix, or with depth (N,) at the first pixels of the best pose.

    Source: five-point algorithm (Nister, TPAMI 2004) and P3P in MAGSAC; distances as in Sampson.
    """
    moved = float(np.median(np.linalg.norm(second_px - first_px, axis=1)))
    tolerance = max(1.0, 0.08 * moved)
    if depth is None:
        matrix, _ = cv2.findEssentialMat(
            first_px, second_px, intrinsics, cv2.USAC_MAGSAC, 0.999, tolerance, 2000
        )
        if matrix is None or matrix.shape != (3, 3):
            return RigidFit(moved, moved, 0.0, len(first_px))
        inverse = np.linalg.inv(intrinsics)
        fundamental = inverse.T @ matrix @ inverse
        a = np.pad(first_px, ((0, 0), (0, 1)), constant_values=1)
        b = np.pad(second_px, ((0, 0), (0, 1)), constant_values=1)
        lines, back = a @ fundamental.T, b @ fundamental
        away = np.abs((b * lines).sum(1)) / np.sqrt((lines[:, :2] ** 2).sum(1) + (back[:, :2] ** 2).sum(1))
    else:
        rays = np.pad(first_px, ((0, 0), (0, 1)), constant_values=1) @ np.linalg.inv(intrinsics).T
        world = rays * depth[:, None]
        found, turn, shift, _ = cv2.solvePnPRansac(
            world, second_px, intrinsics, None, iterationsCount=300, reprojectionError=tolerance
        )
        if not found:
            return RigidFit(moved, moved, 0.0, len(first_px))
        shown, _ = cv2.projectPoints(world, turn, shift, intrinsics, None)
        away = np.linalg.norm(shown[:, 0] - second_px, axis=1)
    return RigidFit(moved, float(np.median(away)), float((away < tolerance).mean()), len(first_px))
