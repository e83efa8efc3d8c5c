"""QActions made from the table, bound to what they do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from PyQt6.QtCore import QObject, Qt
from PyQt6.QtGui import QAction, QKeySequence
from PyQt6.QtWidgets import QWidget

from splatomy_gui.assets import icon

_NOT_HERE = "Not on this page."


@dataclass(frozen=True)
class ActionSpec:
    """One action. text: as in menus. tip: what it does, one sentence. shortcuts: key sequences.

    scope: where it works. menu: the menu that shows it. checkable: it is on or off. undone: switching it
    is a change that can be undone.
    """

    name: str
    text: str
    tip: str
    shortcuts: tuple[str, ...] = ()
    scope: str = "window"
    menu: str = ""
    icon: str = ""
    checkable: bool = False
    undone: bool = False


class Actions(QObject):
    """The app's QActions by name."""

    def __init__(self, table: Iterable[ActionSpec], window: QWidget) -> None:
        super().__init__(window)
        self.specs = {spec.name: spec for spec in table}
        self._made: dict[str, QAction] = {}
        self._slots: dict[str, Callable[..., Any]] = {}
        self._reasons: dict[str, str] = {}
        self._scopes: tuple[str, ...] = ()
        self.record: Callable[[str, Callable[[bool], None], bool], None] | None = None
        """Takes what a person switched: text, what switches it, and the new state."""
        for spec in self.specs.values():
            self._made[spec.name] = self._make(spec, window)

    def __getitem__(self, name: str) -> QAction:
        return self._made[name]

    def all(self) -> list[QAction]:
        """Every action, in the table's order."""
        return list(self._made.values())

    def bind(self, name: str, slot: Callable[..., Any]) -> QAction:
        """Says what an action does; a page built later may take a shared one over when it is shown.

        slot: called without arguments, or, for a checkable action, with its state.
        """
        self._slots[name] = slot
        self._refresh(name)
        return self._made[name]

    def unbind(self, name: str) -> None:
        """Nobody does it any more."""
        self._slots.pop(name, None)
        self._refresh(name)

    def allow(self, name: str, reason: str | None) -> None:
        """None: it can be done now; else the reason why it cannot."""
        if reason is None:
            self._reasons.pop(name, None)
        else:
            self._reasons[name] = reason
        self._refresh(name)

    def activate_scopes(self, scopes: tuple[str, ...]) -> None:
        """Only actions of these scopes work, keys included."""
        self._scopes = scopes
        for name in self._made:
            self._refresh(name)

    def is_active(self, name: str) -> bool:
        """True if the action's scope is active."""
        return self.specs[name].scope in self._scopes

    def _make(self, spec: ActionSpec, window: QWidget) -> QAction:
        action = QAction(spec.text, window)
        if spec.icon:
            action.setIcon(icon(spec.icon))
        action.setObjectName(spec.name)
        action.setShortcuts([QKeySequence(keys) for keys in spec.shortcuts])
        action.setShortcutContext(Qt.ShortcutContext.WindowShortcut)
        action.setCheckable(spec.checkable)
        # A menu shows a tick instead, since icons of what is on have the colour for the accent.
        action.setIconVisibleInMenu(not spec.checkable)
        action.setStatusTip(spec.tip)
        window.addAction(action)
        name = spec.name
        if spec.checkable:
            action.toggled.connect(lambda on: self._run(name, on))
            if spec.undone:
                action.triggered.connect(lambda on: self._record(spec.text, action, on))
        else:
            action.triggered.connect(lambda _=False: self._run(name))
        return action

    def _record(self, text: str, action: QAction, on: bool) -> None:
        if self.record is not None:
            self.record(text, action.setChecked, on)

    def _run(self, name: str, *values: Any) -> None:
        slot = self._slots.get(name)
        if slot is not None:
            slot(*values)

    def _refresh(self, name: str) -> None:
        action, spec = self._made[name], self.specs[name]
        reason = self._reasons.get(name)
        if spec.scope not in self._scopes or name not in self._slots:
            reason = reason or _NOT_HERE
        action.setEnabled(reason is None)
        keys = ", ".join(
            QKeySequence(k).toString(QKeySequence.SequenceFormat.NativeText) for k in spec.shortcuts
        )
        shown = f"{spec.tip} ({keys})" if keys else spec.tip
        action.setToolTip(shown if reason is None else f"{shown}\nNot available: {reason}")
