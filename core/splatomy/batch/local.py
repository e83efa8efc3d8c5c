"""Cases on this machine: a pool of threads, each of which watches one engine process at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace

import torch

from splatomy.batch.working import Outcome, Work, run_case
from splatomy.extract.room import free_bytes

_GIB = 1 << 30


class LocalEngine:
    """As many cases at a time as fit the machine by the largest share among them."""

    def __init__(self, workers: int | None = None) -> None:
        self._workers = workers
        self._stopping = threading.Event()
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: set[Future[Outcome]] = set()
        self._gpus: set[int] = set()
        self._gpus_change = threading.Condition()

    def has_gpus(self) -> bool:
        """True if torch sees a GPU here."""
        return torch.cuda.is_available()

    def start(self, works: Sequence[Work]) -> int:
        """Gives the cases to the pool; the number of its workers."""
        count = self._workers or workers_for(
            works, os.cpu_count() or 1, free_bytes(), torch.cuda.device_count()
        )
        self._gpus = set(range(torch.cuda.device_count()))
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="splatomy case")
        self._waiting = {self._pool.submit(self._run, work) for work in works}
        return count

    def poll(self, timeout_s: float) -> list[Outcome]:
        """The outcomes of the cases that ended."""
        done, self._waiting = wait(self._waiting, timeout_s, return_when=FIRST_COMPLETED)
        return [future.result() for future in done]

    def stop(self) -> list[Outcome]:
        """Stops the engines; each keeps its result."""
        self._stopping.set()
        if self._pool is None:
            return []
        self._pool.shutdown(wait=True, cancel_futures=True)
        return [future.result() for future in self._waiting if not future.cancelled()]

    def _run(self, work: Work) -> Outcome:
        stopping: Callable[[], bool] = self._stopping.is_set
        if not (work.share.gpus and work.case.device in ("auto", "cuda")):
            return run_case(work, stopping)
        # Of more than there are, its process says so.
        wanted = min(work.share.gpus, torch.cuda.device_count())
        with self._gpus_change:
            self._gpus_change.wait_for(lambda: len(self._gpus) >= wanted)
            own = sorted(self._gpus)[:wanted]
            self._gpus.difference_update(own)
        try:
            # Another device in the job file would make it another case.
            return run_case(replace(work, visible_gpus=",".join(map(str, own))), stopping)
        finally:
            with self._gpus_change:
                self._gpus.update(own)
                self._gpus_change.notify_all()


def workers_for(works: Sequence[Work], cores: int, free: int | None, gpus: int) -> int:
    """How many cases fit at a time, by the largest share of cores and memory among them.

    free: bytes of main memory, None = unknown. gpus: how many there are; a case has those it wants alone.
    """
    fits = [max(1, cores // max((work.share.cpus for work in works), default=1)), max(1, len(works))]
    if free is not None:
        fits.append(int(free / _GIB / max((work.share.gib for work in works), default=1.0)))
    if (most := max((work.share.gpus for work in works), default=0)) > 0:
        fits.append(gpus // most)
    return max(1, min(fits))
