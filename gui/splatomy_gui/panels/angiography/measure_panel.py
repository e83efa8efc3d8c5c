"""Measuring tools and their results beside a volume, which does not move."""

from __future__ import annotations

from PyQt6.QtWidgets import QVBoxLayout, QWidget

from splatomy_gui.measuring_tool import MeasureDesk
from splatomy_gui.widgets.basics import row, tool_button
from splatomy_gui.widgets.measure_table import MeasureTable

_MEASURES = ("distance", "angle", "polyline", "area", "diameter", "point")
_MOVING_COLUMNS = (2, 4, 5)


class MeasurePanel(QWidget):
    """One button for each kind of measurement, and the table."""

    def __init__(self, desk: MeasureDesk) -> None:
        super().__init__()
        tools = [tool_button(desk.actions[f"measure_{name}"]) for name in _MEASURES]
        self.results = MeasureTable(desk)
        for column in _MOVING_COLUMNS:
            self.results.table.setColumnHidden(column, True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.addWidget(row(*tools, None, spacing=2))
        layout.addWidget(self.results, 1)
