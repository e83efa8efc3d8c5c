"""Any action by its name."""

from __future__ import annotations

from PyQt6.QtCore import QEvent, QObject, QSize, Qt
from PyQt6.QtGui import QAction, QIcon, QKeyEvent, QKeySequence, QPixmap
from PyQt6.QtWidgets import QDialog, QLineEdit, QListWidget, QListWidgetItem, QVBoxLayout, QWidget

_SHOWN = 60


class CommandPalette(QDialog):
    """Type a part of a name, Return does it."""

    def __init__(self, actions: list[QAction], parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Find an action")
        self.resize(520, 380)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._actions = actions
        layout = QVBoxLayout(self)
        self.search = QLineEdit()
        self.search.setPlaceholderText("What do you want to do?")
        self.search.setToolTip("Words of the name or of what it does")
        self.search.textChanged.connect(self._fill)
        self.search.installEventFilter(self)
        self.list = QListWidget()
        nothing = QPixmap(self.list.iconSize() if self.list.iconSize().isValid() else QSize(24, 24))
        nothing.fill(Qt.GlobalColor.transparent)
        self._none = QIcon(nothing)
        self.list.itemActivated.connect(lambda _: self._run())
        layout.addWidget(self.search)
        layout.addWidget(self.list)
        self._fill("")

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Arrow keys move in the list while the text has the focus."""
        if isinstance(event, QKeyEvent) and event.type() is QEvent.Type.KeyPress:
            if event.key() in (Qt.Key.Key_Up, Qt.Key.Key_Down):
                step = 1 if event.key() == Qt.Key.Key_Down else -1
                self.list.setCurrentRow(max(0, min(self.list.count() - 1, self.list.currentRow() + step)))
                return True
            if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
                self._run()
                return True
        return super().eventFilter(watched, event)

    def _fill(self, text: str) -> None:
        self.list.clear()
        words = text.lower().split()
        found = [a for a in self._actions if all(w in f"{a.text()} {a.statusTip()}".lower() for w in words)]
        found.sort(key=lambda a: (not a.isEnabled(), a.text().lower()))
        for action in found[:_SHOWN]:
            keys = action.shortcut().toString(QKeySequence.SequenceFormat.NativeText)
            # Names stand below each other whether there is an icon or not.
            drawing = self._none if action.icon().isNull() else action.icon()
            item = QListWidgetItem(drawing, f"{action.text()}    {keys}")
            item.setToolTip(action.toolTip())
            item.setData(Qt.ItemDataRole.UserRole, action)
            if not action.isEnabled():
                item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEnabled)
            self.list.addItem(item)
        self.list.setCurrentRow(0)

    def _run(self) -> None:
        item = self.list.currentItem()
        if item is None:
            return
        action: QAction = item.data(Qt.ItemDataRole.UserRole)
        self.accept()
        if action.isEnabled():
            action.trigger()
