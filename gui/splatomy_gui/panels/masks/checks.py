"""What looks wrong in the masks, and which frame to look at next."""

from __future__ import annotations

from functools import partial

from PyQt6.QtCore import QObject, QTimer, pyqtSignal

from splatomy.events import Task
from splatomy.review import FrameReview, MaskReview, ReviewState
from splatomy_gui.panels.masks import work
from splatomy_gui.session import Session
from splatomy_gui.tasks import BackgroundTask

UNSURE = 0.7
"""Automatic masks below this confidence are worth a look."""
_WAIT_MS = 250


class MaskChecks(QObject):
    """Follows the masks and warns of frames; only frames that changed are measured again."""

    changed = pyqtSignal()

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._measured: dict[int, tuple[FrameReview, float]] = {}
        self._task: BackgroundTask | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_WAIT_MS)
        self._timer.timeout.connect(self._measure)
        self.by_frame: dict[int, tuple[str, ...]] = {}
        """Sentences by frame."""
        session.case_changed.connect(self._forget)
        session.review_changed.connect(lambda _: self._timer.start())

    def start(self) -> None:
        """Measures soon."""
        self._timer.start()

    def close(self) -> None:
        """Measures no more."""
        self._timer.stop()
        self._timer.timeout.disconnect(self._measure)

    def unsure(self, review: MaskReview) -> list[int]:
        """Frames that nobody looked at, the ones to doubt most first: with warnings, then the least sure."""
        open_frames = [n for n, f in enumerate(review.frames) if not f.state.by_a_person]
        return sorted(open_frames, key=lambda n: (n not in self.by_frame, review.frames[n].confidence, n))

    def next_open(self, step: int) -> int | None:
        """The next frame, going round, that is not confirmed; None if all are."""
        review, now = self._session.review, self._session.clock.frame
        count = len(review)
        for distance in range(1, count + 1):
            frame = (now + step * distance) % count
            if review.frames[frame].state is not ReviewState.CONFIRMED:
                return frame
        return None

    def _forget(self) -> None:
        self._measured = {}
        self.by_frame = {}
        self._timer.start()
        self.changed.emit()

    def _measure(self) -> None:
        session = self._session
        if session.case is None or self._task is not None:
            return
        folder, review, known = session.folder, session.review, self._measured
        frames = review.frames
        stale = [n for n, f in enumerate(frames) if n not in known or known[n][0] is not f]
        shares = [known[n][1] if n in known else 0.0 for n in range(len(frames))]

        def done(product: tuple[dict[int, float], dict[int, tuple[str, ...]]]) -> None:
            if session.folder != folder:
                return
            self._measured.update({n: (frames[n], share) for n, share in product[0].items()})
            self.by_frame = product[1]
            self.changed.emit()

        numbers = [session.clock.number(n) for n in range(len(frames))]
        work_now = partial(_checked, review, stale, shares, numbers)
        task = self._task = session.tasks.start("The masks cannot be checked", work_now, done)
        task.ended.connect(self._ended)

    def _ended(self) -> None:
        self._task = None
        if self._session.case is not None:
            frames, known = self._session.review.frames, self._measured
            if any(n not in known or known[n][0] is not f for n, f in enumerate(frames)):
                self._timer.start()


def _checked(
    review: MaskReview, stale: list[int], shares: list[float], numbers: list[int]
) -> Task[tuple[dict[int, float], dict[int, tuple[str, ...]]]]:
    """New shares by frame, and the warnings by frame."""
    from splatomy.prepare.masks import share_warnings

    new = yield from work.hidden_shares(review, stale)
    for frame, share in new.items():
        shares[frame] = share
    found: dict[int, tuple[str, ...]] = {}
    for warning in share_warnings(shares):
        text = f"Frame {numbers[warning.frame]}: {warning.text.partition(': ')[2]}"
        found[warning.frame] = (*found.get(warning.frame, ()), text)
    return new, found
