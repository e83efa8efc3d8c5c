"""Masks between frames that a person has confirmed: signed distances carried along the optical flow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.events import Notice, Progress, Task
from splatomy.method import setting
from splatomy.prepare.depth import Storage, depth_storage
from splatomy.prepare.masks._flow import (
    Bool,
    Codes,
    Float32,
    FlowMeter,
    codes_of,
    consistent,
    fetched,
    shrunk,
    working_size,
)
from splatomy.prepare.masks._refine import guided

_COLOUR_LEVELS = 16
_MOST_EVIDENCE = 3.0
_LEARNED = 8
_LEAST_TRUST = 0.02
_REACH = 6.0


@dataclass(frozen=True)
class PropagationConfig:
    """How masks are carried from confirmed frames to the others."""

    working_px: int = setting(480, 64, 2048, "px", "Longer side of the picture in which flow is measured")
    softness_share: float = setting(
        0.006,
        0.0005,
        0.1,
        doc="Distance over which a carried border is uncertain, as a share of the longer side",
    )
    colour_weight: float = setting(
        1.0, 0.0, 4.0, doc="Weight of the colours that the confirmed masks teach, near the carried border"
    )
    trust_loss: float = setting(0.6, 0.0, 1.0, doc="Trust kept per frame where the flow is not consistent")


@dataclass(frozen=True)
class Propagation:
    """occluded (T, H, W): True = hidden; the confirmed frames as given, bit for bit. confidence (T,) in
    [0, 1]: agreement of the masks carried from both sides, 1 in confirmed frames. spread (T,): True in
    frames that a confirmed mask was carried to.
    """

    occluded: Bool
    confidence: NDArray[np.float64]
    spread: Bool


@dataclass(frozen=True)
class _Carried:
    """A mask brought to a frame: signed distance (h, w) in px, and how far each place is trusted, (h, w)."""

    distance: Float32
    trust: Float32


def signed_distance(mask: Bool) -> Float32:
    """Distance to the border of the mask in px, negative inside, (H, W); bounded by the picture's size."""
    height, width = mask.shape
    far = float(height + width)
    if not mask.any():
        return np.full(mask.shape, far, np.float32)
    if mask.all():
        return np.full(mask.shape, -far, np.float32)
    codes = mask.astype(np.uint8)
    outside = cv2.distanceTransform(1 - codes, cv2.DIST_L2, 5)
    inside = cv2.distanceTransform(codes, cv2.DIST_L2, 5)
    # The border runs half a pixel from the centres of the pixels next to it.
    return np.asarray(np.where(mask, 0.5 - inside, outside - 0.5), dtype=np.float32)


def propagate(
    images: Any,
    confirmed: Mapping[int, Bool],
    config: PropagationConfig | None = None,
    storage: Storage = depth_storage,
) -> Task[Propagation]:
    """Masks of all frames from those of a few.

    images: (T, H, W, 3) sRGB in [0, 1], or lazy images. confirmed: frame index -> mask (H, W), True = hidden.
    storage: makes the arrays of the result; those of a long clip may lie on disk.

    Between two confirmed frames both are carried along the chained flow as signed distances and blended by
    nearness in time and by trust: where flow forth and back disagree, a place is hidden in one of the frames
    and the other side decides. Near the border the colours that the confirmed masks teach have a say.

    Raises:
        InputError: no confirmed frame.
        ValueError: a mask of another size, or for a frame that is not there.

    Source: ``masks-and-depth`` A9; chaining the paths instead of the masks, trust and colours are ours.
    """
    config = config or PropagationConfig()
    frames, height, width = images.shape[:3]
    if not confirmed:
        raise InputError(
            "No frame is confirmed; expected at least one mask to carry to the other frames: confirm one, or "
            "give masks with --masks."
        )
    for frame, mask in confirmed.items():
        if not 0 <= frame < frames or mask.shape != (height, width):
            raise ValueError(f"the mask of frame {frame} has shape {mask.shape} in a clip of {images.shape}")
    anchors = sorted(confirmed)
    occluded = storage((frames, height, width), np.bool_)
    confidence = np.zeros(frames)
    worker = _Worker(images, confirmed, config, frames)
    done = 0
    for first, last in zip([None, *anchors], [*anchors, None], strict=True):
        span = range(0 if first is None else first + 1, frames if last is None else last)
        for frame, mask, agreement in worker.between(span, first, last):
            if mask is not None:
                occluded[frame], confidence[frame] = mask, agreement
                done += 1
            yield Progress("propagate masks", done, frames)
        if last is not None:
            occluded[last], confidence[last] = confirmed[last], 1.0
            done += 1
            yield Progress("propagate masks", done, frames)
    spread = np.ones(frames, bool)
    spread[anchors] = False
    weak = int((confidence < 0.7).sum())
    if weak:
        yield Notice(
            "warning",
            "weak-propagation",
            f"In {weak} of {frames} frames the masks carried from both sides differ: look at those first.",
        )
    return Propagation(occluded, confidence, spread)


