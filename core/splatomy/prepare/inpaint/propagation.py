"""Hidden pixels taken from other frames that show the same tissue, found along its trajectories.

Key frames every few frames are followed through the clip (``trajectories``), and the nearest frames along the
optical flow. Those that show some of a frame's hidden tissue become candidates: their colours are matched to
the light of the frame, they are blended by their expected errors, and the seam to the visible surroundings
is levelled.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from threading import Event

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.prepare.inpaint.fields import (
    Bool,
    Float32,
    composed,
    filled_smoothly,
    grown,
    read_at,
    spread,
    warped,
)
from splatomy.prepare.inpaint.motion import Motion, Recent, SmallFrame, highlights, small_frame
from splatomy.prepare.inpaint.trajectories import Tracker, Trajectories

_RING_PX = 6
"""Width of the visible ring around holes where the fill is compared with the truth, at full size."""
_GAIN_SIGMA_PX = 14.0
_ERROR_SIGMA_PX = 10.0
_ERROR_FLOOR = 0.012
"""Colour error that even a perfect match has: noise and interpolation."""
_OUTLIER = 0.04
"""Distance from the other candidates' colour from which one counts for little."""
_NEIGHBOURS = 2
"""Frames before and after that are looked at beside the key frames, along the plain flow."""
_GAINED_SHARE, _BARE_SHARE = 0.04, 0.002
"""A frame is used when it adds a candidate to the first share of the hidden pixels, or shows the second share
of those without any."""
_CHUNK = 25_000
"""Pixels blended at a time, which bounds the memory of large frames."""
_TINY = 1e-20

Places = NDArray[np.intp]


@dataclass(frozen=True)
class PropagationConfig:
    """How far and how finely tissue is followed."""

    motion_size_px: int = 320
    """Longer side of the pictures in which motion is searched."""
    reach_frames: int = 64
    """Frames followed into the past and into the future."""
    key_stride: int = 0
    """Every so many frames one is followed through the clip; 0 = 4, in short clips less."""
    candidates: int = 3
    """Candidates wanted per hidden pixel from either direction."""
    error_per_frame: float = 0.0008
    """Growth of the expected colour error with each frame of distance."""


@dataclass(frozen=True)
class _Source:
    """One frame that shows some of the hidden tissue.

    flow: (h, w, 2) px of the small size, from the target. gain: (h, w, 3). error: (h, w) expected.
    """

    frame: int
    flow: Float32
    gain: Float32
    error: Float32


@dataclass(frozen=True)
class Fill:
    """What other frames say of one frame's hidden pixels, in the order of ``hidden.nonzero()``.

    colour: (N, 3). source: (N,) frame number, -1 = none shows it. error: (N,) expected colour error.
    """

    colour: Float32
    source: NDArray[np.int64]
    error: Float32


