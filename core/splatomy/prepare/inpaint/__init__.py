"""Instruments taken out of a clip without any trained weights.

Hidden tissue is carried over from frames that show it (``propagation``); what no frame shows is filled from
its surroundings (``completion``); every pixel says where it came from (``provenance``); how well it went is
measured where the truth is known (``gate``).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from splatomy.capture import Capture
from splatomy.checks import check_shapes
from splatomy.errors import InputError
from splatomy.events import Notice, Progress, Task
from splatomy.prepare.inpaint.completion import complete
from splatomy.prepare.inpaint.fields import Bool, Float32
from splatomy.prepare.inpaint.propagation import Fill, Propagation, PropagationConfig
from splatomy.prepare.inpaint.provenance import OBSERVED, SYNTHESISED, Inpainting, provenance_type

__all__ = [
    "OBSERVED",
    "SYNTHESISED",
    "Inpainting",
    "PropagationConfig",
    "inpaint",
    "inpaint_frames",
]

_TRUSTED_ERROR = 0.05


def inpaint(capture: Capture, config: PropagationConfig | None = None) -> Task[Capture]:
    """The capture without its instruments: images filled, ``synthetic`` set, provenance noted.

    ``details["inpainting"]`` holds the ``Inpainting`` with the maps of provenance and confidence.

    Raises:
        InputError: the masks hide every pixel of every frame, or the images have no colour.
    """
    if capture.occluded is None or not capture.occluded.any():
        yield Notice("info", "nothing-hidden", "No pixel is hidden, so nothing was inpainted.")
        return capture
    found = yield from inpaint_frames(capture.images, capture.occluded, None, config)
    return replace(found.applied(capture), details={**capture.details, "inpainting": found})


def inpaint_frames(
    images: Float32,
    occluded: Bool,
    frames: NDArray[np.integer] | None = None,
    config: PropagationConfig | None = None,
    out: Float32 | None = None,
) -> Task[Inpainting]:
    """A clip with its hidden pixels filled, and where each of them came from.

    images: (T, H, W, 3) sRGB in [0, 1]. occluded: (T, H, W), True = hidden.
    frames: numbers of the frames to fill, the others stay as they are and count as synthesised where hidden;
        None = all.
    out: where the filled images are written, for clips that shall not be held twice (for example a
        memory-mapped array); None = a new array.

    Memory beyond inputs and outputs does not grow with the number of frames. Closing the task between two
    events leaves ``out`` with the frames that were done.

    Raises:
        InputError: the masks hide every pixel of every frame, or the images have no colour.
    """
    check_shapes(images=(images, "T H W C"), occluded=(occluded, "T H W"))
    if images.shape[-1] != 3:
        raise InputError(
            f"Inpainting expects colour images with 3 channels, got {images.shape[-1]}; give the colour clip."
        )
    shown = sum(int(np.count_nonzero(~hidden)) for hidden in occluded)
    if not shown:
        raise InputError(
            "The masks hide every pixel of every frame, so there is no tissue to fill from: check what the "
            "masks mean (--masks-mean hidden or visible)."
        )
    propagation = Propagation(images, occluded, config or PropagationConfig())
    filled = np.empty(images.shape, np.float32) if out is None else out
    provenance = np.zeros(occluded.shape, provenance_type(len(images)))
    confidence = np.ones(occluded.shape, np.float32)
    typical = _typical_colour(images, occluded)
    for frame, hidden in enumerate(occluded):
        filled[frame] = images[frame]
        yield Progress("inpaint", frame, len(images))
        if not hidden.any():
            continue
        if frames is not None and frame not in frames:
            provenance[frame][hidden], confidence[frame][hidden] = SYNTHESISED, 0.0
            continue
        fill = yield from _announced(propagation.fill(frame), Progress("inpaint", frame, len(images)))
        picture = images[frame].copy()
        picture[hidden] = fill.colour
        provenance[frame][hidden] = np.where(fill.source >= 0, fill.source + 1, SYNTHESISED)
        missing = provenance[frame] == SYNTHESISED
        filled[frame], made_up = complete(picture, missing, typical)
        confidence[frame][hidden] = 1 / (1 + (fill.error / _TRUSTED_ERROR) ** 2)
        confidence[frame][missing] = made_up[missing]
    yield Progress("inpaint", len(images), len(images))
    return Inpainting(filled, provenance, confidence)


def _announced(steps: Generator[None, None, Fill], progress: Progress) -> Task[Fill]:
    """The product of a silent generator, with the same event at each of its steps."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            fill: Fill = stop.value
            return fill
        yield progress


def _typical_colour(images: Float32, occluded: Bool) -> Float32:
    """Mean colour (3,) of the visible tissue of up to 16 frames."""
    chosen = np.unique(np.linspace(0, len(images) - 1, 16).astype(int))
    seen = [images[t][~occluded[t]] for t in chosen if not occluded[t].all()]
    if not seen:
        seen = [images[t][~occluded[t]] for t in np.flatnonzero(~occluded.all((1, 2)))[:1]]
    return np.asarray(np.concatenate(seen).mean(0), np.float32)
