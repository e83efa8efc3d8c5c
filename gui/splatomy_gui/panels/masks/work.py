"""The automatic steps on masks, for other threads: proposals, propagation, interpolation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from splatomy.events import Progress, Task
from splatomy.io.frame_source import storage
from splatomy.review import FrameReview, Mask, MaskReview, ReviewState
from splatomy_gui.frames import ClipFrames, Frames

_COLOUR_FRAMES = 9
Region = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom do not belong to it."""


@dataclass(frozen=True)
class Masks:
    """Masks that the software made: frame -> (mask (H, W), confidence in [0, 1])."""

    by_frame: Mapping[int, tuple[Mask, float]]
    state: ReviewState


def proposed(frames: ClipFrames, wanted: int | None) -> Task[Masks]:
    """Instruments found by colour and motion, of all frames or of one.

    Colours are learned from the whole clip, so one frame is looked at together with some that are spread
    over it, and with its neighbours, whose motion tells the instruments.
    """
    from splatomy.prepare.masks import propose

    count = frames.count
    if wanted is None:
        index = list(range(count))
    else:
        spread = np.linspace(0, count - 1, min(_COLOUR_FRAMES, count)).round().astype(int).tolist()
        near = [n for n in range(wanted - 1, wanted + 2) if 0 <= n < count]
        index = sorted({*spread, *near})
    product = yield from propose(frames.clip.images[index], outside=frames.clip.outside, storage=storage)
    chosen = [(n, f) for n, f in enumerate(index) if wanted in (None, f)]
    found = {frame: (product.occluded[n], float(product.confidence[n])) for n, frame in chosen}
    return Masks(found, ReviewState.PROPOSED)


def propagated(frames: Frames, anchors: Mapping[int, Mask], first: int, last: int) -> Task[Masks]:
    """Masks of the frames ``first`` to ``last``, carried from the anchors among them.

    In a clip they follow the tissue and the instruments. What moves in a DSA run is contrast, which tells
    nothing of a catheter or of bone: there masks stay as they are, and are blended between two anchors.
    """
    from splatomy.prepare.masks import propagate

    inside = {frame: mask for frame, mask in sorted(anchors.items()) if first <= frame <= last}
    if not isinstance(frames, ClipFrames):
        return (yield from _held(inside, first, last))
    index = list(range(first, last + 1))
    images = frames.clip.images[index]
    product = yield from propagate(images, {f - first: m for f, m in inside.items()}, storage=storage)
    found = {
        frame: (product.occluded[n], float(product.confidence[n]))
        for n, frame in enumerate(index)
        if product.spread[n]
    }
    return Masks(found, ReviewState.PROPAGATED)


def _held(anchors: Mapping[int, Mask], first: int, last: int) -> Task[Masks]:
    """Masks that stay before the first and after the last anchor, and are blended between them."""
    numbers = list(anchors)
    found: dict[int, tuple[Mask, float]] = {}
    for before, after in pairwise(numbers):
        between = yield from interpolated(before, after, (anchors[before], anchors[after]))
        found.update(between.by_frame)
    for frame in (*range(first, numbers[0]), *range(numbers[-1] + 1, last + 1)):
        nearest = numbers[0] if frame < numbers[0] else numbers[-1]
        found[frame] = (anchors[nearest], 1 / (1 + abs(frame - nearest)))
    return Masks(found, ReviewState.PROPAGATED)


def interpolated(before: int, after: int, masks: tuple[Mask, Mask]) -> Task[Masks]:
    """Masks of the frames between two, by the distance to the borders of theirs; needs no pictures."""
    from splatomy.prepare.masks import interpolate

    found: dict[int, tuple[Mask, float]] = {}
    for frame in range(before + 1, after):
        yield Progress("interpolate masks", frame - before - 1, after - before - 1)
        share = (frame - before) / (after - before)
        edit = interpolate(masks[0], *masks, share)
        # Nothing of the pictures was looked at: the surer, the nearer to a confirmed frame.
        found[frame] = (edit.mask, 1 - min(share, 1 - share))
    return Masks(found, ReviewState.PROPAGATED)


def taken_over(review: MaskReview, masks: Masks, region: Region | None) -> dict[int, FrameReview]:
    """The frames with their new automatic masks; those that a person worked on are left out.

    region: outside of it the mask stays as it is.
    """
    taken = {}
    for number, (mask, confidence) in masks.by_frame.items():
        frame = review.frames[number]
        if frame.state.by_a_person:
            continue
        if region is not None:
            left, top, right, bottom = region
            whole = review.hidden(number)
            whole[top:bottom, left:right] = mask[top:bottom, left:right]
            mask = whole
        taken[number] = frame.with_auto(mask, masks.state, confidence)
    return taken


def hidden_shares(review: MaskReview, frames: Iterable[int]) -> Task[dict[int, float]]:
    """The share of the picture that is hidden, of some frames."""
    found = {}
    wanted = list(frames)
    for n, frame in enumerate(wanted):
        yield Progress("check masks", n, len(wanted))
        found[frame] = float(review.hidden(frame).mean())
    return found


def load_tools() -> None:
    """Loads what the tools need, so that a first stroke does not wait for it."""
    import splatomy.prepare.masks  # noqa: F401
