"""A source that is read in a thread of its own, in bounded memory, with an honest count of lost frames."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import replace

from splatomy.errors import InputError
from splatomy.io.live_frames import LiveFrame, Rate, SourceInfo

_WAITING_FRAMES = 8
"""Frames that wait to be taken: a third of a second of a usual endoscope."""
_MOST_PROBLEMS = 40
_CLOSE_S = 2.0
_MISSING_S = 1.0
"""So long may a live source be silent before it counts as interrupted."""


class Tally:
    """What went wrong in a source so far; written by its thread, read by any."""

    def __init__(self) -> None:
        """Nothing went wrong yet."""
        self._lock = threading.Lock()
        self._dropped = 0
        self._problems: list[str] = []

    @property
    def dropped(self) -> int:
        """Frames that never reached anybody."""
        return self._dropped

    @property
    def problems(self) -> tuple[str, ...]:
        """Sentences for the user."""
        with self._lock:
            return tuple(self._problems)

    def drop(self, count: int = 1) -> None:
        """Counts frames that are lost."""
        with self._lock:
            self._dropped += count

    def tell(self, sentence: str) -> None:
        """Keeps a sentence, once, and only the first few dozen of a long procedure."""
        with self._lock:
            if sentence not in self._problems and len(self._problems) < _MOST_PROBLEMS:
                self._problems.append(sentence)


Frames = Generator[LiveFrame | None, None, None]
"""Frames in the order of their times; None = nothing new just now, so that closing is noticed."""


class ThreadedSource:
    """Frames of a generator, taken out in a thread of its own; see ``LiveSource``.

    A recording at rate "real" is handed out at the pace of its times. Whoever takes frames too slowly at
    that rate, or from a camera, loses the oldest ones; a recording at rate "max" waits instead.
    """

    def __init__(
        self, info: SourceInfo, make_frames: Callable[[Tally, threading.Event], Frames], rate: Rate
    ) -> None:
        """make_frames: opens the stream; called in the thread with a tally and the event that ends it."""
        self._info = info
        self._simulated = rate == "max" and not info.live
        self._tally = Tally()
        self._waiting: deque[LiveFrame] = deque()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._finished = False
        self._last_s = time.monotonic()
        self._thread = threading.Thread(
            target=self._run, args=(make_frames,), name="splatomy live source", daemon=True
        )
        self._thread.start()

    def describe(self) -> SourceInfo:
        """What the frames are."""
        return self._info

    def read(self, timeout_s: float) -> LiveFrame | None:
        """The next frame, or None if none came within ``timeout_s`` seconds or the stream has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._finished, timeout_s)
            if not self._waiting:
                return None
            frame = self._waiting.popleft()
            self._changed.notify_all()
            return frame

    @property
    def ended(self) -> bool:
        """True when ``read`` will never give a frame again."""
        with self._changed:
            return self._finished and not self._waiting

    @property
    def interrupted(self) -> bool:
        """True while frames stay away that should come; the source goes on trying."""
        late = time.monotonic() - self._last_s > max(_MISSING_S, 3 / max(self._info.fps, 0.1))
        return self._info.live and late and not self._finished

    @property
    def dropped(self) -> int:
        """Frames that nobody took in time, that came too late, twice or damaged."""
        return self._tally.dropped

    @property
    def problems(self) -> tuple[str, ...]:
        """Sentences for the user on what went wrong so far, oldest first."""
        return self._tally.problems

    def close(self) -> None:
        """Lets the source go; a device that hangs is left to its thread."""
        self._stopping.set()
        with self._changed:
            self._waiting.clear()
            self._finished = True
            self._changed.notify_all()
        self._thread.join(_CLOSE_S)

    def _run(self, make_frames: Callable[[Tally, threading.Event], Frames]) -> None:
        try:
            with contextlib.closing(make_frames(self._tally, self._stopping)) as frames:
                self._hand_out(frames)
        except (InputError, OSError) as error:
            # The frames that arrived stay good: the stream ends here, and says why.
            self._tally.tell(str(error))
        finally:
            with self._changed:
                self._finished = True
                self._changed.notify_all()

    def _hand_out(self, frames: Frames) -> None:
        started_s: float | None = None
        newest_s = float("-inf")
        for frame in frames:
            if self._stopping.is_set():
                return
            if frame is None:
                continue
            if frame.time_s <= newest_s:
                # Late or repeated: a map is never taken back in time.
                self._tally.drop()
                continue
            newest_s = frame.time_s
            if self._simulated:
                self._put(replace(frame, received_s=frame.time_s))
                continue
            now_s = time.monotonic()
            if not self._info.live:
                started_s = now_s - frame.time_s if started_s is None else started_s
                if self._stopping.wait(max(0.0, started_s + frame.time_s - now_s)):
                    return
                frame = replace(frame, received_s=time.monotonic())
            self._put(frame)

    def _put(self, frame: LiveFrame) -> None:
        with self._changed:
            if self._simulated:
                self._changed.wait_for(
                    lambda: len(self._waiting) < _WAITING_FRAMES or self._stopping.is_set()
                )
            elif len(self._waiting) >= _WAITING_FRAMES:
                self._waiting.popleft()
                self._tally.drop()
            if self._stopping.is_set():
                return
            self._waiting.append(frame)
            self._last_s = time.monotonic()
            self._changed.notify_all()
