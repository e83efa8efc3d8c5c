"""A plain folder of photographs: no poses, or those of --poses with the lens of --calibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from splatomy.errors import InputError
from splatomy.io.calibration import read_calibration
from splatomy.io.frames import picture_files, read_picture
from splatomy.io.image_sets.source import ImageSetSource, View
from splatomy.io.options import InputOptions
from splatomy.io.poses import read_poses

_PICTURES = ("images", "image", "rgb", "")


def photo_files(folder: Path) -> list[Path]:
    """The photographs of a folder, or of its folder of pictures."""
    for name in _PICTURES:
        where = folder / name if name else folder
        if where.is_dir() and (files := picture_files(where)):
            return files
    return []


def is_photos(folder: Path) -> bool:
    """True if a folder holds at least two pictures."""
    return len(photo_files(folder)) > 1


def photo_source(folder: Path, options: InputOptions) -> ImageSetSource:
    """The photographs of a folder.

    Raises:
        InputError: fewer than two, or options that do not fit them.
    """
    files = photo_files(folder)
    if len(files) < 2:
        raise InputError(f"{folder.name} holds {len(files)} pictures; expected at least two of one scene.")
    height, width = read_picture(files[0]).shape[:2]
    intrinsics = distortion = None
    if options.calibration is not None:
        calibration, _ = read_calibration(options.calibration).fitted(width, height)
        intrinsics, distortion = calibration.left.intrinsics, calibration.left.distortion
    poses = None
    if options.poses is not None:
        poses = read_poses(options.poses, len(files), width, height, options.poses_convention)
        if intrinsics is None and poses.intrinsics is None:
            raise InputError(
                "The poses come without a lens: give the pictures' calibration with --calibration, or leave "
                "--poses out."
            )
    views = []
    for i, file in enumerate(files):
        own = poses.intrinsics[i] if poses is not None and poses.intrinsics is not None else None
        lens = intrinsics if intrinsics is not None else own
        pose = None if poses is None else poses.camera_from_world[i]
        bent = distortion if distortion is not None and np.any(distortion) else None
        views.append(View(file, lens, pose, width, height, distortion=bent, mask_from_alpha=True))
    return ImageSetSource(
        layout="photo folder",
        views=tuple(views),
        axes="" if poses is None else poses.source,
        axes_sure=False,
        found=(f"{len(files)} pictures",),
        problems=() if poses is None else poses.problems,
        input_files=(),
    )
