"""Errors that reach a user: each is one clear sentence, shown verbatim."""

from __future__ import annotations


class SplatomyError(Exception):
    """Base of the errors whose text is meant for the user."""


class InputError(SplatomyError):
    """The user can fix it: says what is wrong, what was expected, what was found and the next step."""


class MissingBackendError(SplatomyError):
    """An optional dependency is not installed: says what to install."""


class CancelledError(SplatomyError):
    """The user stopped the job; the result so far was kept."""
