"""The surgeon's commands: sent to the engine, followed until it has answered, and taken back by undo."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PyQt6.QtCore import QObject, pyqtSignal
from PyQt6.QtGui import QColor, QUndoCommand
from PyQt6.QtWidgets import QListWidget, QListWidgetItem

from splatomy_gui.session import Session
from splatomy_gui.theme import current_theme
from splatomy_gui.worker import Job

_MOST_LINES = 200


@dataclass
class Asked:
    """A command on its way. undoes: the one that it takes back. again: it is on the undo stack already."""

    text: str
    fields: dict[str, Any]
    sent_s: float
    undoes: Asked | None = None
    again: bool = False
    state: str = "sent"
    reason: str = ""
    generation: int = -1
    took_s: float = 0.0

    @property
    def line(self) -> str:
        """For the list."""
        match self.state:
            case "applied":
                return f"{self.text}: done after {self.took_s:.1f} s (surface {self.generation})"
            case "rejected":
                return f"{self.text}: not done. {self.reason}"
            case "received":
                return f"{self.text}: received..."
            case _:
                return f"{self.text}: sent..."


class LiveCommand(QUndoCommand):
    """A command that the engine has applied; undo and redo are commands too."""

    def __init__(self, desk: CommandDesk, asked: Asked) -> None:
        super().__init__(asked.text)
        self._desk, self._asked = desk, asked
        self._first = True

    def redo(self) -> None:
        """Gives it again; the first time it is applied already."""
        if self._first:
            self._first = False
        elif not self._desk.send(self._asked.text, self._asked.fields, again=True):
            self.setObsolete(True)

    def undo(self) -> None:
        """Takes it back; a session that has ended keeps what was done."""
        if not self._desk.take_back(self._asked):
            self.setObsolete(True)


class CommandDesk(QObject):
    """All commands of the session in progress."""

    changed = pyqtSignal(object)
    """An Asked that has another state."""
    too_late = pyqtSignal()
    """Something was to be taken back or done again after the session's end."""
    applied = pyqtSignal(object)
    rejected = pyqtSignal(object)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._job: Job | None = None
        self._numbers = itertools.count(1)
        self._pending: dict[str, Asked] = {}

    def set_job(self, job: Job | None) -> None:
        """The session that gets the commands; None = there is none, and what has no answer gets none."""
        self._job = job
        pending, self._pending = self._pending, {}
        for asked in pending.values():
            asked.state, asked.reason = "rejected", "The session has ended."
            self.changed.emit(asked)

    @property
    def waiting(self) -> int:
        """Commands without a last answer."""
        return len(self._pending)

    def send(
        self, text: str, fields: Mapping[str, Any], undoes: Asked | None = None, again: bool = False
    ) -> bool:
        """Sends a command; False without a session.

        text: for the person. fields: of the protocol, without id.
        """
        job = self._job
        if job is None or job.state.ended:
            self.too_late.emit()
            return False
        identifier = f"gui-{next(self._numbers)}"
        asked = Asked(text, dict(fields), time.monotonic(), undoes, again)
        self._pending[identifier] = asked
        job.ask({**fields, "id": identifier})
        self.changed.emit(asked)
        return True

    def take_back(self, asked: Asked) -> bool:
        """Undoes an applied command, which is the newest one; False without a session."""
        text = f"Undo {asked.text[0].lower()}{asked.text[1:]}"
        return self.send(text, {"command": "undo"}, undoes=asked)

    def hear(self, event: Mapping[str, Any]) -> None:
        """An answer of the engine."""
        identifier = str(event["id"])
        asked = self._pending.get(identifier)
        if asked is None:
            return
        asked.state = str(event["state"])
        asked.generation = int(event.get("generation", -1))
        asked.reason = str(event.get("reason") or "")
        asked.took_s = time.monotonic() - asked.sent_s
        if asked.state != "received":
            del self._pending[identifier]
        if asked.state == "applied":
            if asked.undoes is None and not asked.again:
                self._session.push(LiveCommand(self, asked))
            self.applied.emit(asked)
        elif asked.state == "rejected":
            self.rejected.emit(asked)
        self.changed.emit(asked)


class CommandList(QListWidget):
    """What was asked and what became of it, newest first."""

    def __init__(self, desk: CommandDesk) -> None:
        super().__init__()
        self.setToolTip("Your commands and what became of them, newest first")
        self.setWordWrap(True)
        self._items: dict[int, QListWidgetItem] = {}
        desk.changed.connect(self._show)

    def clear_all(self) -> None:
        """Another session begins."""
        self._items = {}
        self.clear()

    def _show(self, asked: Asked) -> None:
        item = self._items.get(id(asked))
        if item is None:
            item = QListWidgetItem()
            item.setData(256, asked)
            self._items[id(asked)] = item
            self.insertItem(0, item)
            if self.count() > _MOST_LINES:
                old = self.takeItem(self.count() - 1)
                if old is not None:
                    self._items.pop(id(old.data(256)), None)
        item.setText(asked.line)
        item.setToolTip(asked.line)
        colour = {"applied": "good", "rejected": "bad"}.get(asked.state)
        item.setForeground(QColor(current_theme().colours[colour or "text"]))
