"""The table of measurements: value, unit, value at the time on show, and how much of it was observed."""

from __future__ import annotations

from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import QHBoxLayout, QHeaderView, QTableWidget, QTableWidgetItem, QWidget

from splatomy_gui.measuring import Measurement
from splatomy_gui.measuring_tool import MeasureDesk, is_synthetic
from splatomy_gui.theme import current_theme
from splatomy_gui.widgets.basics import column, label, tool_button

_COLUMNS = ("Name", "Value", "Now", "Unit", "Time, s", "Observed")
_TIPS = (
    "Double click to rename",
    "As measured",
    "At the time on show, where the surface moves",
    "relative = this result has no scale in millimetres",
    "When it was measured",
    "The least share of real observations at its points",
)


class MeasureTable(QWidget):
    """Results of a desk; choosing a row marks the measurement in the views."""

    def __init__(self, desk: MeasureDesk) -> None:
        super().__init__()
        self.desk = desk
        self._filling = False
        self._ids: list[int] = []
        self.table = QTableWidget(0, len(_COLUMNS))
        self.table.setHorizontalHeaderLabels(_COLUMNS)
        self.table.setToolTip("Measurements of this result; Delete deletes the chosen one")
        self.table.setSelectionBehavior(QTableWidget.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QTableWidget.SelectionMode.SingleSelection)
        for place, tip in enumerate(_TIPS):
            item = self.table.horizontalHeaderItem(place)
            if item is not None:
                item.setToolTip(tip)
        across, down = self.table.horizontalHeader(), self.table.verticalHeader()
        if across is not None and down is not None:
            across.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
            across.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
            down.hide()
        self.empty = label("Choose a measuring tool, then click in a view.", "muted", wrap=True)
        buttons = column(
            tool_button(desk.actions["measure_delete"]),
            tool_button(desk.actions["measure_export"]),
            None,
            spacing=4,
        )
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.addWidget(self.empty, 1)
        layout.addWidget(self.table, 1)
        layout.addWidget(buttons)
        desk.changed.connect(self.refresh)
        self.table.itemSelectionChanged.connect(self._chosen)
        self.table.itemChanged.connect(self._renamed)
        self.refresh()

    def refresh(self) -> None:
        """Shows the desk's measurements as they are now."""
        self._filling = True
        measurements = self.desk.measurements
        self._ids = [m.id for m in measurements]
        self.table.setRowCount(len(measurements))
        for number, measurement in enumerate(measurements):
            for place, text in enumerate(self._texts(measurement)):
                item = QTableWidgetItem(text)
                if place:
                    item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEditable)
                if is_synthetic(measurement):
                    item.setForeground(current_theme().colour("caution"))
                    item.setToolTip("One of its points lies where no frame shows the tissue")
                self.table.setItem(number, place, item)
        self.table.clearSelection()
        if self.desk.chosen in self._ids:
            self.table.selectRow(self._ids.index(self.desk.chosen))
        self.empty.setVisible(not measurements)
        self.table.setVisible(bool(measurements))
        self._filling = False

    def _texts(self, measurement: Measurement) -> tuple[str, ...]:
        now = self.desk.value_now(measurement)
        return (
            measurement.name,
            f"{measurement.value:.4g}",
            "" if now is None else f"{now:.4g}",
            measurement.unit,
            "" if measurement.time_s is None else f"{measurement.time_s:.2f}",
            "" if measurement.evidence is None else f"{measurement.evidence:.0%}",
        )

    def _chosen(self) -> None:
        if not self._filling:
            rows = {index.row() for index in self.table.selectedIndexes()}
            self.desk.choose(self._ids[rows.pop()] if len(rows) == 1 else None)

    def _renamed(self, item: QTableWidgetItem) -> None:
        if not self._filling and item.column() == 0:
            self.desk.list.rename(self._ids[item.row()], item.text().strip())
