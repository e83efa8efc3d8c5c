"""Folders of depth maps: PNG, TIFF or npy, in millimetres or in units without a name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.io.arrays import read_npy
from splatomy.io.frames import picture_files, read_picture, write_picture
from splatomy.io.mask_folder import match_files, other_size

DEPTH_SUFFIXES = (".png", ".tif", ".tiff", ".npy")


@dataclass(frozen=True)
class DepthFolder:
    """Depth maps of a clip, of which one was read.

    files: frame index -> file. scale: depth in mm (or, not ``metric``, in scene units) per stored unit.
    focal_baseline: frame index -> focal length times baseline, px mm, when the files hold disparity in px;
        depth is that over the disparity. farthest: larger depths are unknown.
    points: the files hold points (x, y, z) of the left camera, maybe with those of the right one below.
    height_px, width_px: size of the first map as stored.
    """

    files: Mapping[int, Path]
    scale: float
    metric: bool
    name: str
    kind: str
    height_px: int
    width_px: int
    focal_baseline: Mapping[int, float] | None = None
    farthest: float = np.inf
    points: bool = False
    problems: tuple[str, ...] = ()

    def depth(self, frame: int, height_px: int, width_px: int) -> NDArray[np.float32] | None:
        """The depth along the optical axis, (H, W) float32, NaN = unknown; None where there is no map.

        Raises:
            InputError: unreadable or of another size.
        """
        path = self.files.get(frame)
        if path is None:
            return None
        stored = read_points(path)[:height_px] if self.points else read_depth(path)
        if stored.shape != (height_px, width_px):
            raise other_size(path, stored.shape, height_px, width_px, "depth maps")
        known = np.isfinite(stored) & (stored > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.focal_baseline is not None:
                depth = self.focal_baseline[frame] / stored.astype(np.float64)
            else:
                depth = stored.astype(np.float64) * self.scale
            known &= depth <= self.farthest
        return np.where(known, depth, np.nan).astype(np.float32)


def read_depth(path: Path) -> NDArray[Any]:
    """A depth map as stored, (H, W).

    Raises:
        InputError: it cannot be read or is no single channel.
    """
    if path.suffix.lower() == ".npy":
        try:
            array = read_npy(path)
        except ValueError:
            raise InputError(
                f"{path.name} is no readable array; expected numbers saved by numpy: export it again."
            ) from None
    else:
        array = read_picture(path)
    array = np.squeeze(array)
    if array.ndim == 3 and array.shape[2] in (3, 4) and array.dtype == np.uint8:
        same = (array[..., 0] == array[..., 1]).all() and (array[..., 0] == array[..., 2]).all()
        if not same:
            raise InputError(
                f"{path.name} is a colour picture; expected depth as one number per pixel: export the depth "
                "itself, not its false colours."
            )
        array = array[..., 0]
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise InputError(
            f"{path.name} has the shape {array.shape} of {array.dtype}; expected one number per pixel "
            "(height, "
            "width): export the depth along the optical axis."
        )
    return np.asarray(array)


def read_points(path: Path) -> NDArray[np.float32]:
    """The z of a map of points (H, W, 3), as (H, W) float32.

    Raises:
        InputError: it cannot be read or holds something else.
    """
    points = read_picture(path)
    if points.ndim != 3 or points.shape[2] != 3 or points.dtype.kind != "f":
        raise InputError(
            f"{path.name} has the shape {points.shape} of {points.dtype}; expected points (height, width, 3) "
            "as decimal numbers: copy it again."
        )
    # Pictures come with their last channel first.
    return np.asarray(points[..., 0], np.float32)


def depth_folder(
    folder: Path, count: int, frame_names: list[str] | None, scale_mm: float | None, what: str = "depth"
) -> DepthFolder:
    """The depth maps of a folder.

    scale_mm: mm per stored unit; None = unknown, so that depth stays in the units of the file.

    Raises:
        InputError: no maps, no match to the frames, or the first is unreadable.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; expected a folder of depth maps: check --depth.")
    files = picture_files(folder, DEPTH_SUFFIXES)
    if not files:
        raise InputError(
            f"{folder.name} holds no depth maps; expected PNG, TIFF or npy: choose another --depth."
        )
    matched, _ = match_files(files, frame_names, count)
    first = read_depth(files[0])
    known = np.isfinite(first) & (first > 0)
    problems = []
    if not known.any():
        problems.append(f"The {what} map {files[0].name} is empty: zero and NaN stand for unknown depth.")
    if len(matched) < count:
        problems.append(f"There is {what} for {len(matched)} of {count} frames; in the others it is unknown.")
    if first.dtype == np.uint8:
        problems.append(f"The {what} maps have 8 bits, so {what} comes in 255 steps only.")
    if scale_mm is None:
        problems.append(
            f"The unit of the {what} maps is not known, so nothing is measured in mm: say it with "
            "--depth-scale-mm (mm per unit)."
        )
    kind = f"{first.dtype} {files[0].suffix.lower()[1:]}"
    return DepthFolder(
        files=matched,
        scale=1.0 if scale_mm is None else scale_mm,
        metric=scale_mm is not None,
        name=folder.name,
        kind=kind,
        height_px=first.shape[0],
        width_px=first.shape[1],
        problems=tuple(problems),
    )


def write_depth_png(path: Path, depth_mm: NDArray[np.floating], scale_mm: float) -> None:
    """Writes depth (H, W) atomically as a 16 bit PNG of ``scale_mm`` per unit; NaN becomes 0.

    Raises:
        ValueError: a depth is negative or does not fit into 16 bits.
    """
    units = np.round(np.nan_to_num(np.asarray(depth_mm, dtype=np.float64) / scale_mm, nan=0.0))
    if units.min() < 0 or units.max() > 65535:
        raise ValueError(f"depths up to {np.nanmax(depth_mm)} mm do not fit 16 bits of {scale_mm} mm")
    write_picture(path, units.astype(np.uint16))
