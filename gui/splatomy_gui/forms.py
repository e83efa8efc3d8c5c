"""Forms made from a method's Config: one field for each setting, with its range, unit and help."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from PyQt6.QtCore import Qt, pyqtSignal
from PyQt6.QtGui import QKeyEvent
from PyQt6.QtWidgets import QCheckBox, QComboBox, QFormLayout, QLineEdit, QVBoxLayout, QWidget

from splatomy.errors import InputError
from splatomy.method import MethodSpec, config_schema, make_config
from splatomy_gui.widgets.basics import label, set_style

_ACRONYMS = ("sh", "dssim", "snr")
_SUFFIXES = ("px", "mm", "s", "rad", "voxels")
"""Units that a name ends in without being said as part of it."""


class NumberEdit(QLineEdit):
    """A number of any magnitude, checked against its range; Up and Down change it by a tenth or by one."""

    changed = pyqtSignal()

    def __init__(self, whole: bool, limits: tuple[float, float] | None, optional: bool) -> None:
        super().__init__()
        self._whole, self._limits, self._optional = whole, limits, optional
        self.textChanged.connect(self._check)

    @property
    def problem(self) -> str | None:
        """Why the text is no allowed value; None if it is."""
        text = self.text().strip()
        if not text and self._optional:
            return None
        try:
            value = self._read(text)
        except ValueError:
            return "expected a whole number" if self._whole else "expected a number"
        if not math.isfinite(value):
            return "expected a number"
        if self._limits is not None and not self._limits[0] <= value <= self._limits[1]:
            return f"expected {self._limits[0]:g} to {self._limits[1]:g}"
        return None

    def value(self) -> int | float | None:
        """The number.

        Raises:
            ValueError: there is a problem.
        """
        text = self.text().strip()
        if not text and self._optional:
            return None
        return self._read(text)

    def _read(self, text: str) -> int | float:
        # A comma is what many keyboards have for the point; it never marks thousands here.
        return int(text) if self._whole else float(text.replace(",", "."))

    def set_value(self, value: float | None) -> None:
        """Shows a number."""
        self.setText("" if value is None else f"{value:d}" if isinstance(value, int) else f"{value:.6g}")

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Up and Down."""
        if event is not None and event.key() in (Qt.Key.Key_Up, Qt.Key.Key_Down) and self.problem is None:
            sign = 1 if event.key() == Qt.Key.Key_Up else -1
            now = self.value() or 0
            step = max(1, abs(int(now)) // 10) if self._whole else (abs(now) / 10 or 0.1)
            wanted = now + sign * step
            if self._limits is not None:
                wanted = min(max(wanted, self._limits[0]), self._limits[1])
            self.set_value(int(wanted) if self._whole else wanted)
        else:
            super().keyPressEvent(event)

    def _check(self) -> None:
        self.setProperty("wrong", self.problem is not None)
        set_style(self, self.objectName())
        self.changed.emit()


class ConfigForm(QWidget):
    """All settings of a method; ``changes`` are those that differ from the chosen preset."""

    changed = pyqtSignal()

    def __init__(self, spec: MethodSpec) -> None:
        super().__init__()
        self.spec = spec
        self._preset = next(iter(spec.presets))
        self._readers: dict[str, Callable[[], Any]] = {}
        self._writers: dict[str, Callable[[Any], None]] = {}
        self._rows: list[tuple[str, QWidget, QWidget]] = []
        self.search = QLineEdit()
        self.search.setPlaceholderText("Find a setting")
        self.search.setToolTip("Show only settings whose name or help has these words")
        self.search.textChanged.connect(self._filter)
        self.form = QFormLayout()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.search)
        layout.addLayout(self.form)
        layout.addStretch(1)
        for entry in config_schema(spec):
            if entry["name"] != "seed":
                self._add(entry)
        self.set_preset(self._preset)

    def set_preset(self, preset: str) -> None:
        """Shows a preset's values; changes are forgotten."""
        self._preset = preset
        config = make_config(self.spec, preset, {})
        for name, write in self._writers.items():
            write(getattr(config, name))
        self.changed.emit()

    def changes(self) -> dict[str, Any]:
        """The settings that differ from the preset, by name.

        Raises:
            InputError: a value is not allowed.
        """
        wrong = self.problem()
        if wrong is not None:
            raise InputError(wrong)
        preset = make_config(self.spec, self._preset, {})
        values = {name: read() for name, read in self._readers.items()}
        return {n: v for n, v in values.items() if not _same(v, getattr(preset, n))}

    def problem(self) -> str | None:
        """The first value that is not allowed, in words."""
        for name, _, field in self._rows:
            if isinstance(field, NumberEdit) and field.problem is not None:
                return f"{_title(name)}: {field.problem}."
        try:
            make_config(self.spec, self._preset, {n: r() for n, r in self._readers.items()})
        except InputError as error:
            return str(error)
        return None

    def field(self, name: str) -> QWidget:
        """The field of a setting."""
        return next(field for n, _, field in self._rows if n == name)

    def fields(self) -> list[tuple[str, QWidget]]:
        """All fields with their titles."""
        return [(_title(name), field) for name, _, field in self._rows]

    def _add(self, entry: Mapping[str, Any]) -> None:
        name, limits, kind = entry["name"], entry["range"], str(entry["type"])
        field: QWidget
        if entry["choices"]:
            box = QComboBox()
            box.addItems([str(choice) for choice in entry["choices"]])
            box.currentTextChanged.connect(lambda _: self.changed.emit())
            choices = {str(choice): choice for choice in entry["choices"]}
            self._readers[name] = lambda: choices[box.currentText()]
            self._writers[name] = lambda value: box.setCurrentText(str(value))
            field = box
        elif kind == "bool":
            check = QCheckBox()
            check.toggled.connect(lambda _: self.changed.emit())
            self._readers[name], self._writers[name] = check.isChecked, check.setChecked
            field = check
        elif kind.startswith(("int", "float")):
            number = NumberEdit(kind.startswith("int"), limits, "None" in kind)
            number.changed.connect(self.changed)
            self._readers[name], self._writers[name] = number.value, number.set_value
            field = number
        else:
            text = QLineEdit()
            text.textChanged.connect(lambda _: self.changed.emit())
            self._readers[name], self._writers[name] = text.text, lambda value: text.setText(str(value))
            field = text
        unit = entry["unit"]
        title = label(_titled(name, unit))
        tip = entry["doc"] or _title(name)
        if limits is not None:
            tip += f"\n{limits[0]:g} to {limits[1]:g} {unit}".rstrip()
        for widget in (title, field):
            widget.setToolTip(tip)
        self.form.addRow(title, field)
        self._rows.append((name, title, field))

    def _filter(self, text: str) -> None:
        words = text.lower().split()
        for name, title, field in self._rows:
            haystack = f"{_title(name)} {field.toolTip()}".lower()
            shown = all(word in haystack for word in words)
            title.setVisible(shown)
            field.setVisible(shown)


def _title(name: str) -> str:
    words = [word.upper() if word in _ACRONYMS else word for word in name.split("_")]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])


def _titled(name: str, unit: str) -> str:
    """The title with its unit, which many names have already."""
    words = name.split("_")
    if not unit or (unit in words and unit not in _SUFFIXES):
        return _title(name)
    if words[-1] == unit and len(words) > 1:
        words.pop()
    return f"{_title('_'.join(words))}, {unit}"


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float | int):
        return math.isclose(one, other, rel_tol=1e-5, abs_tol=1e-12)
    return bool(one == other)
