"""A mailbox of one: the newest thing wins, and nobody waits to hand over."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """Between two threads; what is not taken in time gives way to what comes next."""

    def __init__(self) -> None:
        self._held: T | None = None
        self._closed = False
        self._lock = threading.Condition()

    def put(self, item: T) -> bool:
        """Leaves the newest item; True when it took the place of another one."""
        with self._lock:
            replaced = self._held is not None
            self._held = item
            self._lock.notify_all()
            return replaced

    def take(self) -> T | None:
        """Waits for an item; None when the box was closed and is empty."""
        with self._lock:
            self._lock.wait_for(lambda: self._held is not None or self._closed)
            item, self._held = self._held, None
            return item

    def close(self) -> None:
        """Lets whoever waits go on; what is held can still be taken."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()
