"""One frame after the other, with a few of them made ahead by other threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def made_ahead(make: Callable[[int], T], count: int, most: int) -> Iterator[T]:
    """``make(0)`` to ``make(count - 1)`` in order, by as many threads as there are cores.

    most: results and threads at a time, which bounds the memory. Closing the iterator waits for the calls
    that run; no other one begins.
    """
    pool = ThreadPoolExecutor(max(1, min(os.cpu_count() or 1, most)), "ahead")
    coming: deque[Future[T]] = deque()
    try:
        for number in range(count):
            while len(coming) < min(most, count - number):
                coming.append(pool.submit(make, number + len(coming)))
            yield coming.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
