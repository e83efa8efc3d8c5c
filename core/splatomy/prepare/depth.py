"""Depth of every frame without learned weights: given, from two eyes, or from the fall-off of the light."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.ahead import made_ahead
from splatomy.capture import Capture
from splatomy.errors import InputError
from splatomy.events import Notice, Progress, Task
from splatomy.method import setting
from splatomy.prepare import _falloff, _stereo
from splatomy.prepare._given_depth import check_given_depth
from splatomy.prepare._self_rectify import RELATIVE_DEPTH, clip_matches, one_geometry, self_calibrated
from splatomy.prepare._stereo import StereoRig

__all__ = ["DepthConfig", "StereoPair", "StereoRig", "depth_storage", "estimate_depth"]

Float = NDArray[np.float64]
Image = NDArray[np.float32]
Bool = NDArray[np.bool_]
Storage = Callable[[tuple[int, ...], type[np.generic]], NDArray[Any]]

_PROBED_FRAMES = 8
_FEWEST_MATCHES = 40
_FULL_WIDTH_PX = 640
_SELF_OFFSET_PX = 1.5
_SHADING_CONFIDENCE = 0.2
_SHADING_SAMPLES = 8
_MOST_PAIRS, _PAIRS_BYTES, _PAIR_BYTES_PER_PX = 8, 400e6, 160
"""Pairs that are matched at a time, the memory they may take together, and what one takes."""


@dataclass(frozen=True)
class DepthConfig:
    """Where depth comes from."""

    source: Literal["auto", "given", "stereo", "shading"] = setting(
        "auto", doc="Given depth, else two eyes, else the fall-off of the light"
    )
    near_mm: float = setting(20.0, 1.0, 500.0, "mm", "Nearest tissue that stereo looks for")
    far_mm: float = setting(200.0, 2.0, 2000.0, "mm", "Farthest tissue that stereo looks for")
    row_offset_px: float = setting(
        2.0, 0.1, 50.0, "px", "Largest typical misfit of a calibration at 640 pixels width"
    )
    steadiness: float = setting(
        1.5, 0.0, 20.0, doc="Weight of the last frame's depth against this frame's light"
    )

    def __post_init__(self) -> None:
        if self.near_mm >= self.far_mm:
            raise InputError(
                f"near_mm is {self.near_mm:g} and far_mm {self.far_mm:g}; expected near below far: swap them."
            )


@dataclass(frozen=True)
class StereoPair:
    """The right eye: images (T, H, W, 3) sRGB, as recorded, and the rig, or None when not calibrated."""

    right_images: NDArray[np.float32]
    rig: StereoRig | None = None


def depth_storage(shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    """A zeroed array in memory; callers with long clips pass one that lies on disk instead."""
    return np.zeros(shape, dtype)


def estimate_depth(
    capture: Capture,
    pair: StereoPair | None = None,
    config: DepthConfig | None = None,
    storage: Storage = depth_storage,
) -> Task[Capture]:
    """The capture with ``depth_mm`` and ``depth_confidence`` on visible tissue, NaN and 0 elsewhere.

    With a calibrated pair whose left lens distorts, the images and masks are straightened too, so that
    ``cameras`` describe them. Depth without scale has ``metric`` False and a median of 60 units.

    Raises:
        InputError: the wanted source is missing or does not fit the pictures.
    """
    config = config or DepthConfig()
    source = config.source
    if source == "auto":
        source = "given" if capture.depth_mm is not None else "shading" if pair is None else "stereo"
    if capture.images.shape[-1] != 3:
        raise ValueError(f"depth needs colour images, got {capture.images.shape[-1]} channels")
    if source == "given":
        return (yield from _given(capture, storage))
    if source == "shading":
        return (yield from _from_shading(capture, config, storage))
    if pair is None:
        raise InputError(
            "Stereo depth was asked for but there is no right eye: give both, or another source."
        )
    if tuple(pair.right_images.shape) != tuple(capture.images.shape):
        raise InputError(
            f"The right eye has {_size_text(pair.right_images)} but the left has "
            f"{_size_text(capture.images)}; expected equal frames: check --layout."
        )
    return (yield from _from_stereo(capture, pair, config, storage))


def _size_text(images: NDArray[Any]) -> str:
    return f"{images.shape[0]} frames of {images.shape[2]}x{images.shape[1]}"


def _given(capture: Capture, storage: Storage) -> Task[Capture]:
    if capture.depth_mm is None:
        raise InputError("Given depth was asked for but the input has none: add --depth, or another source.")
    depth = storage(capture.depth_mm.shape, np.float32)
    yield from check_given_depth(capture, depth)
    confidence = storage(depth.shape, np.float32)
    for t in range(len(depth)):
        confidence[t] = np.isfinite(depth[t])
    return capture.prepared("depth as given", depth_mm=depth, depth_confidence=confidence)


def _hidden(capture: Capture, frame: int) -> Bool | None:
    return None if capture.occluded is None else np.asarray(capture.occluded[frame])


def _probed(capture: Capture, right: NDArray[np.float32]) -> Task[tuple[Float, Float]]:
    """Matched pixels (M, 2) of both eyes over a few frames spread over the clip."""
    count = min(_PROBED_FRAMES, len(capture))
    found = []
    for step, t in enumerate(np.unique(np.linspace(0, len(capture) - 1, count).astype(int)).tolist()):
        found.append(clip_matches([capture.images[t]], [right[t]], [_hidden(capture, t)]))
        yield Progress("match both eyes", step + 1, count)
    return np.concatenate([p for p, _ in found]), np.concatenate([q for _, q in found])


def _checked_rig(
    capture: Capture, pair: StereoPair, config: DepthConfig
) -> Task[tuple[StereoRig, float, float]]:
    """The rig to use and the nearest and farthest depth to look for."""
    left_px, right_px = yield from _probed(capture, pair.right_images)
    width = capture.images.shape[2]
    if pair.rig is not None:
        if len(left_px) < _FEWEST_MATCHES:
            text = f"Only {len(left_px)} features match in both eyes, too few to check the calibration."
            yield Notice("warning", "calibration-unchecked", text)
            return pair.rig, config.near_mm, config.far_mm
        offset = float(np.median(np.abs(_stereo.row_offsets(pair.rig, left_px, right_px))))
        allowed = config.row_offset_px * max(width / _FULL_WIDTH_PX, 0.5)
        if offset > allowed:
            raise InputError(
                f"The calibration does not fit the pictures: matched points of both eyes lie {offset:.1f} px "
                f"off their rows; expected at most {allowed:.1f} px: give this endoscope's calibration, "
                "or none for relative depth."
            )
        text = f"The calibration fits: {len(left_px)} points of both eyes lie {offset:.2f} px off their rows."
        yield Notice("info", "calibration-checked", text)
        return pair.rig, config.near_mm, config.far_mm
    if capture.cameras is None:
        raise ValueError("stereo without calibration needs cameras")
    rig, offset = None, math.nan
    allowed = _SELF_OFFSET_PX * max(width / _FULL_WIDTH_PX, 0.5)
    if len(left_px) >= _FEWEST_MATCHES:
        # Frames that show no common scene obey the geometry of the others by chance only.
        agree = one_geometry(left_px, right_px, allowed)
        left_px, right_px = left_px[agree], right_px[agree]
        rig = self_calibrated(left_px, right_px, capture.cameras.intrinsics[0])
    if rig is not None:
        offset = float(np.median(np.abs(_stereo.row_offsets(rig, left_px, right_px))))
    if rig is None or offset > allowed:
        raise InputError(
            f"The two eyes cannot be laid over each other ({len(left_px)} features match); expected the left "
            "and right picture of one scene: check --layout, give --calibration, or use the left eye alone."
        )
    z = _stereo.points_in_front(rig, left_px, right_px)
    near, far = np.percentile(z[np.isfinite(z) & (z > 0)], [2, 98])
    text = (
        f"No calibration: the eyes' geometry was found from the pictures ({len(left_px)} points lie "
        f"{offset:.2f} px off their rows); depth is relative, without a unit."
    )
    yield Notice("warning", "self-rectified", text)
    return rig, 0.6 * float(near), 1.8 * float(far)


def _straightened(capture: Capture, rig: StereoRig, storage: Storage) -> Task[Capture]:
    """The capture without the left lens's distortion; pixels that nothing falls on count as outside."""
    frames, height, width, _ = capture.images.shape
    k = rig.left_intrinsics
    x, y = cv2.initUndistortRectifyMap(k, rig.left_distortion, np.eye(3), k, (width, height), cv2.CV_32FC1)
    images = storage(tuple(capture.images.shape), np.float32)
    occluded = storage((frames, height, width), np.bool_)
    whole = np.zeros((height, width), np.uint8)
    border = whole if capture.outside is None else capture.outside.astype(np.uint8)
    outside = cv2.remap(border, x, y, cv2.INTER_NEAREST, borderValue=1) > 0
    for t in range(frames):
        images[t] = cv2.remap(capture.images[t], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        mask = _hidden(capture, t)
        part = whole if mask is None else mask.astype(np.uint8)
        occluded[t] = cv2.remap(part, x, y, cv2.INTER_NEAREST, borderValue=1) > 0
        yield Progress("straighten", t + 1, frames)
    return capture.prepared("lens distortion removed", images=images, occluded=occluded, outside=outside)


def _from_stereo(capture: Capture, pair: StereoPair, config: DepthConfig, storage: Storage) -> Task[Capture]:
    rig, near, far = yield from _checked_rig(capture, pair, config)
    if np.any(rig.left_distortion != 0):
        capture = yield from _straightened(capture, rig, storage)
        rig = replace(rig, left_distortion=np.zeros(5))
    frames, height, width, _ = capture.images.shape
    maps = _stereo.rectify(rig, width, height)
    depth = storage((frames, height, width), np.float32)
    confidence = storage((frames, height, width), np.float32)
    visible = known = 0

    def of_pair(t: int) -> tuple[Image, Image]:
        return _stereo.pair_depth(
            capture.images[t], pair.right_images[t], _hidden(capture, t), maps, near, far
        )

    at_once = int(np.clip(_PAIRS_BYTES / (_PAIR_BYTES_PER_PX * width * height), 2, _MOST_PAIRS))
    for t, found in enumerate(made_ahead(of_pair, frames, at_once)):
        depth[t], confidence[t] = found
        hidden = _hidden(capture, t)
        visible += height * width if hidden is None else int((~hidden).sum())
        known += int(np.isfinite(depth[t]).sum())
        yield Progress("stereo depth", t + 1, frames)
    share = known / max(visible, 1)
    if share < 0.4:
        text = (
            f"Stereo found depth on {100 * share:.0f} % of the visible tissue only: check the calibration, "
            "the working range and the pictures' sharpness."
        )
        yield Notice("warning", "depth-sparse", text)
    note = "stereo depth" if rig.metric else "relative stereo depth (self-rectified)"
    return capture.prepared(
        note, depth_mm=depth, depth_confidence=confidence, metric=rig.metric,
        details={**capture.details, "depth_source": note},
    )  # fmt: skip


def _small_rays(intrinsics: Float, width: int, height: int, shape: tuple[int, int]) -> Float:
    """Directions (h, w, 3) with z = 1 of the pixels of a shrunken picture."""
    h, w = shape
    x = (np.arange(w) + 0.5) * width / w - 0.5
    y = (np.arange(h) + 0.5) * height / h - 0.5
    u, v = np.meshgrid((x - intrinsics[0, 2]) / intrinsics[0, 0], (y - intrinsics[1, 2]) / intrinsics[1, 1])
    return np.stack([u, v, np.ones_like(u)], -1)


def _moved_before(before: Image, picture_before: Image, picture: Image, trust: float) -> tuple[Image, Image]:
    """The last result moved along the optical flow to this frame, and how far to trust it, both (h, w)."""
    size = (before.shape[1], before.shape[0])
    codes = [
        cv2.resize(np.rint(255 * p[..., 1]).astype(np.uint8), size, interpolation=cv2.INTER_AREA)
        for p in (picture, picture_before)
    ]
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow = search.calc(codes[0], codes[1], np.zeros((*before.shape, 2), np.float32))
    x, y = np.meshgrid(np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32))
    x, y = x + flow[..., 0], y + flow[..., 1]
    moved = cv2.remap(before, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = (x >= 0) & (y >= 0) & (x <= size[0] - 1) & (y <= size[1] - 1)
    unlike = np.abs(cv2.remap(codes[1], x, y, cv2.INTER_LINEAR).astype(np.float32) - codes[0])
    weight = trust * inside / (1 + (unlike / 8) ** 2)
    return np.asarray(moved, np.float32), np.asarray(weight, np.float32)


def _albedo(capture: Capture) -> Task[Float]:
    """The clip's relation of albedo and chroma, from a few frames."""
    count = min(_SHADING_SAMPLES, len(capture))
    samples = []
    for step, t in enumerate(np.unique(np.linspace(0, len(capture) - 1, count).astype(int)).tolist()):
        samples.append(_falloff.shading_of(capture.images[t], _hidden(capture, t)))
        yield Progress("albedo", step + 1, count)
    return _falloff.albedo_slopes(samples)


def _from_shading(capture: Capture, config: DepthConfig, storage: Storage) -> Task[Capture]:
    if capture.cameras is None:
        raise ValueError("depth from the fall-off of the light needs cameras")
    text = (
        "No depth and no second eye: depth is estimated from how the light falls off, which gives a rough "
        "shape without a unit."
    )
    yield Notice("warning", "depth-from-light", text)
    slopes = yield from _albedo(capture)
    frames, height, width, _ = capture.images.shape
    depth = storage((frames, height, width), np.float32)
    confidence = storage((frames, height, width), np.float32)
    before: tuple[Image, Image] | None = None
    level = math.nan
    for t in range(frames):
        picture, hidden = capture.images[t], _hidden(capture, t)
        shading = _falloff.shading_of(picture, hidden)
        rays = _small_rays(capture.cameras.intrinsics[t], width, height, shading.light.shape)
        length = np.linalg.norm(rays, axis=-1)
        last = None
        if before is not None:
            last = _moved_before(before[0], before[1], picture, config.steadiness)
        log_range = _falloff.log_range_of(shading, slopes, rays / length[..., None], last)
        seen = shading.weight > 0
        if last is not None and (last[1] * seen).any():
            # The camera's gain may change: the tissue both frames show keeps its distance.
            log_range += np.float32(np.average(last[0] - log_range, weights=last[1] * seen))
        if math.isnan(level) and seen.any():
            log_range -= np.float32(np.median((log_range - np.log(length))[seen]))
            level = 0.0
        before = log_range, picture
        small = (RELATIVE_DEPTH * np.exp(log_range) / length).astype(np.float32)
        full = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
        sure = cv2.resize(shading.weight, (width, height), interpolation=cv2.INTER_LINEAR)
        away = np.zeros((height, width), np.bool_) if hidden is None else hidden
        depth[t] = np.where(away, np.float32(np.nan), full)
        confidence[t] = np.where(away, np.float32(0), _SHADING_CONFIDENCE * (0.25 + 0.75 * sure))
        yield Progress("depth from light", t + 1, frames)
    note = "relative depth from the fall-off of the light"
    return capture.prepared(
        note, depth_mm=depth, depth_confidence=confidence, metric=False,
        details={**capture.details, "depth_source": note},
    )  # fmt: skip
