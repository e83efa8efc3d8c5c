"""Load views of a still scene: what they are, which of them, their masks, depth and starting Gaussians."""

from __future__ import annotations

from dataclasses import replace

from splatomy.io.options import InputOptions
from splatomy_gui.inputs import Inspection, Kind
from splatomy_gui.panels.load.pictures_page import LoadPicturesPage
from splatomy_gui.widgets.fields import PathField


class LoadSurfacePage(LoadPicturesPage):
    """Image sets with cameras, RGB-D folders and photographs."""

    drop_title = "Drop pictures of an object or a scene here"
    drop_hint = (
        "Pictures with cameras (COLMAP, transforms.json, cameras_sphere.npz, Middlebury), an RGB-D or "
        "ScanNet folder, or a case. Nothing leaves this machine."
    )

    one_picture = "view"
    masks_label, masks_hint = "Hiding masks", "Folder of masks of what hides the object"
    unit_left_empty = "of the input"

    def add_options(self) -> None:
        self.add_choice_of_pictures()
        self.target = PathField(
            "Folder of masks of the wanted object; empty = the set's own, if any", folder=True
        )
        self.form.addRow("Object masks", self.target)
        self.add_masks_and_depth()
        self.start = PathField("Gaussians (PLY) in the world of the poses to start from")
        self.form.addRow("Start from", self.start)

    def read_options(self) -> InputOptions:
        pictures = self.read_picture_options()
        return replace(pictures, target=self.target.path(), init=self.start.path())

    def write_options(self, options: InputOptions) -> None:
        super().write_options(options)
        self.target.set_path(options.target)
        self.start.set_path(options.init)

    def takes(self, kind: Kind) -> bool:
        return kind is Kind.SURFACE

    def facts_of(self, inspection: Inspection) -> list[tuple[str, str]]:
        report = inspection.report

        def number(name: str, none: str) -> str:
            return f"{report[name]} views" if report.get(name) else none

        facts = [
            ("Layout", str(report.get("layout", ""))),
            ("Views", str(report.get("views", ""))),
            ("Size", f"{report.get('width_px')} x {report.get('height_px')} px"),
            ("Cameras", str(report.get("poses") or "found from the pictures")),
            ("Object masks", number("masks", "none: the whole scene is rebuilt")),
            ("Hidden parts", number("occluders", "not given: paint them next")),
            ("Depth", number("depth", "none")),
            ("Scale", "millimetres" if report.get("metric") else "unknown: lengths will be relative"),
        ]
        return facts + [("Found", text) for text in report.get("found", ())]