class Propagation:
    """Follows hidden tissue through a clip; keeps a bounded number of small frames and flows."""

    def __init__(
        self,
        images: Float32,
        occluded: Bool,
        config: PropagationConfig,
        outside: Bool | None = None,
        stopped: Event | None = None,
    ) -> None:
        """outside: (H, W), True = no tissue. stopped: once set, long calls end with CancelledError."""
        self._images, self._config = images, config
        self._hidden = occluded
        self._outside = np.zeros(occluded.shape[1:], np.bool_) if outside is None else outside
        height, width = occluded.shape[1:]
        scale = min(1.0, config.motion_size_px / max(height, width))
        self._size = (max(8, round(width * scale)), max(8, round(height * scale)))
        kept = 2 * config.reach_frames + 4
        self._small: Recent[int, SmallFrame] = Recent(self._make_small, kept)
        self._motion = Motion(self._small, kept)
        stride = config.key_stride or int(np.clip(len(images) // 8, 1, 4))
        self._keys = range(min(stride // 2, len(images) - 1), len(images), stride)
        reach = config.reach_frames
        tracker = Tracker(
            self._small, self._motion, self._size, len(images), reach, Event() if stopped is None else stopped
        )
        self._begun: set[int] = set()
        self.trajectories: Recent[int, Trajectories] = Recent(tracker, 2 * reach // stride + 4)

    def _shut(self, frame: int) -> Bool:
        """Pixels (H, W) of a frame that show no tissue."""
        return np.asarray(self._hidden[frame] | self._outside)

    def _make_small(self, frame: int) -> SmallFrame:
        return small_frame(self._images[frame], self._shut(frame), self._size)

    def new_keys(self, target: int) -> list[int]:
        """The key frames within reach of a frame that no call asked for before, nearest first."""
        new = [key for key in self.keys(target) if key not in self._begun]
        self._begun.update(new)
        return new

    def keys(self, target: int) -> list[int]:
        """The key frames within reach of a frame, nearest first."""
        near = [key for key in self._keys if 0 < abs(key - target) <= self._config.reach_frames]
        return sorted(near, key=lambda key: (abs(key - target), key))

    def sources(self, target: int) -> Iterator[_Source]:
        """The frames worth looking at, nearest first in either direction."""
        for direction in (-1, 1):
            yield from self._walk(target, direction)

    def _walk(self, target: int, direction: int) -> Iterator[_Source]:
        hidden = self._hidden[target] & ~self._outside
        hidden = cv2.resize(hidden.astype(np.float32), self._size, interpolation=cv2.INTER_AREA) > 0
        num_hidden = max(int(np.count_nonzero(hidden)), 1)
        found = np.zeros(hidden.shape, np.int32)
        for frame, flow in self._flows(target, direction):
            seen = warped(self._small(frame).clear, flow, cv2.BORDER_CONSTANT) > 0.99
            shown = hidden & seen
            gained = np.count_nonzero(shown & (found < self._config.candidates)) / num_hidden
            bare = np.count_nonzero(shown & (found == 0)) / num_hidden
            if gained >= _GAINED_SHARE or bare >= _BARE_SHARE:
                found += shown
                yield self._judged(target, frame, flow, self._small(target).clear * seen)
            if not np.any(hidden & (found < self._config.candidates)):
                return

    def _flows(self, target: int, direction: int) -> Iterator[tuple[int, Float32]]:
        """Frames on one side, nearest first, with the flow (h, w, 2) from the target to them."""
        flow = np.zeros((self._size[1], self._size[0], 2), np.float32)
        for offset in range(1, _NEIGHBOURS + 1):
            frame = target + direction * offset
            if not 0 <= frame < len(self._images):
                return
            flow = composed(flow, self._motion.step((frame - direction, frame)))
            if frame not in self._keys:
                yield frame, flow
            else:
                yield frame, self.trajectories(frame).flow_from(target, self._size)
        for key in self.keys(target):
            if (key - target) * direction > _NEIGHBOURS:
                yield key, self.trajectories(key).flow_from(target, self._size)

    def _judged(self, target: int, frame: int, flow: Float32, seen: Float32) -> _Source:
        here, there = self._small(target), self._small(frame)
        colour = warped(there.colour, flow)
        alike = seen * here.plain * (warped(there.plain, flow) > 0.99)
        gain = self._gain(here.colour, colour, alike)
        red, green, blue = np.moveaxis((here.colour - gain * colour) ** 2, -1, 0)
        # Many times as fast as a mean along so short an axis.
        squared = (red + green + blue) / np.float32(3)
        local, mass = spread(squared[..., None], alike, _ERROR_SIGMA_PX)
        total = max(float(alike.sum()), 1.0)
        overall = float((squared * alike).sum()) / total
        variance = (mass * local[..., 0] + 0.02 * overall) / (mass + 0.02)
        age = self._config.error_per_frame * abs(frame - target)
        return _Source(frame, flow, gain, np.sqrt(variance + age**2 + _ERROR_FLOOR**2))

    def _gain(self, here: Float32, there: Float32, alike: Float32) -> Float32:
        """Ratios (h, w, 3) of the local means of two pictures, led on into the holes from around them."""
        mean_here, mass = spread(here, alike, _GAIN_SIGMA_PX)
        mean_there, _ = spread(there, alike, _GAIN_SIGMA_PX)
        known = (mass / (mass + 0.02)).astype(np.float32)
        if known.max() < 0.01:
            return np.ones_like(here)
        ratio = np.log((mean_here + 0.01) / (mean_there + 0.01))
        led_on = filled_smoothly(ratio, known)
        return np.asarray(np.clip(np.exp(led_on), 0.5, 2.0), np.float32)

    def fill(self, target: int) -> Generator[None, None, Fill]:
        """The hidden pixels of one frame, from all frames that show them; yields after every frame seen."""
        hidden = self._hidden[target] & ~self._outside
        sources = []
        for source in self.sources(target):
            sources.append(source)
            yield
        if not sources:
            none = np.full(int(np.count_nonzero(hidden)), -1, np.int64)
            return Fill(np.zeros((len(none), 3), np.float32), none, np.ones(len(none), np.float32))
        rows, columns = (grown(hidden, _RING_PX) & ~self._outside).nonzero()
        blends: list[Fill] = []
        for start in range(0, len(rows), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            blends.append(self._blended(sources, rows[chunk], columns[chunk]))
            yield
        source_of = np.concatenate([blend.source for blend in blends])
        colour = np.concatenate([blend.colour for blend in blends])
        inner = hidden[rows, columns]
        colour = self._levelled(target, rows, columns, colour, inner, source_of >= 0)
        error = np.concatenate([blend.error for blend in blends])
        return Fill(colour[inner], source_of[inner], error[inner])

    def _blended(self, sources: list[_Source], rows: Places, columns: Places) -> Fill:
        """The candidates of all sources at pixels (N,) of the target, blended by their expected errors."""
        stack = np.empty((len(sources), len(rows), 3), np.float32)
        weight = np.empty(stack.shape[:2], np.float32)
        errors = np.empty(stack.shape[:2], np.float32)
        for k, source in enumerate(sources):
            stack[k], shown, errors[k] = self._sampled(source, rows, columns)
            weight[k] = shown * (_ERROR_FLOOR / errors[k]) ** 4
        weight = _robust(stack, weight)
        total = weight.sum(0)
        colour = np.einsum("knc,kn->nc", stack, weight) / np.maximum(total, _TINY)[:, None]
        best, given = weight.argmax(0), total > 0
        source_of = np.where(given, np.array([source.frame for source in sources])[best], -1)
        error = np.where(given, np.take_along_axis(errors, best[None], 0)[0], 1.0)
        return Fill(colour, source_of, error.astype(np.float32))

    def _sampled(self, source: _Source, rows: Places, columns: Places) -> tuple[Float32, Float32, Float32]:
        """Colours (N, 3), whether shown (N,) and expected error (N,) at full-size pixels of the target."""
        height, width = self._outside.shape
        sx, sy = width / self._size[0], height / self._size[1]
        x_small = (columns + 0.5) / sx - 0.5
        y_small = (rows + 0.5) / sy - 0.5
        flow = read_at(source.flow, x_small, y_small)
        x, y = columns + flow[:, 0] * sx, rows + flow[:, 1] * sy
        colour = read_at(self._images[source.frame], x, y, cv2.INTER_CUBIC)
        blocked = grown(self._shut(source.frame), 1).astype(np.float32)
        clear = read_at(blocked, x, y, outside=1.0) < 0.01
        inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
        gain, error = read_at(source.gain, x_small, y_small), read_at(source.error, x_small, y_small)
        return colour * gain, (clear & inside).astype(np.float32), error

    def _levelled(
        self,
        target: int,
        rows: Places,
        columns: Places,
        blend: Float32,
        inner: Bool,
        given: Bool,
    ) -> Float32:
        """The blend (N, 3) with the mismatch of the visible ring led smoothly into the hole."""
        shape = self._outside.shape
        observed = self._images[target][rows, columns]
        usable = ~inner & given & ~highlights(observed) & (np.abs(observed - blend).max(-1) < 0.15)
        mismatch = np.zeros((*shape, 3), np.float32)
        weight = np.zeros(shape, np.float32)
        mismatch[rows, columns] = (observed - blend) * usable[:, None]
        weight[rows, columns] = usable
        level, mass = spread(mismatch, weight, 2.0 * _RING_PX)
        # Far from the ring nothing is known of the mismatch: it fades out.
        level *= (mass / (mass + 0.05))[..., None]
        return np.asarray(np.clip(blend + level[rows, columns], 0, 1), np.float32)


def _robust(stack: Float32, weight: Float32) -> Float32:
    """Weights (K, N) of candidates (K, N, 3), lowered for those far from the others: highlights, slips.

    Source: iteratively reweighted mean with Cauchy weights.
    """
    lowered = weight
    for _ in range(3):
        total = np.maximum(lowered.sum(0), _TINY)
        centre = np.einsum("knc,kn->nc", stack, lowered) / total[:, None]
        away = stack - centre
        lowered = weight / (1 + np.einsum("knc,knc->kn", away, away) / (3 * _OUTLIER**2))
    return np.asarray(lowered)
