"""The live video: shown by the app itself, so that it never waits for the reconstruction."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PyQt6.QtCore import QObject, QTimer, pyqtSignal

from splatomy.errors import InputError
from splatomy_gui.frames import Picture

if TYPE_CHECKING:
    from splatomy.io.options import InputOptions

_LOG = logging.getLogger(__name__)
_SHOW_EVERY_MS = 33
_LOOK_EVERY_S = 0.03
_APART_S = 1.0
"""A player this far from the session's clock is put right."""


class LiveVideo(QObject):
    """The newest picture of a session. A recording is played beside the engine, at its own rate.

    Cameras, network video and growing folders can be read only once: of these the engine writes the newest
    picture into RUN/live/frame.jpg.
    """

    shown = pyqtSignal(object, object)
    """A picture, and the number of its frame or None when it is just the newest."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._newest: tuple[Picture, int | None] | None = None
        self._stopping = threading.Event()
        self._due: tuple[float, float] | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(_SHOW_EVERY_MS)
        self._timer.timeout.connect(self._show)
        self.count = 0
        """Pictures that were shown."""

    def start(self, source: str, options: InputOptions, run: Path, play: bool) -> None:
        """play: the source is a recording that goes at its own rate."""
        self.stop()
        self._stopping, self._due, self.count = threading.Event(), None, 0
        arguments = (source, options, run / "live" / "frame.jpg", play, self._stopping)
        threading.Thread(target=self._work, args=arguments, name="live video", daemon=True).start()
        self._timer.start()

    def stop(self) -> None:
        """Lets the source go; the last picture stays."""
        self._stopping.set()
        self._timer.stop()

    def keep_step(self, time_s: float, behind_s: float) -> None:
        """Tells where the session is: at that time of the stream, that long after it was received."""
        now_s = time.monotonic()
        if self._due is None or abs(now_s - self._due[0] + self._due[1] - time_s - behind_s) > _APART_S:
            self._due = (now_s, time_s + behind_s)

    def _show(self) -> None:
        newest, self._newest = self._newest, None
        if newest is not None:
            self.count += 1
            self.shown.emit(*newest)

    def _work(
        self, source: str, options: InputOptions, file: Path, play: bool, stopping: threading.Event
    ) -> None:
        """What the thread does."""
        try:
            if play:
                while self._due is None and not stopping.wait(_LOOK_EVERY_S):
                    self._look(file, stopping)
                self._play(source, options, stopping)
                return
            while not stopping.wait(_LOOK_EVERY_S):
                self._look(file, stopping)
        except (InputError, OSError) as error:
            _LOG.warning("The live picture cannot be shown: %s", error)

    _seen_ns = 0

    def _look(self, file: Path, stopping: threading.Event) -> None:
        """Takes the picture that the engine wrote, if it is a new one."""
        import cv2

        try:
            stamp = file.stat().st_mtime_ns
            if stamp == self._seen_ns:
                return
            picture = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR)
        except (OSError, cv2.error):
            return
        if picture is not None and not stopping.is_set():
            self._seen_ns = stamp
            self._newest = (np.ascontiguousarray(picture[..., ::-1]), None)

    def _play(self, name: str, options: InputOptions, stopping: threading.Event) -> None:
        """Plays the recording in step with the session."""
        from splatomy.io.live_sources import open_live_source

        source = open_live_source(name, options, "max")
        try:
            while not stopping.is_set() and not source.ended:
                frame = source.read(0.2)
                if frame is None or self._due is None:
                    continue
                wait_s = frame.time_s - self._due[1] - (time.monotonic() - self._due[0])
                if wait_s > 0 and stopping.wait(wait_s):
                    return
                if wait_s > -_APART_S:
                    picture = np.rint(frame.image * np.float32(255)).astype(np.uint8)
                    self._newest = (picture, frame.index)
        finally:
            source.close()
