"""Minor notes that go away by themselves."""

from __future__ import annotations

from PyQt6.QtCore import Qt, QTimer
from PyQt6.QtWidgets import QFrame, QHBoxLayout, QLabel, QWidget

_SHOWN_MS = 4000
_MARGIN_PX = 2
_WIDEST_PX = 640


class Toast(QFrame):
    """One note at the upper right of its parent, beside the menus; a new one replaces it."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("toast")
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(10, 2, 10, 2)
        self.text = QLabel()
        self.text.setWordWrap(True)
        layout.addWidget(self.text)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.hide)
        self.hide()

    def say(self, text: str) -> None:
        """Shows a note for a few seconds."""
        self.text.setText(text)
        # A label that wraps would rather be narrow and high.
        self.text.setFixedWidth(min(_WIDEST_PX, self.text.fontMetrics().horizontalAdvance(text) + 4))
        self.adjustSize()
        parent = self.parentWidget()
        if parent is not None:
            self.move(parent.width() - self.width() - _MARGIN_PX, _MARGIN_PX)
        self.show()
        self.raise_()
        self._timer.start(_SHOWN_MS)
