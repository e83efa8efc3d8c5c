"""One stereo pair to depth: rectification, semi-global matching, sub-pixel refinement, left-right check."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.geometry.rigid import transform_points

Float = NDArray[np.float64]
Image = NDArray[np.float32]
Bool = NDArray[np.bool_]

# The eye's own weights suit screens; on tissue, haemoglobin puts the texture into green and blue.
_GREY = (0.15, 0.55, 0.30)
_NORMALISE_PX, _FULL_WIDTH_PX = 8.0, 640
_NOISE_FLOOR = 0.012
_CODES_PER_STD = 28.0
_REFINE_STEPS = 3
_REFINE_SIGMA_PX, _LEAST_SIGMA_PX = 4.5, 2.2
_INDEPENDENT = 0.15
"""Share of a window's pixels whose errors are independent: interpolation and highlights couple the rest."""
_LARGEST_STEP_PX = 0.5
_SPECKLE_PX = 150
_LONE_PX = 2.0
_RIM_PX = 6
_TYPICAL_ERROR_PX = 0.5
_HIGHLIGHT_CONFIDENCE = 0.1


@dataclass(frozen=True)
class StereoRig:
    """Both eyes of an endoscope.

    left_intrinsics, right_intrinsics: (3, 3) px, pixel centres at integers.
    left_distortion, right_distortion: (D,) in OpenCV's order, zeros = straight.
    right_from_left: (4, 4) rigid, mm, x_right = R x_left + T.
    metric: False when the translation has a nominal length, so that depths have no unit.
    """

    left_intrinsics: Float
    right_intrinsics: Float
    right_from_left: Float
    left_distortion: Float
    right_distortion: Float
    metric: bool = True

    @property
    def baseline_mm(self) -> float:
        """Distance of the two eyes, mm."""
        return float(np.linalg.norm(self.right_from_left[:3, 3]))


@dataclass(frozen=True)
class Rectification:
    """Maps between a pair's pictures and two pictures whose rows correspond.

    intrinsics: (3, 3) px of both rectified pictures. baseline_mm: between them.
    left_maps, right_maps: for ``cv2.remap`` of a picture onto its rectified one.
    back_px: (H, W, 2) place in the left rectified picture of every pixel of the left picture.
    depth_ratio: (H, W) z depth in the left camera over z depth in the rectified one.
    """

    intrinsics: Float
    baseline_mm: float
    width_px: int
    height_px: int
    left_maps: tuple[Any, Any]
    right_maps: tuple[Any, Any]
    back_px: Image
    depth_ratio: Image


def rectify(rig: StereoRig, width_px: int, height_px: int) -> Rectification:
    """The rectification of a rig for pictures of one size, which keeps the left picture whole.

    Both eyes turn until the baseline lies along x and both look along the mean of their old directions.

    Source: Fusiello, Trucco and Verri, Machine Vision and Applications 12 (2000).
    """
    rotation, shift = rig.right_from_left[:3, :3], rig.right_from_left[:3, 3]
    right_in_left = -rotation.T @ shift
    x = right_in_left / np.linalg.norm(right_in_left)
    # A right eye that lies to the left would mirror depth: the pair was swapped, and x points against it.
    forward = np.array([0.0, 0.0, 1.0]) + rotation[2]
    y = np.cross(forward, x)
    y /= np.linalg.norm(y)
    rectified_from_left = np.stack([x, y, np.cross(x, y)])
    rectified_from_right = rectified_from_left @ rotation.T
    focal = 0.5 * (rig.left_intrinsics[0, 0] + rig.left_intrinsics[1, 1])
    pixels = np.stack(np.meshgrid(np.arange(width_px), np.arange(height_px)), -1).reshape(-1, 2)
    straight = cv2.undistortPoints(
        pixels.astype(np.float64)[:, None], rig.left_intrinsics, rig.left_distortion
    )[:, 0]
    rays = np.concatenate([straight, np.ones((len(straight), 1))], 1)
    turned = rays @ rectified_from_left.T
    at = focal * turned[:, :2] / turned[:, 2:]
    low, high = np.floor(at.min(0)), np.ceil(at.max(0))
    # A wild lens must not blow the picture up.
    size = np.minimum(high - low + 1, 1.5 * np.array([width_px, height_px])).astype(int)
    low = 0.5 * (low + high + 1 - size)
    intrinsics = np.array([[focal, 0, -low[0]], [0, focal, -low[1]], [0, 0, 1.0]])
    box = (int(size[0]), int(size[1]))
    left_maps = cv2.initUndistortRectifyMap(
        rig.left_intrinsics, rig.left_distortion, rectified_from_left, intrinsics, box, cv2.CV_32FC1
    )
    right_maps = cv2.initUndistortRectifyMap(
        rig.right_intrinsics, rig.right_distortion, rectified_from_right, intrinsics, box, cv2.CV_32FC1
    )
    return Rectification(
        intrinsics,
        rig.baseline_mm,
        *box,
        (left_maps[0], left_maps[1]),
        (right_maps[0], right_maps[1]),
        (at - low).reshape(height_px, width_px, 2).astype(np.float32),
        (1 / turned[:, 2]).reshape(height_px, width_px).astype(np.float32),
    )


