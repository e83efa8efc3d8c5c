"""Checkpoints of a session, written beside it."""

from __future__ import annotations

import threading

from splatomy.engine.live.mailbox import Latest
from splatomy.events import Checkpoint
from splatomy.io.run import RunFolder


class Saver:
    """Writes the newest checkpoint in a thread of its own; one that waits gives way to a newer one."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._waiting: Latest[Checkpoint] = Latest()
        self._error: OSError | MemoryError | None = None
        self._thread = threading.Thread(target=self._work, name="splatomy checkpoint", daemon=True)
        self._thread.start()

    def submit(self, checkpoint: Checkpoint) -> None:
        """Hands a checkpoint over; never waits.

        Raises:
            OSError: the disk refused an earlier one. MemoryError: there was no memory for it.
        """
        self._waiting.put(checkpoint)
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def close(self) -> None:
        """Writes what waits, then ends the thread."""
        self._waiting.close()
        self._thread.join(30.0)

    def _work(self) -> None:
        while (checkpoint := self._waiting.take()) is not None:
            try:
                self.folder.save_checkpoint(checkpoint)
            except (OSError, MemoryError) as error:
                self._error = error
