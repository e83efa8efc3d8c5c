"""Contrast over time: colour maps of arrival, peak and transit, and curves at picked points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import QRectF, Qt, pyqtSignal
from PyQt6.QtGui import QPainter, QPaintEvent
from PyQt6.QtWidgets import QCheckBox, QComboBox, QFormLayout, QToolButton, QVBoxLayout, QWidget

from splatomy.scene import Volume
from splatomy_gui.panels.angiography.colours import SERIES, time_table
from splatomy_gui.panels.angiography.content import MAPS, Content
from splatomy_gui.panels.angiography.curve_plot import Curve, CurvePlot
from splatomy_gui.theme import current_theme
from splatomy_gui.views.frame_view import image_of
from splatomy_gui.widgets.basics import button, label, row
from splatomy_gui.widgets.disabled import set_available

NO_TIME = "This volume has no course over time."
MOST_POINTS = len(SERIES)


@dataclass(frozen=True)
class TimeColours:
    """A map on show and the seconds at the ends of its colours."""

    key: str
    volume: Volume
    low_s: float
    high_s: float


class ColourBar(QWidget):
    """Colours of seconds, with their numbers."""

    def __init__(self) -> None:
        super().__init__()
        self._ends: tuple[str, float, float] | None = None
        self.setFixedHeight(46)
        self.setToolTip("Seconds that the colours stand for: red is early, violet is late")

    def show_range(self, ends: tuple[str, float, float] | None) -> None:
        """ends: name, first and last second; None = nothing."""
        self._ends = ends
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Paints bar and numbers."""
        painter = QPainter(self)
        theme = current_theme()
        if self._ends is None:
            painter.setPen(theme.colour("muted"))
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, "no colour map")
            painter.end()
            return
        name, low, high = self._ends
        bar = QRectF(8, 18, self.width() - 16, 11)
        painter.drawImage(bar, image_of(time_table()[None]))
        painter.setPen(theme.colour("text"))
        painter.drawText(8, 13, f"{name}, s")
        for share, side in ((0.0, "Left"), (0.5, "HCenter"), (1.0, "Right")):
            area = QRectF(8, 30, self.width() - 16, 16)
            flag = getattr(Qt.AlignmentFlag, f"Align{side}")
            painter.drawText(area, flag, f"{low + share * (high - low):.2f}")
        painter.end()


class TimePanel(QWidget):
    """Chooses the colour map and shows the curves."""

    map_wanted = pyqtSignal(str)
    """Key of ``MAPS``, or empty."""
    maps_missing = pyqtSignal()
    """Maps are wanted that have to be worked out first."""
    time_wanted = pyqtSignal(float)
    moving_changed = pyqtSignal(bool)
    """Whether the volume follows the time."""

    def __init__(self, curve_button: QToolButton, clear_button: QToolButton) -> None:
        super().__init__()
        self._content: Content | None = None
        self.map = QComboBox()
        self.map.addItem("none", "")
        for key, name in MAPS.items():
            self.map.addItem(name, key)
        self.map.setToolTip("Colour slices and surface by when contrast comes, is most, or how long it stays")
        self.map.activated.connect(lambda _: self.map_wanted.emit(self.map.currentData()))
        self.find_button = button(
            "Work out the maps", self.maps_missing.emit, "Find arrival, peak and transit in this 4D volume"
        )
        self.bar = ColourBar()
        self.moving = QCheckBox("Volume follows the time")
        self.moving.setToolTip("Show the volume as it is at the time below; off: all vessels at once")
        self.moving.toggled.connect(self.moving_changed)
        self.plot = CurvePlot(
            "Contrast", "time, s", "", "Press T, then click vessels in the slices or on the surface."
        )
        self.plot.moved.connect(self.time_wanted)
        self.numbers = label("", "muted", wrap=True)
        form = QFormLayout()
        form.addRow("Colours", self.map)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.addWidget(self.moving)
        layout.addLayout(form)
        layout.addWidget(self.find_button)
        layout.addWidget(self.bar)
        layout.addWidget(row(curve_button, None, clear_button))
        layout.addWidget(self.plot, 1)
        layout.addWidget(self.numbers)
        self.set_content(None)

    def set_content(self, content: Content | None) -> None:
        """Another volume, or none."""
        self._content = content
        timed = content is not None and content.course is not None and len(content.course.times_s) > 1
        known = content is not None and bool(content.maps)
        set_available(self.moving, None if timed else NO_TIME)
        missing = "Work out the maps first." if timed else NO_TIME
        set_available(self.map, None if known else missing)
        set_available(
            self.find_button, None if timed and not known else ("They are there." if known else NO_TIME)
        )
        self.find_button.setVisible(timed and not known)
        self.plot.y_unit = "1/mm" if content is not None and content.unit == "/mm" else ""
        if not known:
            self.show_map(None)

    def show_map(self, shown: TimeColours | None) -> None:
        """The colour map in force."""
        self.map.setCurrentIndex(max(0, self.map.findData("" if shown is None else shown.key)))
        self.bar.show_range(None if shown is None else (MAPS[shown.key], shown.low_s, shown.high_s))

    def show_points(self, points_mm: tuple[NDArray[np.float64], ...]) -> None:
        """The curves at picked points, each with when it comes and is most."""
        content = self._content
        course = None if content is None else content.course
        if course is None:
            self.plot.set_curves([])
            self.numbers.setText("")
            return
        curves, words = [], []
        for number, (point, colour) in enumerate(zip(points_mm, SERIES, strict=False)):
            values = course.curve(point)
            curves.append(Curve(str(number + 1), colour, course.times_s, values))
            if np.isfinite(values).all() and values.max() > 0:
                top = int(values.argmax())
                half = int(np.argmax(values >= values[top] / 2))
                words.append(
                    f"{number + 1}: half at {course.times_s[half]:.2f} s, peak at {course.times_s[top]:.2f} s"
                )
        self.plot.set_curves(curves)
        self.numbers.setText("\n".join(words))


def time_colours_of(content: Content, key: str) -> TimeColours:
    """The map of that key with the seconds that hold nearly all of it."""
    volume = content.maps[key]
    known = volume.values[np.isfinite(volume.values)]
    low, high = np.percentile(known, (2, 98)) if known.size else (0.0, 1.0)
    return TimeColours(key, volume, float(low), float(max(high, low + 1e-3)))
