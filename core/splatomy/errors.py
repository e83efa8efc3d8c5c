"""Errors that reach a user: each is one clear sentence, shown verbatim."""

from __future__ import annotations

import errno
import sys

MEMORY_SIGNALS = (6, 9)
"""What ends a process that lacks memory: C++ and LLVM abort theirs, the system kills one."""
_LONGEST = 480
_KEPT_OF_END = 160


class SplatomyError(Exception):
    """Base of the errors whose text is meant for the user: one line, whatever it quotes from a file."""

    def __init__(self, text: object = "") -> None:
        """text: control characters in it become question marks, and the middle of an endless one goes."""
        line = "".join(c if c.isprintable() else "?" for c in " ".join(str(text).splitlines()))
        if len(line) > _LONGEST:
            line = f"{line[: _LONGEST - _KEPT_OF_END - 5]} ... {line[-_KEPT_OF_END:]}"
        super().__init__(line)


class InputError(SplatomyError):
    """The user can fix it: says what is wrong, what was expected, what was found and the next step."""


class MissingBackendError(SplatomyError):
    """An optional dependency is not installed: says what to install."""


_NO_MEMORY = (
    "allocate memory", "enough memory", "out of memory", "insufficient memory", "failed to allocate",
    "bad_alloc", "alloc_failed", "can't start new thread", "failed to map segment",
)  # fmt: skip

_PERHAPS_NO_MEMORY = ("cufft_internal_error",)
"""What a library of the GPU says about a lack of memory and about its own defects alike."""
_FULL_BYTES = 256 * 2**20


def is_out_of_memory(error: BaseException) -> bool:
    """True if an error says that the machine's or the device's memory is full, whoever raised it."""
    if isinstance(error, SplatomyError):
        return False
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    # PyTorch raises plain RuntimeErrors on the CPU, OpenCV a kind of its own; a thread's stack is memory too,
    # and so is a library that is loaded, which some loaders tell as a file that was not found.
    text = str(error).lower()
    if any(words in text for words in _NO_MEMORY):
        return True
    if any(words in text for words in _PERHAPS_NO_MEMORY) and _gpu_is_full():
        return True
    reason = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return reason is not None and is_out_of_memory(reason)


def _gpu_is_full() -> bool:
    """True if the GPU in use has hardly any memory left."""
    torch = sys.modules.get("torch")  # it raised the error; no sentence is worth the seconds it takes to load
    return torch is not None and torch.cuda.is_available() and torch.cuda.mem_get_info()[0] < _FULL_BYTES


class CancelledError(SplatomyError):
    """The user stopped the job; the result so far was kept."""
