"""Automatic masks as a preview that a person accepts or discards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from PyQt6.QtCore import QObject, pyqtSignal

from splatomy.review import FrameReview, Mask, MaskReview
from splatomy_gui.frames import ClipFrames
from splatomy_gui.panels.masks import work
from splatomy_gui.session import Session
from splatomy_gui.tasks import BackgroundTask
from splatomy_gui.undo import ReviewCommand


@dataclass(frozen=True)
class Preview:
    """Masks that wait for an answer. title: what made them; frames: their reviews by frame."""

    title: str
    frames: dict[int, FrameReview]


class AutomaticMasks(QObject):
    """Proposes, propagates and interpolates on other threads; nothing changes before ``accept``."""

    changed = pyqtSignal()
    """Work began or ended, or there is another preview, or none."""
    progressed = pyqtSignal(int, int)
    told = pyqtSignal(str)

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self.preview: Preview | None = None
        self.region: work.Region | None = None
        self.title = ""
        self._task: BackgroundTask | None = None

    @property
    def busy(self) -> bool:
        """True while masks are being made."""
        return self._task is not None

    # -- what can be done ------------------------------------------------------------------------

    def anchors(self) -> tuple[int | None, int | None]:
        """The nearest frames before and after the one on show that a person made or confirmed."""
        frame, frames = self._session.clock.frame, self._session.review.frames
        before = [n for n in range(frame) if frames[n].state.by_a_person]
        after = (n for n in range(frame + 1, len(frames)) if frames[n].state.by_a_person)
        return (before[-1] if before else None), next(after, None)

    # -- starting --------------------------------------------------------------------------------

    def propose(self, wanted: int | None) -> None:
        """Finds instruments in all frames, or in one."""
        frames = self._session.frames
        if not isinstance(frames, ClipFrames):
            raise ValueError("only the frames of a clip show instruments by their colour")
        number = None if wanted is None else self._session.clock.number(wanted)
        title = "Proposed masks" if number is None else f"Proposed mask of frame {number}"
        self._start(title, partial(work.proposed, frames, wanted))

    def propagate(self, back: bool, forth: bool) -> None:
        """Carries the mask on show to the nearest frames of a person, or to the ends of the clip."""
        session = self._session
        now, (before, after) = session.clock.frame, self.anchors()
        last = len(session.review) - 1
        first = now if not back else 0 if before is None else before
        end = now if not forth else last if after is None else after
        sources = [n for n in (before, now, after) if n is not None and first <= n <= end]
        masks = {n: session.review.hidden(n) for n in sources}
        self._propagate(masks, first, end)

    def propagate_all(self) -> None:
        """Carries the masks of all frames of a person to all others."""
        review = self._session.review
        self._propagate(review.by_a_person(), 0, len(review) - 1)

    def _propagate(self, masks: dict[int, Mask], first: int, last: int) -> None:
        frames = self._session.frames
        if frames is not None:
            self._start("Propagated masks", partial(work.propagated, frames, masks, first, last))

    def interpolate(self) -> None:
        """Fills in between the nearest frames of a person."""
        before, after = self.anchors()
        review, frame = self._session.review, self._session.clock.frame
        if review.frames[frame].state.by_a_person and after is not None:
            before = frame
        if before is None or after is None:
            self.told.emit("Confirm a frame before this one and one after it first.")
            return
        masks = (review.hidden(before), review.hidden(after))
        self._start("Interpolated masks", partial(work.interpolated, before, after, masks))

    def _start(self, title: str, make: Callable[[], Any]) -> None:
        self.cancel()
        session, region = self._session, self.region
        folder, review = session.folder, session.review
        self.title = title

        def made() -> Any:
            masks = yield from make()
            return work.taken_over(review, masks, region)

        def done(frames: dict[int, FrameReview]) -> None:
            if session.folder == folder and self._task is task:
                self._show(title, frames)

        task = self._task = session.tasks.start(f"{title} could not be made", made, done)
        task.progressed.connect(lambda _stage, step, total: self.progressed.emit(step, total))
        task.ended.connect(lambda: self._ended(task))
        self.changed.emit()

    def _show(self, title: str, frames: dict[int, FrameReview]) -> None:
        if not frames:
            self.told.emit("A person worked on all of these frames: nothing was changed.")
            return
        self.preview = Preview(title, frames)
        self.changed.emit()

    def _ended(self, task: BackgroundTask) -> None:
        if self._task is task:
            self._task = None
            self.changed.emit()

    # -- answering -------------------------------------------------------------------------------

    def accept(self) -> None:
        """Takes the preview over, as one change that can be taken back."""
        preview, session = self.preview, self._session
        if preview is None:
            return
        frames = list(session.review.frames)
        for number, frame in preview.frames.items():
            if not frames[number].state.by_a_person:
                frames[number] = frame
        after: MaskReview = replace(session.review, frames=tuple(frames))
        self.preview = None
        session.push(ReviewCommand(session, after, f"{preview.title}, {len(preview.frames)} frames"))
        self.changed.emit()

    def cancel(self) -> bool:
        """Stops the work, or discards the preview; False if there was neither."""
        had = self.preview is not None or self._task is not None
        if self._task is not None:
            self._task.cancel()
        self._task = self.preview = None
        if had:
            self.changed.emit()
        return had
