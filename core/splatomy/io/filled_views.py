"""Pictures and depth of an object's views whose hidden part somebody else has filled.

An object's folder may hold image_filled/N.png (or .jpg: the object with its hidden part, before black) and
filled_depth_img/N.png by the numbers of its views. Depth of 8 bits is as the released preprocessing stores
it: white is 1.1 times the farthest depth of the visible object; depth of 16 bits is in millimetres.
Source: the layout of O2-Recon's release (sheet, sections 2 and 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.checks import is_whole_number
from splatomy.errors import InputError
from splatomy.io.depth_folder import read_depth
from splatomy.io.frames import picture_files, read_picture, read_rgb
from splatomy.io.mask_folder import foreground

_PICTURES, _DEPTHS = "image_filled", "filled_depth_img"
_WHITE = 1.1
"""What white of an 8 bit depth stands for, in farthest depths of the visible object."""
_BLACK = 10
"""Brighter pixels (of 255) are the object; the release drops what was filled with the black background."""


@dataclass(frozen=True)
class FilledViews:
    """What somebody filled, by view of the opened capture.

    images: (H, W, 3) sRGB in [0, 1]; NaN where nothing was filled in. depth_mm: (H, W), NaN = nothing.
    """

    images: Mapping[int, NDArray[np.float32]] = field(default_factory=dict)
    depth_mm: Mapping[int, NDArray[np.float32]] = field(default_factory=dict)


def filled_views(folder: Path, details: Mapping[str, Any], height_px: int, width_px: int) -> FilledViews:
    """The filled pictures and depth maps of an object's folder; empty without any.

    details: of the opened capture; its "names", "frames" and "crop" place the files. height_px, width_px: of
    its pictures.

    Raises:
        InputError: a file cannot be read, or its size is not that of the pictures.
    """
    pictures, depths = _numbered(folder / _PICTURES), _numbered(folder / _DEPTHS)
    frames = details.get("frames")
    crop = details.get("crop", (0, 0, width_px, height_px))
    images: dict[int, NDArray[np.float32]] = {}
    found: dict[int, NDArray[np.float32]] = {}
    for position, name in enumerate(str(name) for name in details.get("names", [])):
        number = (
            int(name) if is_whole_number(name) else int(frames[position]) if frames is not None else position
        )
        if number in pictures:
            whole = read_rgb(pictures[number])
            if whole.dtype == np.uint16:
                whole = (whole >> 8).astype(np.uint8)
            part = _cut(whole, crop, pictures[number])
            picture = cv2.resize(part, (width_px, height_px), interpolation=cv2.INTER_AREA)
            lit = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) >= _BLACK
            images[position] = np.where(lit[..., None], picture / np.float32(255), np.float32(np.nan))
        if number in depths:
            part = _cut(_millimetres(folder, number, depths[number]), crop, depths[number])
            sized = cv2.resize(part, (width_px, height_px), interpolation=cv2.INTER_NEAREST)
            found[position] = np.asarray(sized, np.float32)
    return FilledViews(images, found)


def _numbered(folder: Path) -> dict[int, Path]:
    """Pictures whose names are whole numbers; "cv2-N.png" of the release are for comparison only."""
    files = picture_files(folder) if folder.is_dir() else []
    return {int(p.stem): p for p in files if is_whole_number(p.stem)}


def _cut(whole: NDArray[Any], crop: Any, path: Path) -> NDArray[Any]:
    """Pictures of the recorded size are cut as the recorded ones were; smaller copies show all of it."""
    x, y, width, height = (int(n) for n in crop)
    if whole.shape[0] >= y + height and whole.shape[1] >= x + width:
        return whole[y : y + height, x : x + width]
    if x or y or abs(whole.shape[0] / height - whole.shape[1] / width) > 0.01 * whole.shape[0] / height:
        raise InputError(
            f"{path.parent.name}/{path.name} is {whole.shape[1]}x{whole.shape[0]}; expected a filled picture "
            f"of the shape of its view ({width}x{height}): export it again, or take the folder away."
        )
    return whole


def _millimetres(folder: Path, number: int, path: Path) -> NDArray[np.float32]:
    """A filled depth map (H, W) in mm, NaN = nothing."""
    stored = read_depth(path)
    if stored.dtype != np.uint8:
        depth = stored.astype(np.float32)
        depth[~np.isfinite(depth) | (depth <= 0)] = np.nan
        return depth
    measured, mask = folder / "depth" / f"{number}.png", folder / "mask" / f"{number}.png"
    if not (measured.is_file() and mask.is_file()):
        raise InputError(
            f"{path.parent.name}/{path.name} has 8 bits, whose unit is that of depth/{number}.png within "
            f"mask/{number}.png; expected both beside it: copy them, or give depth of 16 bits in millimetres."
        )
    recorded = read_depth(measured).astype(np.float32)
    on = foreground(read_picture(mask)).astype(np.uint8)
    size = (recorded.shape[1], recorded.shape[0])
    visible = recorded[cv2.resize(on, size, interpolation=cv2.INTER_NEAREST) > 0]
    visible = visible[(visible > 0) & (visible < 65535)]
    if not len(visible):
        return np.full(stored.shape, np.nan, np.float32)
    depth = stored.astype(np.float32) * (_WHITE * float(visible.max()) / 255)
    return np.where(stored > 0, depth, np.float32(np.nan))
