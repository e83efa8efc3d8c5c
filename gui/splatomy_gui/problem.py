"""What went wrong, in words for the person at the screen."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

from splatomy.errors import InputError, MissingBackendError


@dataclass(frozen=True)
class Problem:
    """what happened, why, what to do about it, and details for a report (may be empty)."""

    what: str
    why: str
    advice: str
    details: str = ""

    def text(self) -> str:
        """All of it as plain text, to be copied."""
        parts = [self.what, self.why, self.advice, self.details]
        return "\n\n".join(part for part in parts if part)


def problem_of(what: str, error: BaseException) -> Problem:
    """The problem behind an error; an InputError's last part is its next step."""
    details = "".join(traceback.format_exception(error))
    if isinstance(error, InputError):
        why, advice = _split(str(error))
        return Problem(what, why, advice, details)
    if isinstance(error, MissingBackendError):
        return Problem(what, str(error), "Install what it names, then start the app again.", details)
    if isinstance(error, MemoryError):
        return Problem(
            what,
            "The memory of this machine is too small for it.",
            "Crop the input, take fewer frames or bin it, or close other programs.",
            details,
        )
    if isinstance(error, OSError):
        name = error.filename if isinstance(error.filename, str) else "A file"
        reason = error.strerror or str(error)
        return Problem(
            what,
            f"{name.rsplit('/', 1)[-1]} cannot be read or written: {reason}.",
            "Check the path, the rights and the free space, then try again.",
            details,
        )
    return Problem(
        what,
        f"This is a defect of the app ({type(error).__name__}).",
        "Your case is kept. Save a support bundle from the log and report it.",
        details,
    )


def _split(sentence: str) -> tuple[str, str]:
    """What is wrong, and the next step, of an InputError's text."""
    body = sentence.strip().removesuffix(".")
    for mark in (": ", ". "):
        head, found, tail = body.rpartition(mark)
        if found and len(tail) > 8:
            return head + ".", tail[0].upper() + tail[1:] + "."
    return sentence, "Choose another input or other options, then try again."
