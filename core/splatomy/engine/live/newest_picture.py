"""The newest picture of a source that can be read only once, for those who look on: never shed."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import numpy as np

from splatomy.engine.live.mailbox import Latest
from splatomy.io.frames import write_picture
from splatomy.io.live_sources import LiveFrame, LiveSource, SourceInfo

_LOG = logging.getLogger(__name__)
_EVERY_S = 0.04
_REST = 3.0
"""Between two pictures lies at least so many times what one takes: at most a quarter of a core is used."""
_CLOSE_S = 2.0


class ShownSource:
    """A source whose newest frame is written to RUN/live/frame.jpg, at most 25 times a second.

    Writing has a thread of its own: whoever reads frames never waits for the disk, and a full disk costs
    nothing but the picture.
    """

    def __init__(self, source: LiveSource, run: Path) -> None:
        self._source, self._file = source, run / "live" / "frame.jpg"
        self._newest: Latest[LiveFrame] = Latest()
        self._thread = threading.Thread(target=self._work, name="splatomy show", daemon=True)
        self._thread.start()

    def describe(self) -> SourceInfo:
        """What the frames are."""
        return self._source.describe()

    def read(self, timeout_s: float) -> LiveFrame | None:
        """The source's next frame, which is shown too."""
        frame = self._source.read(timeout_s)
        if frame is not None:
            self._newest.put(frame)
        return frame

    @property
    def ended(self) -> bool:
        """True when the source has ended."""
        return self._source.ended

    @property
    def interrupted(self) -> bool:
        """True while frames stay away that should come."""
        return self._source.interrupted

    @property
    def dropped(self) -> int:
        """Frames that the source lost."""
        return self._source.dropped

    @property
    def problems(self) -> tuple[str, ...]:
        """What went wrong in the source so far."""
        return self._source.problems

    def close(self) -> None:
        """Lets the source go."""
        self._newest.close()
        self._source.close()
        self._thread.join(_CLOSE_S)

    def _work(self) -> None:
        refused = False
        while (frame := self._newest.take()) is not None:
            began_s = time.monotonic()
            try:
                shown = np.rint(frame.image * np.float32(255)).astype(np.uint8)
                write_picture(self._file, shown, durable=False)
            except OSError as error:
                if not refused:
                    _LOG.warning("the live picture cannot be written: %s", error.strerror)
                refused = True
            took_s = time.monotonic() - began_s
            time.sleep(max(_EVERY_S - took_s, _REST * took_s))
