"""Edits on frames under review: the person's layers follow, and every step can be undone bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from splatomy.prepare.masks.edit import Edit, Patch
from splatomy.review import FrameReview, Mask, ReviewState

Label = Literal["occluder", "specular", "outside"]
_LAYERS = ("add", "erase", "specular", "outside")
_MASK = frozenset({"add", "erase"})


@dataclass(frozen=True)
class FrameEdit:
    """What an edit did to a frame's layers and state; kept on the undo stack.

    patches: of the layers of a person, by name. had: which of the layers existed before, and has: after.
    shape: (H, W) of the frame.
    """

    operation: str
    patches: Mapping[str, Patch]
    had: frozenset[str]
    has: frozenset[str]
    state_before: ReviewState
    state_after: ReviewState
    shape: tuple[int, int]

    @property
    def is_empty(self) -> bool:
        """True if no pixel of any layer changed."""
        return all(patch.is_empty for patch in self.patches.values())

    def undone(self, frame: FrameReview) -> FrameReview:
        """The frame before the edit, from the one after it.

        Raises:
            ValueError: it is not the frame after the edit.
        """
        layers = {n: p.undone(_layer(getattr(frame, n), self.shape)) for n, p in self.patches.items()}
        return _with(frame, layers, self.had, self.state_before)

    def redone(self, frame: FrameReview) -> FrameReview:
        """The frame after the edit, from the one before it.

        Raises:
            ValueError: it is not the frame before the edit.
        """
        layers = {n: p.redone(_layer(getattr(frame, n), self.shape)) for n, p in self.patches.items()}
        return _with(frame, layers, self.has, self.state_after)


def edited(frame: FrameReview, edit: Edit, label: Label = "occluder") -> tuple[FrameReview, FrameEdit]:
    """The frame whose mask in force is ``edit.mask``, and the record to undo it.

    ``edit`` was made on the mask in force. What the person touched goes to the add layer where it is hidden
    and to the erase layer where it is visible, so that a new automatic layer cannot overrule it. label: what
    hides the pixels that were touched; where they are visible now, they have none.

    Raises:
        ValueError: the edit is of another size.
    """
    shape = (edit.mask.shape[0], edit.mask.shape[1])
    had = frozenset(name for name in _LAYERS if getattr(frame, name) is not None)
    before = {name: _layer(getattr(frame, name), shape) for name in _LAYERS if name in had | _MASK | {label}}
    shown, hidden = edit.touched & ~edit.mask, edit.touched & edit.mask
    after = {
        "add": (before["add"] & ~edit.touched) | hidden,
        "erase": (before["erase"] & ~edit.touched) | shown,
    }
    for name in before.keys() - _MASK:
        kept = before[name] & ~edit.touched
        after[name] = kept | hidden if name == label else kept
    has = had | _MASK | {name for name, layer in after.items() if layer.any()}
    record = FrameEdit(
        operation=edit.operation,
        patches={name: Patch.between(before[name], layer) for name, layer in after.items()},
        had=had,
        has=has,
        state_before=frame.state,
        state_after=ReviewState.EDITED,
        shape=shape,
    )
    layers = {name: _still(layer) for name, layer in after.items()}
    return _with(frame, layers, has, ReviewState.EDITED), record


def _with(
    frame: FrameReview, layers: Mapping[str, Mask], there: frozenset[str], state: ReviewState
) -> FrameReview:
    kept = {name: layer if name in there else None for name, layer in layers.items()}
    return replace(frame, **kept, state=state)  # type: ignore[arg-type]


def _layer(layer: Mask | None, shape: tuple[int, int]) -> Mask:
    return np.zeros(shape, bool) if layer is None else layer


def _still(mask: Mask) -> Mask:
    mask.flags.writeable = False
    return mask
