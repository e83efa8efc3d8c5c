"""Edits on frames under review: the person's layers follow, and every step can be undone bit for bit."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from splatomy.prepare.masks.edit import Edit, Patch
from splatomy.review import FrameReview, Mask, ReviewState


@dataclass(frozen=True)
class FrameEdit:
    """What an edit did to a frame's layers and state; kept on the undo stack.

    add, erase: patches of the two layers of a person. had_layers: whether the layers existed before.
    shape: (H, W) of the frame.
    """

    operation: str
    add: Patch
    erase: Patch
    had_layers: tuple[bool, bool]
    state_before: ReviewState
    state_after: ReviewState
    shape: tuple[int, int]

    def undone(self, frame: FrameReview) -> FrameReview:
        """The frame before the edit, from the one after it.

        Raises:
            ValueError: it is not the frame after the edit.
        """
        add, erase = (
            patch.undone(_layer(layer, self.shape))
            for patch, layer in ((self.add, frame.add), (self.erase, frame.erase))
        )
        had_add, had_erase = self.had_layers
        return replace(
            frame,
            add=add if had_add else None,
            erase=erase if had_erase else None,
            state=self.state_before,
        )

    def redone(self, frame: FrameReview) -> FrameReview:
        """The frame after the edit, from the one before it.

        Raises:
            ValueError: it is not the frame before the edit.
        """
        add, erase = (
            patch.redone(_layer(layer, self.shape))
            for patch, layer in ((self.add, frame.add), (self.erase, frame.erase))
        )
        return replace(frame, add=add, erase=erase, state=self.state_after)


def edited(frame: FrameReview, edit: Edit) -> tuple[FrameReview, FrameEdit]:
    """The frame whose mask in force is ``edit.mask``, and the record to undo it.

    ``edit`` was made on the mask in force. What the person touched goes to the add layer where it is hidden
    and to the erase layer where it is visible, so that a new automatic layer cannot overrule it.

    Raises:
        ValueError: the edit is of another size.
    """
    shape = (edit.mask.shape[0], edit.mask.shape[1])
    add_before, erase_before = _layer(frame.add, shape), _layer(frame.erase, shape)
    add = _still((add_before & ~edit.touched) | (edit.mask & edit.touched))
    erase = _still((erase_before & ~edit.touched) | (~edit.mask & edit.touched))
    after = replace(frame, add=add, erase=erase, state=ReviewState.EDITED)
    record = FrameEdit(
        operation=edit.operation,
        add=Patch.between(add_before, add),
        erase=Patch.between(erase_before, erase),
        had_layers=(frame.add is not None, frame.erase is not None),
        state_before=frame.state,
        state_after=after.state,
        shape=shape,
    )
    return after, record


def _layer(layer: Mask | None, shape: tuple[int, int]) -> Mask:
    return np.zeros(shape, bool) if layer is None else layer


def _still(mask: Mask) -> Mask:
    mask.flags.writeable = False
    return mask
