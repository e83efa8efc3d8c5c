"""Instruments in a stream: proposed from the frames so far, and corrections carried on with the picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.prepare.masks._colour import ChromaModel, fit_chroma, highlights, warmth
from splatomy.prepare.masks._flow import Bool, Codes, Float32, codes_of, fetched, shrunk, working_size
from splatomy.prepare.masks._refine import cleaned, guided, touched_parts
from splatomy.prepare.masks._shape import with_sharp_borders

_WORKING_PX = 240
_LEARN_EVERY, _REMEMBERED = 20, 12
_PROBABLE, _MAYBE = 0.6, 0.35
_SMALLEST, _LARGEST_HOLE = 0.0015, 0.003
_SHARP = 0.25
_STEADY = 0.4
_CARRIED_FRAMES = 15


class StreamMasks:
    """Grey and bluish instruments before red tissue, frame by frame; holds the colours learnt so far.

    Source: ``masks-and-depth`` A2 to A8, without the terms that look ahead; the clip's proposal
    (``propose``) uses the same colours, borders and clean-up.
    """

    def __init__(self) -> None:
        self._model: ChromaModel | None = None
        self._samples: list[Float32] = []
        self._count = 0
        self._before: tuple[Codes, Float32, Bool] | None = None

    @property
    def is_clear(self) -> bool:
        """True if grey instruments stand out from the tissue in what was seen so far."""
        return self._model is not None and self._model.clear

    def mask(self, image: NDArray[np.floating], outside: Bool) -> Bool:
        """The instruments (H, W) of the next frame (H, W, 3); outside: (H, W), the picture shows nothing."""
        height, width = outside.shape
        size = working_size(height, width, _WORKING_PX)
        full = codes_of(image)
        small = shrunk(full, size)
        visible = cv2.resize(outside.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST) == 0
        self._learn(small, visible)
        if self._model is None:
            return np.zeros((height, width), bool)
        warm, relative = warmth(small)
        log_odds = self._model.log_odds(warm, relative)
        log_odds[highlights(small) & (log_odds > 0)] = 0
        if self._before is not None and self._before[1].shape == log_odds.shape:
            log_odds = np.asarray(log_odds + _STEADY * self._before[1], np.float32)
        probability = np.asarray(1 / (1 + np.exp(-log_odds)), np.float32)
        fine = guided(probability, small, full)
        fine[outside] = 0
        sure = touched_parts(fine > _MAYBE, fine > _PROBABLE)
        sure = cv2.dilate(sure.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        mask = cleaned(np.asarray(sure), outside, _SMALLEST, _LARGEST_HOLE)
        last = None if self._before is None else self._before[2]
        mask = with_sharp_borders(mask, small, outside, last, _SHARP if self.is_clear else 2 * _SHARP)
        self._before = small, log_odds.clip(-2, 2), mask
        return np.asarray(mask)

    def _learn(self, small: Codes, visible: Bool) -> None:
        """Every so many frames the colours are learnt anew, from the newest samples."""
        if self._count % _LEARN_EVERY == 0:
            usable = visible & ~highlights(small)
            values = warmth(small)[0][usable]
            # A black frame would teach that everything is grey.
            if values.size > 100 and float(small.max(-1)[usable].mean()) > 20:
                self._samples = [*self._samples, values][-_REMEMBERED:]
                self._model = fit_chroma(np.concatenate(self._samples))
        self._count += 1


class CarriedMask:
    """A correction of one frame, carried to the next ones by the optical flow for a short time."""

    def __init__(self, area: Bool, hides: bool) -> None:
        self.hides = hides
        self._area = area.astype(np.float32)
        self._before: Codes | None = None
        self._left = _CARRIED_FRAMES
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)

    @property
    def is_over(self) -> bool:
        """True when it is not carried any further."""
        return self._left <= 0 or not (self._area > 0.5).any()

    def next_area(self, image: NDArray[np.floating]) -> Bool:
        """The area (H, W) in the next frame (H, W, 3); in the first one it is the correction itself."""
        grey = codes_of(image).mean(-1).astype(np.uint8)
        if self._before is not None:
            flow = self._flow.calc(grey, self._before, np.zeros((*grey.shape, 2), np.float32))
            self._area = np.asarray(fetched(self._area, np.asarray(flow, np.float32)), np.float32)
            self._left -= 1
        self._before = grey
        return np.asarray(self._area > 0.5)
