"""What a frame needs before it can be used: what hides the tissue, and how deep it lies."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.engine.tissue_products import eight_bit
from splatomy.errors import InputError
from splatomy.events import Notice
from splatomy.io.live_sources import LiveFrame, SourceInfo
from splatomy.io.options import InputOptions
from splatomy.methods.live_scene.frames import Observation, usable
from splatomy.prepare.masks.stream import CarriedMask, StreamMasks
from splatomy.prepare.onnx import OnnxModel
from splatomy.prepare.onnx_depth import OnnxDepthConfig
from splatomy.prepare.onnx_masks import Segmenter, load_segmenter
from splatomy.prepare.stream_depth import LightShape, ModelShape, PairDepth, Shape

_NEAR_MM, _FAR_MM = 15.0, 250.0
_PROBABLE = 0.5
_TRIES = 3


@dataclass(frozen=True)
class Prepared:
    """A frame with what hides its tissue, (H, W), and its depth, (H, W) mm, or its shape, up to scale.

    received_s: on the session's wall clock. skipped: frames since the last one that were not taken.
    good: what may be used of the frame, (H, W), where that was looked for.
    """

    frame: LiveFrame
    occluded: NDArray[np.bool_]
    depth_mm: NDArray[np.float32] | None
    shape: NDArray[np.float32] | None
    received_s: float
    skipped: int = 0
    good: NDArray[np.bool_] | None = None


class Preparer:
    """Masks and depth of frames, one after the other, by whatever the source and the user give.

    Masks: with the frame, else by the user's model, else by colour. Depth: with the frame, else from two
    eyes, else a shape by the user's model or by the light, which the session lays over its map.
    """

    def __init__(self, info: SourceInfo, options: InputOptions, device: str) -> None:
        self.info = info
        self.outside = (
            np.zeros((info.height_px, info.width_px), bool) if info.outside is None else info.outside
        )
        # Beside a GPU there are cores to spare, which on a CPU would work for frames that nobody takes.
        self._looks_ahead = device.startswith("cuda")
        self.stride = 1
        """The models run on every so many frames."""
        self.corrections: list[CarriedMask] = []
        self.notices: list[Notice] = []
        self._segmenter: Segmenter | None = None
        if options.mask_model is not None:
            self._segmenter = load_segmenter(options.mask_model, device, options.mask_classes)
            self.notices += self._segmenter.notices
        self._colours = StreamMasks()
        self._pair: PairDepth | None = None
        if info.baseline_mm is not None:
            size = (info.width_px, info.height_px)
            self._pair = PairDepth(info.intrinsics, info.baseline_mm, *size, _NEAR_MM, _FAR_MM)
        self._shape: Shape = LightShape(info.intrinsics, info.width_px, info.height_px)
        self.depth_source = "the light's fall-off"
        if options.depth_model is not None:
            model = OnnxModel(options.depth_model, device)
            self.notices += model.notices
            config = OnnxDepthConfig(**_gives(options))
            self._shape = ModelShape(model, config, info.width_px, info.height_px)
            self.depth_source = f"the network {model.name}"
        self._count = 0
        self._failed = {"mask": 0, "depth": 0}
        self._last_mask: CarriedMask | None = None
        # The front's thread prepares, the session's corrects and fills gaps.
        self._lock = threading.Lock()

    def prepare(self, frame: LiveFrame, received_s: float, skipped: int) -> Prepared:
        """The frame with masks and depth; a model that fails is left out after some tries."""
        with self._lock:
            return self._prepared(frame, received_s, skipped)

    def _prepared(self, frame: LiveFrame, received_s: float, skipped: int) -> Prepared:
        runs = self._count % self.stride == 0
        self._count += 1
        occluded = self._mask(frame, runs) | self.outside
        for correction in self.corrections:
            area = correction.next_area(frame.image)
            occluded = occluded | area if correction.hides else occluded & ~area
        self.corrections = [c for c in self.corrections if not c.is_over]
        depth, shape = frame.depth_mm, None
        if depth is None and self._pair is not None and frame.right is not None:
            self.depth_source = "two eyes"
            depth = self._pair.depth_mm(frame.image, frame.right, occluded)
        elif depth is None and runs:
            shape = self._inverse_depth(frame.image, occluded)
        good = None
        if self._looks_ahead:
            good = usable(Observation(frame.index, frame.time_s, frame.image, None, occluded))
        return Prepared(frame, occluded, depth, shape, received_s, skipped, good)

    def correct(self, area: NDArray[np.bool_], hides: bool) -> CarriedMask:
        """Carries a correction (H, W) of the newest frame on to the next ones."""
        correction = CarriedMask(area, hides)
        with self._lock:
            self.corrections = [*self.corrections, correction]
        return correction

    def withdraw(self, correction: CarriedMask) -> None:
        """Takes a correction back."""
        with self._lock:
            self.corrections = [c for c in self.corrections if c is not correction]

    def _mask(self, frame: LiveFrame, runs: bool) -> NDArray[np.bool_]:
        if frame.occluded is not None:
            return frame.occluded
        if not runs and self._last_mask is not None:
            return self._last_mask.next_area(frame.image)
        found: NDArray[np.bool_] | None = None
        if self._segmenter is not None:
            found = self._segmented(self._segmenter, frame.image)
        if found is None:
            found = self._colours.mask(frame.image, self.outside)
        self._last_mask = CarriedMask(found, True)
        self._last_mask.next_area(frame.image)
        return found

    def _segmented(self, segmenter: Segmenter, image: NDArray[np.float32]) -> NDArray[np.bool_] | None:
        try:
            probability = segmenter.probability(eight_bit(image))
            if not np.isfinite(probability).all():
                raise InputError("The mask model gave values that are no numbers; expected probabilities.")
        except (InputError, RuntimeError) as error:
            if self._fails("mask", error):
                self._segmenter = None
            return None
        return np.asarray(probability > _PROBABLE)

    def _inverse_depth(
        self, image: NDArray[np.float32], occluded: NDArray[np.bool_]
    ) -> NDArray[np.float32] | None:
        try:
            found = self._shape.inverse_depth(image, occluded)
            if not np.isfinite(found).any():
                raise InputError("The depth model gave no number at all; expected a map of depth.")
            return found
        except (InputError, RuntimeError) as error:
            if self._fails("depth", error):
                self._shape = LightShape(self.info.intrinsics, self.info.width_px, self.info.height_px)
                self.depth_source = "the light's fall-off"
            return None

    def _fails(self, which: str, error: Exception) -> bool:
        """Tells of a model's failure; True when it is to be left out from now on."""
        self._failed[which] += 1
        if self._failed[which] == _TRIES:
            text = f"The {which} model fails and is no longer used: {error}"
            self.notices.append(Notice("warning", f"{which}-model", text))
        return self._failed[which] >= _TRIES


def _gives(options: InputOptions) -> dict[str, Any]:
    return {} if options.depth_model_output is None else {"output": options.depth_model_output}
