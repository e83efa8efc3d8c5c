"""The content of the case, and the layers of the page on show."""

from __future__ import annotations

import re
from pathlib import Path

from PyQt6.QtCore import QPoint, Qt, pyqtSignal
from PyQt6.QtGui import QAction
from PyQt6.QtWidgets import QMenu, QSlider, QTreeWidget, QTreeWidgetItem, QVBoxLayout, QWidget

from splatomy_gui.assets import icon
from splatomy_gui.case_files import RunInfo
from splatomy_gui.measuring import MeasurementList, format_value
from splatomy_gui.session import Session
from splatomy_gui.undo import ValueCommand
from splatomy_gui.widgets.basics import label, reveal
from splatomy_gui.widgets.disabled import set_available

_PATH, _LAYER, _RUN = (Qt.ItemDataRole.UserRole + n for n in (1, 2, 3))
_INDENT_PX = 12
_STATES = {"done": "done", "running": "running", "cancelled": "stopped", "failed": "failed"}


class CaseTree(QWidget):
    """Sources, masks, reconstructions, measurements, exports; layers with an eye and an opacity."""

    run_wanted = pyqtSignal(object)
    step_wanted = pyqtSignal(str)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._measurements = MeasurementList(session, self)
        self._masks: QTreeWidgetItem | None = None
        self.tree = QTreeWidget()
        self.tree.setHeaderHidden(True)
        self.tree.setMinimumWidth(180)
        self.tree.setIndentation(_INDENT_PX)
        self.tree.setToolTip("Double click opens; right click for more")
        self.tree.itemActivated.connect(self._activated)
        self.tree.itemChanged.connect(self._checked)
        self.tree.currentItemChanged.connect(lambda *_: self._show_opacity())
        self.tree.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.tree.customContextMenuRequested.connect(self._menu)
        self.opacity = QSlider(Qt.Orientation.Horizontal)
        self.opacity.setRange(0, 100)
        self.opacity.setToolTip("Opacity of the chosen layer")
        self.opacity.valueChanged.connect(self._set_opacity)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self.tree, 1)
        layout.addWidget(label("Opacity of the layer", "muted"))
        layout.addWidget(self.opacity)
        for signal in (session.case_changed, session.runs_changed, session.result_changed):
            signal.connect(self.refresh)
        session.document_changed.connect(lambda _: self.refresh())
        session.review_changed.connect(lambda _: self._count_masks())
        session.layers.changed.connect(lambda key: self._show_layer(key) if key else self.refresh())
        self.refresh()

    def refresh(self) -> None:
        """Fills the tree again."""
        session = self.session
        self.tree.blockSignals(True)
        self._masks = None
        self.tree.clear()
        layers = list(session.layers)
        if layers:
            group = self._group("View", "eye")
            for layer in layers:
                item = QTreeWidgetItem(group, [layer.title])
                item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
                item.setCheckState(0, Qt.CheckState.Checked if layer.visible else Qt.CheckState.Unchecked)
                item.setData(0, _LAYER, layer.key)
        case = session.case
        sources = self._group("Sources", "video")
        if case is not None:
            self._leaf(sources, case.source.name, case.source)
        if session.result is not None and not session.result.is_run:
            self._leaf(sources, session.result.path.name, session.result.path)
        if case is not None:
            masks = self._group("Masks", "brush")
            self._masks = QTreeWidgetItem(masks, [""])
            self._count_masks()
        runs = self._group("Reconstructions", "cube")
        for info in session.runs:
            state = _STATES.get(info.state, info.state)
            text = f"{_short_name(info)} ({state})"
            item = self._leaf(runs, text, info.path)
            item.setData(0, _RUN, True)
            item.setToolTip(0, f"{info.path.name} ({state})\n{_figures(info.metrics)}".strip())
            if session.result is not None and session.result.path == info.path:
                font = item.font(0)
                font.setBold(True)
                item.setFont(0, font)
        measured = self._group("Measurements", "ruler")
        for measurement in self._measurements.all():
            value = format_value(measurement.value, measurement.unit)
            item = QTreeWidgetItem(measured, [f"{measurement.name}: {value}"])
            item.setToolTip(0, f"{measurement.name}, on {measurement.subject}")
        exports = self._group("Exports", "export")
        if session.folder is not None:
            for path in sorted((session.folder / "exports").glob("*"))[-20:]:
                self._leaf(exports, path.name, path)
        self.tree.expandAll()
        self.tree.blockSignals(False)
        self._show_opacity()

    def _count_masks(self) -> None:
        """How many masks are in which state; a change of a mask leaves the rest of the tree as it is."""
        case = self.session.case
        if case is not None and self._masks is not None:
            counts = case.review.counts()
            known = [
                f"{number} {state}" for state, number in counts.items() if number and state != "untouched"
            ]
            self._masks.setText(0, ", ".join(known) or "none yet")

    def _group(self, title: str, name: str) -> QTreeWidgetItem:
        item = QTreeWidgetItem(self.tree, [title])
        # What is unfolded counts as checked, but lies on the plain background.
        item.setIcon(0, icon(name, accented=False))
        return item

    def _leaf(self, group: QTreeWidgetItem, title: str, path: Path) -> QTreeWidgetItem:
        item = QTreeWidgetItem(group, [title])
        item.setData(0, _PATH, str(path))
        item.setToolTip(0, title)
        return item

    def _activated(self, item: QTreeWidgetItem | None, _: int = 0) -> None:
        if item is None or not item.data(0, _PATH):
            return
        path = Path(item.data(0, _PATH))
        if item.data(0, _RUN):
            self.run_wanted.emit(path)
        else:
            reveal(path)

    def _checked(self, item: QTreeWidgetItem | None, _: int = 0) -> None:
        key = None if item is None else item.data(0, _LAYER)
        if item is not None and key:
            on = item.checkState(0) is Qt.CheckState.Checked
            self._change_layer(f"{'Show' if on else 'Hide'} {item.text(0)}", key, "visible", on)

    def _change_layer(self, text: str, key: str, name: str, value: object) -> None:
        layers = self.session.layers

        def apply(to: object) -> None:
            # The page whose layer it is may have been left.
            if key in layers:
                layers.change(key, **{name: to})

        before = getattr(layers[key], name)
        if before != value:
            self.session.push(ValueCommand(text, apply, before, value, merges=name == "opacity"))

    def _show_layer(self, key: str) -> None:
        """Checks or clears the eye of a layer that somebody else switched."""
        items = self.tree.findItems("", Qt.MatchFlag.MatchContains | Qt.MatchFlag.MatchRecursive)
        for item in items:
            if item.data(0, _LAYER) == key and key in self.session.layers:
                shown = self.session.layers[key].visible
                self.tree.blockSignals(True)
                item.setCheckState(0, Qt.CheckState.Checked if shown else Qt.CheckState.Unchecked)
                self.tree.blockSignals(False)

    def _show_opacity(self) -> None:
        item = self.tree.currentItem()
        key = None if item is None else item.data(0, _LAYER)
        set_available(self.opacity, None if key else "Choose a layer under View.")
        if key and key in self.session.layers:
            self.opacity.blockSignals(True)
            self.opacity.setValue(round(100 * self.session.layers[key].opacity))
            self.opacity.blockSignals(False)

    def _set_opacity(self, value: int) -> None:
        item = self.tree.currentItem()
        key = None if item is None else item.data(0, _LAYER)
        if key:
            title = self.session.layers[key].title
            self._change_layer(f"Opacity of {title}", key, "opacity", value / 100)

    def _menu(self, place: QPoint) -> None:
        item = self.tree.itemAt(place)
        if item is None or not item.data(0, _PATH):
            return
        path = Path(item.data(0, _PATH))
        menu = QMenu(self)
        if item.data(0, _RUN):
            show = QAction("Inspect", menu)
            show.triggered.connect(lambda: self.run_wanted.emit(path))
            menu.addAction(show)
        folder = QAction("Show in folder", menu)
        folder.triggered.connect(lambda: reveal(path))
        menu.addAction(folder)
        viewport = self.tree.viewport()
        if viewport is not None:
            menu.popup(viewport.mapToGlobal(place))


def _short_name(info: RunInfo) -> str:
    """A run by its method and its time of day, which fit into a narrow tree; else the folder's name."""
    begun = re.match(r"\d{8}-(\d\d)(\d\d)\d\d-", info.path.name)
    return f"{info.method} {begun[1]}:{begun[2]}" if begun and info.method else info.path.name


def _figures(metrics: dict[str, object]) -> str:
    shown = [f"{k}: {v:.3f}" for k, v in metrics.items() if isinstance(v, float)]
    return "\n".join(shown[:12])