class _Worker:
    """Carries masks through one clip, holding the flow of one span at a time."""

    def __init__(
        self, images: Any, confirmed: Mapping[int, Bool], config: PropagationConfig, frames: int
    ) -> None:
        self._images, self._confirmed, self._config = images, confirmed, config
        self._size = working_size(images.shape[1], images.shape[2], config.working_px)
        self._meter = FlowMeter()
        self._colours = _taught_colours(images, confirmed, self._size)

    def between(self, span: range, first: int | None, last: int | None) -> Any:
        """Yields (frame, mask, agreement) of a span's frames, and (frame, None, 0) while paths are made.

        first, last: the confirmed frames before and after it, or None at the clip's ends.
        """
        if not span:
            return
        start = span.start if first is None else first
        stop = span.stop - 1 if last is None else last
        smalls = {start: self._small(start)}
        flows: dict[int, tuple[Float32, Float32]] = {}
        for frame in range(start, stop):
            smalls[frame + 1] = self._small(frame + 1)
            flows[frame] = self._meter.both(smalls[frame], smalls[frame + 1])
            yield frame, None, 0.0
        onward: dict[int, _Carried] = {}
        backward: dict[int, _Carried] = {}
        if first is not None:
            carried = self._start(first)
            for frame in span:
                forth, back = flows[frame - 1]
                carried = onward[frame] = self._carried(carried, back, forth, smalls[frame])
                yield frame, None, 0.0
        if last is not None:
            carried = self._start(last)
            for frame in reversed(span):
                forth, back = flows[frame]
                carried = backward[frame] = self._carried(carried, forth, back, smalls[frame])
                yield frame, None, 0.0
        for frame in span:
            shares = _nearness(frame, first, last)
            sides = [
                (paths[frame], share)
                for paths, share in zip((onward, backward), shares, strict=True)
                if frame in paths
            ]
            yield frame, self._blended(frame, smalls[frame], sides), _agreement([side for side, _ in sides])

    def _small(self, frame: int) -> Codes:
        return shrunk(codes_of(self._images[frame]), self._size)

    def _start(self, frame: int) -> _Carried:
        """A confirmed mask at working size."""
        mask = self._confirmed[frame]
        full = signed_distance(mask) * np.float32(self._size[1] / mask.shape[1])
        distance = cv2.resize(full, self._size[::-1], interpolation=cv2.INTER_LINEAR)
        return _Carried(np.asarray(distance, dtype=np.float32), np.ones(self._size, np.float32))

    def _carried(self, before: _Carried, flow: Float32, back: Float32, small: Codes) -> _Carried:
        """The mask in a frame from that in its neighbour; flow: from this frame to the neighbour."""
        seen = np.where(consistent(flow, back), np.float32(1), np.float32(self._config.trust_loss))
        trust = np.asarray(fetched(before.trust, flow) * seen, dtype=np.float32)
        probability = guided(self._probability(fetched(before.distance, flow), trust, small), small, small)
        return _Carried(signed_distance(probability > 0.5), trust)

    def _probability(self, distance: Float32, trust: Float32, small: Codes) -> Float32:
        """The probability (h, w) of being hidden, from a carried distance and the colours near its border."""
        softness = self._config.softness_share * max(self._size)
        # An untrusted border may lie further away.
        log_odds = -distance / (softness * (3 - 2 * trust))
        near = np.exp(-np.square(distance / (_REACH * softness)))
        log_odds += self._config.colour_weight * near * self._colours.log_odds(small)
        return np.asarray(1 / (1 + np.exp(-np.clip(log_odds, -30, 30))), dtype=np.float32)

    def _blended(self, frame: int, small: Codes, sides: list[tuple[_Carried, float]]) -> Bool:
        """The mask (H, W) of one frame from those carried to it and their nearness."""
        weights = [share * np.maximum(side.trust, _LEAST_TRUST) for side, share in sides]
        total = np.sum(weights, axis=0)
        parts = [weight * side.distance for weight, (side, _) in zip(weights, sides, strict=True)]
        distance = np.asarray(np.sum(parts, axis=0) / total, dtype=np.float32)
        trust = np.maximum.reduce([side.trust for side, _ in sides])
        probability = self._probability(distance, trust, small)
        return guided(probability, small, codes_of(self._images[frame])) > 0.5


