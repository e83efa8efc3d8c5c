"""What both load pages share: the drop area, the report on an input, its options, and opening it."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from pathlib import Path
from typing import Any

from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import (
    QAbstractSpinBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from splatomy.errors import InputError
from splatomy.io.options import InputOptions
from splatomy_gui.abstract import AbstractQt
from splatomy_gui.inputs import Inspection, Kind, inspect
from splatomy_gui.panels.page import Page, Shell
from splatomy_gui.widgets.basics import DropArea, NameLabel, button, card, label, row, scrolled
from splatomy_gui.widgets.disabled import set_available
from splatomy_gui.widgets.fields import PathField
from splatomy_gui.widgets.kept import KeptField

_NOTHING = "Drop or choose an input first."


class FactsTable(QTableWidget):
    """Facts by name, two columns."""

    def __init__(self) -> None:
        super().__init__(0, 2)
        self.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.setSelectionMode(QTableWidget.SelectionMode.NoSelection)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setShowGrid(False)
        for header, mode in (
            (self.horizontalHeader(), QHeaderView.ResizeMode.ResizeToContents),
            (self.verticalHeader(), QHeaderView.ResizeMode.ResizeToContents),
        ):
            if header is not None:
                header.setSectionResizeMode(mode)
                header.hide()
        across = self.horizontalHeader()
        if across is not None:
            across.setStretchLastSection(True)

    def show_facts(self, facts: list[tuple[str, str]]) -> None:
        """Shows other facts."""
        self.setRowCount(len(facts))
        for number, (name, value) in enumerate(facts):
            self.setItem(number, 0, QTableWidgetItem(name))
            item = QTableWidgetItem(value)
            item.setToolTip(value)
            self.setItem(number, 1, item)


class LoadPage(Page, metaclass=AbstractQt):
    """Left: what was dropped and what is known of it. Right: options, and the button that opens it."""

    drop_title = ""
    drop_hint = ""

    def __init__(self, shell: Shell) -> None:
        super().__init__(shell)
        self.inspection: Inspection | None = None
        self._case_shown: Path | None = None
        self.drop = DropArea(self.drop_title, self.drop_hint)
        self.drop.dropped.connect(lambda path: self.session.inspect(path))
        self.name = NameLabel()
        self.facts = FactsTable()
        self.problems = label("", "caution", wrap=True)
        self.busy = label("Opening...", "muted")
        self.stop_button = button("Stop", self._stop, "Stop opening it")
        self.open_button = button("Open", self._open, "Open the input as a new case", primary=True)
        self.check_button = button("Check again", self._check, "Look at the input again with these options")
        left = QVBoxLayout()
        left.addWidget(self.drop)
        self.info = card(self.name, self.problems, self.facts)
        # In small windows its tables scroll, not the page: the button that opens the input stays in view.
        self.told_of_input = scrolled(self.info)
        left.addWidget(self.told_of_input, 1)
        right = QVBoxLayout()
        options = QWidget()
        self.form = QFormLayout(options)
        self.form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        self.form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        self.add_options()
        self._keep_options()
        right.addWidget(label("Options", "heading"))
        right.addWidget(scrolled(options), 1)
        self.opening = row(self.busy, None, self.stop_button)
        right.addWidget(self.opening)
        right.addWidget(row(self.check_button, None, self.open_button))
        layout = QHBoxLayout(self)
        layout.setContentsMargins(14, 12, 14, 12)
        layout.setSpacing(16)
        layout.addLayout(left, 3)
        layout.addLayout(right, 2)
        self.session.inspected.connect(self._inspected)
        self.session.opening_changed.connect(self._show_state)
        self.session.case_changed.connect(self._case_changed)
        self._show_state()

    # -- what each workspace adds ----------------------------------------------------------------

    def add_options(self) -> None:
        """Fills ``form`` with the options of this kind of input."""

    def read_options(self) -> InputOptions:
        """The options as chosen.

        Raises:
            InputError: they cannot be.
        """
        return InputOptions()

    def write_options(self, options: InputOptions) -> None:
        """Shows options in the form."""

    @abstractmethod
    def takes(self, kind: Kind) -> bool:
        """True if inputs of that kind are opened here."""

    @abstractmethod
    def facts_of(self, inspection: Inspection) -> list[tuple[str, str]]:
        """What to tell of an input, by name."""

    def show_inspection(self, inspection: Inspection) -> None:
        """Shows more than the facts, if there is more."""

    def _keep_options(self) -> None:
        """Every option that is changed can be undone."""
        for number in range(self.form.rowCount()):
            title = self.form.itemAt(number, QFormLayout.ItemRole.LabelRole)
            item = self.form.itemAt(number, QFormLayout.ItemRole.FieldRole)
            field, words = (None if each is None else each.widget() for each in (item, title))
            if isinstance(field, PathField):
                field = field.edit
            if isinstance(words, QLabel) and isinstance(field, QLineEdit | QAbstractSpinBox | QComboBox):
                KeptField(self.session, field, f"Option {words.text()}")

    # -- what they share -------------------------------------------------------------------------

    def _inspected(self, inspection: Inspection) -> None:
        if not self.takes(inspection.kind):
            return
        is_new = self.inspection is None or self.inspection.path != inspection.path
        self.inspection = inspection
        self.name.setText(inspection.path.name)
        self.facts.show_facts(self.facts_of(inspection))
        problems = [*_lacking(inspection), *inspection.problems]
        self.problems.setText("\n".join(f"\u26a0 {text}" for text in problems[:4]))
        self.problems.setToolTip("\n".join(problems))
        self.problems.setVisible(bool(problems))
        if is_new:
            self.write_options(inspection.options)
        self.show_inspection(inspection)
        self._show_state()

    def _show_state(self) -> None:
        inspection, opening = self.inspection, self.session.opening
        reason: str | None = None
        if inspection is None:
            reason = _NOTHING
        elif opening is not None:
            reason = "Something is being opened."
        elif not inspection.usable:
            reason = "The input cannot be used; see its problems."
        set_available(self.open_button, reason)
        set_available(self.check_button, _NOTHING if inspection is None else None)
        self.opening.setVisible(opening is not None)
        self.told_of_input.setVisible(inspection is not None)
        self.drop.setMaximumHeight(150 if inspection is not None else 16_777_215)

    def _case_changed(self) -> None:
        """Shows the input of the case that is open, however it was opened."""
        opened = self.session.opened
        if opened is None or not self.takes(opened.kind) or self._case_shown == opened.source:
            return
        self._case_shown = opened.source
        if self.inspection is not None and self.inspection.path == opened.source:
            return

        def done(inspection: Inspection) -> None:
            # The session does not hear of it: it would lead back to this page.
            if self.session.opened is opened:
                self.inspection = None
                self._inspected(inspection)

        title = f"{opened.source.name} cannot be shown"
        self.session.tasks.start(title, partial(inspect, opened.source, opened.options, opened.kind), done)

    def activate(self) -> None:
        self._case_changed()

    def _stop(self) -> None:
        if self.session.opening is not None:
            self.session.opening.cancel()

    def _check(self) -> None:
        if self.inspection is not None:
            self._with_options(lambda path, options: self.session.inspect(path, options))

    def _open(self) -> None:
        if self.inspection is not None:
            self._with_options(self.session.open_input)

    def _with_options(self, verb: Any) -> None:
        assert self.inspection is not None
        path: Path = self.inspection.path
        try:
            options = self.read_options()
        except InputError as error:
            self.told.emit(str(error))
            return
        verb(path, options)


def _lacking(inspection: Inspection) -> list[str]:
    """What a reconstruction would need, but for that whose option a problem names already."""
    told = " ".join(inspection.problems)
    return [
        f"A reconstruction needs {lack['what']}."
        for lack in inspection.report.get("lacking", [])
        if not any(option.split()[0] in told for option in lack["options"])
    ]
