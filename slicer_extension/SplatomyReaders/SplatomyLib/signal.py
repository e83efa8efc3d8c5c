"""Signals of plain Python objects; PythonQt cannot define Qt signals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Signal:
    """Calls what is connected to it, in order."""

    def __init__(self) -> None:
        self._called: list[Callable[..., Any]] = []

    def connect(self, called: Callable[..., Any]) -> None:
        """``called`` is called from now on."""
        self._called.append(called)

    def disconnect(self, called: Callable[..., Any]) -> None:
        """``called`` is no longer called; nothing happens when it never was."""
        if called in self._called:
            self._called.remove(called)

    def emit(self, *values: Any) -> None:
        """Calls everything connected now; what is connected or removed meanwhile counts the next time."""
        for called in tuple(self._called):
            called(*values)
