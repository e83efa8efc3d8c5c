"""Fields whose changes by a person can be undone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PyQt6 import sip
from PyQt6.QtCore import QEvent, QObject
from PyQt6.QtWidgets import QAbstractButton, QAbstractSpinBox, QComboBox, QLineEdit, QWidget

from splatomy_gui.session import Session
from splatomy_gui.undo import ValueCommand

_BEGINNINGS = (QEvent.Type.FocusIn, QEvent.Type.MouseButtonPress, QEvent.Type.Wheel, QEvent.Type.KeyPress)


class KeptField(QObject):
    """Follows a combo box, check box, spin box or line edit; lives as long as it.

    A program's changes are no undo steps; typing becomes one when the field is left or Enter is pressed.
    """

    def __init__(
        self, session: Session, field: QWidget, text: str, applied: Callable[[], object] | None = None
    ) -> None:
        """applied: called after undo and redo, for fields whose effect hangs on the person's signal alone."""
        super().__init__(field)
        self._session, self._field, self._text, self._applied = session, field, text, applied
        self._before = self._value
        field.installEventFilter(self)
        if isinstance(field, QComboBox):
            field.activated.connect(lambda _: self._changed())
        elif isinstance(field, QAbstractButton):
            field.clicked.connect(lambda _: self._changed())
        elif isinstance(field, QAbstractSpinBox | QLineEdit):
            field.editingFinished.connect(self._changed)
        else:
            raise ValueError(f"no field to follow: {type(field).__name__}")

    @property
    def _value(self) -> Any:
        field: Any = self._field
        if isinstance(field, QComboBox):
            return field.currentIndex()
        if isinstance(field, QAbstractButton):
            return field.isChecked()
        return field.text() if isinstance(field, QLineEdit) else field.value()

    def _changed(self) -> None:
        before, after = self._before, self._value
        if before != after:
            self._before = after
            self._session.push(ValueCommand(self._text, self._write, before, after))

    def _write(self, value: Any) -> None:
        field: Any = self._field
        if sip.isdeleted(field) or self._value == value:
            return
        self._before = value
        if isinstance(field, QComboBox):
            field.setCurrentIndex(value)
        elif isinstance(field, QAbstractButton):
            field.setChecked(value)
        elif isinstance(field, QLineEdit):
            field.setText(value)
            field.editingFinished.emit()
        else:
            field.setValue(value)
        if self._applied is not None:
            self._applied()

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Remembers the value when a person begins to change it."""
        if event is not None and event.type() in _BEGINNINGS:
            typed = isinstance(self._field, QAbstractSpinBox | QLineEdit)
            if not typed or event.type() is QEvent.Type.FocusIn:
                self._before = self._value
        return super().eventFilter(watched, event)
