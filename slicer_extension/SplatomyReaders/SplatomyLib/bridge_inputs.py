"""Inputs that are in the scene: their parts, their masks, and the case that these belong to."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import vtk

from SplatomyLib import bridge_frames, bridge_masks
from SplatomyLib.bridge_case import CASE
from SplatomyLib.bridge_nodes import ROLE, WORLD
from SplatomyLib.casefile import is_case, save_masks
from SplatomyLib.files import UnusableFile
from SplatomyLib.geometry import World

_CHECKS = "Splatomy.MaskChecks"


def parts_of(browser: Any) -> dict[str, Any]:
    """The sequences of an input by role: "frames", "masks", "cameras". Also after a scene was reopened."""
    sequences = vtk.vtkCollection()
    browser.GetSynchronizedSequenceNodes(sequences, True)
    found = [sequences.GetItemAsObject(i) for i in range(sequences.GetNumberOfItems())]
    return {node.GetAttribute(ROLE): node for node in found if node.GetAttribute(ROLE)}


def world_of_input(browser: Any) -> World:
    """The world of an input that ``load_input`` brought."""
    frames = parts_of(browser)["frames"]
    return World(frames.GetAttribute(WORLD) or "", frames.GetAttribute("Splatomy.Metric") != "False")


def transform_of_input(browser: Any) -> Any:
    """The transform that an input's world hangs under, None when its coordinates are the patient's."""
    cameras = parts_of(browser).get("cameras")
    return browser.GetProxyNode(cameras).GetParentTransformNode() if cameras is not None else None


def picture_shape(browser: Any) -> tuple[int, int]:
    """Height and width of an input's frames, px."""
    width, height, _ = parts_of(browser)["frames"].GetNthDataNode(0).GetImageData().GetDimensions()
    return height, width


def masks_of_input(browser: Any) -> tuple[np.ndarray, list[str]]:
    """Masks (T, H, W), True = hidden, and review states, as they are in the scene now.

    Raises:
        UnusableFile: a segment cannot be brought onto the pixels.
    """
    return bridge_masks.read_masks(parts_of(browser)["masks"], picture_shape(browser))


def take_masks(scene: Any, browser: Any, masks: np.ndarray, states: list[str]) -> None:
    """Puts other masks into an input's segmentations.

    Raises:
        UnusableFile: they are of other frames.
    """
    sequence = parts_of(browser)["masks"]
    if masks.shape != (sequence.GetNumberOfDataNodes(), *picture_shape(browser)):
        raise UnusableFile(
            "These masks are of other frames than the clip that is shown. Load the clip again."
        )
    # Else the browser would write what it shows now over the new masks.
    browser.SetSaveChanges(sequence, False)
    # New items: what is shown shares its labelmap with the item, and would be changed and kept back.
    for number, (mask, state) in enumerate(zip(masks, states)):
        item = bridge_masks.mask_item(mask, state, sequence.GetNthDataNode(number).GetName())
        sequence.SetDataNodeAtValue(item, sequence.GetNthIndexValue(number))
    bridge_frames.refresh(scene, browser)
    browser.SetSaveChanges(sequence, True)


def changed_frames(browser: Any) -> list[int]:
    """Frames whose masks or states are no longer as they were loaded, or taken from the engine."""
    sequence = parts_of(browser)["masks"]
    known = (sequence.GetAttribute(_CHECKS) or "").split()
    masks, states = masks_of_input(browser)
    return [i for i, text in enumerate(_checks(masks, states)) if i >= len(known) or known[i] != text]


def remember_masks(browser: Any) -> None:
    """From now on masks count as changed when they differ from what they are now."""
    parts_of(browser)["masks"].SetAttribute(_CHECKS, " ".join(_checks(*masks_of_input(browser))))


def _checks(masks: np.ndarray, states: list[str]) -> list[str]:
    return [f"{zlib.crc32(np.packbits(mask).tobytes()):08x}-{state}" for mask, state in zip(masks, states)]


def case_of_input(browser: Any) -> Path | None:
    """The case folder that an input's masks belong to."""
    path = browser.GetAttribute(CASE)
    return Path(path) if path and is_case(Path(path)) else None


def save_input_masks(browser: Any) -> int:
    """Writes the scene's masks into the input's case; how many frames changed.

    Raises:
        UnusableFile: there is no case, or it cannot take them.
    """
    case = case_of_input(browser)
    if case is None:
        raise UnusableFile("These masks belong to no case yet. Use Propose first, which makes one.")
    masks, states = masks_of_input(browser)
    return save_masks(case, masks, states)
