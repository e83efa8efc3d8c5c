"""What happened, why, what to do, details, copy."""

from __future__ import annotations

from PyQt6.QtCore import Qt
from PyQt6.QtGui import QIcon
from PyQt6.QtWidgets import (
    QApplication,
    QDialog,
    QDialogButtonBox,
    QPlainTextEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from splatomy_gui.problem import Problem
from splatomy_gui.widgets.basics import label


class ErrorDialog(QDialog):
    """A problem in plain words; the details are folded away."""

    def __init__(self, problem: Problem, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.problem = problem
        self.setWindowTitle("Splatomy")
        self.setMinimumWidth(480)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        layout = QVBoxLayout(self)
        layout.setSpacing(10)
        self.what = label(problem.what, "heading", wrap=True)
        self.why = label(problem.why, wrap=True)
        self.advice = label(problem.advice, wrap=True)
        for part in (self.what, self.why, label("What you can do", "muted"), self.advice):
            part.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            layout.addWidget(part)
        self.details = QPlainTextEdit(problem.details)
        self.details.setReadOnly(True)
        self.details.setMinimumHeight(180)
        self.details.hide()
        layout.addWidget(self.details)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Ok)
        ok = buttons.button(QDialogButtonBox.StandardButton.Ok)
        if ok is not None:
            # The style's own picture is neither sharp nor of the theme.
            ok.setIcon(QIcon())
            ok.setToolTip("Close this message")
        self.details_button = QPushButton("Details")
        self.details_button.setCheckable(True)
        self.details_button.setToolTip("Show what a developer needs to know")
        self.details_button.toggled.connect(self.details.setVisible)
        self.details_button.setVisible(bool(problem.details))
        self.copy_button = QPushButton("Copy")
        self.copy_button.setToolTip("Copy the whole text")
        self.copy_button.clicked.connect(self._copy)
        buttons.addButton(self.details_button, QDialogButtonBox.ButtonRole.ActionRole)
        buttons.addButton(self.copy_button, QDialogButtonBox.ButtonRole.ActionRole)
        buttons.accepted.connect(self.accept)
        layout.addWidget(buttons)

    def _copy(self) -> None:
        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(self.problem.text())


def show_problem(problem: Problem, parent: QWidget | None) -> ErrorDialog:
    """Shows a problem without stopping the app."""
    dialog = ErrorDialog(problem, parent)
    dialog.setModal(False)
    dialog.show()
    dialog.raise_()
    return dialog