def _nearness(frame: int, first: int | None, last: int | None) -> tuple[float, float]:
    """Weights of the confirmed frames before and after; the nearer one weighs more."""
    if first is None or last is None:
        return 1.0, 1.0
    share = (frame - first) / (last - first)
    return 1 - share, share


def _agreement(sides: list[_Carried]) -> float:
    """Share of the carried masks' union on which both sides agree, or one is trusted more by as much.

    With one side, its trust near the border.
    """
    if len(sides) == 1:
        border = np.abs(sides[0].distance) < 3
        return float(sides[0].trust[border].mean()) if border.any() else float(sides[0].trust.mean())
    a, b = (side.distance < 0 for side in sides)
    if not (a | b).any():
        return 1.0
    known = np.where(a == b, 1, np.abs(sides[0].trust - sides[1].trust))
    return float(known[a | b].mean())


@dataclass(frozen=True)
class _Colours:
    """Log-odds of hidden against visible, by colour code: (16, 16, 16)."""

    table: Float32

    def log_odds(self, codes: Codes) -> Float32:
        """Log-odds (H, W) of a picture (H, W, 3)."""
        bins = _bins(codes)
        return np.asarray(self.table[bins[..., 0], bins[..., 1], bins[..., 2]])


def _bins(codes: Codes) -> NDArray[np.intp]:
    """Bins of lightness, a* and b* (H, W, 3)."""
    lab = cv2.cvtColor(codes, cv2.COLOR_RGB2LAB)
    # Chroma of tissue and instruments fills a third of its range: finer bins there.
    scaled = (lab.astype(np.float32) - [0, 128, 128]) * [1 / 16, 1 / 5, 1 / 5] + [0, 8, 8]
    return np.asarray(np.clip(scaled, 0, _COLOUR_LEVELS - 1), dtype=np.intp)


def _taught_colours(images: Any, confirmed: Mapping[int, Bool], size: tuple[int, int]) -> _Colours:
    """The colours of hidden and visible pixels in the confirmed frames, away from the masks' borders."""
    counts = np.zeros((2, *(_COLOUR_LEVELS,) * 3))
    anchors = sorted(confirmed)
    for place in np.unique(np.linspace(0, len(anchors) - 1, _LEARNED).round().astype(int)).tolist():
        frame = anchors[place]
        small = shrunk(codes_of(images[frame]), size)
        mask = cv2.resize(confirmed[frame].astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST) > 0
        bins = _bins(small)
        away = np.abs(signed_distance(mask)) > 2
        for hidden in (0, 1):
            chosen = bins[(mask == bool(hidden)) & away]
            np.add.at(counts[hidden], tuple(chosen.T), 1)
    smooth = np.stack([_blurred(c) for c in counts])
    share = (smooth + 1e-6) / np.maximum(smooth.sum((1, 2, 3), keepdims=True), 1)
    floor = 1e-4
    table = np.log((share[1] + floor) / (share[0] + floor))
    return _Colours(np.asarray(np.clip(table, -_MOST_EVIDENCE, _MOST_EVIDENCE), dtype=np.float32))


def _blurred(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Counts over the three axes, each blended with its neighbours."""
    out = counts
    for axis in range(3):
        padded = np.pad(out, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
        low, high = (np.take(padded, range(k, k + _COLOUR_LEVELS), axis) for k in (0, 2))
        out = 0.25 * low + 0.5 * out + 0.25 * high
    return np.asarray(out)
