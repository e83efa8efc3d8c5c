"""The bar on the left: start, workspaces, jobs, preferences."""

from __future__ import annotations

from PyQt6.QtCore import QSize, Qt, pyqtSignal
from PyQt6.QtWidgets import QButtonGroup, QFrame, QToolButton, QVBoxLayout

from splatomy_gui.assets import icon
from splatomy_gui.workspaces import WORKSPACES


class WorkspaceBar(QFrame):
    """One button for each place; one of them is checked."""

    chosen = pyqtSignal(str)

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("bar")
        self.setFixedWidth(108)
        column = QVBoxLayout(self)
        column.setContentsMargins(6, 8, 6, 8)
        column.setSpacing(4)
        self.buttons: dict[str, QToolButton] = {}
        self._icons: dict[str, str] = {}
        group = QButtonGroup(self)
        places = [("start", "Start", "start"), *((w.key, w.title, w.icon) for w in WORKSPACES)]
        places += [("jobs", "Jobs", "jobs"), ("preferences", "Preferences", "preferences")]
        for key, title, name in places:
            made = QToolButton()
            made.setText(title)
            made.setIconSize(QSize(26, 26))
            made.setCheckable(True)
            made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
            made.setToolTip(f"Go to {title}")
            made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
            made.setFixedSize(96, 62)
            made.clicked.connect(lambda _=False, k=key: self.chosen.emit(k))
            group.addButton(made)
            self.buttons[key], self._icons[key] = made, name
            if key == "jobs":
                column.addStretch(1)
            column.addWidget(made)
        self.refresh_icons()

    def refresh_icons(self) -> None:
        """Icons in the colours of the theme in force."""
        for key, made in self.buttons.items():
            made.setIcon(icon(self._icons[key]))
