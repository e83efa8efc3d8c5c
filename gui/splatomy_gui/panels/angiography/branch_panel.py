"""Centrelines: choose a branch, see its diameter along the way, and measure a stenosis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import pyqtSignal
from PyQt6.QtWidgets import QComboBox, QVBoxLayout, QWidget

from splatomy_gui.panels.angiography.branches import (
    Branch,
    Stenosis,
    branches_of,
    nearest_branch,
    stenosis_between,
)
from splatomy_gui.panels.angiography.curve_plot import Curve, CurvePlot
from splatomy_gui.widgets.basics import button, label, row
from splatomy_gui.widgets.disabled import set_available

if TYPE_CHECKING:
    from splatomy.extract.centreline import Centreline

_NO_LINE = "There is no centreline yet."
_NO_PLACE = "Choose a place in the diameter plot first."


class BranchPanel(QWidget):
    """The page shows the line and follows ``place_changed``."""

    line_wanted = pyqtSignal()
    place_changed = pyqtSignal(object)
    """World point (3,) of the place in the branch."""
    branch_changed = pyqtSignal()
    ends_wanted = pyqtSignal(object, object)
    """Healthy ends (arc lengths, mm) before and after a change, for ``set_ends``."""

    def __init__(self) -> None:
        super().__init__()
        self.branches: list[Branch] = []
        self.unit = "mm"
        self.place_mm: float | None = None
        self.ends: list[float] = []
        self.stenosis: Stenosis | None = None
        self.find_button = button(
            "Find centrelines", self.line_wanted.emit, "Find the middle lines of all vessels"
        )
        self.branch = QComboBox()
        self.branch.setToolTip("Branch whose diameter is shown; a click on a vessel chooses it too")
        self.branch.activated.connect(lambda _: self._choose())
        self.plot = CurvePlot("Diameter", "along the branch, mm", "mm", "Find centrelines first.")
        self.plot.moved.connect(self.go_to)
        self.here = label("", "muted", wrap=True)
        self.mark_button = button(
            "Mark healthy end",
            self._mark,
            "Mark a healthy place before and behind the narrowing; the second mark measures it",
        )
        self.clear_button = button("Clear", self._clear, "Take the marks away")
        self.result = label("", "heading", wrap=True)
        self.detail = label("", "muted", wrap=True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.addWidget(self.find_button)
        layout.addWidget(self.branch)
        layout.addWidget(self.plot, 1)
        layout.addWidget(self.here)
        layout.addWidget(row(self.mark_button, self.clear_button, None))
        layout.addWidget(self.result)
        layout.addWidget(self.detail)
        self.set_line(None)

    @property
    def chosen(self) -> Branch | None:
        """The branch on show."""
        number = self.branch.currentIndex()
        return self.branches[number] if 0 <= number < len(self.branches) else None

    def set_unit(self, unit: str) -> None:
        """ "mm", or "relative" where lengths are none."""
        self.unit = unit
        self.plot.x_unit, self.plot.y_unit = f"along the branch, {unit}", unit

    def set_line(self, line: Centreline | None) -> None:
        """Another centreline, or none."""
        self.branches = [] if line is None else branches_of(line)
        self.branch.clear()
        for branch in self.branches:
            thick = float(np.median(branch.diameter_mm))
            self.branch.addItem(
                f"{branch.length_mm:.0f} {self.unit} long, {thick:.1f} {self.unit} wide", branch.number
            )
        set_available(self.branch, None if self.branches else _NO_LINE)
        self.find_button.setVisible(not self.branches)
        self._choose()

    def set_available_line(self, reason: str | None) -> None:
        """Whether centrelines can be found now."""
        set_available(self.find_button, reason)

    def choose_at(self, point_mm: NDArray[np.float64]) -> None:
        """The branch nearest to a point, at that place."""
        if not self.branches:
            return
        number, along = nearest_branch(self.branches, point_mm)
        if number != self.branch.currentIndex():
            self.branch.setCurrentIndex(number)
            self._choose()
        self.go_to(along)

    def go_to(self, along_mm: float) -> None:
        """A place of the branch."""
        branch = self.chosen
        if branch is None:
            return
        index = branch.at(along_mm)
        self.place_mm = float(branch.along_mm[index])
        self.plot.set_cursor_at(self.place_mm)
        self.here.setText(
            f"{branch.diameter_mm[index]:.2f} {self.unit} wide at {self.place_mm:.1f} {self.unit} of "
            f"{branch.length_mm:.1f}"
        )
        set_available(self.mark_button, None)
        self.place_changed.emit(branch.points_mm[index])

    def _choose(self) -> None:
        branch = self.chosen
        self.place_mm = None
        self.here.setText("Press in the plot to go along the branch." if branch is not None else "")
        self.plot.set_cursor_at(None)
        curves = []
        if branch is not None:
            curves = [Curve("diameter", "#7db8f5", branch.along_mm, branch.diameter_mm)]
        self.plot.set_curves(curves)
        set_available(self.mark_button, _NO_LINE if branch is None else _NO_PLACE)
        self.set_ends([])
        self.branch_changed.emit()

    def _mark(self) -> None:
        if self.place_mm is None or self.chosen is None:
            return
        after = [*self.ends, self.place_mm] if len(self.ends) < 2 else [self.place_mm]
        self.ends_wanted.emit(list(self.ends), after)

    def _clear(self) -> None:
        self.ends_wanted.emit(list(self.ends), [])

    def set_ends(self, ends: list[float]) -> None:
        """Other healthy ends; two of them measure what lies between."""
        self.ends = list(ends)
        self._show_stenosis()

    def _show_stenosis(self) -> None:
        branch, unit = self.chosen, self.unit
        self.stenosis = None
        if branch is not None and len(self.ends) == 2:
            self.stenosis = stenosis_between(branch, *self.ends)
        found = self.stenosis
        marks = [(place, "healthy") for place in self.ends]
        if found is not None:
            marks.append((found.at_mm, f"{found.percent:.0f} %"))
        self.plot.set_marks(marks)
        set_available(self.clear_button, None if self.ends else "There is no mark.")
        if found is None:
            self.result.setText("")
            text = "The marks are too near to each other." if len(self.ends) == 2 else ""
            text = "Now mark the healthy place on the other side." if len(self.ends) == 1 else text
            self.detail.setText(text)
            return
        self.result.setText(f"Stenosis {found.percent:.0f} % (diameter)")
        self.detail.setText(
            f"narrowest {found.narrowest_mm:.2f} {unit}, healthy {found.reference_mm:.2f} {unit}; "
            f"{found.percent_area:.0f} % by area"
        )
