"""The ``transforms.json`` of a 4DRGS or VPAL case folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.capture import Grid
from splatomy.errors import InputError
from splatomy.geometry.cameras import Cameras
from splatomy.geometry.conebeam import cone_beam
from splatomy.io.geometry_files import Geometry, check_distances, check_radians, number

# 800 cubed: beyond it the volumes of a run need more memory than a workstation has.
_MAX_VOXELS = 5.12e8


def geometry_of_transforms(value: Mapping[str, Any], path: Path, width_px: int, height_px: int) -> Geometry:
    """Geometry, times and grid of a transforms.json for images of the given size.

    The secondary angle enters with the sign of the acquisition formula (positive = source towards
    +z); the loader released with 4DRGS drops it. Per-frame ``extrinsics`` (4x4, world to camera) and
    ``intrinsics`` (3x3), when every frame has them, replace the angles.

    Raises:
        InputError: a field is missing, impossible or does not fit the images.
    """
    where = path.name
    frames = value.get("frames")
    if not isinstance(frames, list) or not frames or not all(isinstance(f, dict) for f in frames):
        raise InputError(f"{where}: frames must be a list with one object per image, got none: add it.")
    count = value.get("N_views")
    if isinstance(count, int) and count != len(frames):
        raise InputError(
            f"{where}: N_views says {count} but frames lists {len(frames)}; expected the same number: "
            "correct it."
        )
    _check_size(value, width_px, height_px, where)
    pixel_mm = _pixel_mm(value, width_px, height_px, path)
    sad, sid = number(value.get("sad"), "sad", path), number(value.get("sid"), "sid", path)
    check_distances(sad, sid, pixel_mm, where)
    source = f"angles in {where}"
    if all("extrinsics" in f for f in frames):
        cameras = _matrix_cameras(frames, sid, pixel_mm, width_px, height_px, path)
        source = f"per-frame matrices in {where}"
    else:
        primary = np.array([number(f.get("PrimaryAngle"), "PrimaryAngle", path) for f in frames])
        secondary = np.array([number(f.get("SecondaryAngle", 0.0), "SecondaryAngle", path) for f in frames])
        check_radians(primary, secondary, where)
        cameras = cone_beam(primary, secondary, sad, sid, width_px, height_px, pixel_mm)
    return Geometry(
        cameras,
        source,
        times_s=_times_s(value, frames, path),
        grid=_grid(value, path),
        sid_mm=sid,
        pixel_mm=pixel_mm,
    )


def _check_size(value: Mapping[str, Any], width_px: int, height_px: int, where: str) -> None:
    size = value.get("proj_resolution")
    if not isinstance(size, list) or len(size) != 2:
        return
    if size == [height_px, width_px] and width_px != height_px:
        raise InputError(
            f"{where}: proj_resolution {size} must be [width, height] but the images are {width_px} wide and "
            f"{height_px} high: rows and columns are swapped, correct the entry or transpose the images."
        )
    if size != [width_px, height_px]:
        raise InputError(
            f"{where}: proj_resolution {size} does not fit the images, which are {width_px} wide and "
            f"{height_px} high: use the transforms.json of this run."
        )


def _pixel_mm(value: Mapping[str, Any], width_px: int, height_px: int, path: Path) -> tuple[float, float]:
    """Detector pitch (x, y), from ``proj_spacing`` or ``proj_phy``."""
    for name, divide in (("proj_spacing", (1, 1)), ("proj_phy", (width_px, height_px))):
        pair = value.get(name)
        if isinstance(pair, list) and len(pair) == 2:
            return number(pair[0], name, path) / divide[0], number(pair[1], name, path) / divide[1]
    raise InputError(f"{path.name} lacks proj_spacing, the detector pixel size [x, y] in mm: add it.")


def _matrix_cameras(
    frames: list[dict[str, Any]],
    sid: float,
    pixel_mm: tuple[float, float],
    width_px: int,
    height_px: int,
    path: Path,
) -> Cameras:
    """Cameras of per-frame matrices; a missing ``intrinsics`` is the centred detector."""
    centred = [
        [sid / pixel_mm[0], 0, (width_px - 1) / 2],
        [0, sid / pixel_mm[1], (height_px - 1) / 2],
        [0, 0, 1],
    ]
    try:
        poses = np.array([f["extrinsics"] for f in frames], dtype=np.float64)
        intrinsics = np.array([f.get("intrinsics", centred) for f in frames], dtype=np.float64)
        fits = poses.shape[1:] == (4, 4) and intrinsics.shape[1:] == (3, 3)
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise InputError(f"{path.name}: extrinsics must be 4x4 and intrinsics 3x3 numbers: correct them.")
    rotation = poses[:, :3, :3]
    gram = rotation @ np.swapaxes(rotation, 1, 2)
    if (
        not np.isfinite(poses).all()
        or np.abs(gram - np.eye(3)).max() > 1e-3
        or np.linalg.det(rotation).min() < 0
    ):
        raise InputError(
            f"{path.name}: extrinsics must be rigid world-to-camera matrices with x right, y down, z "
            "forward: "
            "correct them."
        )
    if (poses[:, 2, 3] <= 0).any():
        raise InputError(
            f"{path.name}: extrinsics put the isocentre behind the source; expected world-to-camera "
            "matrices: "
            "invert them if they are camera-to-world."
        )
    return Cameras(intrinsics, poses, width_px, height_px)


def _times_s(
    value: Mapping[str, Any], frames: list[dict[str, Any]], path: Path
) -> NDArray[np.float64] | None:
    """Seconds per frame from ``times_s`` or each frame's ``time_s`` (our extension of the layout)."""
    times = value.get("times_s")
    if times is None and all("time_s" in f for f in frames):
        times = [f["time_s"] for f in frames]
    if times is None:
        return None
    if not isinstance(times, list) or len(times) != len(frames):
        raise InputError(f"{path.name}: times_s must list one time per frame ({len(frames)}): correct it.")
    return np.array([number(t, "times_s", path) for t in times])


def _grid(value: Mapping[str, Any], path: Path) -> Grid | None:
    """The wanted volume, centred on the isocentre, from its resolution and spacing or size."""
    shape = value.get("volume_resolution")
    if not isinstance(shape, list) or len(shape) != 3:
        return None
    sizes = [round(number(n, "volume_resolution", path)) for n in shape]
    spacing = value.get("volume_spacing")
    if not isinstance(spacing, list) or len(spacing) != 3:
        extent = value.get("volume_phy")
        if not isinstance(extent, list) or len(extent) != 3:
            return None
        spacing = [number(e, "volume_phy", path) / max(n, 1) for e, n in zip(extent, sizes, strict=True)]
    steps = [number(s, "volume_spacing", path) for s in spacing]
    if min(sizes) < 1 or min(steps) <= 0:
        raise InputError(f"{path.name}: volume_resolution and volume_spacing must be positive: correct them.")
    if math.prod(sizes) > _MAX_VOXELS:
        raise InputError(
            f"{path.name}: volume_resolution {sizes} is too large; expected at most {_MAX_VOXELS:g} voxels: "
            "choose a coarser one."
        )
    affine = value.get("volume_affine")
    if affine is not None:
        # Our extension: places a volume that is not centred on the isocentre.
        try:
            matrix = np.asarray(affine, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            matrix = np.zeros((0, 0))
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
            raise InputError(f"{path.name}: volume_affine must be an invertible 4x4 matrix: correct it.")
        return Grid((sizes[0], sizes[1], sizes[2]), matrix)
    return Grid.centred((sizes[0], sizes[1], sizes[2]), (steps[0], steps[1], steps[2]))
