"""One clock for every layer: which frame, and which time, is shown."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PyQt6.QtCore import QObject, QTimer, pyqtSignal

_DEFAULT_FPS = 10.0


class Clock(QObject):
    """The frame and the time on show; every view follows ``changed`` and asks nobody else."""

    changed = pyqtSignal(int, float)
    """Frame number and seconds."""
    range_changed = pyqtSignal()
    playing_changed = pyqtSignal(bool)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._times_s: NDArray[np.float64] = np.zeros(0)
        self._numbers: NDArray[np.int64] = np.zeros(0, np.int64)
        self._frame = 0
        self._direction = 1
        self.fps = _DEFAULT_FPS
        self.timed = True
        """False for the views of a still scene: their places in the row stand for times."""
        self.loop = True
        self._marks = (0, 0)
        self._played_from = (0.0, 0)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._tick)

    @property
    def times_s(self) -> NDArray[np.float64]:
        """Seconds of the frames, (T,)."""
        return self._times_s

    @property
    def count(self) -> int:
        """Number of frames."""
        return len(self._times_s)

    @property
    def frame(self) -> int:
        """The frame on show, counted from 0 among those that are used."""
        return self._frame

    def number(self, frame: int) -> int:
        """The frame's number in the recording, counted from 0: the one that people, files and options use."""
        return int(self._numbers[frame]) if 0 <= frame < self.count else frame

    @property
    def time_s(self) -> float:
        """Its time, 0 without frames."""
        return float(self._times_s[self._frame]) if self.count else 0.0

    @property
    def noun(self) -> str:
        """What people call one of its pictures."""
        return "frame" if self.timed else "view"

    def moment(self, frame: int) -> str:
        """A frame's number and its time, as people read them; a view has no time."""
        text = f"{self.noun} {self.number(frame)}"
        return f"{text}   {self._times_s[frame]:.2f} s" if self.timed else text

    @property
    def playing(self) -> bool:
        """True while it runs by itself."""
        return self._timer.isActive()

    @property
    def marks(self) -> tuple[int, int]:
        """First and last frame of what is played."""
        return self._marks

    def set_times(self, times_s: ArrayLike, numbers: ArrayLike | None = None, timed: bool = True) -> None:
        """A new recording: its frames' times, (T,) s; starts at its first frame.

        numbers: (T,) of the frames in the recording, None = 0 to T - 1. timed: False for views, which stand
        one a second.
        """
        self.pause()
        self.timed = timed
        self._times_s = np.asarray(times_s, dtype=np.float64)
        self._numbers = np.asarray(np.arange(self.count) if numbers is None else numbers, dtype=np.int64)
        self._marks = (0, max(0, self.count - 1))
        self._frame = 0
        gaps = np.diff(self._times_s)
        gaps = gaps[gaps > 0]
        self.fps = float(np.clip(1 / np.median(gaps), 1, 60)) if len(gaps) else _DEFAULT_FPS
        self.range_changed.emit()
        self.changed.emit(self._frame, self.time_s)

    def set_marks(self, first: int, last: int) -> None:
        """Plays only these frames, both included."""
        top = max(0, self.count - 1)
        first = int(np.clip(first, 0, top))
        self._marks = (first, int(np.clip(last, first, top)))
        self.range_changed.emit()

    def show(self, frame: int) -> None:
        """Shows a frame, the nearest one there is."""
        frame = int(np.clip(frame, 0, max(0, self.count - 1)))
        if frame != self._frame:
            self._frame = frame
            self.changed.emit(frame, self.time_s)

    def show_time(self, time_s: float) -> None:
        """Shows the frame nearest to a time."""
        if self.count:
            self.show(int(np.argmin(np.abs(self._times_s - time_s))))

    def step(self, frames: int) -> None:
        """Goes on by some frames, or back."""
        self.pause()
        self.show(self._frame + frames)

    def play(self, direction: int = 1) -> None:
        """Runs forwards (1) or backwards (-1) at ``fps``."""
        if self.count < 2:
            return
        self._direction = direction
        first, last = self._marks
        at_end = self._frame >= last if direction > 0 else self._frame <= first
        if at_end or not first <= self._frame <= last:
            self.show(first if direction > 0 else last)
        self._played_from = (time.monotonic(), self._frame)
        self._timer.start(max(8, round(1000 / self.fps)))
        self.playing_changed.emit(True)

    def pause(self) -> None:
        """Stops running."""
        if self._timer.isActive():
            self._timer.stop()
            self.playing_changed.emit(False)

    def toggle(self) -> None:
        """Plays, or pauses."""
        self.pause() if self.playing else self.play()

    def set_fps(self, fps: float) -> None:
        """Frames per second of playing."""
        self.fps = fps
        if self.playing:
            self.play(self._direction)

    def _tick(self) -> None:
        """Frames that could not be drawn in time are left out, so that the speed is right."""
        began_s, start = self._played_from
        first, last = self._marks
        frame = start + self._direction * max(1, int((time.monotonic() - began_s) * self.fps))
        if first <= frame <= last:
            self.show(frame)
        elif self.loop:
            self._played_from = (time.monotonic(), first if self._direction > 0 else last)
            self.show(self._played_from[1])
        else:
            self.show(last if self._direction > 0 else first)
            self.pause()
