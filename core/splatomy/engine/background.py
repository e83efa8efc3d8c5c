"""Blocking calls beside a task that must go on reporting."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from splatomy.events import Progress, Task

T = TypeVar("T")

_REPORT_EVERY_S = 0.25


def beside(stage: str, step: int, total: int, work: Callable[[], T]) -> Task[T]:
    """The result of ``work()``, made in a thread of its own while the task repeats its progress.

    For calls that cannot be split: readers, writers, image processing. Closing the task leaves the call
    to itself: its result is dropped, and a file it writes appears whole or not at all. Nothing that
    touches the device or a kernel belongs here: one thread owns those.
    """
    outcome: Future[T] = Future()

    def call() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised again where the result is awaited
            outcome.set_exception(error)

    threading.Thread(target=call, name=f"splatomy {stage}", daemon=True).start()
    while not wait([outcome], timeout=_REPORT_EVERY_S).done:
        yield Progress(stage, step, total)
    return outcome.result()
