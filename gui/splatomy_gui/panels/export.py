"""Export: every product of a run as a file, the report, and a scene for 3D Slicer."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PyQt6.QtCore import QUrl
from PyQt6.QtGui import QDesktopServices
from PyQt6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QListWidget,
    QVBoxLayout,
    QWidget,
)

from splatomy.events import Task
from splatomy_gui.command import run_command
from splatomy_gui.engine_process import own_session
from splatomy_gui.inputs import Kind
from splatomy_gui.panels.export_volume import sequence_file_of, surface_file, vessel_folder, volume_file
from splatomy_gui.panels.page import Page, Shell
from splatomy_gui.result import Result
from splatomy_gui.slicer_scene import write_slicer_scene
from splatomy_gui.tasks import BackgroundTask
from splatomy_gui.widgets.basics import NameLabel, button, card, label, reveal, row
from splatomy_gui.widgets.disabled import set_available
from splatomy_gui.widgets.fields import DecimalBox, PathField


@dataclass(frozen=True)
class Product:
    """One kind of file. what: of ``splatomy export``; formats: extensions; needs: ability it comes from."""

    what: str
    title: str
    about: str
    formats: tuple[str, ...]
    of: tuple[Kind, ...] = (Kind.ENDOSCOPY, Kind.ANGIOGRAPHY, Kind.SURFACE)
    timed: bool = True
    words: tuple[str, ...] = ()


_VESSELS, _STILL = (Kind.ANGIOGRAPHY,), (Kind.SURFACE,)
_ELSE = {Kind.ENDOSCOPY: "the start of the clip", Kind.ANGIOGRAPHY: "the mean over time"}
"""What is exported of the kinds that have times when no time is chosen."""
_SEQUENCE = ("seq.nrrd",)

PRODUCTS = (
    Product("mesh", "Surface", "Surface as a triangle mesh", ("ply", "obj", "stl", "glb", "vtp")),
    Product(
        "volume",
        "Volume",
        "Attenuation at the chosen time, or its mean",
        ("nii.gz", "nrrd", "mha"),
        _VESSELS,
    ),
    Product(
        "volume", "Volume over time", "All times as a sequence for 3D Slicer", _SEQUENCE, _VESSELS, False
    ),
    Product(
        "vessels",
        "Vessels",
        "Label, surface, centrelines with diameters, and times of contrast, as a folder",
        ("folder",),
        _VESSELS,
        False,
    ),
    Product("gaussians", "Gaussians", "The splats with standard attribute names", ("ply",), timed=False),
    Product("video", "Film", "All times, from the middle input view", ("mp4",), tuple(_ELSE), False),
    Product("video", "Turning film", "One turn of the C-arm", ("mp4",), _VESSELS, False, ("--turn",)),
    Product("video", "Turning film", "One walk around the object", ("mp4",), _STILL, False, ("--turn",)),
)


def _volume_of(result: Result) -> Path | None:
    """The volume of a result, over time if there is one."""
    if not result.is_run:
        return result.path
    files = (result.path / "volumes" / name for name in ("volume_4d.seq.nrrd", "volume.nii.gz"))
    return next((file for file in files if file.is_file()), None)


def _written(result: Result, product: Product, out: Path, time_s: float | None) -> Task[Path]:
    """Writes a product into ``out``. time_s: the moment, None = the mean, or all."""
    volume = _volume_of(result)
    if product.what == "vessels" and volume is not None:
        return (yield from vessel_folder(volume, out))
    if result.is_run:
        words = ["export", str(result.path), "--what", product.what, "--out", str(out), *product.words]
        if time_s is not None:
            words += ["--time", f"{time_s:.6f}"]
        yield from run_command(*words)
        return out
    if product.what == "mesh":
        return (yield from surface_file(result.path, out, time_s))
    if product.formats == _SEQUENCE:
        return (yield from sequence_file_of(result.path, out))
    return (yield from volume_file(result.path, out, time_s))


class ExportPage(Page):
    """Left: what can be had. Right: what was written."""

    def __init__(self, shell: Shell) -> None:
        super().__init__(shell)
        self.kind = Kind(shell.workspace.key)
        self._over_time: dict[Path, bool] = {}
        self.folder = PathField("Where files are written; empty = the case's exports", folder=True)
        self.folder.edit.setPlaceholderText("exports, in the case")
        otherwise = _ELSE.get(self.kind, "")
        self.at_time = QCheckBox("Only at")
        self.at_time.setToolTip(f"Export the surface or volume of this time instead of {otherwise}")
        self.time = DecimalBox()
        self.time.setRange(0, 1e6)
        self.time.setDecimals(3)
        self.time.setSuffix(" s")
        self.time.setToolTip("The time to export; it follows the time on show")
        grid = QGridLayout()
        grid.setVerticalSpacing(10)
        self.rows: list[tuple[Product, QComboBox, Any]] = []
        for number, product in enumerate(p for p in PRODUCTS if self.kind in p.of):
            formats = QComboBox()
            formats.addItems(product.formats)
            formats.setToolTip("File format")
            save = button("Export", partial(self._export, number), product.about)
            grid.addWidget(label(product.title, "heading"), number, 0)
            grid.addWidget(label(product.about, "muted", wrap=True), number, 1)
            grid.addWidget(formats, number, 2)
            grid.addWidget(save, number, 3)
            self.rows.append((product, formats, save))
        grid.setColumnStretch(1, 1)
        products = QWidget()
        products.setLayout(grid)
        self.report_button = button("Open report", self._open_report, "Open the run's report in the browser")
        self.folder_button = button("Show folder", self._show_folder, "Show the exported files")
        self.slicer_button = button(
            "Send to 3D Slicer",
            self._send_to_slicer,
            "Write a scene file with volumes and surfaces, and open it",
            primary=True,
        )
        self.subject = NameLabel()
        self.units = label("", "caution", wrap=True)
        self.written = QListWidget()
        self.written.setToolTip("Files written; double click shows one in its folder")
        self.written.itemActivated.connect(lambda item: reveal(Path(item.text())))
        self._writing: dict[BackgroundTask, Path] = {}
        self.busy = label("", "muted", wrap=True)
        self.stop_button = button("Stop", self._stop, "Stop writing; what is written stays")
        self.stop_button.hide()
        left = QVBoxLayout()
        left.addWidget(self.subject)
        left.addWidget(self.units)
        moment = row(self.at_time, self.time, label(f"otherwise {otherwise}", "muted"), None)
        left.addWidget(card(products, moment))
        # Nothing moves in a still scene.
        moment.setVisible(self.kind in _ELSE)
        left.addWidget(row(label("Folder"), self.folder))
        left.addStretch(1)
        right = QVBoxLayout()
        right.addWidget(label("Written", "heading"))
        right.addWidget(self.written, 1)
        writing = row(self.busy, self.stop_button)
        if isinstance(beside := writing.layout(), QHBoxLayout):
            beside.setStretch(0, 1)
        right.addWidget(writing)
        right.addWidget(row(self.report_button, self.folder_button))
        right.addWidget(self.slicer_button)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(14, 12, 14, 12)
        layout.setSpacing(16)
        layout.addLayout(left, 3)
        layout.addLayout(right, 2)
        self.session.result_changed.connect(self._show_result)
        self.session.clock.changed.connect(lambda _, time_s: self.time.setValue(time_s))
        self._show_result()

    @property
    def out(self) -> Path:
        """Where files go."""
        chosen = self.folder.path()
        if chosen is not None:
            return chosen
        result, case = self.session.result, self.session.folder
        if case is not None:
            return case / "exports"
        assert result is not None
        return result.path.parent / "exports"

    def activate(self) -> None:
        self._show_result()
        result = self.session.result
        if result is not None and not result.is_run and result.path not in self._over_time:
            self._look(result.path)

    def _show_result(self) -> None:
        result = self.session.result
        reason = None
        if result is None:
            reason = "There is no result: reconstruct first, or open a run."
        for product, formats, save in self.rows:
            missing = reason if result is None else self._missing(product, result)
            set_available(save, missing)
            set_available(formats, missing)
        report = reason
        if result is not None and not result.is_run:
            report = "Only a run has a report."
        if result is not None and result.is_run and not (result.path / "report.html").is_file():
            report = "This run has no report."
        set_available(self.report_button, report)
        set_available(self.slicer_button, None if result is not None else reason)
        set_available(self.folder_button, None if result is not None else reason)
        self.subject.setText("" if result is None else f"Result: {result.path.name}")
        honest = result is None or result.metric
        self.units.setText(
            "" if honest else "This result has no scale: lengths are relative, not millimetres."
        )
        self.units.setVisible(not honest)
        self.time.setValue(self.session.clock.time_s)

    def _missing(self, product: Product, result: Result) -> str | None:
        """Why a product cannot be had of a result."""
        if result.is_run:
            if product.what == "vessels" and _volume_of(result) is None:
                return "This run has no volume."
            return None
        if product.what in ("gaussians", "video"):
            return "A finished volume has none: it is made of a run."
        if product.formats == _SEQUENCE and self._over_time.get(result.path) is not True:
            return "This volume has one time." if result.path in self._over_time else "It is being read."
        return None

    def _look(self, path: Path) -> None:
        """Looks on another thread whether a file has volumes over time."""

        def work() -> bool:
            from splatomy.io.volume import is_volume_4d

            return is_volume_4d(path)

        def done(over_time: bool) -> None:
            self._over_time[path] = over_time
            self._show_result()

        self.session.tasks.start(f"{path.name} cannot be read", work, done)

    def _export(self, number: int) -> None:
        result = self.session.result
        if result is None:
            return
        product, formats, _ = self.rows[number]
        stamp, ending = time.strftime("%H%M%S"), formats.currentText()
        stem = result.path.name if result.is_run else result.path.name.split(".")[0]
        name = f"{stem}-{product.title.lower().replace(' ', '-')}-{stamp}"
        out = self._free(name, "" if ending == "folder" else f".{ending}")
        time_s = self.time.value() if product.timed and self.at_time.isChecked() else None

        def work() -> Task[Path]:
            out.parent.mkdir(parents=True, exist_ok=True)
            return (yield from _written(result, product, out, time_s))

        title = f"{product.title} cannot be exported"
        task = self.session.tasks.start(title, work, self._wrote, stopped=self._stopped)
        self._writing[task] = out
        task.ended.connect(lambda: self._ended(task))
        self._show_writing()

    def _free(self, name: str, ending: str) -> Path:
        """A name that no file has, and none that is being written."""
        number, out = 1, self.out / f"{name}{ending}"
        while out.exists() or out in self._writing.values():
            number += 1
            out = self.out / f"{name}-{number}{ending}"
        return out

    def _ended(self, task: BackgroundTask) -> None:
        self._writing.pop(task, None)
        self._show_writing()

    def _show_writing(self) -> None:
        names = [out.name for out in self._writing.values()]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        self.busy.setText(f"Writing {names[0]}{more}..." if names else "")
        self.busy.setToolTip("\n".join(names))
        self.stop_button.setVisible(bool(names))

    def _stop(self) -> None:
        for task in self._writing:
            task.cancel()

    def _stopped(self) -> None:
        self.told.emit("The export was stopped.")

    def _wrote(self, path: Path) -> None:
        self.written.addItem(str(path))
        self.told.emit(f"Written: {path.name}")

    def _open_report(self) -> None:
        if self.session.result is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.session.result.path / "report.html")))

    def _show_folder(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        reveal(self.out)

    def _send_to_slicer(self) -> None:
        """Writes a scene beside the exports; opens it where the preferences know 3D Slicer."""
        result, program = self.session.result, self.session.settings.get("slicer_path")
        if result is None:
            return
        out = self.out / f"{result.path.name.split('.')[0]}.mrml"

        def work() -> Path:
            write_slicer_scene(out, result.path)
            if program:
                subprocess.Popen([program, str(out)], **own_session())
            return out

        def done(path: Path) -> None:
            self._wrote(path)
            if not program:
                self.told.emit("Open the scene in 3D Slicer, or give its program in Preferences, Paths.")

        self.session.tasks.start("The scene for 3D Slicer cannot be written", work, done)
