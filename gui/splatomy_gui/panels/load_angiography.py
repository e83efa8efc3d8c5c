"""Load a DSA run: its views and geometry, what is the mask, and what is already subtracted."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtWidgets import QHeaderView, QSpinBox, QTableWidget, QTableWidgetItem

from splatomy.errors import InputError
from splatomy.io.options import InputOptions
from splatomy_gui.frames import RunFrames
from splatomy_gui.inputs import Inspection, Kind
from splatomy_gui.panels.angiography.colours import SERIES
from splatomy_gui.panels.angiography.curve_plot import Curve, CurvePlot
from splatomy_gui.panels.angiography.geometry_view import GeometryView
from splatomy_gui.panels.load_page import LoadPage
from splatomy_gui.panels.page import Shell
from splatomy_gui.widgets.basics import button, label
from splatomy_gui.widgets.fields import ChoiceField, DecimalBox, NumbersField, PathField

_COLUMNS = ("Run", "Frames", "Size", "Rate", "Primary", "Secondary", "SAD", "SID", "Pixel", "Mask")


class LoadAngiographyPage(LoadPage):
    """DICOM, stacks, frame folders with geometry, and finished vessel volumes."""

    drop_title = "Drop a DSA run here"
    drop_hint = (
        "DICOM XA file or folder, image stack or frames with a geometry file, a DSA folder, a finished 3D or "
        "4D vessel volume, or a case. Nothing leaves this machine."
    )

    def __init__(self, shell: Shell) -> None:
        self.runs = QTableWidget(0, len(_COLUMNS))
        self.runs.setHorizontalHeaderLabels(_COLUMNS)
        self.runs.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.runs.setToolTip("Runs of this input; red: what the geometry lacks")
        header, numbers = self.runs.horizontalHeader(), self.runs.verticalHeader()
        if header is not None and numbers is not None:
            header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
            # Runs are counted from 0, in their first column.
            numbers.hide()
        self.ambiguity = label(
            "This file holds voxels. It may be a finished vessel volume, or the frames of a run.", wrap=True
        )
        self.as_volume = button("It is a volume", self._as_volume, "Inspect it as a finished vessel volume")
        self.as_frames = button(
            "It is a run", self._as_frames, "Read its slices as frames; give the geometry"
        )
        self.geometry_view = GeometryView()
        super().__init__(shell)
        layout = self.info.layout()
        if layout is not None:
            for widget in (self.ambiguity, self.as_volume, self.as_frames, self.runs, self.geometry_view):
                layout.addWidget(widget)

    def add_options(self) -> None:
        self.frames = NumbersField(":", 3, "first:end:step, as 10:90", "Which frames are used")
        self.crop = NumbersField(
            ",", 4, "x,y,width,height", "The part of each picture that is used, in pixels"
        )
        self.bin = QSpinBox()
        self.bin.setRange(1, 16)
        self.bin.setToolTip("Blocks of this many pixels on a side are averaged; 1 keeps all")
        self.view = NumbersField(",", 64, "0,1,...", "Which of several runs, counted from 0; empty = all")
        self.mask_frames = NumbersField(
            ",", 64, "0,1,...", "Frames before contrast, counted from 0; their mean is subtracted"
        )
        self.brightness = CurvePlot(
            "Brightness of the frames", "frame", "", "Open the run to choose its mask frames here."
        )
        self.brightness.setToolTip(
            "Contrast makes frames darker: press a frame before the fall to choose it, again to drop it"
        )
        self.brightness.pressed.connect(self._pick_mask_frame)
        self.mask_frames.textChanged.connect(lambda _: self._show_mask_frames())
        self.mask_run = PathField("The run without contrast, if it is not beside the input")
        self.subtracted = ChoiceField(
            [(None, "found out"), (True, "yes: do not subtract"), (False, "no: subtract the mask")],
            "Whether the pixels are already subtracted",
        )
        self.log = ChoiceField(
            [(None, "found out"), (True, "logarithms"), (False, "intensities")], "What pixel values are"
        )
        self.geometry_file = PathField("3x4 matrices (CSV), RTK XML or geometry JSON")
        self.frame_time = DecimalBox()
        self.frame_time.setRange(0, 1000)
        self.frame_time.setDecimals(4)
        self.frame_time.setSpecialValueText("of the input")
        self.frame_time.setToolTip("Seconds between frames where the input has none")
        for text, field in (
            ("Frames", self.frames),
            ("Crop", self.crop),
            ("Binning", self.bin),
            ("Runs", self.view),
            ("Mask frames", self.mask_frames),
            ("", self.brightness),
            ("Mask run", self.mask_run),
            ("Subtracted", self.subtracted),
            ("Pixel values", self.log),
            ("Geometry", self.geometry_file),
            ("Frame time, s", self.frame_time),
        ):
            self.form.addRow(text, field)

    def read_options(self) -> InputOptions:
        crop, view = self.crop.numbers(), self.view.numbers()
        if crop is not None and None in crop:
            raise InputError("The crop needs four numbers: expected x,y,width,height: complete it.")
        mask_frames = self.mask_frames.numbers()
        views = None if view is None else tuple(n for n in view if n is not None)
        return InputOptions(
            crop=cast(Any, crop),
            frames=cast(Any, self.frames.numbers()),
            bin=self.bin.value(),
            mask=self.mask_run.path(),
            mask_frames=None if mask_frames is None else tuple(n for n in mask_frames if n is not None),
            geometry=self.geometry_file.path(),
            frame_time_s=self.frame_time.value() or None,
            already_subtracted=cast(Any, self.subtracted.value()),
            log=cast(Any, self.log.value()),
            view=views,
        )

    def write_options(self, options: InputOptions) -> None:
        self.crop.set_numbers(options.crop)
        self.frames.set_numbers(options.frames)
        self.bin.setValue(options.bin)
        self.view.set_numbers((options.view,) if isinstance(options.view, int) else options.view)
        self.mask_run.set_path(options.mask)
        self.mask_frames.set_numbers(options.mask_frames)
        self.geometry_file.set_path(options.geometry)
        self.frame_time.setValue(options.frame_time_s or 0)
        self.subtracted.set_value(options.already_subtracted)
        self.log.set_value(options.log)

    def takes(self, kind: Kind) -> bool:
        return kind in (Kind.ANGIOGRAPHY, Kind.VOLUME)

    def facts_of(self, inspection: Inspection) -> list[tuple[str, str]]:
        if inspection.kind is Kind.VOLUME:
            return [("Kind", "finished volume"), ("File", inspection.path.name)]
        report = inspection.report
        views = report.get("views", [])
        facts = [("Kind", str(report.get("kind", ""))), ("Patient fields", str(report.get("patient_fields")))]
        if views:
            first = views[0]
            facts += [
                ("Layout", first["layout"]),
                ("Geometry from", first["geometry_source"]),
                ("Pixel values", first["intensity"]),
                ("Mask", first["mask"]),
            ]
        return facts

    def show_inspection(self, inspection: Inspection) -> None:
        is_volume = inspection.kind is Kind.VOLUME
        for widget in (self.ambiguity, self.as_volume, self.as_frames):
            widget.setVisible(inspection.ambiguous)
        self.runs.setVisible(not is_volume)
        self.geometry_view.setVisible(not is_volume)
        self.geometry_view.show_views(inspection.report.get("views", []))
        self.open_button.setText("Inspect" if is_volume else "Open")
        self._show_runs(inspection.report.get("views", []))

    def activate(self) -> None:
        super().activate()
        self._show_brightness()

    def _show_brightness(self) -> None:
        """The mean of each recorded frame, by which the arrival of contrast is seen."""
        frames = self.session.frames
        if not isinstance(frames, RunFrames) or frames.run.already_subtracted:
            self.session.tasks.drop("brightness")
            self.brightness.set_curves([])
            return
        images = frames.run.fill_run
        step = max(1, min(images.shape[1:]) // 64)

        def work() -> NDArray[np.float64]:
            return np.asarray(images[:, ::step, ::step].mean((1, 2), dtype=np.float64))

        def done(means: NDArray[np.float64]) -> None:
            # In percent of the brightest frame, drawn from its own foot so that a small fall is seen.
            share = 100 * (means - means.min()) / max(float(np.ptp(means)), 1e-9)
            opened = self.session.opened
            chosen = (None if opened is None else opened.options.frames) or (None, None, None)
            places = np.arange(len(share), dtype=np.float64) * (chosen[2] or 1) + (chosen[0] or 0)
            self.brightness.set_curves([Curve("brightness", SERIES[1], places, share)])
            self._show_mask_frames()

        title = "The brightness of the frames cannot be found"
        self.session.tasks.start(title, work, done, topic="brightness")

    def _pick_mask_frame(self, place: float) -> None:
        """Adds the frame to the mask frames, or takes it away."""
        chosen = {n for n in self.mask_frames.numbers() or () if n is not None} ^ {round(place)}
        self.mask_frames.set_numbers(tuple(sorted(chosen)) or None)

    def _show_mask_frames(self) -> None:
        chosen = [n for n in self.mask_frames.numbers() or () if n is not None]
        self.brightness.set_marks([(float(n), "mask") for n in chosen])

    def _show_runs(self, views: list[dict[str, Any]]) -> None:
        self.runs.setRowCount(len(views))
        for number, view in enumerate(views):
            seconds, frames = view["duration_s"], view["frames"]
            rate = f"{(frames - 1) / seconds:.3g} /s" if seconds else None
            cells = (
                str(number),
                str(frames),
                f"{view['width_px']} x {view['height_px']}",
                rate,
                _range(view["primary_deg"]),
                _range(view["secondary_deg"]),
                _mm(view["source_to_isocentre_mm"]),
                _mm(view["source_to_detector_mm"]),
                None if view["pixel_mm"] is None else f"{view['pixel_mm'][0]:.3g} mm",
                view["mask"],
            )
            for column, text in enumerate(cells):
                item = QTableWidgetItem(text or "missing")
                if text is None:
                    item.setForeground(self._bad())
                    item.setToolTip(f"{_COLUMNS[column]} is missing: give it with Geometry or Frame time.")
                self.runs.setItem(number, column, item)

    @staticmethod
    def _bad() -> Any:
        from splatomy_gui.theme import current_theme

        return current_theme().colour("bad")

    def _as_volume(self) -> None:
        if self.inspection is not None:
            self.session.open_volume(self.inspection.path)
            self.step_wanted.emit("inspect")

    def _as_frames(self) -> None:
        if self.inspection is not None:
            self.session.inspect(self.inspection.path, self.inspection.options, Kind.ANGIOGRAPHY)

    def _open(self) -> None:
        if self.inspection is not None and self.inspection.kind is Kind.VOLUME:
            self._as_volume()
        else:
            super()._open()


def _range(pair: list[float] | None) -> str | None:
    if pair is None:
        return None
    low, high = round(pair[0]), round(pair[1])
    return f"{low} deg" if low == high else f"{low} to {high} deg"


def _mm(value: float | None) -> str | None:
    return None if value is None else f"{value:.0f} mm"
