"""What a run notes of itself while it works: events that passed, the time, and the memory it took."""

from __future__ import annotations

import sys
import time

from splatomy.events import Event, T, Task


def heard(task: Task[T], events: list[Event]) -> Task[T]:
    """The task's product; its events are passed on and kept."""
    while True:
        try:
            event = next(task)
        except StopIteration as stop:
            product: T = stop.value
            return product
        events.append(event)
        yield event


def peak_memory_mb() -> float | None:
    """The most memory that this process has held, MiB; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def clock(moment: float | None = None) -> str:
    """Now, or another moment in seconds since 1970, as local time."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(moment))
