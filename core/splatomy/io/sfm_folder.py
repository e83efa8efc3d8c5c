"""Folders of a structure-from-motion run on an endoscopic clip: motion.yaml and its companions."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.checks import is_whole_number
from splatomy.errors import InputError
from splatomy.io.calibration import read_calibration
from splatomy.io.endoscopy import EndoscopySource, whole_box
from splatomy.io.frames import frame_folder_source, picture_files, read_picture
from splatomy.io.mask_folder import foreground
from splatomy.io.options import InputOptions
from splatomy.io.picture_analysis import ActivePicture
from splatomy.io.poses import Poses, other_count, poses_from_world_from_camera, quaternion_matrices

_FILES = ("camera_intrinsics_per_view", "motion.yaml", "visible_view_indexes")
_INSIDE = "undistorted_mask.bmp"
_NUMBER = r"([-+0-9.eE]+)"
_POSE = re.compile(
    r"position:\s*x:\s*N\s*y:\s*N\s*z:\s*N\s*orientation:\s*x:\s*N\s*y:\s*N\s*z:\s*N\s*w:\s*N".replace(
        "N", _NUMBER
    )
)


def is_sfm_folder(folder: Path) -> bool:
    """True if a folder holds the three files of such a run."""
    return all((folder / name).is_file() for name in _FILES)


def sfm_source(folder: Path, options: InputOptions) -> EndoscopySource:
    """The frames that the run placed, with its intrinsics and camera-to-world poses of arbitrary scale.

    Raises:
        InputError: files are missing, unreadable or do not fit each other.
    """
    try:
        numbers = [int(t) for t in (folder / "visible_view_indexes").read_text().split()]
    except ValueError:
        raise InputError(
            "visible_view_indexes holds no frame numbers; expected one a line: copy it again."
        ) from None
    by_number = {
        int(p.stem): p
        for p in picture_files(folder)
        if is_whole_number(p.stem) and p.suffix.lower() != ".bmp"
    }
    missing = [n for n in numbers if n not in by_number]
    if missing or not numbers:
        raise InputError(
            f"{folder.name} lacks the pictures of {len(missing)} of {len(numbers)} listed frames (first: "
            f"{missing[:1]}); expected all of them: copy the folder again."
        )
    files = [by_number[n] for n in numbers]
    frames = frame_folder_source(folder, files, options.frame_time_s)
    calibration, _ = read_calibration(folder / "camera_intrinsics_per_view").fitted(
        frames.width_px, frames.height_px
    )
    poses = None
    if options.poses is None:
        matrices = _motion(folder / "motion.yaml", len(files))
        camera = poses_from_world_from_camera(matrices, "opencv", folder / "motion.yaml")
        source = "motion.yaml (camera-to-world, opencv axes)"
        problem = "The poses come from structure from motion, so their scale is arbitrary."
        poses = Poses(camera, False, source, None, (problem,))
    active = None
    if (folder / _INSIDE).is_file():
        active = _active(folder / _INSIDE, frames.width_px, frames.height_px)
    return EndoscopySource(
        layout="structure-from-motion folder",
        left=frames,
        left_box=whole_box(frames),
        active=active,
        calibration=calibration if options.calibration is None else None,
        poses=poses,
        frame_names=tuple(f.stem for f in files),
        found=frames.found,
        assumed=frames.assumed,
    )


def _motion(path: Path, count: int) -> NDArray[np.float64]:
    """Camera-to-world matrices (T, 4, 4) of a list of positions and x, y, z, w quaternions."""
    words = _POSE.findall(path.read_text(encoding="utf-8", errors="replace"))
    if len(words) != count:
        raise other_count(path, len(words), count)
    try:
        found = np.array(words, dtype=np.float64)
    except ValueError:
        raise InputError(
            f"{path.name} holds a pose that is no number; expected positions and quaternions: copy it again."
        ) from None
    return quaternion_matrices(found[:, :3], found[:, 3:], path)


def _active(path: Path, width_px: int, height_px: int) -> ActivePicture | None:
    """The picture's circle as the folder gives it (white = inside)."""
    inside = foreground(read_picture(path, cv2.IMREAD_GRAYSCALE))
    if inside.shape != (height_px, width_px) or not inside.any():
        return None
    x, y, w, h = cv2.boundingRect(inside.astype(np.uint8))
    return ActivePicture((int(x), int(y), int(w), int(h)), ~inside, "circle")
