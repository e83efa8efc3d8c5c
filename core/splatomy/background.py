"""Blocking calls beside a task that must go on reporting."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import TypeVar

from splatomy.events import Progress, Task

T = TypeVar("T")

_REPORT_EVERY_S = 0.25
_THREADS = "splatomy "
"""Begins the names of the threads that a process does not wait for."""


def beside(stage: str, step: int, total: int, work: Callable[[], T]) -> Task[T]:
    """The result of ``work()``, made in a thread of its own while the task repeats its progress.

    For calls that cannot be split: readers, writers, image processing. Closing the task leaves the call
    to itself: its result is dropped, and a file it writes appears whole or not at all. Nothing that
    touches the device or a kernel belongs here, since one thread owns those, but for making kernels
    ready (``kernels.ready``).
    """
    outcome: Future[T] = Future()

    def call() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised again where the result is awaited
            outcome.set_exception(error)

    threading.Thread(target=call, name=_THREADS + stage, daemon=True).start()
    while not wait([outcome], timeout=_REPORT_EVERY_S).done:
        yield Progress(stage, step, total)
    return outcome.result()


def leave(code: int) -> int:
    """The exit code with which the program ends; with calls left to themselves it ends here.

    The interpreter stops such a thread wherever it next wants to run Python. Inside a library's C++ that
    aborts the process, and a stop of the user's would look like a lack of memory.
    """
    if any(thread.daemon and thread.name.startswith(_THREADS) for thread in threading.enumerate()):
        atexit._run_exitfuncs()  # children, temporary folders
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # nobody reads it any more
                stream.flush()
        os._exit(code)
    return code
