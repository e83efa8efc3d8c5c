"""The front: takes frames as they come, keeps the newest, and prepares them beside the trainer."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Protocol

from splatomy.engine.live.frame_preparing import Prepared, Preparer
from splatomy.io.live_sources import LiveFrame, LiveSource, SourceInfo

_RING_S = 3.0
_MOST_IN_RING = 90
_READ_S = 0.2
_RING_BYTES = 300_000_000


class Front(Protocol):
    """Prepared frames, whichever way they come."""

    preparer: Preparer

    @property
    def ended(self) -> bool:
        """True when no frame will come any more."""
        ...

    @property
    def dropped(self) -> int:
        """Frames that came but were not taken."""
        ...

    def next(self, timeout_s: float) -> Prepared | None:
        """The newest prepared frame, or None if none came in time."""
        ...

    def between(self, after: int, before: int) -> Prepared | None:
        """A frame from the middle of those between two numbers that was not taken, if it is still there."""
        ...

    def close(self) -> None:
        """Lets the source go."""
        ...


class StepFront:
    """Every frame in its order, prepared when it is asked for: the same result every time."""

    def __init__(self, source: LiveSource, preparer: Preparer) -> None:
        self.source, self.preparer = source, preparer

    @property
    def ended(self) -> bool:
        """True when the source has ended."""
        return self.source.ended

    @property
    def dropped(self) -> int:
        """Frames that the source itself lost."""
        return self.source.dropped

    def next(self, timeout_s: float) -> Prepared | None:
        """The next frame."""
        frame = self.source.read(timeout_s)
        return None if frame is None else self.preparer.prepare(frame, time.monotonic(), 0)

    def between(self, after: int, before: int) -> Prepared | None:
        """Nothing: no frame is left out."""
        return None

    def close(self) -> None:
        """Lets the source go."""
        self.source.close()


class ThreadedFront:
    """Two threads: one reads, so that the source never waits; one prepares the newest frame.

    Each hands over through a mailbox of one, in which newer frames replace older ones. Frames of the last
    seconds stay in a ring, from which one may be taken to fill a gap.
    """

    def __init__(self, source: LiveSource, preparer: Preparer, info: SourceInfo) -> None:
        self.source, self.preparer = source, preparer
        frame_bytes = 12 * info.width_px * info.height_px * (2 if info.baseline_mm is not None else 1)
        length = min(_MOST_IN_RING, round(_RING_S * max(info.fps, 1.0)), _RING_BYTES // frame_bytes)
        self._ring: deque[tuple[LiveFrame, float]] = deque(maxlen=max(2, length))
        self._lock = threading.Condition()
        self._raw: tuple[LiveFrame, float] | None = None
        self._ready: Prepared | None = None
        self._preparing = False
        self._closed = False
        self._source_ended = False
        self._dropped = 0
        self._last_taken = -1
        self._error: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=f"splatomy {name}", daemon=True)
            for name, work in (("capture", self._capture), ("prepare", self._prepare))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def ended(self) -> bool:
        """True when the source has ended and everything it gave was taken."""
        with self._lock:
            waiting = self._raw is not None or self._ready is not None or self._preparing
            return self._error is not None or (self._source_ended and not waiting)

    @property
    def dropped(self) -> int:
        """Frames that came but were not taken."""
        with self._lock:
            return self._dropped + self.source.dropped

    def next(self, timeout_s: float) -> Prepared | None:
        """The newest prepared frame.

        Raises:
            BaseException: what a thread of the front met.
        """
        with self._lock:
            self._lock.wait_for(lambda: self._ready is not None or self._error is not None, timeout_s)
            if self._error is not None:
                raise self._error
            prepared, self._ready = self._ready, None
            if prepared is not None:
                self._last_taken = prepared.frame.index
            return prepared

    def between(self, after: int, before: int) -> Prepared | None:
        """A frame from the middle of a gap, prepared here and now."""
        with self._lock:
            held = [(f, r) for f, r in self._ring if after < f.index < before]
        if not held:
            return None
        frame, received_s = held[len(held) // 2]
        return self.preparer.prepare(frame, received_s, 0)

    def close(self) -> None:
        """Ends the threads and lets the source go."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()
        for thread in self._threads:
            thread.join(2.0)
        self.source.close()

    def _guarded(self, work: object) -> None:
        try:
            work()  # type: ignore[operator]
        except BaseException as error:  # noqa: BLE001 - raised again where frames are awaited
            with self._lock:
                self._error = error
                self._lock.notify_all()

    def _capture(self) -> None:
        while not self._closed:
            frame = self.source.read(_READ_S)
            with self._lock:
                if frame is None:
                    if self.source.ended:
                        self._source_ended = True
                        self._lock.notify_all()
                        return
                    continue
                received_s = time.monotonic()
                self._ring.append((frame, received_s))
                self._dropped += self._raw is not None
                self._raw = frame, received_s
                self._lock.notify_all()

    def _prepare(self) -> None:
        skipped = 0
        while True:
            with self._lock:
                self._lock.wait_for(
                    lambda: self._closed or self._raw is not None or self._source_ended, _READ_S
                )
                if self._closed or (self._source_ended and self._raw is None):
                    return
                if self._raw is None:
                    continue
                (frame, received_s), self._raw = self._raw, None
                self._preparing = True
            prepared = self.preparer.prepare(frame, received_s, skipped)
            with self._lock:
                self._preparing = False
                self._dropped += self._ready is not None
                self._ready = prepared
                self._lock.notify_all()
