"""What the load pages of pictures share: which are used, what hides parts of them, and their depth."""

from __future__ import annotations

from typing import Any, cast

from PyQt6.QtWidgets import QSpinBox

from splatomy.errors import InputError
from splatomy.io.options import InputOptions
from splatomy_gui.panels.load_page import LoadPage
from splatomy_gui.widgets.fields import ChoiceField, DecimalBox, NumbersField, PathField


class LoadPicturesPage(LoadPage):
    """The fields that clips and views of still scenes have in common."""

    one_picture = "frame"
    """What one picture of the input is called."""
    hidden_is, visible_is = "hidden", "visible"
    """What the two values of a mask are called."""
    masks_label, masks_hint = "Masks", "Folder of mask pictures"
    unit_left_empty = "unknown"
    """What it means when no unit of depth is given."""

    def add_choice_of_pictures(self) -> None:
        """Adds the fields that choose pictures, and the part of them that is used."""
        name = f"{self.one_picture}s"
        self.frames = NumbersField(":", 3, "first:end:step, as 0:120:2", f"Which {name} are used")
        self.crop = NumbersField(
            ",", 4, "x,y,width,height", "The part of each picture that is used, in pixels"
        )
        self.bin = QSpinBox()
        self.bin.setRange(1, 16)
        self.bin.setToolTip("Blocks of this many pixels on a side are averaged; 1 keeps all")
        self.form.addRow(name.capitalize(), self.frames)
        self.form.addRow("Crop", self.crop)
        self.form.addRow("Binning", self.bin)

    def add_masks_and_depth(self) -> None:
        """Adds the fields of what hides parts of the pictures, and of their depth."""
        self.masks = PathField(self.masks_hint, folder=True)
        self.masks_mean = ChoiceField(
            [(None, "found out"), ("hidden", self.hidden_is), ("visible", self.visible_is)],
            "What a white pixel of these masks is",
        )
        self.depth_maps = PathField("Folder of depth maps", folder=True)
        self.depth_scale = DecimalBox()
        self.depth_scale.setRange(0, 999_999)
        self.depth_scale.setDecimals(4)
        self.depth_scale.setSpecialValueText(self.unit_left_empty)
        self.depth_scale.setToolTip(
            f"Millimetres that one unit of the depth maps stands for; 0 = {self.unit_left_empty}"
        )
        self.form.addRow(self.masks_label, self.masks)
        self.form.addRow("White means", self.masks_mean)
        self.form.addRow("Depth", self.depth_maps)
        self.form.addRow("Depth unit, mm", self.depth_scale)

    def read_picture_options(self) -> InputOptions:
        """The options of these fields alone.

        Raises:
            InputError: numbers that are no numbers, or a crop of fewer than four.
        """
        crop = self.crop.numbers()
        if crop is not None and None in crop:
            raise InputError("The crop needs four numbers: expected x,y,width,height: complete it.")
        return InputOptions(
            crop=cast(Any, crop),
            frames=cast(Any, self.frames.numbers()),
            bin=self.bin.value(),
            masks=self.masks.path(),
            masks_mean=cast(Any, self.masks_mean.value()),
            depth=self.depth_maps.path(),
            depth_scale_mm=self.depth_scale.value() or None,
        )

    def write_options(self, options: InputOptions) -> None:
        """Shows options in the fields."""
        self.crop.set_numbers(options.crop)
        self.frames.set_numbers(options.frames)
        self.bin.setValue(options.bin)
        self.masks.set_path(options.masks)
        self.masks_mean.set_value(options.masks_mean)
        self.depth_maps.set_path(options.depth)
        self.depth_scale.setValue(options.depth_scale_mm or 0)
