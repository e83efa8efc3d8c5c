"""Input fields for options: whole numbers in a row, a path, a choice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PyQt6.QtCore import QLocale, QRegularExpression, pyqtSignal
from PyQt6.QtGui import QRegularExpressionValidator, QValidator
from PyQt6.QtWidgets import QComboBox, QDoubleSpinBox, QFileDialog, QHBoxLayout, QLineEdit, QWidget

from splatomy.errors import InputError
from splatomy_gui.widgets.basics import button


class NumbersField(QLineEdit):
    """Whole numbers with a separator, such as a crop box or a range of frames; empty = not given."""

    def __init__(self, separator: str, count: int, example: str, tip: str) -> None:
        super().__init__()
        self._separator, self._count = separator, count
        self.setPlaceholderText(example)
        self.setToolTip(tip)
        pattern = rf"[0-9\s{separator}]*"
        self.setValidator(QRegularExpressionValidator(QRegularExpression(pattern)))

    def numbers(self) -> tuple[int | None, ...] | None:
        """The numbers, None where one is left out; None for an empty field.

        Raises:
            InputError: too many, or not numbers.
        """
        text = self.text().strip()
        if not text:
            return None
        parts = text.split(self._separator)
        if len(parts) > self._count:
            raise InputError(
                f"{text!r} has {len(parts)} numbers; expected at most {self._count}, as in "
                f"{self.placeholderText()}: correct it."
            )
        values = [int(part) if part.strip() else None for part in parts]
        return tuple(values + [None] * (self._count - len(values)))

    def set_numbers(self, numbers: tuple[int | None, ...] | None) -> None:
        """Shows numbers."""
        shown = () if numbers is None else numbers
        text = self._separator.join("" if n is None else str(n) for n in shown)
        # 10:90: is 10:90; a separator at the end only says that nothing follows.
        self.setText(text.rstrip(self._separator) if shown and shown[-1] is None else text)


class DecimalBox(QDoubleSpinBox):
    """A number with decimals. Point and comma both begin the decimals, whatever the language of the system.

    Qt alone takes one of them for a mark of thousands, so that 2.5 mm would become 25 mm without a word.
    """

    def __init__(self) -> None:
        super().__init__()
        # As in all other text of the app.
        locale = QLocale(QLocale.Language.C)
        locale.setNumberOptions(
            QLocale.NumberOption.OmitGroupSeparator | QLocale.NumberOption.RejectGroupSeparator
        )
        self.setLocale(locale)

    def validate(self, text: str | None, place: int) -> tuple[QValidator.State, str, int]:
        """Takes a comma for a point while it is typed."""
        return super().validate((text or "").replace(",", "."), place)

    def valueFromText(self, text: str | None) -> float:
        """The same when the text is read."""
        return super().valueFromText((text or "").replace(",", "."))


class PathField(QWidget):
    """A path that is typed or chosen; empty = not given."""

    changed = pyqtSignal()

    def __init__(self, tip: str, folder: bool = False, pattern: str = "") -> None:
        super().__init__()
        self._folder, self._pattern = folder, pattern
        self.edit = QLineEdit()
        self.edit.setToolTip(tip)
        self.edit.editingFinished.connect(self.changed)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.edit, 1)
        choose = button("...", self._choose, tip)
        choose.setMaximumWidth(36)
        layout.addWidget(choose)

    def path(self) -> Path | None:
        """The path."""
        text = self.edit.text().strip()
        return Path(text) if text else None

    def set_path(self, path: Path | None) -> None:
        """Shows a path."""
        self.edit.setText("" if path is None else str(path))

    def _choose(self) -> None:
        if self._folder:
            name = QFileDialog.getExistingDirectory(self, self.edit.toolTip(), self.edit.text())
        else:
            name, _ = QFileDialog.getOpenFileName(self, self.edit.toolTip(), self.edit.text(), self._pattern)
        if name:
            self.edit.setText(name)
            self.changed.emit()


class ChoiceField(QComboBox):
    """One of several values, each with words for it."""

    def __init__(self, choices: Sequence[tuple[object, str]], tip: str) -> None:
        super().__init__()
        self.setToolTip(tip)
        self._values = [value for value, _ in choices]
        self.addItems([text for _, text in choices])

    def value(self) -> object:
        """The chosen value."""
        return self._values[self.currentIndex()]

    def set_value(self, value: object) -> None:
        """Chooses a value."""
        if value in self._values:
            self.setCurrentIndex(self._values.index(value))
