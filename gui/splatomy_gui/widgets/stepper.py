"""The steps of a workspace: which is on show, which are done, and why one is locked."""

from __future__ import annotations

from PyQt6.QtCore import Qt, pyqtSignal
from PyQt6.QtWidgets import QFrame, QHBoxLayout, QToolButton

from splatomy_gui.assets import icon
from splatomy_gui.widgets.basics import label
from splatomy_gui.widgets.disabled import set_available, set_tip
from splatomy_gui.workspaces import Step


class Stepper(QFrame):
    """One button for each step."""

    chosen = pyqtSignal(str)

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("stepper")
        self._layout = QHBoxLayout(self)
        self._layout.setContentsMargins(12, 6, 12, 6)
        self.title = label("", "heading")
        self._layout.addWidget(self.title)
        self._layout.addSpacing(16)
        self._layout.addStretch(1)
        self.buttons: dict[str, QToolButton] = {}

    def set_steps(self, steps: tuple[Step, ...]) -> None:
        """The steps of another workspace."""
        for old in self.buttons.values():
            self._layout.removeWidget(old)
            # Deleted only when the event loop comes round; until then they would show through.
            old.hide()
            old.deleteLater()
        self.buttons = {}
        for number, step in enumerate(steps, 1):
            made = QToolButton()
            # An ampersand alone would underline the next letter.
            made.setText(f"{number}  {step.title.replace('&', '&&')}")
            made.setCheckable(True)
            made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
            made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
            set_tip(made, f"Go to step {number}: {step.title}")
            made.clicked.connect(lambda _=False, key=step.key: self.chosen.emit(key))
            self._layout.insertWidget(self._layout.count() - 1, made)
            self.buttons[step.key] = made

    def show_state(self, current: str, done: set[str], locked: dict[str, str]) -> None:
        """current: the step on show. locked: why a step cannot be entered, by step."""
        for key, made in self.buttons.items():
            made.setChecked(key == current)
            set_available(made, locked.get(key))
            name = "locked" if key in locked else ("done" if key in done else "")
            made.setIcon(icon(name) if name else icon("next") if key == current else icon("remove"))
