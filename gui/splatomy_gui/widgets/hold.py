"""An action that lasts as long as its key is held, such as showing the recorded frame."""

from __future__ import annotations

from collections.abc import Callable

from PyQt6.QtCore import QEvent, QObject, Qt
from PyQt6.QtGui import QAction, QKeyEvent
from PyQt6.QtWidgets import QApplication


class HoldKey(QObject):
    """Calls ``held(True)`` when the action is triggered and ``held(False)`` when its key comes up again.

    Triggered by mouse it lasts until the next trigger. ``bind`` it to an action of the table::

        hold = HoldKey(actions["compare_hold"], Qt.Key.Key_C, view.hold)
        actions.bind("compare_hold", hold.press)
    """

    def __init__(self, action: QAction, key: Qt.Key, held: Callable[[bool], None]) -> None:
        super().__init__(action)
        self._key, self._held = key, held
        self._is_held = False
        action.setAutoRepeat(False)

    def press(self) -> None:
        """The action was triggered."""
        if self._is_held:
            self.let_go()
            return
        self._is_held = True
        self._held(True)
        app = QApplication.instance()
        if app is not None:
            app.installEventFilter(self)

    def let_go(self) -> None:
        """Ends it."""
        if self._is_held:
            self._is_held = False
            self._held(False)
            app = QApplication.instance()
            if app is not None:
                app.removeEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Waits for the key to come up."""
        if (
            isinstance(event, QKeyEvent)
            and event.type() is QEvent.Type.KeyRelease
            and event.key() == self._key
            and not event.isAutoRepeat()
        ):
            self.let_go()
        return super().eventFilter(watched, event)
