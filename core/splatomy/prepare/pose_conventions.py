"""Do the camera poses of an image set fit its pictures, or do they with other axes or the other way round?

Points that two pictures share must lie on each other's epipolar lines and before both cameras. A set whose
poses were read in the wrong convention fails that test, and passes it in the right one.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.capture import Capture
from splatomy.errors import InputError
from splatomy.events import Notice, Progress, Task
from splatomy.geometry.cameras import Cameras
from splatomy.geometry.rigid import inverse

Float = NDArray[np.float64]

AS_READ = "as they were read"
_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
_LONGEST_SIDE_PX = 640
_MOST_PAIRS, _MOST_FEATURES = 14, 1500
_RATIO = 0.8
_ERROR_PX = 2.0
"""At the size that is looked at."""
_FEWEST_AGREE, _BETTER, _MANY = 40, 3.0, 400


@dataclass(frozen=True)
class PoseCheck:
    """How many of ``matches`` shared points each reading of the poses explains.

    Many matches between distant views are false, so readings are compared with each other, not with all.
    """

    agree: dict[str, int]
    matches: int

    @property
    def best_other(self) -> str:
        """The reading, other than the given one, that explains most."""
        others = {name: count for name, count in self.agree.items() if name != AS_READ}
        return max(others, key=lambda name: others[name])

    @property
    def is_wrong(self) -> bool:
        """True if another reading explains the pictures and the given one does not."""
        other = self.agree[self.best_other]
        return other >= _FEWEST_AGREE and other > _BETTER * self.agree[AS_READ]

    @property
    def is_sure(self) -> bool:
        """True if the poses explain the pictures as they were read, and in no other way."""
        own = self.agree[AS_READ]
        return own >= _FEWEST_AGREE and own > _BETTER * self.agree[self.best_other]


def check_poses(capture: Capture) -> Task[PoseCheck]:
    """How well each reading of the capture's poses explains its pictures."""
    cameras = capture.cameras
    if cameras is None:
        raise ValueError("there are no poses to check")
    readings = _readings(cameras.camera_from_world)
    scale = min(1.0, _LONGEST_SIDE_PX / max(cameras.width_px, cameras.height_px))
    pairs = _pairs(cameras)
    features: dict[int, tuple[Float, NDArray[np.float32] | None]] = {}
    explained = dict.fromkeys(readings, 0)
    total = 0
    for step, (first, second) in enumerate(pairs):
        for view in (first, second):
            if view not in features:
                features[view] = _features(capture, view, scale)
        p, q = _matches(features[first], features[second])
        total += len(p)
        if len(p):
            k = cameras.intrinsics
            for name, poses in readings.items():
                fits = _explained(p, q, k[first], k[second], poses[first], poses[second], _ERROR_PX / scale)
                explained[name] += int(fits.sum())
        yield Progress("check poses", step + 1, len(pairs))
    return PoseCheck(explained, total)


def checked_poses(capture: Capture) -> Task[Capture]:
    """The capture, once its poses were compared with its pictures.

    Raises:
        InputError: they fit the pictures only in another convention.
    """
    check = yield from check_poses(capture)
    own = f"{check.agree[AS_READ]} of {check.matches} shared points"
    if check.is_wrong:
        other = check.best_other
        raise InputError(
            f"The camera poses do not fit the pictures {AS_READ} ({own} agree), but they do {other} "
            f"({check.agree[other]} agree): give --poses-convention opencv or opengl, or invert the matrices."
        )
    if check.is_sure:
        yield Notice("info", "poses-checked", f"The camera poses fit the pictures ({own} agree).")
    elif check.matches >= _MANY:
        text = f"The camera poses explain only {own}; the result will be poor where they are wrong."
        yield Notice("warning", "poses-doubtful", text)
    else:
        text = f"The poses could not be checked: the pictures share too few points ({check.matches})."
        yield Notice("info", "poses-unchecked", text)
    return capture.prepared("poses compared with the pictures")


def _readings(camera_from_world: Float) -> dict[str, Float]:
    """Every way in which the same numbers may have been meant, as camera_from_world (T, 4, 4)."""
    back = inverse(camera_from_world)
    return {
        AS_READ: camera_from_world,
        "with the other axes (opengl instead of opencv or the reverse)": _FLIP @ camera_from_world,
        "inverted (camera-to-world instead of world-to-camera or the reverse)": back,
        "inverted and with the other axes": _FLIP @ back,
    }


