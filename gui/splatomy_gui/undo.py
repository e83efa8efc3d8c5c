"""Changes that can be taken back; one stack for the whole case."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from PyQt6.QtGui import QUndoCommand

from splatomy.review import FrameReview, MaskReview

if TYPE_CHECKING:
    from splatomy.prepare.masks.review import FrameEdit
    from splatomy_gui.session import Session

LIMIT = 200


class MaskEditCommand(QUndoCommand):
    """One edit of a frame's mask, kept as a patch, so that 200 of them stay small."""

    def __init__(self, session: Session, frame: int, edit: FrameEdit, text: str) -> None:
        """edit: as ``splatomy.prepare.masks.edited`` made it; the frame must not be changed yet."""
        super().__init__(f"{text}, {session.clock.noun} {session.clock.number(frame)}")
        self._session, self._frame, self._edit = session, frame, edit

    def redo(self) -> None:
        """Does the edit."""
        review = self._session.review.frames[self._frame]
        self._session.replace_frame(self._frame, self._edit.redone(review))

    def undo(self) -> None:
        """Takes it back bit for bit."""
        review = self._session.review.frames[self._frame]
        self._session.replace_frame(self._frame, self._edit.undone(review))


class FrameReviewCommand(QUndoCommand):
    """Another review of one frame, such as its confirmation; shares the masks it does not change."""

    def __init__(self, session: Session, frame: int, after: FrameReview, text: str) -> None:
        super().__init__(f"{text}, {session.clock.noun} {session.clock.number(frame)}")
        self._session, self._frame = session, frame
        self._before, self._after = session.review.frames[frame], after

    def redo(self) -> None:
        """Puts the new review in."""
        self._session.replace_frame(self._frame, self._after)

    def undo(self) -> None:
        """Puts the old one back."""
        self._session.replace_frame(self._frame, self._before)


class ReviewCommand(QUndoCommand):
    """Another review of the whole clip, such as an accepted propagation."""

    def __init__(self, session: Session, after: MaskReview, text: str) -> None:
        super().__init__(text)
        self._session = session
        self._before, self._after = session.review, after

    def redo(self) -> None:
        """Puts the new review in."""
        self._session.replace_review(self._after)

    def undo(self) -> None:
        """Puts the old one back."""
        self._session.replace_review(self._before)


class ValueCommand(QUndoCommand):
    """Any value that a function sets: a crop, a threshold, a list of measurements."""

    def __init__(
        self, text: str, apply: Callable[[Any], None], before: Any, after: Any, merges: bool = False
    ) -> None:
        """merges: steps of one drag, which come one after another with the same text, are one command."""
        super().__init__(text)
        self._apply, self._before, self._after, self._merges = apply, before, after, merges

    def id(self) -> int:
        """Commands that may be merged share one."""
        return 1 if self._merges else -1

    def mergeWith(self, other: QUndoCommand | None) -> bool:
        """Takes a following step of the same drag in."""
        if not isinstance(other, ValueCommand) or other.text() != self.text():
            return False
        self._after = other._after
        return True

    def redo(self) -> None:
        """Sets the new value."""
        self._apply(self._after)

    def undo(self) -> None:
        """Sets the old one."""
        self._apply(self._before)
