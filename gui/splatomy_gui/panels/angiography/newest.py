"""Work of which only the newest matters: one piece at a time, what comes in between is dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PyQt6.QtCore import QObject

from splatomy_gui.tasks import Tasks


class Newest(QObject):
    """Runs work on another thread and hands its product over, unless it was dropped."""

    def __init__(self, tasks: Tasks, title: str, done: Callable[[Any], None], parent: QObject) -> None:
        """title: what failed, should it fail. done: takes the product on the GUI thread."""
        super().__init__(parent)
        self._tasks, self._title, self._done = tasks, title, done
        self._waiting: Callable[[], Any] | None = None
        self._busy = False
        self._round = 0

    @property
    def busy(self) -> bool:
        """True while something runs."""
        return self._busy

    def ask(self, work: Callable[[], Any]) -> None:
        """Runs the work now, or when what runs has ended, unless something newer is asked for."""
        if self._busy:
            self._waiting = work
            return
        self._busy = True
        number = self._round

        def done(product: Any) -> None:
            if number == self._round:
                self._done(product)

        self._tasks.start(self._title, work, done).ended.connect(self._ended)

    def drop(self) -> None:
        """What runs or waits is no longer wanted."""
        self._round += 1
        self._waiting = None

    def _ended(self) -> None:
        self._busy = False
        work, self._waiting = self._waiting, None
        if work is not None:
            self.ask(work)
