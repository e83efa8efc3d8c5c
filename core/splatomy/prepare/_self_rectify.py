"""How two eyes stand to each other, from matched features: to check a calibration or to do without one."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from splatomy.geometry.rigid import rigid, rotation_from_vector
from splatomy.prepare._stereo import StereoRig, points_in_front, row_offsets

Float = NDArray[np.float64]
Image = NDArray[np.float32]
Bool = NDArray[np.bool_]

RELATIVE_DEPTH = 60.0
"""Median depth given to scenes without scale, so that they look like endoscopic ones to every method."""

_RATIO = 0.8
_PRIOR_ANGLE_RAD, _PRIOR_SLANT, _PRIOR_ZOOM = 0.03, 0.1, 0.02
"""Two eyes of an endoscope look nearly alike: spreads of rotation, slant of the baseline and zoom."""
_FARTHEST = 4.0
"""How many median depths the far end of a scene lies away at most; beyond, the pictures are shifted."""
_FARTHEST_PERCENTILE = 2.0
_SHIFT_ROUNDS = 3


def grey_codes(picture: Image) -> NDArray[np.uint8]:
    """The picture's green channel (H, W) with even contrast, in 8 bits, for feature detectors."""
    green = np.rint(255 * np.clip(picture[..., 1], 0, 1)).astype(np.uint8)
    return np.asarray(cv2.createCLAHE(2.0, (8, 8)).apply(green), np.uint8)


def features(picture: Image, hidden: Bool | None, count: int = 2000) -> tuple[Float, Image]:
    """SIFT key points (N, 2) px and descriptors (N, 128); none on hidden pixels or beside them."""
    mask = None
    if hidden is not None:
        rim = max(3, round(hidden.shape[1] / 80)) | 1
        mask = np.where(cv2.dilate(hidden.astype(np.uint8), np.ones((rim, rim), np.uint8)) > 0, 0, 255)
        mask = mask.astype(np.uint8)
    points, descriptors = cv2.SIFT.create(count, contrastThreshold=0.015).detectAndCompute(
        grey_codes(picture), mask
    )
    if descriptors is None:
        return np.zeros((0, 2)), np.zeros((0, 128), np.float32)
    return np.array([p.pt for p in points], dtype=np.float64), np.asarray(descriptors, np.float32)


def matched(first: tuple[Float, Image], second: tuple[Float, Image]) -> tuple[Float, Float]:
    """Pixels (M, 2) twice, of features that match each other clearly and obey one epipolar geometry."""
    none = np.zeros((0, 2)), np.zeros((0, 2))
    if min(len(first[0]), len(second[0])) < 16:
        return none
    # Root descriptors compare with the Hellinger kernel.
    a, b = (np.sqrt(d / (d.sum(1, keepdims=True) + 1e-9)) for _, d in (first, second))
    likeness = a @ b.T
    best, back = likeness.argmax(1), likeness.argmax(0)
    ranked = np.partition(likeness, -2, axis=1)
    distance = np.sqrt(np.maximum(2 - 2 * ranked[:, -2:], 0))
    rows = np.arange(len(a))
    keep = (back[best] == rows) & (distance[:, 1] < _RATIO * distance[:, 0])
    p, q = first[0][keep], second[0][best[keep]]
    if len(p) < 16:
        return none
    _, inliers = cv2.findFundamentalMat(p, q, cv2.USAC_MAGSAC, 1.5, 0.999, 5000)
    if inliers is None:
        return none
    chosen = inliers.ravel() > 0
    return p[chosen], q[chosen]


def clip_matches(
    left: Sequence[Image], right: Sequence[Image], hidden: Sequence[Bool | None]
) -> tuple[Float, Float]:
    """Matched pixels (M, 2) of the left and right pictures of several frames, pooled."""
    found = [matched(features(a, h), features(b, None)) for a, b, h in zip(left, right, hidden, strict=True)]
    return np.concatenate([p for p, _ in found]), np.concatenate([q for _, q in found])


def one_geometry(left_px: Float, right_px: Float, tolerance_px: float) -> Bool:
    """Which matched pixels (M, 2) of all frames together obey one epipolar geometry, (M,).

    Source: Barath et al., MAGSAC++, CVPR 2020, for the fundamental matrix.
    """
    _, inliers = cv2.findFundamentalMat(left_px, right_px, cv2.USAC_MAGSAC, tolerance_px, 0.999, 5000)
    if inliers is None:
        return np.ones(len(left_px), np.bool_)
    return np.asarray(inliers.ravel() > 0)


def self_calibrated(left_px: Float, right_px: Float, intrinsics: Float) -> StereoRig | None:
    """The rig that explains matched pixels (M, 2) best and looks most like an endoscope, or None.

    intrinsics: (3, 3) px, known or assumed, of both eyes. The translation is scaled so that the matched
    points lie ``RELATIVE_DEPTH`` away: depths have no unit. Recorders often shift the pictures against
    each other so that the working distance shows no parallax; rows do not tell by how much, so the least
    shift is taken that keeps the scene's far end within ``_FARTHEST`` median depths. None: the points
    would lie behind the eyes.

    Source: the Sampson distance (Hartley and Zisserman, 11.4.3) with Gaussian priors, robustly minimised.
    """
    spread = np.array([_PRIOR_ANGLE_RAD] * 3 + [_PRIOR_SLANT] * 2 + [_PRIOR_ZOOM])
    weight = np.sqrt(len(left_px))
    shift_px, fitted = 0.0, np.zeros(6)

    def rig(p: Float, length: float = 1.0) -> StereoRig:
        right = intrinsics.copy()
        right[[0, 1], [0, 1]] *= np.exp(p[5])
        right[0, 2] += shift_px
        shift = length * np.array([-1.0, p[3], p[4]]) / np.linalg.norm([1.0, p[3], p[4]])
        pose = rigid(rotation_from_vector(p[:3]), shift)
        return StereoRig(intrinsics, right, pose, np.zeros(5), np.zeros(5), metric=False)

    def residuals(p: Float) -> Float:
        return np.concatenate([row_offsets(rig(p), left_px, right_px), 0.05 * weight * p / spread])

    for _ in range(_SHIFT_ROUNDS):
        fitted = least_squares(residuals, fitted, loss="soft_l1", x_scale=spread, max_nfev=60).x
        # Disparities in px: rays that part in front of the eyes meet behind them, which counts negative.
        disparity = intrinsics[0, 0] / points_in_front(rig(fitted), left_px, right_px)
        far, middle = np.percentile(disparity, [_FARTHEST_PERCENTILE, 50])
        missing = (middle / _FARTHEST - far) / (1 - 1 / _FARTHEST)
        if missing < 0.1:
            break
        shift_px += float(missing)
    depth = points_in_front(rig(fitted), left_px, right_px)
    ahead = np.isfinite(depth) & (depth > 0)
    if ahead.mean() < 0.8:
        return None
    return rig(fitted, RELATIVE_DEPTH / float(np.median(depth[ahead])))
