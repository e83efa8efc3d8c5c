"""Propagation as an inpainter that is judged, without filling the same holes twice."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from splatomy.events import Task
from splatomy.prepare.inpaint import Inpainting, inpaint_frames
from splatomy.prepare.inpaint.fields import Bool, Float32


class KeptPropagation:
    """Fills by propagation and remembers it; what it returns must not be written to.

    outside: (H, W), True = no tissue there. whole: fill all frames of a clip, whichever are asked for.
    """

    def __init__(self, outside: Bool | None = None, whole: bool = False) -> None:
        self._outside, self._whole = outside, whole
        self._kept: dict[bytes, Inpainting] = {}

    def __call__(
        self, images: Float32, occluded: Bool, frames: NDArray[np.integer] | None
    ) -> Task[Inpainting]:
        """The filled clip, as an ``Inpainter``."""
        wanted = None if self._whole else frames
        named = b"" if wanted is None else np.asarray(wanted).tobytes()
        key = hashlib.sha256(np.packbits(occluded).tobytes() + named).digest()
        if key not in self._kept:
            self._kept[key] = yield from inpaint_frames(images, occluded, wanted, outside=self._outside)
        return self._kept[key]
