"""The end of a process with a window: imported before anything of the app.

PyQt's own exit function deletes objects while it walks through the table of all of them, and now and then the
walk ends in a segmentation fault. Exit functions run last in, first out, so the one that is registered here,
right behind PyQt's, runs just before it, after those of everybody else, and ends the process.
"""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress

import PyQt6.QtCore  # noqa: F401 - registers its exit function

_exit_code = 1


def will_end_with(code: int) -> None:
    """Sets the exit code; without it the process has failed."""
    global _exit_code
    _exit_code = code


def _end() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(_exit_code)


atexit.register(_end)
