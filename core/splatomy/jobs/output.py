"""Events to the front end: standard output and RUN/events.jsonl."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

from splatomy.io.run import RunFolder


@contextlib.contextmanager
def private_stdout() -> Iterator[TextIO]:
    """Standard output for events alone: whatever else is printed meanwhile goes to standard error."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    stream = os.fdopen(os.dup(kept), "w", encoding="utf-8", newline="\n")
    try:
        yield stream
    finally:
        with contextlib.suppress(OSError):
            stream.close()
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def log(text: str) -> None:
    """One line on standard error."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"splatomy job: {text}\n")
        sys.stderr.flush()


class Output:
    """Where events go. Until the run folder is held they wait for it; standard output gets them at once."""

    def __init__(self, stream: TextIO, lost: Callable[[], object]) -> None:
        self._stream: TextIO | None = stream
        self._lost = lost
        self._folder: RunFolder | None = None
        self._waiting: list[Mapping[str, Any]] = []

    def hold(self, folder: RunFolder) -> None:
        """Events go to this folder too, those of before first."""
        self._folder = folder
        for event in self._waiting:
            folder.append_event(event)
        self._waiting = []

    def send(self, event: Mapping[str, Any]) -> None:
        """Writes one event everywhere."""
        self._print(json.dumps(event, allow_nan=False))
        stamped = {"time": round(time.time(), 3), **event}
        if self._folder is None:
            self._waiting.append(stamped)
        else:
            self._folder.append_event(stamped)

    def _print(self, line: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except OSError:
            self._stream = None
            self._lost()