def highlights(picture: Image) -> Bool:
    """Where an sRGB picture (H, W, 3) shows mirror images of the lamp, with a rim of a few pixels.

    Bright and colourless against the clip's own scale, or saturated.

    Source: the candidate rule of Oh et al., Medical Image Analysis 11 (2007), without its learning.
    """
    red, green, blue = np.moveaxis(picture, -1, 0)
    # Ten times as fast as the largest and smallest along so short an axis.
    value = np.maximum(np.maximum(red, green), blue)
    least = np.minimum(np.minimum(red, green), blue)
    bright = value > 0.9 * np.percentile(value, 99.5)
    white = least > 0.75 * value
    grown = max(1, round(3 * picture.shape[1] / _FULL_WIDTH_PX))
    found = (least > 0.97) | (bright & white & (value > 0.5))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grown + 1, 2 * grown + 1))
    return np.asarray(cv2.dilate(found.astype(np.uint8), kernel) > 0)


def normalised(picture: Image, ignore: Bool) -> Image:
    """The picture's texture (H, W): local mean 0 and standard deviation 1, so that exposure cancels.

    ignore: (H, W), True = left flat, since it would spoil its surroundings (highlights, borders).
    """
    grey = (picture @ np.array(_GREY, np.float32)).astype(np.float32)
    sigma = _NORMALISE_PX * max(picture.shape[1] / _FULL_WIDTH_PX, 0.25)
    weight = (~ignore).astype(np.float32)
    total = cv2.GaussianBlur(weight, (0, 0), sigma) + 1e-4
    centre = grey - cv2.GaussianBlur(grey * weight, (0, 0), sigma) / total
    spread = np.sqrt(cv2.GaussianBlur(weight * centre**2, (0, 0), sigma) / total)
    # A share of the brightness, not a constant, keeps two exposures of one scene alike.
    floor = _NOISE_FLOOR * float(np.median(grey[~ignore])) / 0.4 if (~ignore).any() else _NOISE_FLOOR
    return np.asarray(weight * np.clip(centre / (spread + floor), -4, 4), np.float32)


def _match(left: Image, right: Image, low: int, count: int) -> Image:
    """Disparities (H, W) px of the left picture in [low, low + count), NaN = none; left x = right x + d."""
    block = 5
    matcher = cv2.StereoSGBM.create(
        minDisparity=low,
        numDisparities=count,
        blockSize=block,
        P1=8 * block * block,
        P2=32 * block * block,
        disp12MaxDiff=-1,
        preFilterCap=31,
        uniquenessRatio=5,
        speckleWindowSize=0,
        mode=cv2.STEREO_SGBM_MODE_SGBM,
    )
    # The matcher skips the columns whose whole range does not fit: widen both pictures on their left.
    margin = max(0, low + count)
    codes = [
        cv2.copyMakeBorder(
            np.clip(128 + _CODES_PER_STD * image, 0, 255).astype(np.uint8),
            0, 0, margin, max(0, -low), cv2.BORDER_REPLICATE,
        )
        for image in (left, right)
    ]  # fmt: skip
    found = matcher.compute(codes[0], codes[1]).astype(np.float32) / 16
    found = found[:, margin : margin + left.shape[1]]
    return np.where(found >= low, found, np.float32(np.nan))


def _at(image: Image, x: Image) -> Image:
    """Values (H, W) of an image at columns x (H, W) of the same row, NaN outside."""
    rows = np.broadcast_to(np.arange(x.shape[0], dtype=np.float32)[:, None], x.shape)
    where = np.nan_to_num(x, nan=-9.0).astype(np.float32)
    found = cv2.remap(image, where, np.ascontiguousarray(rows), cv2.INTER_LINEAR, borderValue=float("nan"))
    return np.asarray(found, np.float32)


@dataclass(frozen=True)
class Disparity:
    """disparity_px (H, W), NaN = unknown; std_px (H, W) its expected error; both of the left picture."""

    disparity_px: Image
    std_px: Image


