"""Load a surgical clip: what it is, which part of it, its lens, masks, depth and poses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from PyQt6.QtWidgets import QVBoxLayout

from splatomy.errors import InputError
from splatomy.io.options import InputOptions
from splatomy_gui.inputs import Inspection, Kind
from splatomy_gui.panels.load.clip_preview import ClipPreview
from splatomy_gui.panels.load.pictures_page import LoadPicturesPage
from splatomy_gui.panels.page import Shell
from splatomy_gui.undo import ValueCommand
from splatomy_gui.widgets.fields import ChoiceField, NumbersField, PathField


class LoadEndoscopyPage(LoadPicturesPage):
    """Videos, frame folders and the published layouts."""

    hidden_is, visible_is = "hidden (instrument)", "visible (tissue)"
    drop_title = "Drop a clip here"
    drop_hint = (
        "Video file, folder of frames, EndoNeRF, StereoMIS, SCARED or Hamlyn folder, or a case. "
        "Nothing leaves this machine."
    )

    def __init__(self, shell: Shell) -> None:
        self.preview = ClipPreview(shell.session)
        super().__init__(shell)
        self.facts.setMinimumHeight(90)
        layout = self.info.layout()
        if isinstance(layout, QVBoxLayout):
            layout.addWidget(self.preview, 3)
        self.preview.cropped.connect(self._crop_drawn)
        self.preview.trimmed.connect(self._trimmed)
        self.crop.editingFinished.connect(self._crop_typed)
        self.frames.editingFinished.connect(self._frames_typed)

    def show_inspection(self, inspection: Inspection) -> None:
        """The clip itself, with what its report says of every frame."""
        shown = "crop" in inspection.report
        self.preview.setVisible(shown)
        if shown:
            self.preview.show_clip(inspection.path, inspection.options, inspection.report)
            self._crop_typed()
            self._frames_typed()

    def _trimmed(self, first: int, last: int) -> None:
        """Writes what the slider says into the field; the step stays."""
        step = self._typed(self.frames, (None, None, None))[2]
        whole = first == 0 and last == self.preview.slider.count - 1 and step is None
        wanted = None if whole else (first, last + 1, step)
        before = self.frames.text()
        self.frames.set_numbers(wanted)
        self._push("Trim", self._set_frames, before, self.frames.text())

    def _crop_drawn(self, crop: tuple[int | None, ...]) -> None:
        before = self.crop.text()
        self.crop.set_numbers(crop)
        self._push("Crop", self._set_crop, before, self.crop.text())

    def _push(self, text: str, apply: Callable[[str], None], before: str, after: str) -> None:
        if before != after:
            self.session.push(ValueCommand(text, apply, before, after, merges=text == "Trim"))

    def _set_frames(self, text: str) -> None:
        self.frames.setText(text)
        self._frames_typed()

    def _set_crop(self, text: str) -> None:
        self.crop.setText(text)
        self._crop_typed()

    def _crop_typed(self) -> None:
        numbers = self._typed(self.crop, ())
        if len(numbers) == 4 and None not in numbers:
            self.preview.set_crop(cast(Any, numbers))
        elif not numbers:
            self.preview.set_crop(None)

    def _frames_typed(self) -> None:
        first, end, _ = self._typed(self.frames, (None, None, None))
        count = self.preview.slider.count
        self.preview.slider.set_trim(first or 0, (count if end is None else end) - 1)

    @staticmethod
    def _typed(field: NumbersField, empty: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The numbers of a field; while they are wrong, as if it were empty: Open says what is wrong."""
        try:
            return field.numbers() or empty
        except InputError:
            return empty

    def add_options(self) -> None:
        self.add_choice_of_pictures()
        self.layout_choice = ChoiceField(
            [
                (None, "found out"),
                ("mono", "one eye"),
                ("sbs", "two eyes, side by side"),
                ("tb", "two eyes, stacked"),
            ],
            "How many eyes a picture holds",
        )
        self.form.addRow("Eyes", self.layout_choice)
        self.add_masks_and_depth()
        self.calibration = PathField("Lens file: OpenCV YAML, XML, JSON or ini")
        self.poses = PathField("Camera-to-world poses, one for each frame")
        self.poses_convention = ChoiceField(
            [(None, "found out"), ("opencv", "OpenCV (z forward)"), ("opengl", "OpenGL (z back)")],
            "The camera axes of the poses",
        )
        self.form.addRow("Lens", self.calibration)
        self.form.addRow("Poses", self.poses)
        self.form.addRow("Pose axes", self.poses_convention)

    def read_options(self) -> InputOptions:
        return replace(
            self.read_picture_options(),
            layout=cast(Any, self.layout_choice.value()),
            calibration=self.calibration.path(),
            poses=self.poses.path(),
            poses_convention=cast(Any, self.poses_convention.value()),
        )

    def write_options(self, options: InputOptions) -> None:
        super().write_options(options)
        self.layout_choice.set_value(options.layout)
        self.calibration.set_path(options.calibration)
        self.poses.set_path(options.poses)
        self.poses_convention.set_value(options.poses_convention)

    def takes(self, kind: Kind) -> bool:
        return kind is Kind.ENDOSCOPY

    def facts_of(self, inspection: Inspection) -> list[tuple[str, str]]:
        report = inspection.report
        if "layout" not in report:
            return [("Kind", str(report.get("kind", "")))]
        rate = (report["frames"] - 1) / report["duration_s"] if report["duration_s"] > 0 else 0.0
        masks, depth = report["masks"], report["depth"]
        facts = [
            ("Layout", f"{report['layout']} ({report['stereo']})"),
            ("Frames", f"{report['frames']} of {report['frames_in_clip']}, {rate:.3g} a second"),
            ("Size", f"{report['width_px']} x {report['height_px']} px"),
            ("Duration", f"{report['duration_s']:.2f} s"),
            ("Picture", str(report["picture"])),
            ("Masks", "none: propose and check them next" if masks is None else _masks(masks)),
            ("Depth", "estimated" if depth is None else f"{depth['frames']} maps"),
            ("Lens", "known" if report["lens_known"] else "assumed"),
            ("Poses", str(report["poses"] or "estimated")),
            ("Scale", "millimetres" if report["metric"] else "unknown: lengths will be relative"),
        ]
        if report["baseline_mm"] is not None:
            facts.append(("Eye distance", f"{report['baseline_mm']:.2f} mm"))
        quality = report.get("quality") or {}
        for name in ("blurred", "smoky", "burnt"):
            if name in quality and isinstance(quality[name], list) and quality[name]:
                facts.append((f"{name.capitalize()} frames", str(len(quality[name]))))
        facts += [("Found", text) for text in report["found"]]
        return facts + [("Assumed", text) for text in report["assumed"]]


def _masks(masks: dict[str, Any]) -> str:
    return f"{masks['frames']} files, white means {masks['mean']}"
