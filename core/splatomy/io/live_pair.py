"""Rectification of the two eyes of a live source, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.geometry.rigid import rigid
from splatomy.io.calibration import Calibration

_STRAIGHT_PX = 0.05


@dataclass(frozen=True)
class EyePair:
    """How the pictures of both eyes become a pair whose rows correspond, of the same size.

    intrinsics: (3, 3) px of both rectified pictures. baseline_mm: the right eye lies at +x.
    left_maps, right_maps: for ``cv2.remap``, or None when the pair is rectified as it comes.
    rectified_from_left: (4, 4), turns poses of the left eye. outside: (H, W), what the left picture lacks.
    """

    intrinsics: NDArray[np.float64]
    baseline_mm: float
    left_maps: tuple[Any, Any] | None
    right_maps: tuple[Any, Any] | None
    rectified_from_left: NDArray[np.float64]
    outside: NDArray[np.bool_]

    def left(self, picture: NDArray[Any], nearest: bool = False) -> NDArray[Any]:
        """The left eye's picture (H, W, ...) rectified; ``nearest`` for masks."""
        return _moved(picture, self.left_maps, nearest)

    def right(self, picture: NDArray[Any]) -> NDArray[Any]:
        """The right eye's picture (H, W, 3) rectified."""
        return _moved(picture, self.right_maps, False)


def _moved(picture: NDArray[Any], maps: tuple[Any, Any] | None, nearest: bool) -> NDArray[Any]:
    if maps is None:
        return picture
    how = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    return np.asarray(cv2.remap(np.ascontiguousarray(picture), maps[0], maps[1], how))


def eye_pair(calibration: Calibration, width_px: int, height_px: int) -> EyePair | None:
    """The rectification of pictures of this size, or None when the calibration lacks an eye.

    Pictures keep their size, which may cut corners off: a live view needs no more.

    Source: Bouguet's algorithm as in OpenCV's ``stereoRectify``.
    """
    left, right, pose = calibration.left, calibration.right, calibration.right_from_left
    if right is None or pose is None:
        return None
    size = (width_px, height_px)
    whole = np.zeros((height_px, width_px), np.bool_)
    if _is_rectified(calibration):
        return EyePair(left.intrinsics, -float(pose[0, 3]), None, None, np.eye(4), whole)
    turn_left, turn_right, project, _, _, _, _ = cv2.stereoRectify(
        left.intrinsics, left.distortion, right.intrinsics, right.distortion, size,
        pose[:3, :3], pose[:3, 3:], flags=cv2.CALIB_ZERO_DISPARITY, alpha=0,
    )  # fmt: skip
    k = np.asarray(project[:3, :3], np.float64)
    left_maps = cv2.initUndistortRectifyMap(
        left.intrinsics, left.distortion, turn_left, k, size, cv2.CV_32FC1
    )
    right_maps = cv2.initUndistortRectifyMap(
        right.intrinsics, right.distortion, turn_right, k, size, cv2.CV_32FC1
    )
    seen = cv2.remap(np.ones((height_px, width_px), np.uint8), left_maps[0], left_maps[1], cv2.INTER_NEAREST)
    turn = rigid(np.asarray(turn_left, np.float64), np.zeros(3))
    baseline = float(np.linalg.norm(pose[:3, 3]))
    return EyePair(k, baseline, (*left_maps,), (*right_maps,), turn, seen == 0)  # type: ignore[arg-type]


def _is_rectified(calibration: Calibration) -> bool:
    """True if rows correspond already: equal straight lenses, shifted along x alone."""
    left, right, pose = calibration.left, calibration.right, calibration.right_from_left
    if right is None or pose is None or left.distorts or right.distorts or pose[0, 3] >= 0:
        return False
    turned = np.abs(pose[:3, :3] - np.eye(3)).max() * left.intrinsics[0, 0] > _STRAIGHT_PX
    shifted = np.abs(pose[1:3, 3]).max() > 1e-3 * abs(pose[0, 3])
    same = np.abs(left.intrinsics - right.intrinsics).max() < _STRAIGHT_PX
    return bool(same and not turned and not shifted)