def _refined(left: Image, right: Image, start: Image, usable: Bool) -> tuple[Image, Image]:
    """Disparities that best align the textures in a Gaussian window, and their standard deviations.

    Source: Lucas and Kanade, IJCAI 1981, along the row; the deviation is that of its least squares.
    """
    columns = np.broadcast_to(np.arange(left.shape[1], dtype=np.float32), left.shape)
    slope = np.asarray(cv2.Sobel(right, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8), np.float32)
    slope_left = cv2.Sobel(left, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    disparity = start.copy()
    std = np.full(start.shape, np.inf, np.float32)
    sigma = max(_LEAST_SIGMA_PX, _REFINE_SIGMA_PX * left.shape[1] / _FULL_WIDTH_PX)
    window = _INDEPENDENT * 4 * math.pi * sigma**2
    for _ in range(_REFINE_STEPS):
        residual = left - _at(right, columns - disparity)
        gradient = 0.5 * (_at(slope, columns - disparity) + slope_left)
        # Pixels whose match is beyond doubt guide the others; wrong and shiny ones have no say.
        weight = usable / (1 + residual**2)
        weight = np.where(np.isfinite(residual) & np.isfinite(gradient), weight, 0).astype(np.float32)
        residual, gradient = np.nan_to_num(residual), np.nan_to_num(gradient)

        def gathered(image: Image) -> Image:
            return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)

        normal = gathered(weight * gradient**2)
        # left(x) = right(x - d), so a larger disparity lowers right's argument: the sign of the step.
        step = -gathered(weight * gradient * residual) / (normal + 0.01)
        disparity = disparity + np.clip(step, -_LARGEST_STEP_PX, _LARGEST_STEP_PX)
        mean_square = gathered(weight * residual**2) / np.maximum(gathered(weight), 1e-3)
        std = np.sqrt((mean_square + 0.01) / (window * normal + 1e-3))
    return disparity, np.asarray(std, np.float32)


def match_disparity(left: Image, right: Image, low_px: float, high_px: float, ignore: Bool) -> Disparity:
    """Disparities of a rectified pair of textures (H, W) within [low_px, high_px].

    ignore: (H, W) of the left picture, True = the pixel says nothing (it may still get a disparity).

    Source: Hirschmueller, TPAMI 30 (2008); consistency of both directions as in his section 2.3.
    """
    low = math.floor(low_px)
    count = 16 * max(1, math.ceil((high_px - low + 1) / 16))
    forward = _match(left, right, low, count)
    # Mirrored, the right picture takes the left one's part.
    backward = _match(right[:, ::-1].copy(), left[:, ::-1].copy(), low, count)[:, ::-1]
    columns = np.broadcast_to(np.arange(left.shape[1], dtype=np.float32), left.shape)
    returned = _at(np.ascontiguousarray(backward), columns - forward)
    with np.errstate(invalid="ignore"):
        consistent = np.abs(forward - returned) < 1.0
        consistent &= columns - forward >= 0
    kept = np.where(consistent, forward, np.float32(low - 1))
    codes = np.ascontiguousarray(np.rint(16 * kept).astype(np.int16))
    cv2.filterSpeckles(codes, 16 * (low - 1), _SPECKLE_PX, 16)
    kept = np.where(codes > 16 * (low - 1), kept, np.float32(np.nan))
    refined, std = _refined(left, right, kept, np.isfinite(kept) & ~ignore)
    with np.errstate(invalid="ignore"):
        drifted = np.abs(refined - kept) > 1.5
        outside = (refined < low_px) | (refined > high_px)
    wrong = drifted | outside | _lonely(refined)
    return Disparity(np.where(wrong, np.float32(np.nan), refined), std)


