"""Views on disk: the cameras and times of a run, and any others that pictures are wanted from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.capture import Grid
from splatomy.errors import InputError
from splatomy.geometry.cameras import Cameras
from splatomy.io.atomic import write_json
from splatomy.io.geometry_files import read_geometry, read_json

_LARGEST_SIDE_PX = 1 << 16


@dataclass(frozen=True)
class Views:
    """Where and when pictures were, or shall be, taken.

    times_s: (N,) seconds, one per camera, or None when the file gives none.
    grid: where a volume of the same scene is wanted, or None.
    positioner_angles: angles of this geometry are counted as DICOM's positioner angles.
    """

    cameras: Cameras
    times_s: NDArray[np.float64] | None = None
    grid: Grid | None = None
    positioner_angles: bool = False


def write_views(path: Path | str, views: Views, **extra: Any) -> None:
    """Writes views as JSON, atomically; ``extra`` holds further JSON values of the same file."""
    cameras = views.cameras
    value: dict[str, Any] = {
        "contract": 1,
        "width_px": cameras.width_px,
        "height_px": cameras.height_px,
        "angles": "positioner" if views.positioner_angles else "gantry",
        "intrinsics": cameras.intrinsics.tolist(),
        "camera_from_world": cameras.camera_from_world.tolist(),
    }
    if views.times_s is not None:
        value["times_s"] = views.times_s.tolist()
    if views.grid is not None:
        value["grid"] = {"shape": list(views.grid.shape), "affine_mm": views.grid.affine_mm.tolist()}
    write_json(path, {**value, **extra})


def read_views(path: Path, width_px: int, height_px: int) -> Views:
    """The views of a file: our own JSON, or any geometry file (matrices, angles, transforms).

    width_px, height_px: image size for files that do not say it.

    Raises:
        InputError: missing, unreadable or impossible.
    """
    if path.suffix.lower() == ".json":
        value = read_json(path)
        if isinstance(value, dict) and "camera_from_world" in value:
            return _own_views(value, path)
    geometry = read_geometry(path, None, width_px, height_px)
    return Views(geometry.cameras, geometry.times_s, geometry.grid)


def _own_views(value: Mapping[str, Any], path: Path) -> Views:
    try:
        poses = np.asarray(value["camera_from_world"], dtype=np.float64)
        intrinsics = np.asarray(value["intrinsics"], dtype=np.float64)
        cameras = Cameras(intrinsics, poses, int(value["width_px"]), int(value["height_px"]))
        times = None if value.get("times_s") is None else np.asarray(value["times_s"], dtype=np.float64)
        grid = None
        if value.get("grid") is not None:
            i, j, k = (int(n) for n in value["grid"]["shape"])
            grid = Grid((i, j, k), np.asarray(value["grid"]["affine_mm"], dtype=np.float64).reshape(4, 4))
    except (KeyError, TypeError, ValueError, OverflowError):
        raise InputError(
            f"{path.name} is no complete list of views: expected intrinsics (N 3x3), camera_from_world "
            "(N 4x4), width_px and height_px. Write it again."
        ) from None
    if not (np.isfinite(poses).all() and np.isfinite(intrinsics).all() and len(cameras)):
        raise InputError(f"{path.name} holds no camera, or NaN in one: expected finite numbers. Correct it.")
    sides = (cameras.width_px, cameras.height_px)
    fits = times is None or times.shape == (len(cameras),)
    if not (fits and 1 <= min(sides) <= max(sides) <= _LARGEST_SIDE_PX):
        raise InputError(
            f"{path.name}: expected an image size of 1 to {_LARGEST_SIDE_PX} px, and one time for each of "
            f"the {len(cameras)} cameras. Correct it."
        )
    return Views(cameras, times, grid, value.get("angles") == "positioner")
