"""Instruments taken out of a clip without any trained weights.

Hidden tissue is carried over from frames that show it (``propagation``); what no frame shows is filled from
its surroundings (``completion``); every pixel says where it came from (``provenance``); how well it went is
measured where the truth is known (``gate``).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from threading import Event

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
_MOST_WORKERS = 16
_WAIT_S = 0.25


def inpaint(capture: Capture, config: PropagationConfig | None = None) -> Task[Capture]:
    """The capture without its instruments: images filled, ``synthetic`` set, provenance noted.

    ``details["inpainting"]`` holds the ``Inpainting`` with the maps of provenance and confidence.

    Raises:
        InputError: the masks hide every pixel of every frame, or the images have no colour.
    """
    if capture.occluded is None or not capture.occluded.any():
        yield Notice("info", "nothing-hidden", "No pixel is hidden, so nothing was inpainted.")
        return capture
    found = yield from inpaint_frames(capture.images, capture.occluded, None, config, outside=capture.outside)
    return replace(found.applied(capture), details={**capture.details, "inpainting": found})


def inpaint_frames(
    images: Float32,
    occluded: Bool,
    frames: NDArray[np.integer] | None = None,
    config: PropagationConfig | None = None,
    out: Float32 | None = None,
    outside: Bool | None = None,
) -> Task[Inpainting]:
    """A clip with its hidden pixels filled, and where each of them came from.

    images: (T, H, W, 3) sRGB in [0, 1]. occluded: (T, H, W), True = hidden.
    frames: numbers of the frames to fill, the others stay as they are and count as synthesised where hidden;
        None = all.
    out: where the filled images are written, for clips that shall not be held twice (for example a
        memory-mapped array); None = a new array.
    outside: (H, W), True = no frame shows anything there (the black about a round picture): never filled,
        never a source, OBSERVED in the map of provenance.

    Frames are filled by as many threads as there are cores (16 at most); the result does not depend on their
    number or timing. Memory beyond inputs and outputs does not grow with the number of frames. Closing the
    task between two events leaves ``out`` with the frames that were done.

    Raises:
        InputError: the masks hide every pixel of every frame, or the images have no colour.
    """
    check_shapes(images=(images, "T H W C"), occluded=(occluded, "T H W"))
    if images.shape[-1] != 3:
        raise InputError(
            f"Inpainting expects colour images with 3 channels, got {images.shape[-1]}; give the colour clip."
        )
    outside = np.zeros(occluded.shape[1:], np.bool_) if outside is None else outside
    shown = sum(int(np.count_nonzero(~(hidden | outside))) for hidden in occluded)
    if not shown:
        raise InputError(
            "The masks hide every pixel of every frame, so there is no tissue to fill from: check what the "
            "masks mean (--masks-mean hidden or visible)."
        )
    filled = np.empty(images.shape, np.float32) if out is None else out
    provenance = np.zeros(occluded.shape, provenance_type(len(images)))
    confidence = np.ones(occluded.shape, np.float32)
    typical = _typical_colour(images, occluded | outside)
    stopped = Event()
    propagation = Propagation(images, occluded, config or PropagationConfig(), outside, stopped)
    behind = [bool(np.any(hidden & ~outside)) for hidden in occluded]
    wanted = (t for t in range(len(images)) if behind[t] and (frames is None or t in frames))
    pool = ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_WORKERS), "inpaint")
    try:
        fills = _filling(pool, propagation, wanted, stopped)
        for frame in range(len(images)):
            filled[frame] = images[frame]
            yield Progress("inpaint", frame, len(images))
            hidden = occluded[frame] & ~outside
            if not behind[frame]:
                continue
            if frames is not None and frame not in frames:
                provenance[frame][hidden], confidence[frame][hidden] = SYNTHESISED, 0.0
                continue
            result = next(fills)
            while not wait([result], _WAIT_S).done:
                yield Progress("inpaint", frame, len(images))
            fill = result.result()
            picture = np.array(images[frame], np.float32)
            picture[hidden] = fill.colour
            provenance[frame][hidden] = np.where(fill.source >= 0, fill.source + 1, SYNTHESISED)
            missing = provenance[frame] == SYNTHESISED
            whole, made_up = complete(picture, missing, typical, outside)
            filled[frame] = whole
            confidence[frame][hidden] = 1 / (1 + (fill.error / _TRUSTED_ERROR) ** 2)
            confidence[frame][missing] = made_up[missing]
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)
    yield Progress("inpaint", len(images), len(images))
    return Inpainting(filled, provenance, confidence)


def _filling(
    pool: ThreadPoolExecutor, propagation: Propagation, frames: Iterator[int], stopped: Event
) -> Iterator[Future[Fill]]:
    """The fills of frames, in their order, begun a little ahead together with the key frames they need."""
    ahead: deque[Future[Fill]] = deque()
    for frame in frames:
        for key in propagation.new_keys(frame):
            pool.submit(propagation.trajectories, key)
        ahead.append(pool.submit(_filled, propagation, frame, stopped))
        if len(ahead) > 2 * _MOST_WORKERS:
            yield ahead.popleft()
    yield from ahead


def _filled(propagation: Propagation, frame: int, stopped: Event) -> Fill:
    steps = propagation.fill(frame)
    while not stopped.is_set():
        try:
            next(steps)
        except StopIteration as stop:
            fill: Fill = stop.value
            return fill
    raise CancelledError


def _typical_colour(images: Float32, occluded: Bool) -> Float32:
    """Mean colour (3,) of the visible tissue of up to 16 frames."""
    chosen = np.unique(np.linspace(0, len(images) - 1, 16).astype(int))
    seen = [images[t][~occluded[t]] for t in chosen if not occluded[t].all()]
    if not seen:
        seen = [images[t][~occluded[t]] for t in np.flatnonzero(~occluded.all((1, 2)))[:1]]
    return np.asarray(np.concatenate(seen).mean(0), np.float32)