def _lonely(disparity: Image) -> Bool:
    """Where a disparity lies far from the median of its surroundings, (H, W)."""
    coarse = disparity[::4, ::4]
    padded = np.pad(coarse, 2, constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(padded, (5, 5)).reshape(*coarse.shape, 25)
    known = np.isfinite(around).sum(-1)
    middle = np.sort(around, axis=-1)  # NaN sorts last
    median = np.take_along_axis(middle, np.maximum(known - 1, 0)[..., None] // 2, -1)[..., 0]
    full = cv2.resize(median, disparity.shape[::-1], interpolation=cv2.INTER_NEAREST)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(disparity - full) > _LONE_PX)


def pair_depth(
    left: Image, right: Image, hidden: Bool | None, maps: Rectification, near_mm: float, far_mm: float
) -> tuple[Image, Image]:
    """Depth (H, W) mm in the left picture's own pixels, NaN = unknown, and its confidence in [0, 1].

    left, right: sRGB pictures (H, W, 3). hidden: (H, W), True = an instrument, whose depth is not given.
    near_mm, far_mm: the working range; in the rig's own units where that is not metric.
    """
    shiny = highlights(left), highlights(right)
    straight, ignore = [], []
    for picture, shine, (map_x, map_y) in zip(
        (left, right), shiny, (maps.left_maps, maps.right_maps), strict=True
    ):
        straight.append(cv2.remap(picture, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
        outside = cv2.remap(shine.astype(np.uint8), map_x, map_y, cv2.INTER_NEAREST, borderValue=1)
        ignore.append(np.asarray(outside > 0))
    textures = [normalised(np.asarray(p, np.float32), i) for p, i in zip(straight, ignore, strict=True)]
    power = maps.intrinsics[0, 0] * maps.baseline_mm
    found = match_disparity(textures[0], textures[1], power / far_mm, power / near_mm, ignore[0])
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = power / found.disparity_px
        confidence = 1 / (1 + (found.std_px / _TYPICAL_ERROR_PX) ** 2)
    confidence = np.where(ignore[0], _HIGHLIGHT_CONFIDENCE * confidence, confidence)
    return _returned(depth, np.nan_to_num(confidence), hidden, maps)


def _returned(
    depth: Image, confidence: Image, hidden: Bool | None, maps: Rectification
) -> tuple[Image, Image]:
    """Rectified depth and confidence in the pixels of the left picture, without the instruments."""
    x, y = np.ascontiguousarray(maps.back_px[..., 0]), np.ascontiguousarray(maps.back_px[..., 1])
    inverse = cv2.remap(1 / depth, x, y, cv2.INTER_LINEAR, borderValue=float("nan"))
    depth = np.asarray(maps.depth_ratio / inverse, np.float32)
    sure = cv2.remap(confidence.astype(np.float32), x, y, cv2.INTER_LINEAR, borderValue=0.0)
    unknown = ~np.isfinite(depth) | (depth <= 0)
    if hidden is not None:
        # The matcher's window smears an instrument's edge over the tissue beside it.
        grown = max(1, round(_RIM_PX * hidden.shape[1] / _FULL_WIDTH_PX))
        kernel = np.ones((2 * grown + 1, 2 * grown + 1), np.uint8)
        unknown |= cv2.dilate(hidden.astype(np.uint8), kernel) > 0
    depth = np.where(unknown, np.float32(np.nan), depth).astype(np.float32)
    return depth, np.where(unknown, np.float32(0), sure).astype(np.float32)


def row_offsets(rig: StereoRig, left_px: Float, right_px: Float) -> Float:
    """How far matched pixels (N, 2) lie above each other after rectification, (N,) px of the left eye."""
    rotation, shift = rig.right_from_left[:3, :3], rig.right_from_left[:3, 3]
    focal = float(rig.left_intrinsics[1, 1])
    skew = np.array([[0, -shift[2], shift[1]], [shift[2], 0, -shift[0]], [-shift[1], shift[0], 0]])
    rays = [
        cv2.convertPointsToHomogeneous(cv2.undistortPoints(p[:, None].astype(np.float64), k, d))[:, 0]
        for p, k, d in (
            (left_px, rig.left_intrinsics, rig.left_distortion),
            (right_px, rig.right_intrinsics, rig.right_distortion),
        )
    ]  # fmt: skip
    essential = skew @ rotation
    lines = rays[0] @ essential.T
    back = rays[1] @ essential
    distance = (rays[1] * lines).sum(1)
    return np.asarray(
        focal * distance / np.sqrt(0.5 * ((lines[:, :2] ** 2).sum(1) + (back[:, :2] ** 2).sum(1)))
    )


def points_in_front(rig: StereoRig, left_px: Float, right_px: Float) -> Float:
    """z depths (N,) mm of matched pixels (N, 2) in the left camera; negative or infinite when behind."""
    left = cv2.undistortPoints(left_px[:, None].astype(np.float64), rig.left_intrinsics, rig.left_distortion)
    right = cv2.undistortPoints(
        right_px[:, None].astype(np.float64), rig.right_intrinsics, rig.right_distortion
    )
    points = cv2.triangulatePoints(np.eye(3, 4), rig.right_from_left[:3], left[:, 0].T, right[:, 0].T)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = points[2] / points[3]
    behind = transform_points(rig.right_from_left, (points[:3] / points[3]).T)[:, 2] <= 0
    return np.where(behind, -np.abs(depth), depth)
