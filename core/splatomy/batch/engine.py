"""What maps cases over machines: the same few verbs for one machine and for a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from splatomy.batch.working import Outcome, Work


class Engine(Protocol):
    """Runs cases. It is used as: start, poll until every case has its outcome, stop."""

    def has_gpus(self) -> bool:
        """True if cases may have a GPU each."""
        ...

    def start(self, works: Sequence[Work]) -> int:
        """Takes all cases over; how many run at a time, about."""
        ...

    def poll(self, timeout_s: float) -> list[Outcome]:
        """The outcomes since the last call, after at most that time."""
        ...

    def stop(self) -> list[Outcome]:
        """Ends what runs within 2 s, results kept, and gives everything back; the outcomes of that."""
        ...
