"""Records the moments in which the GUI thread did not answer, and what it was doing."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections import deque
from dataclasses import dataclass

from PyQt6.QtCore import QObject, QTimer

LIMIT_S = 0.05
_BEAT_MS = 10
_KEPT = 200


@dataclass(frozen=True)
class Stall:
    """duration_s of one silence; stack: the GUI thread's calls in it; drawing: VTK was drawing."""

    duration_s: float
    stack: str
    drawing: bool


class Watchdog(QObject):
    """A heartbeat of the GUI thread, watched by a thread of its own."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.stalls: deque[Stall] = deque(maxlen=_KEPT)
        self._gui_thread = threading.get_ident()
        self._beat_s = time.monotonic()
        self._ended = threading.Event()
        self._timer = QTimer(self)
        self._timer.setInterval(_BEAT_MS)
        self._timer.timeout.connect(self._beat)
        self._timer.start()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the watch."""
        self._timer.stop()
        self._ended.set()
        self._thread.join(1.0)

    def _beat(self) -> None:
        self._beat_s = time.monotonic()

    def _watch(self) -> None:
        while not self._ended.wait(LIMIT_S / 5):
            beat = self._beat_s
            if time.monotonic() - beat < LIMIT_S:
                continue
            stack = self._stack()
            while self._beat_s == beat and not self._ended.wait(0.005):
                pass
            # The timer itself may be late by one beat.
            lasted = time.monotonic() - beat - _BEAT_MS / 1000
            if lasted >= LIMIT_S and not self._ended.is_set():
                drawing = "splatomy_gui/views/" in stack.replace("\\", "/") and "ender" in stack
                self.stalls.append(Stall(lasted, stack, drawing))

    def _stack(self) -> str:
        frame = sys._current_frames().get(self._gui_thread)
        return "" if frame is None else "".join(traceback.format_stack(frame))
