"""Motion of the tissue between any two frames of a clip, also where an instrument hides it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock, local
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.prepare.inpaint.fields import (
    Bool,
    Float32,
    composed,
    filled_smoothly,
    grown,
    spread,
    squared_length,
    thin_plate,
    warped,
)

K = TypeVar("K")
V = TypeVar("V")

_RIM_PX = 2
"""Around a hole, where patches of the flow search still see the instrument."""
_MISLED = 0.03
"""Share of the picture's longer side around a hole in which its filling misleads the first search."""
_HIGHLIGHT = 0.93
"""Brightness (largest channel) from which a pixel of low saturation is a reflection of the light."""


class Recent(Generic[K, V]):
    """The most recently used results of a function; what was longest unused is forgotten first.

    Safe to call from several threads: what one of them is making the others wait for.
    """

    def __init__(self, make: Callable[[K], V], size: int) -> None:
        self._make, self._size = make, size
        self._kept: OrderedDict[K, Future[V]] = OrderedDict()
        self._lock = Lock()

    def __call__(self, key: K) -> V:
        """The result for ``key``, made when it is not kept."""
        with self._lock:
            known = self._kept.get(key)
            result: Future[V] = Future() if known is None else known
            self._kept[key] = result
            self._kept.move_to_end(key)
            if len(self._kept) > self._size:
                self._kept.popitem(last=False)
        if known is None:
            try:
                result.set_result(self._make(key))
            except BaseException as error:
                with self._lock:
                    self._kept.pop(key, None)
                result.set_exception(error)
                raise
        return result.result()


@dataclass(frozen=True)
class SmallFrame:
    """A frame at the size at which motion is searched.

    grey: (h, w) uint8 with holes filled. colour: (h, w, 3) sRGB in [0, 1]. hidden: (h, w) in {0, 1}.
    clear: (h, w) in {0, 1}, 1 = tissue is visible, away from the rim of any hole. plain: (h, w) likewise,
    without highlights.
    """

    grey: NDArray[np.uint8]
    colour: Float32
    hidden: Float32
    clear: Float32
    plain: Float32


def highlights(colour: Float32) -> Bool:
    """Pixels (...) of sRGB colours (..., 3) that show the mirrored light rather than the tissue."""
    red, green, blue = np.moveaxis(colour, -1, 0)
    # Ten times as fast as the largest and smallest along so short an axis.
    high = np.maximum(np.maximum(red, green), blue)
    low = np.minimum(np.minimum(red, green), blue)
    return np.asarray((high > _HIGHLIGHT) & (low > 0.5 * high))


def small_frame(image: Float32, hidden: Bool, size: tuple[int, int]) -> SmallFrame:
    """The frame (H, W, 3), hidden (H, W), at size (width, height)."""
    colour = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32)
    covered = cv2.resize(hidden.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
    clear = (~grown(covered, _RIM_PX)).astype(np.float32)
    filled = filled_smoothly(colour, (~covered).astype(np.float32))
    grey = cv2.cvtColor(np.clip(filled * 255, 0, 255).astype(np.uint8), cv2.COLOR_RGB2GRAY)
    glare = grown(highlights(colour), 1)
    return SmallFrame(np.asarray(grey, np.uint8), colour, covered.astype(np.float32), clear, clear * ~glare)


class Motion:
    """Flow between frames of a clip at a reduced size, and its chains over long ranges.

    small: frame number -> SmallFrame.

    Source: dense inverse search (Kroeger et al., ECCV 2016); completion and drift control are ours.
    """

    def __init__(self, small: Callable[[int], SmallFrame], kept: int) -> None:
        self._small = small
        self._finders = local()
        self._plain: Recent[tuple[int, int], Float32] = Recent(self._plain_step, 8)
        self.step: Recent[tuple[int, int], Float32] = Recent(self._step, 2 * kept)

    def _found(self, here: NDArray[np.uint8], there: NDArray[np.uint8]) -> Float32:
        """Flow (h, w, 2) between two grey pictures (h, w)."""
        # A finder keeps its pyramids between calls, so each thread needs its own.
        if not hasattr(self._finders, "own"):
            self._finders.own = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        finder: Any = self._finders.own
        return np.asarray(finder.calc(here, there, np.zeros((*here.shape, 2), np.float32)))

    def _search(self, a: int, b: int, guess: Float32) -> Float32:
        """Flow (h, w, 2) from a to b near a guess, which is taken out of b, so that only drift is searched.

        Where either frame is hidden, or b ends, both pictures are given the same content: patches that reach
        into a hole then pull at nothing instead of at the instrument or its filling.
        """
        here, there = self._small(a), self._small(b)
        moved = warped(there.grey, guess)
        blind = (here.hidden > 0) | (warped(1 - there.hidden, guess, cv2.BORDER_CONSTANT) < 1)
        return composed(self._found(here.grey, np.where(blind, here.grey, moved)), guess)

    def _seen(self, a: int, b: int, flow: Float32) -> Float32:
        """Where (h, w) both ends of a flow from a to b show tissue, in {0, 1}."""
        return self._small(a).clear * (warped(self._small(b).clear, flow, cv2.BORDER_CONSTANT) > 0.99)

    def _plain_step(self, pair: tuple[int, int]) -> Float32:
        """Flow (h, w, 2) between neighbours, searched with the filled holes in sight."""
        return self._found(self._small(pair[0]).grey, self._small(pair[1]).grey)

    def _step(self, pair: tuple[int, int]) -> Float32:
        a, b = pair
        flow, back = self._plain(pair), self._plain((b, a))
        gap = flow + warped(back, flow)
        size = squared_length(flow) + squared_length(back)
        agrees = squared_length(gap) < 0.01 * size + 0.5
        away = grown(self._small(a).hidden > 0, round(_MISLED * max(flow.shape)))
        guess = completed(flow, self._seen(a, b, flow) * agrees * ~away)
        flow = self._search(a, b, guess)
        # Occlusion by the tissue itself shows as disagreement; near holes only the second search counts.
        return completed(flow, self._seen(a, b, flow) * (agrees | away))

    def refined(self, a: int, b: int, guess: Float32) -> tuple[Float32, Float32]:
        """Flow (h, w, 2) from a to b near a guess, and where (h, w) it was measured, in {0, 1}.

        What no pair of visible pixels shows keeps the guess, shifted as its surroundings are.
        """
        flow = self._search(a, b, guess)
        correction = flow - guess
        seen = self._seen(a, b, flow)
        typical, _ = spread(correction, seen, 4.0)
        seen *= squared_length(correction - typical) < 4.0
        return guess + completed(correction, seen), seen


def completed(flow: Float32, seen: Float32) -> Float32:
    """Flow (h, w, 2) kept where ``seen`` (h, w), elsewhere what its surroundings go on to."""
    if seen.min() > 0:
        return flow
    plate = thin_plate(flow, seen)
    return plate + filled_smoothly(flow - plate, seen)
