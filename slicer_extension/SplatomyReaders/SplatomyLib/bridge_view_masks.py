"""Masks of the views of a still scene as segmentations, both ways: the object, and what stands before it."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from SplatomyLib.bridge_frames import distinct_times, new_sequence, read_picture, write_mask
from SplatomyLib.bridge_masks import (
    STATE,
    Part,
    add_segment,
    mask_of_segment,
    moment_of,
    set_state,
    show_editable,
)
from SplatomyLib.bridge_nodes import ROLE
from SplatomyLib.casefile import EDITED
from SplatomyLib.files import UnusableFile
from SplatomyLib.geometry import index_value

VIEW_MASKS = "view masks"
OBJECT = Part("object", "Object", (0.3, 0.8, 0.35))
OCCLUDER = Part("occluder", "In front of the object (left out)", (0.15, 0.75, 0.9))
_NAMES, _STRAIGHTENED, _CHECK = "Splatomy.ViewNames", "Splatomy.Straightened", "Splatomy.MaskCheck"
_NOT_GIVEN = "untouched"


def load_view_masks(scene: Any, frames_folder: Path, about: dict[str, Any], name: str, browser: Any) -> Any:
    """The sequence of an image set's masks, two segments a view; None for a set without masks.

    about: the folder's frames.json. The browser's segmentation node can be edited: changes stay.

    Raises:
        UnusableFile: a mask cannot be read.
    """
    folders = [frames_folder / "target", frames_folder / "occluded"]
    if not any(folder.is_dir() for folder in folders):
        return None
    shape = int(about["height_px"]), int(about["width_px"])
    sequence = new_sequence(scene, f"{name} masks")
    for number, time_s in enumerate(distinct_times(about["times_s"])):
        files = [folder / f"{number:06d}.png" for folder in folders]
        masks = [read_picture(file) > 0 if file.is_file() else np.zeros(shape, bool) for file in files]
        state = EDITED if files[0].is_file() else _NOT_GIVEN
        sequence.SetDataNodeAtValue(_item(masks, state, f"{name} masks"), index_value(time_s))
    # Names of files hold spaces, but no line ends that a person typed.
    names = about.get("names") or [f"{number:06d}" for number in range(len(about["times_s"]))]
    for key, value in {ROLE: VIEW_MASKS, _NAMES: "\n".join(names)}.items():
        sequence.SetAttribute(key, value)
    sequence.SetAttribute(_STRAIGHTENED, str(bool(about.get("straightened"))))
    show_editable(scene, browser, sequence)
    sequence.SetAttribute(_CHECK, _check(*read_view_masks(sequence, shape)))
    return sequence


def _item(masks: list[np.ndarray], state: str, name: str) -> Any:
    item = slicer.vtkMRMLSegmentationNode()
    item.SetName(name)
    item.SetAttribute(ROLE, VIEW_MASKS)
    for mask, part in zip(masks, (OBJECT, OCCLUDER)):
        add_segment(item, mask[None], part)
    set_state(item, state)
    return item


def read_view_masks(sequence: Any, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Masks (T, H, W) of the object and of what is left out, on pictures of that size.

    Segments that a person added count as left out.

    Raises:
        UnusableFile: a segment cannot be brought onto the pixels.
    """
    count = sequence.GetNumberOfDataNodes()
    wanted, left_out = (np.zeros((count, *shape), bool) for _ in range(2))
    for number in range(count):
        content = sequence.GetNthDataNode(number).GetSegmentation()
        for index in range(content.GetNumberOfSegments()):
            is_object = content.GetNthSegmentID(index) == OBJECT.identifier
            masks = wanted if is_object else left_out
            masks[number] |= mask_of_segment(content, index, (1, *shape), moment_of(sequence, number))[0]
    return wanted, left_out


def are_changed(sequence: Any, shape: tuple[int, int]) -> bool:
    """True if the masks are no longer those that were loaded.

    Raises:
        UnusableFile: a segment cannot be brought onto the pixels.
    """
    return sequence.GetAttribute(_CHECK) != _check(*read_view_masks(sequence, shape))


def _check(wanted: np.ndarray, left_out: np.ndarray) -> str:
    return " ".join(f"{zlib.crc32(np.packbits(masks).tobytes()):08x}" for masks in (wanted, left_out))


def save_view_masks(sequence: Any, shape: tuple[int, int], folder: Path) -> dict[str, Any]:
    """Writes the masks into a new folder; the input's options that let the engine use them.

    Raises:
        UnusableFile: the pictures were straightened, so that the masks are not of the set's own pixels; or
            the folder cannot be written.
    """
    if sequence.GetAttribute(_STRAIGHTENED) == "True":
        raise UnusableFile(
            "These pictures are shown without their lens distortion: expected masks of the pictures as they "
            "were recorded. Correct the masks beside the images, and load them again."
        )
    wanted, left_out = read_view_masks(sequence, shape)
    names = (sequence.GetAttribute(_NAMES) or "").split("\n")
    states = [sequence.GetNthDataNode(number).GetAttribute(STATE) for number in range(len(names))]
    options: dict[str, Any] = {}
    try:
        for number, name in enumerate(names):
            # A view without a mask says nothing; one with an empty mask says that the object is not there.
            if states[number] != _NOT_GIVEN or wanted[number].any():
                write_mask(folder / "object" / f"{name}.png", wanted[number])
                options["target"] = str(folder / "object")
            write_mask(folder / "in_front" / f"{name}.png", left_out[number])
    except OSError as error:
        raise UnusableFile(f"{folder.name} cannot be written: {error.strerror}. Choose another.") from None
    return {**options, "masks": str(folder / "in_front"), "masks_mean": "hidden"}
