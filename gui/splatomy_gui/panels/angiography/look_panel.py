"""Controls of the look: preset, opacity curve, surface threshold, slab and window."""

from __future__ import annotations

import numpy as np
from PyQt6.QtCore import QSignalBlocker, Qt, pyqtSignal
from PyQt6.QtWidgets import QCheckBox, QComboBox, QFormLayout, QSlider, QVBoxLayout, QWidget

from splatomy_gui.panels.angiography.content import Content
from splatomy_gui.panels.angiography.looks import PRESETS, Look
from splatomy_gui.panels.angiography.opacity_editor import OpacityEditor
from splatomy_gui.widgets.basics import button, label, row
from splatomy_gui.widgets.disabled import set_available
from splatomy_gui.widgets.fields import DecimalBox

_STEPS = 1000
_SLABS_MM = (0, 2, 5, 10, 20, 40, 80)
NOTHING = "No volume is open."


class LookPanel(QWidget):
    """Tells what the person wants; the page does it, so that it can be taken back."""

    look_changing = pyqtSignal(object)
    """A Look while the curve is dragged."""
    look_wanted = pyqtSignal(object)
    """A Look to go to."""
    level_changing = pyqtSignal(float)
    level_wanted = pyqtSignal(float)
    """The surface's threshold, while it is dragged and when it is let go."""
    surface_wanted = pyqtSignal(bool)
    slab_changed = pyqtSignal(float)
    other_wanted = pyqtSignal()
    """Another volume to compare with."""

    def __init__(self) -> None:
        super().__init__()
        self._content: Content | None = None
        self.look: Look | None = None
        self.preset = QComboBox()
        for preset in PRESETS.values():
            self.preset.addItem(preset.name)
            self.preset.setItemData(self.preset.count() - 1, preset.tip, Qt.ItemDataRole.ToolTipRole)
        self.preset.setToolTip("How the volume is drawn")
        self.preset.activated.connect(self._choose)
        self.editor = OpacityEditor()
        self.editor.changing.connect(lambda points: self._drag(tuple(points)))
        self.editor.changed.connect(self._curve_changed)
        self.reset = button("Reset curve", self._reset, "Go back to the preset's own opacity curve")
        self.surface = QCheckBox("Surface")
        self.surface.setToolTip("Show the surface where the volume crosses the threshold")
        self.surface.toggled.connect(self.surface_wanted)
        self.level = QSlider(Qt.Orientation.Horizontal)
        self.level.setRange(0, _STEPS)
        self.level.setToolTip("Threshold of the surface; it is drawn anew while you drag")
        self.level.valueChanged.connect(lambda _: self._slide())
        self.level.sliderReleased.connect(lambda: self.level_wanted.emit(self._level()))
        self.value = DecimalBox()
        self.value.setDecimals(4)
        self.value.setKeyboardTracking(False)
        self.value.setToolTip("Threshold of the surface, in the volume's unit")
        self.value.valueChanged.connect(self._type)
        self.auto = button("Auto", self._auto, "The threshold half-way between background and filled vessels")
        self.slab = QComboBox()
        for mm in _SLABS_MM:
            self.slab.addItem("one slice" if mm == 0 else f"MIP of {mm} mm", float(mm))
        self.slab.setToolTip("Slices show the brightest value through a slab of this thickness")
        self.slab.activated.connect(lambda _: self.slab_changed.emit(float(self.slab.currentData())))
        self.other = button(
            "Compare with volume...",
            self.other_wanted.emit,
            "Show the surface of another volume in blue over this one, at its own threshold",
        )
        form = QFormLayout()
        form.addRow("Look", self.preset)
        form.addRow("Slices", self.slab)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.addLayout(form)
        layout.addWidget(row(label("Opacity", "muted"), None, self.reset))
        layout.addWidget(self.editor, 1)
        layout.addWidget(row(self.surface, None, self.value, self.auto))
        layout.addWidget(self.level)
        layout.addWidget(self.other)
        layout.addStretch(1)
        self.set_content(None)

    def set_content(self, content: Content | None) -> None:
        """Another volume, or none."""
        self._content = content
        reason = NOTHING if content is None else None
        controls = (self.preset, self.reset, self.surface, self.level, self.value, self.auto, self.slab)
        for control in (*controls, self.other, self.editor):
            set_available(control, reason)
        if content is not None:
            low, high = content.range
            self.editor.set_histogram(content.histogram[0], low, high, content.unit)
            with QSignalBlocker(self.value):
                self.value.setRange(low, high)
                self.value.setDecimals(int(np.clip(3 - np.floor(np.log10(high - low)), 0, 6)))
                self.value.setSingleStep((high - low) / 100)
                self.value.setSuffix(f" {content.unit}".rstrip())

    def show_look(self, look: Look) -> None:
        """Shows what is in force."""
        content = self._content
        if content is None:
            return
        self.look = look
        self.preset.setCurrentText(look.preset)
        levels = content.levels
        span = levels.lumen - levels.background
        colours = tuple((levels.background + s * span, rgb) for s, rgb in PRESETS[look.preset].colours)
        self.editor.set_points(look.points)
        self.editor.set_colours(colours)

    def show_level(self, level: float) -> None:
        """Shows the threshold in force."""
        if self._content is None:
            return
        low, high = self._content.range
        with QSignalBlocker(self.level), QSignalBlocker(self.value):
            self.level.setValue(round((level - low) / (high - low) * _STEPS))
            self.value.setValue(level)
        self.editor.set_level(level if self.surface.isChecked() else None)

    def _level(self) -> float:
        assert self._content is not None
        low, high = self._content.range
        return low + self.level.value() / _STEPS * (high - low)

    def _slide(self) -> None:
        level = self._level()
        with QSignalBlocker(self.value):
            self.value.setValue(level)
        self.editor.set_level(level)
        self.level_changing.emit(level)
        if not self.level.isSliderDown():
            self.level_wanted.emit(level)

    def _type(self, value: float) -> None:
        self.level_wanted.emit(value)

    def _auto(self) -> None:
        if self._content is not None:
            self.level_wanted.emit(self._content.levels.threshold)

    def _choose(self, number: int) -> None:
        if self._content is not None:
            self.look_wanted.emit(Look.of(self.preset.itemText(number), self._content.levels))

    def _reset(self) -> None:
        self._choose(self.preset.currentIndex())

    def _drag(self, points: tuple[tuple[float, float], ...]) -> None:
        self.look_changing.emit(Look(self.preset.currentText(), points))

    def _curve_changed(self, _: object, after: tuple[tuple[float, float], ...]) -> None:
        self.look_wanted.emit(Look(self.preset.currentText(), tuple(after)))
