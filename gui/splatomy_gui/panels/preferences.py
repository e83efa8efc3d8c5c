"""Preferences: general, compute, models and licences, paths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PyQt6.QtWidgets import QFormLayout, QSpinBox, QTabWidget, QVBoxLayout, QWidget

from splatomy_gui.panels.start_page import NOTICE
from splatomy_gui.settings import Settings
from splatomy_gui.widgets.basics import label
from splatomy_gui.widgets.fields import ChoiceField, DecimalBox, PathField


class PreferencesPage(QWidget):
    """A tab for each group; what is changed holds at once."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        settings.changed.connect(self._show)
        self.fields: dict[str, QWidget] = {}
        self.tabs = QTabWidget()
        self.tabs.addTab(self._general(), "General")
        self.tabs.addTab(self._compute(), "Compute")
        self.tabs.addTab(self._models(), "Models")
        self.tabs.addTab(self._paths(), "Paths")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(20, 16, 20, 16)
        layout.addWidget(label("Preferences", "title"))
        layout.addWidget(self.tabs, 1)
        layout.addWidget(label(NOTICE, "muted"))

    def show_machine(self, facts: dict[str, Any]) -> None:
        """What there is to compute on."""
        devices = [("auto", "automatic"), ("cpu", "CPU")]
        devices += [(d["device"], f"{d['name']} ({d['device']})") for d in facts["cuda_devices"]]
        chosen = self.settings.get("device")
        if chosen not in dict(devices):
            devices.append((chosen, f"{chosen}, which is not there now"))
        self.machine.setText(
            f"splatomy {facts['splatomy']}, Python {facts['python']}, torch {facts['torch']}, "
            f"{facts['cpu_threads']} CPU threads, {facts['memory_gib']} GiB"
        )
        old = self.fields["device"]
        form = self.compute_form
        new = self._choice("device", devices, "Where reconstructions run")
        form.replaceWidget(old, new)
        old.deleteLater()

    def _show(self, name: str) -> None:
        """A preference that was changed elsewhere, as the theme by its shortcut."""
        field, value = self.fields.get(name), self.settings.get(name)
        if isinstance(field, ChoiceField):
            field.set_value(value)
        elif isinstance(field, (QSpinBox, DecimalBox)):
            field.setValue(value)

    def _general(self) -> QWidget:
        form = QFormLayout()
        themes: Sequence[tuple[object, str]] = [
            ("system", "as the system"),
            ("dark", "dark"),
            ("light", "light"),
        ]
        form.addRow("Theme", self._choice("theme", themes, "Colours of the app"))
        form.addRow("Text size, %", self._whole("text_scale", 80, 200, "Size of all text"))
        form.addRow(
            "Autosave every, s", self._whole("autosave_s", 5, 600, "How often unsaved changes are kept")
        )
        return _page(form)

    def _compute(self) -> QWidget:
        self.compute_form = form = QFormLayout()
        devices: Sequence[tuple[object, str]] = [("auto", "automatic"), ("cpu", "CPU")]
        form.addRow("Device", self._choice("device", devices, "Where reconstructions run"))
        form.addRow(
            "Memory limit, GiB",
            self._whole("memory_gib", 0, 4096, "Warn before a run needs more; 0 = no limit"),
        )
        preview = DecimalBox()
        preview.setRange(0.5, 120)
        preview.setKeyboardTracking(False)
        preview.setValue(self.settings.get("preview_every_s"))
        preview.setToolTip("Time between previews of a run; fewer previews make it faster")
        preview.valueChanged.connect(lambda value: self.settings.set("preview_every_s", value))
        self.fields["preview_every_s"] = preview
        form.addRow("Preview every, s", preview)
        self.machine = label("", "muted", wrap=True)
        form.addRow("This machine", self.machine)
        return _page(form)

    def _models(self) -> QWidget:
        form = QFormLayout()
        for name, title, tip in (
            ("mask_model", "Click model, encoder", "ONNX encoder of a SAM or SAM 2 model for Smart click"),
            ("mask_decoder", "Click model, decoder", "ONNX decoder of the same model"),
        ):
            form.addRow(title, self._path(name, tip, False, "*.onnx"))
        text = "Without both, Smart click goes by colour and brightness. Models are never fetched."
        form.addRow("", label(text, "muted", True))
        form.addRow("Model folder", self._path("models_folder", "Folder of published model weights", True))
        form.addRow(
            "",
            label(
                "Weights have licences of their own, some of them non-commercial: read the licence that came "
                "with a file before you use it. Without weights, tissue behind instruments comes from other "
                "frames, and what no frame shows is smoothly filled and marked.",
                "muted",
                True,
            ),
        )
        return _page(form)

    def _paths(self) -> QWidget:
        form = QFormLayout()
        form.addRow("New cases in", self._path("cases_folder", "Folder in which new cases are made", True))
        form.addRow("", label(f"Without one: {self.settings.cases_folder()}", "muted", True))
        form.addRow(
            "3D Slicer", self._path("slicer_path", "The program of 3D Slicer, for Send to 3D Slicer", False)
        )
        return _page(form)

    def _choice(self, name: str, choices: Sequence[tuple[object, str]], tip: str) -> ChoiceField:
        field = ChoiceField(choices, tip)
        field.set_value(self.settings.get(name))
        field.currentIndexChanged.connect(lambda _: self.settings.set(name, field.value()))
        self.fields[name] = field
        return field

    def _whole(self, name: str, low: int, high: int, tip: str) -> QSpinBox:
        field = QSpinBox()
        field.setRange(low, high)
        field.setValue(self.settings.get(name))
        field.setToolTip(tip)
        field.setKeyboardTracking(False)
        field.valueChanged.connect(lambda value: self.settings.set(name, value))
        self.fields[name] = field
        return field

    def _path(self, name: str, tip: str, folder: bool, pattern: str = "") -> PathField:
        field = PathField(tip, folder, pattern)
        text = self.settings.get(name)
        field.set_path(Path(text) if text else None)
        field.changed.connect(lambda: self.settings.set(name, str(field.path() or "")))
        self.fields[name] = field
        return field


def _page(form: QFormLayout) -> QWidget:
    page = QWidget()
    form.setContentsMargins(16, 16, 16, 16)
    form.setVerticalSpacing(10)
    page.setLayout(form)
    return page
