"""Edits of masks by a person: each is one undo command of the frame it was made on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PyQt6.QtCore import QObject

from splatomy.events import Task
from splatomy.review import FrameReview, Mask, MaskReview
from splatomy_gui.panels.masks.labels import marked_everywhere
from splatomy_gui.session import Session
from splatomy_gui.undo import FrameReviewCommand, MaskEditCommand, ReviewCommand

if TYPE_CHECKING:
    from splatomy.prepare.masks import Label

Make = Callable[[Mask], Any]
"""Makes an Edit of ``splatomy.prepare.masks`` on the mask in force."""


class MaskEditor(QObject):
    """Does edits on the frame on show."""

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self.label: Label = "occluder"
        """What strokes, areas, fills and clicks mark."""

    def mark(self, text: str, make: Make, later: bool = False) -> None:
        """Does an edit that marks what the label in hand says. later: it looks at the whole mask."""
        if self.label == "outside":
            self._mark_everywhere(text, make)
        elif later:
            self.apply_later(text, make, label=self.label)
        else:
            self.apply(text, make, self.label)

    def _mark_everywhere(self, text: str, make: Make, frame: int | None = None) -> None:
        """The rim of the picture is the same in all frames.

        It is made again should a mask change meanwhile.
        """
        session, review, folder = self._session, self._session.review, self._session.folder
        frame = session.clock.frame if frame is None else frame

        def work() -> Task[MaskReview]:
            edit = make(review.hidden(frame))
            hides = bool((edit.mask & edit.touched).any())
            marked = edit.touched & (edit.mask if hides else ~edit.mask)
            return (yield from marked_everywhere(review, marked, hides))

        def done(product: MaskReview) -> None:
            if session.folder != folder:
                return
            if session.review is review:
                session.push(ReviewCommand(session, product, f"{text} outside, all frames"))
            else:
                self._mark_everywhere(text, make, frame)

        session.tasks.start(f"{text} failed", work, done)

    def apply(self, text: str, make: Make, label: Label = "occluder", frame: int | None = None) -> None:
        """Does a quick edit at once. label: what it marks. frame: None = the one on show."""
        from splatomy.prepare.masks import edited

        frame = self._session.clock.frame if frame is None else frame
        before = self._session.review.frames[frame]
        after, record = edited(before, make(self._session.review.hidden(frame)), label)
        self._push(text, frame, before, after, record)

    def apply_later(self, text: str, make: Make, frame: int | None = None, label: Label = "occluder") -> None:
        """Does an edit that looks at the whole mask on another thread.

        It is made again should the frame change meanwhile.
        """
        from splatomy.prepare.masks import edited

        session = self._session
        number = session.clock.frame if frame is None else frame
        folder, before, mask = session.folder, session.review.frames[number], session.review.hidden(number)

        def done(product: tuple[FrameReview, Any]) -> None:
            if session.folder != folder:
                return
            if session.review.frames[number] is before:
                self._push(text, number, before, *product)
            else:
                self.apply_later(text, make, number, label)

        session.tasks.start(f"{text} failed", lambda: edited(before, make(mask), label), done)

    def _push(self, text: str, frame: int, before: FrameReview, after: FrameReview, record: Any) -> None:
        if not (record.is_empty and before.state is after.state):
            self._session.push(MaskEditCommand(self._session, frame, record, text))

    # -- the edits -------------------------------------------------------------------------------

    def stroke(self, touched: Mask, hides: bool) -> None:
        """What a brush or eraser touched."""
        from splatomy.prepare.masks import cover

        self.mark("brush" if hides else "erase", lambda mask: cover(mask, touched, hide=hides))

    def object(self, text: str, found: Mask, hides: bool, frame: int) -> None:
        """An object (H, W) of a frame, marked or taken out."""
        from splatomy.prepare.masks import cover

        def make(mask: Mask) -> Any:
            return cover(mask, found, hide=hides)

        if self.label == "outside":
            self._mark_everywhere(text, make, frame)
        else:
            self.apply(text, make, self.label, frame)

    def area(self, corners: list[tuple[float, float]], hides: bool) -> None:
        """The inside of a lasso or polygon."""
        from splatomy.prepare.masks import polygon

        text = "mark an area" if hides else "take out an area"
        self.mark(text, lambda mask: polygon(mask, corners, hide=hides))

    def fill(self, pixel: tuple[int, int]) -> None:
        """The region of one value about a pixel."""
        from splatomy.prepare.masks import fill

        self.mark("fill", lambda mask: fill(mask, pixel), later=True)

    def grow(self, distance_px: float) -> None:
        """Larger all around, or smaller for a negative distance."""
        from splatomy.prepare.masks import grow, shrink

        if distance_px > 0:
            self.apply_later("grow mask", lambda mask: grow(mask, distance_px))
        else:
            self.apply_later("shrink mask", lambda mask: shrink(mask, -distance_px))

    def invert(self) -> None:
        """Hidden and visible exchanged."""
        from splatomy.prepare.masks import invert

        self.apply("invert mask", invert)

    def clear(self) -> None:
        """Nothing hidden."""
        from splatomy.prepare.masks import cover

        self.apply("clear mask", lambda mask: cover(mask, np.ones(mask.shape, bool), hide=False))

    def copy_previous(self) -> None:
        """The mask of the frame before."""
        from splatomy.prepare.masks import copy_from, edited

        number = self._session.clock.frame
        source, here = self._session.review.frames[number - 1], self._session.review.frames[number]
        other = self._session.review.hidden(number - 1)
        after, _ = edited(here, copy_from(self._session.review.hidden(number), other))
        after = replace(after, specular=source.specular, outside=source.outside)
        self._session.push(FrameReviewCommand(self._session, number, after, "copy mask"))

    def confirm(self) -> None:
        """The mask on show is right."""
        frame = self._session.clock.frame
        self._review(frame, self._session.review.frames[frame].confirmed(), "confirm mask")

    def reject(self) -> None:
        """The mask on show is wrong: the frame counts as not looked at, nothing but the rim is hidden."""
        frame = self._session.clock.frame
        rim = self._session.review.frames[frame].outside
        self._review(frame, FrameReview(add=rim, outside=rim), "reject mask")

    def _review(self, frame: int, after: FrameReview, text: str) -> None:
        before = self._session.review.frames[frame]
        if before is not after and before.state is not after.state:
            self._session.push(FrameReviewCommand(self._session, frame, after, text))