def _pairs(cameras: Cameras) -> list[tuple[int, int]]:
    """Views that lie near each other in the given reading or in the inverted one, spread over the set."""
    count = len(cameras)
    pairs = set()
    for centres in (cameras.centres_mm, cameras.camera_from_world[:, :3, 3]):
        apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
        np.fill_diagonal(apart, np.inf)
        # Views from one place show no parallax and tell nothing.
        apart[apart < 1e-6 * np.median(apart)] = np.inf
        for first in np.unique(np.linspace(0, count - 1, _MOST_PAIRS).astype(int)).tolist():
            second = int(apart[first].argmin())
            if np.isfinite(apart[first, second]):
                pairs.add((min(first, second), max(first, second)))
    return sorted(pairs)


def _features(capture: Capture, view: int, scale: float) -> tuple[Float, NDArray[np.float32] | None]:
    """Points (N, 2) in the picture's own pixels and their descriptors."""
    codes = (np.asarray(capture.images[view]) * 255).astype(np.uint8)
    grey = cv2.cvtColor(codes, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    mask = None
    if capture.occluded is not None:
        shown = (~np.asarray(capture.occluded[view])).astype(np.uint8)
        mask = cv2.resize(shown, small.shape[::-1], interpolation=cv2.INTER_NEAREST)
    keys, words = cv2.SIFT.create(_MOST_FEATURES).detectAndCompute(small, mask)
    points = np.array([key.pt for key in keys], dtype=np.float64).reshape(-1, 2)
    return (points + 0.5) / scale - 0.5, None if words is None else np.asarray(words, np.float32)


def _matches(
    first: tuple[Float, NDArray[np.float32] | None], second: tuple[Float, NDArray[np.float32] | None]
) -> tuple[Float, Float]:
    """Pixels (M, 2) of points that two pictures share."""
    none = np.zeros((0, 2))
    if first[1] is None or second[1] is None or len(second[1]) < 2:
        return none, none
    kept = [
        (m[0].queryIdx, m[0].trainIdx)
        for m in cv2.BFMatcher().knnMatch(first[1], second[1], k=2)
        if len(m) == 2 and m[0].distance < _RATIO * m[1].distance
    ]
    if not kept:
        return none, none
    i, j = np.array(kept).T
    return first[0][i], second[0][j]


def _explained(
    p: Float, q: Float, k_first: Float, k_second: Float, first: Float, second: Float, error_px: float
) -> NDArray[np.bool_]:
    """(M,) points that lie on both epipolar lines and before both cameras."""
    relative = second @ inverse(first)
    rotation, t = relative[:3, :3], relative[:3, 3]
    if np.linalg.norm(t) < 1e-12:
        return np.zeros(len(p), np.bool_)
    cross = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    fundamental = np.linalg.inv(k_second).T @ cross @ rotation @ np.linalg.inv(k_first)
    ph, qh = (np.concatenate([x, np.ones((len(x), 1))], 1) for x in (p, q))
    line_q, line_p = ph @ fundamental.T, qh @ fundamental
    residual = (qh * line_q).sum(1)
    slope = (line_q[:, :2] ** 2).sum(1) + (line_p[:, :2] ** 2).sum(1)
    near = np.abs(residual) < error_px * np.sqrt(slope / 2).clip(1e-12)
    ray_p, ray_q = ph @ np.linalg.inv(k_first).T, qh @ np.linalg.inv(k_second).T
    # depth_q ray_q = depth_p R ray_p + t, in the sense of least squares.
    a, b = ray_p @ rotation.T, -ray_q
    aa, bb, ab = (a * a).sum(1), (b * b).sum(1), (a * b).sum(1)
    at, bt = a @ -t, b @ -t
    determinant = (aa * bb - ab**2).clip(1e-18)
    depth_p, depth_q = (at * bb - bt * ab) / determinant, (bt * aa - at * ab) / determinant
    return np.asarray(near & (depth_p > 0) & (depth_q > 0))
