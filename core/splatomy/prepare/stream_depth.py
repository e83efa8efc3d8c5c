"""Depth of the frames of a stream, one at a time: from two eyes, or a shape that is laid over the map."""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.prepare import _falloff
from splatomy.prepare._stereo import StereoRig, pair_depth, rectify
from splatomy.prepare.onnx import OnnxModel
from splatomy.prepare.onnx_depth import OnnxDepthConfig, RelativeDepth, align_inverse

Image = NDArray[np.float32]
Bool = NDArray[np.bool_]
Float = NDArray[np.float64]

_SAMPLES_OF_LIGHT = 6
_FEWEST = 0.15
_JUMP = 0.15
_CONFIRMED_AFTER = 3
_NEAREST, _FARTHEST = 0.25, 4.0
"""Depths beyond these shares of the median are no measurement of one frame's tissue."""
_RANGE = 1.6


class PairDepth:
    """Depth in mm of rectified pairs.

    intrinsics: (3, 3) px of both eyes. baseline_mm: from the left to the right eye, along x.
    """

    def __init__(
        self,
        intrinsics: Float,
        baseline_mm: float,
        width_px: int,
        height_px: int,
        near_mm: float,
        far_mm: float,
    ) -> None:
        right_from_left = np.eye(4)
        right_from_left[0, 3] = -baseline_mm
        straight = np.zeros(5)
        rig = StereoRig(intrinsics, intrinsics, right_from_left, straight, straight)
        self._maps = rectify(rig, width_px, height_px)
        self._limits = near_mm, far_mm

    def depth_mm(self, left: Image, right: Image, hidden: Bool, least_confidence: float = 0.3) -> Image:
        """Depths (H, W) of the left picture, NaN where unknown or doubtful."""
        depth, confidence = pair_depth(left, right, hidden, self._maps, *self._limits)
        return np.where(confidence > least_confidence, depth, np.float32(np.nan)).astype(np.float32)


class Shape(Protocol):
    """Something that gives the inverse depth (H, W) of a picture up to a factor and an offset."""

    def inverse_depth(self, image: Image, hidden: Bool) -> Image: ...


class LightShape:
    """The shape by the fall-off of the light, without any weights.

    Source: as ``prepare.depth``; the albedo's colours are learnt from the first frames and then held.
    """

    def __init__(self, intrinsics: Float, width_px: int, height_px: int) -> None:
        x, y = np.meshgrid(np.arange(width_px), np.arange(height_px))
        rays = np.stack(
            [
                (x - intrinsics[0, 2]) / intrinsics[0, 0],
                (y - intrinsics[1, 2]) / intrinsics[1, 1],
                np.ones(x.shape),
            ],
            -1,
        )
        self._rays = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
        self._forward = self._rays[..., 2]
        self._samples: list[_falloff.Shading] = []
        self._slopes: Float | None = None

    def inverse_depth(self, image: Image, hidden: Bool) -> Image:
        """The inverse depth (H, W), its scale and offset unknown."""
        shading = _falloff.shading_of(image, hidden)
        if len(self._samples) < _SAMPLES_OF_LIGHT:
            self._samples.append(shading)
            self._slopes = _falloff.albedo_slopes(self._samples)
        if self._slopes is None:
            raise ValueError("the first frame gives slopes")
        height, width = shading.light.shape
        rays = cv2.resize(self._rays, (width, height), interpolation=cv2.INTER_AREA)
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        log_range = _falloff.log_range_of(shading, self._slopes, rays, None)
        full = cv2.resize(log_range, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        return np.asarray(np.exp(-full) / self._forward, np.float32)


class ModelShape:
    """The shape by an ONNX network of the user."""

    def __init__(self, model: OnnxModel, config: OnnxDepthConfig, width_px: int, height_px: int) -> None:
        self._network = RelativeDepth(model, config, width_px, height_px)

    def inverse_depth(self, image: Image, hidden: Bool) -> Image:
        """The inverse depth (H, W), its scale and offset unknown."""
        return self._network.inverse(image)


class ScaleKeeper:
    """Lays each frame's shape over the depth of the map, so that scale and offset neither flicker nor drift.

    Source: sheet online-incremental, 8: the fit is made in inverse depth, from the best of many pairs on;
    jumps are taken over only when three frames in a row confirm them.
    """

    def __init__(self, working_distance: float) -> None:
        self.working_distance = working_distance
        self._known: tuple[float, float] | None = None
        self._jumps = 0

    def depth_mm(self, shape: Image, reference: Image | None, hidden: Bool) -> Image:
        """Depths (H, W) in the map's unit, NaN = hidden or beyond reason.

        reference: (H, W) depths of the map in this view, NaN = none; None before there is a map.
        """
        seen = ~hidden & np.isfinite(shape)
        if not seen.any():
            return np.full(shape.shape, np.nan, np.float32)
        if reference is not None:
            both = seen & np.isfinite(reference) & (reference > 0)
            if both.mean() >= _FEWEST and float(np.ptp(shape[both])) > 0:
                known = np.asarray(1 / reference[both], np.float32)
                self._follow(align_inverse(shape[both], known, np.ones(len(known), np.float32)))
        if self._known is None:
            self._known = self._assumed(shape[seen])
        slope, offset = self._known
        inverse = slope * shape + offset
        middle = float(np.median(inverse[seen]))
        if not middle > 0:
            return np.full(shape.shape, np.nan, np.float32)
        good = seen & (inverse > middle / _FARTHEST) & (inverse < middle / _NEAREST)
        return np.where(good, 1 / np.where(good, inverse, 1), np.float32(np.nan)).astype(np.float32)

    def _follow(self, found: tuple[float, float]) -> None:
        # A network's own scale and offset change from frame to frame; only absurd fits are refused.
        slope, offset = found
        if not slope > 0 or not np.isfinite(slope + offset):
            return
        known = self._known
        if known is not None and abs(np.log(slope / known[0])) > np.log(1 / _JUMP):
            self._jumps += 1
            if self._jumps < _CONFIRMED_AFTER:
                return
        self._jumps = 0
        self._known = found

    def _assumed(self, shape: Image) -> tuple[float, float]:
        """A range of depths about the working distance, nothing else being known."""
        far, near = (float(v) for v in np.percentile(shape, [2, 98]))
        if near <= far:
            return 0.0, 1 / self.working_distance
        slope = (_RANGE - 1 / _RANGE) / self.working_distance / (near - far)
        offset = 1 / _RANGE / self.working_distance - slope * far
        middle = slope * float(np.median(shape)) + offset
        share = 1 / self.working_distance / middle
        return slope * share, offset * share
