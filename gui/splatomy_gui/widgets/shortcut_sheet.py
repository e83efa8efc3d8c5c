"""All keyboard shortcuts, those of the page on show first."""

from __future__ import annotations

from PyQt6.QtCore import Qt
from PyQt6.QtGui import QKeySequence
from PyQt6.QtWidgets import QDialog, QHeaderView, QTreeWidget, QTreeWidgetItem, QVBoxLayout, QWidget

from splatomy_gui.actions import Actions

_TITLES = {
    "window": "Everywhere",
    "playback": "Playing",
    "masks": "Masks",
    "inspect": "Inspection",
    "endoscopy": "Endoscopy",
    "angiography": "Angiography",
}


class ShortcutSheet(QDialog):
    """A list of keys and what they do."""

    def __init__(self, actions: Actions, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Keyboard shortcuts")
        self.resize(620, 560)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.tree = QTreeWidget()
        self.tree.setHeaderLabels(["Keys", "What they do"])
        self.tree.setRootIsDecorated(False)
        layout = QVBoxLayout(self)
        layout.addWidget(self.tree)
        active = {spec.scope for spec in actions.specs.values() if actions.is_active(spec.name)} - {"window"}
        # What holds on the page comes first, then what holds everywhere.
        scopes = sorted(_TITLES, key=lambda scope: (scope not in active, list(_TITLES).index(scope)))
        for scope in scopes:
            specs = [s for s in actions.specs.values() if s.scope == scope and s.shortcuts]
            if not specs:
                continue
            group = QTreeWidgetItem([_TITLES[scope], ""])
            font = group.font(0)
            font.setBold(True)
            group.setFont(0, font)
            self.tree.addTopLevelItem(group)
            for spec in specs:
                native = QKeySequence.SequenceFormat.NativeText
                keys = ", ".join(QKeySequence(k).toString(native) for k in spec.shortcuts)
                item = QTreeWidgetItem([keys, spec.tip])
                item.setFlags(Qt.ItemFlag.ItemIsEnabled)
                group.addChild(item)
            group.setExpanded(True)
        header = self.tree.header()
        if header is not None:
            header.setSectionResizeMode(0, QHeaderView.ResizeMode.ResizeToContents)
