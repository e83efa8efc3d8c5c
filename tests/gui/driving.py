"""What a person does again and again, for several tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PyQt6.QtCore import QMimeData, QPointF, Qt, QUrl
from PyQt6.QtGui import QDropEvent

LONG_MS = 180_000


def drop(window: Any, path: Path) -> None:
    """Drops a file or folder on the window."""
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    left, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    window.dropEvent(QDropEvent(QPointF(400, 400), Qt.DropAction.CopyAction, data, left, none))


def open_by_drop(window: Any, qtbot: Any, path: Path) -> None:
    """Drops an input, presses Open, and waits for its frames."""
    drop(window, path)
    qtbot.waitUntil(lambda: window.page is not None and window.page.inspection is not None, timeout=LONG_MS)
    qtbot.mouseClick(window.page.open_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: window.session.case is not None, timeout=LONG_MS)
