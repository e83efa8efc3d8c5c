"""Frames as the live reconstruction takes them, and the pictures of several sizes made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

# Haemoglobin puts the texture into green and blue.
GREY = (0.15, 0.55, 0.30)
_DARKEST, _BRIGHTEST = 0.02, 0.97
_MASK_MARGIN = 1 / 128
"""Pixels beside an instrument are smeared by lens and depth sensor: this share of the width is not used."""
_BORDER = 1 / 80
_SHINE_SHARE, _SHINE_GAIN, _SHINE_MORE = 0.06, 1.5, 0.06
_WHOLE = 0.999
_STEP = 0.08
"""Neighbouring pixels whose log depths differ by more lie on two surfaces."""


@dataclass(frozen=True)
class Observation:
    """One frame, ready to be used.

    image: (H, W, 3) sRGB in [0, 1]. time_s: of the stream. depth_mm: (H, W), NaN = unknown, or None.
    occluded: (H, W), True = hidden. camera_from_world: a pose from elsewhere (kinematics, a given path).
    weight: (H, W) factors of what the surgeon marked, or None; 0 = ignore. good: what ``usable`` finds, where
    that was looked for before.
    """

    index: int
    time_s: float
    image: Float32
    depth_mm: Float32 | None
    occluded: Bool
    camera_from_world: Float | None = None
    weight: Float32 | None = None
    good: Bool | None = None


def usable(observation: Observation) -> Bool:
    """Pixels (H, W) that may be used: not hidden nor beside it, not at the border, not black, not burnt out.

    Source: the brightness gate of EndoGSLAM (0.1 to 0.9 of the grey value), active here and wider, since
    phantoms and dark scopes have tissue below it.
    """
    width = observation.occluded.shape[1]
    margin = max(1, round(_MASK_MARGIN * width))
    kernel = np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)
    good = cv2.dilate(observation.occluded.astype(np.uint8), kernel) == 0
    grey = cv2.transform(observation.image, np.array([GREY], np.float32))
    good &= (grey > _DARKEST) & (grey < _BRIGHTEST)
    good &= ~shining(observation.image, ~observation.occluded)
    border = max(1, round(_BORDER * width))
    good[:border], good[-border:], good[:, :border], good[:, -border:] = False, False, False, False
    if observation.weight is not None:
        good &= observation.weight > 0
    return np.asarray(good)


def shining(image: Float32, seen: Bool) -> Bool:
    """Mirror images of the lamp (H, W), which move with it and not with the tissue.

    Far whiter than their surroundings: the rule of ``masks-and-depth`` for highlights, over the seen pixels.
    """
    # Planes are compared much faster than the three values of every pixel.
    red, green, blue = cv2.split(image)
    whiteness = np.asarray(cv2.min(cv2.min(red, green), blue))
    size = 2 * round(_SHINE_SHARE * image.shape[1]) + 1
    share = cv2.blur(seen.astype(np.float32), (size, size))
    around = cv2.blur(np.where(seen, whiteness, 0).astype(np.float32), (size, size)) / np.maximum(share, 1e-3)
    found = seen & (whiteness > _SHINE_GAIN * around + _SHINE_MORE)
    return np.asarray(cv2.dilate(found.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)


def smooth_depth(depth_mm: Float32) -> Bool:
    """Where a depth map (H, W) is known and has no step, (H, W)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        known = np.isfinite(depth_mm) & (depth_mm > 0)
        log = np.log(np.where(known, depth_mm, 1)).astype(np.float32)
    lowest = cv2.erode(np.where(known, log, np.float32(1e3)), np.ones((3, 3), np.uint8))
    highest = cv2.dilate(np.where(known, log, np.float32(-1e3)), np.ones((3, 3), np.uint8))
    return np.asarray(known & (highest - lowest < 2 * _STEP))


@dataclass(frozen=True)
class Level:
    """A frame binned by ``factor``, on the device.

    image: (3, h, w). grey, depth, usable, weight: (h, w); depth 0 = unknown. intrinsics: (3, 3) float64, on
    the host.
    """

    factor: int
    image: Tensor
    grey: Tensor
    depth: Tensor
    usable: Tensor
    weight: Tensor
    intrinsics: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in px."""
        return self.grey.shape[1], self.grey.shape[0]


def binned_intrinsics(intrinsics: Float, factor: int) -> Float:
    """Intrinsics (3, 3) of a picture binned by ``factor``; pixel centres are at integers."""
    k = intrinsics.copy()
    k[:2] /= factor
    k[:2, 2] -= (factor - 1) / (2 * factor)
    return k


def levels_of(
    observation: Observation, intrinsics: Float, factors: Sequence[int], device: torch.device
) -> dict[int, Level]:
    """The frame binned by each of the factors; a bin counts as usable when all of it is."""
    good = usable(observation) if observation.good is None else observation.good
    depth = observation.depth_mm
    if depth is None:
        depth = np.zeros(good.shape, np.float32)
    else:
        depth = np.where(good & smooth_depth(depth), np.nan_to_num(depth), np.float32(0))
    planes = [_on(device, observation.image).permute(2, 0, 1), _on(device, good).float()[None]]
    planes.append(_on(device, depth.astype(np.float32, copy=False))[None])
    planes.append((planes[2] > 0).float())
    weight = planes[1] if observation.weight is None else planes[1] * _on(device, observation.weight)
    binned, done, levels = torch.cat([*planes, weight])[None], 1, {}
    for factor in sorted(set(factors)):
        if factor % done:
            binned, done = torch.cat([*planes, weight])[None], 1
        binned, done = avg_pool2d(binned, factor // done) if factor > done else binned, factor
        levels[factor] = _level(binned[0], factor, binned_intrinsics(intrinsics, factor))
    return levels


def coarser(level: Level, factor: int) -> Level:
    """A level binned further by a factor; a bin counts as usable when all of it is."""
    if factor == 1:
        return level
    more = torch.stack([level.usable.float(), level.depth, (level.depth > 0).float(), level.weight])
    binned = avg_pool2d(torch.cat([level.image, more])[None], factor)[0]
    return _level(binned, level.factor * factor, binned_intrinsics(level.intrinsics.numpy(), factor))


def _level(planes: Tensor, factor: int, intrinsics: Float) -> Level:
    """A level of means over bins of colour, usable, depth, known and weight, (7, h, w)."""
    colour = planes[:3].contiguous()
    solid = planes[3] > _WHOLE
    return Level(
        factor,
        colour,
        GREY[0] * colour[0] + GREY[1] * colour[1] + GREY[2] * colour[2],
        torch.where(planes[5] > _WHOLE, planes[4], 0.0),
        solid,
        torch.where(solid, planes[6], 0.0),
        torch.as_tensor(intrinsics),
    )


def _on(device: torch.device, array: NDArray[Any]) -> Tensor:
    return torch.as_tensor(np.ascontiguousarray(array), device=device)


def factor_for(width_px: int, wanted_px: int) -> int:
    """The binning that brings a width nearest to the wanted one from above."""
    return max(1, width_px // wanted_px)
