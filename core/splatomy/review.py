"""Masks under review: three layers and a state for every frame of a clip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


class ReviewState(StrEnum):
    """Where a frame's mask comes from."""

    UNTOUCHED = "untouched"
    """Nothing was proposed yet: nothing is hidden."""
    PROPOSED = "proposed"
    """Found by the software; nobody looked at it."""
    PROPAGATED = "propagated"
    """Carried from masks of other frames; nobody looked at it."""
    EDITED = "edited"
    """A person made or changed it, or gave it as a file, and has not confirmed it."""
    CONFIRMED = "confirmed"
    """A person confirmed it."""

    @property
    def by_a_person(self) -> bool:
        """True if automatic steps must leave the mask alone."""
        return self in (ReviewState.EDITED, ReviewState.CONFIRMED)


@dataclass(frozen=True)
class FrameReview:
    """One frame's mask; layers are (H, W), True = marked, None = nothing marked, and are never changed.

    auto: found by the software. add: a person says hidden. erase: a person says visible.
    confidence: of the automatic layer, in [0, 1]. specular: what is hidden there is a highlight of the light.
    outside: nothing of the scene is ever seen there, such as the rim of the picture or text on it. Whatever
    else is hidden is an occluder: an instrument, smoke, blood.
    """

    auto: Mask | None = None
    add: Mask | None = None
    erase: Mask | None = None
    state: ReviewState = ReviewState.UNTOUCHED
    confidence: float = 0.0
    specular: Mask | None = None
    outside: Mask | None = None

    def hidden(self, height_px: int, width_px: int) -> Mask:
        """The mask in force, (auto or add) and not erase, (H, W), True = hidden."""
        out = np.zeros((height_px, width_px), bool)
        for layer in (self.auto, self.add):
            if layer is not None:
                out |= layer
        if self.erase is not None:
            out &= ~self.erase
        return out

    def with_auto(self, mask: Mask, state: ReviewState, confidence: float) -> FrameReview:
        """The frame with a new automatic layer; one that a person worked on is returned as it is."""
        if self.state.by_a_person:
            return self
        return replace(self, auto=_frozen(mask), state=state, confidence=float(confidence))

    def confirmed(self) -> FrameReview:
        """The frame as confirmed by a person."""
        return replace(self, state=ReviewState.CONFIRMED)

    def reset(self) -> FrameReview:
        """The frame without a person's layers, back in the hands of the automatic steps."""
        state = ReviewState.UNTOUCHED if self.auto is None else ReviewState.PROPOSED
        return FrameReview(auto=self.auto, state=state, confidence=self.confidence)


@dataclass(frozen=True)
class MaskReview:
    """The masks of a clip of ``len(frames)`` pictures under review; immutable."""

    height_px: int
    width_px: int
    frames: tuple[FrameReview, ...]

    def __post_init__(self) -> None:
        shape = (self.height_px, self.width_px)
        for number, frame in enumerate(self.frames):
            for name in ("auto", "add", "erase", "specular", "outside"):
                layer = getattr(frame, name)
                if layer is not None and (layer.shape != shape or layer.dtype != np.bool_):
                    raise ValueError(
                        f"{name} of frame {number} must be bool {shape}, got {layer.dtype} {layer.shape}"
                    )

    @staticmethod
    def untouched(count: int, height_px: int, width_px: int) -> MaskReview:
        """A review of ``count`` frames that nothing was done to."""
        return MaskReview(height_px, width_px, (FrameReview(),) * count)

    def __len__(self) -> int:
        return len(self.frames)

    def hidden(self, frame: int) -> Mask:
        """The mask in force of one frame, (H, W), True = hidden."""
        return self.frames[frame].hidden(self.height_px, self.width_px)

    def masks(self) -> Iterator[Mask]:
        """The masks in force, in order."""
        return (self.hidden(frame) for frame in range(len(self)))

    def never_seen(self) -> Mask | None:
        """What every frame says to be outside, (H, W); None = nothing."""
        marked = [frame.outside for frame in self.frames]
        if not marked or any(mask is None for mask in marked):
            return None
        out = np.logical_and.reduce([mask for mask in marked if mask is not None])
        return out if out.any() else None

    def occluded(self) -> NDArray[np.bool_]:
        """The masks in force as one array (T, H, W), True = hidden."""
        return np.stack(list(self.masks()))

    def replaced(self, frame: int, review: FrameReview) -> MaskReview:
        """The review with another frame."""
        return replace(self, frames=(*self.frames[:frame], review, *self.frames[frame + 1 :]))

    def with_auto(
        self, masks: NDArray[np.bool_], state: ReviewState, confidence: NDArray[np.floating]
    ) -> MaskReview:
        """The review with new automatic layers (T, H, W), except where a person has worked."""
        new = [
            frame.with_auto(mask, state, float(value))
            for frame, mask, value in zip(self.frames, masks, confidence, strict=True)
        ]
        return replace(self, frames=tuple(new))

    def by_a_person(self) -> dict[int, Mask]:
        """Frame -> mask in force, where a person made or confirmed it: what propagation starts from."""
        return {i: self.hidden(i) for i, frame in enumerate(self.frames) if frame.state.by_a_person}

    def counts(self) -> dict[str, int]:
        """How many frames are in each state."""
        return {state.value: sum(f.state == state for f in self.frames) for state in ReviewState}


def _frozen(mask: Mask) -> Mask:
    """A copy that cannot be written to."""
    out = np.array(mask, dtype=bool)
    out.flags.writeable = False
    return out
