"""Camera poses of a clip: EndoNeRF and LLFF bounds, NeRF JSON, matrices, and rows of a quaternion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.geometry.frames import opencv_from_opengl
from splatomy.geometry.rigid import inverse, rigid, rotation_from_quat
from splatomy.io.arrays import read_npy
from splatomy.io.geometry_files import read_json
from splatomy.io.options import PoseConvention

_SIZE_TOLERANCE = 0.02
_BREAK_MM, _BREAK_DEG = 5.0, 5.0


@dataclass(frozen=True)
class Poses:
    """Poses of all frames of a clip.

    camera_from_world: (T, 4, 4), OpenCV axes, translations in mm (or scene units, not ``metric``).
    intrinsics: (T, 3, 3) px when the file holds them. source: file and axes, for the user.
    """

    camera_from_world: NDArray[np.float64]
    metric: bool
    source: str
    intrinsics: NDArray[np.float64] | None = None
    problems: tuple[str, ...] = ()

    @property
    def moving(self) -> bool:
        """True if the camera moves at all."""
        return bool(np.abs(self.camera_from_world - self.camera_from_world[0]).max() > 1e-9)


def from_first_camera(camera_from_world: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same poses (T, 4, 4) in the world of the first camera."""
    based = camera_from_world @ inverse(camera_from_world[0])
    based[0] = np.eye(4)
    return np.asarray(based)


def poses_from_world_from_camera(
    matrices: NDArray[np.floating], convention: PoseConvention, path: Path
) -> NDArray[np.float64]:
    """camera_from_world (T, 4, 4) with OpenCV axes of camera-to-world matrices (T, 3 or 4, 4).

    Raises:
        InputError: a matrix is not rigid.
    """
    m = np.asarray(matrices, dtype=np.float64)
    rotation = m[:, :3, :3]
    bad = ~np.isfinite(m[:, :3]).all((1, 2))
    with np.errstate(invalid="ignore"):
        product = rotation @ np.swapaxes(rotation, 1, 2)
        bad |= ~(np.abs(product - np.eye(3)).max((1, 2)) < 0.02) | ~(
            np.linalg.det(np.nan_to_num(rotation)) > 0
        )
    if bad.any():
        raise InputError(
            f"{path.name}: pose {int(bad.argmax())} is no rotation with a translation; expected "
            "camera-to-world "
            "matrices: export the poses again."
        )
    camera = inverse(rigid(rotation, m[:, :3, 3]))
    return opencv_from_opengl(camera) if convention == "opengl" else camera


def read_poses(
    path: Path, count: int, width_px: int, height_px: int, convention: PoseConvention | None
) -> Poses:
    """The poses in a file, taken as camera-to-world, one per frame.

    convention: axes of the cameras in the file; None = opengl for poses_bounds.npy and NeRF JSON, opencv
        for everything else.

    Raises:
        InputError: unreadable, or not one pose per frame.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; expected a file of camera poses: check the path.")
    suffix = path.suffix.lower()
    if suffix == ".npy":
        array = load_numbers(path)
        if array.ndim == 2 and array.shape[1] == 17:
            return poses_from_bounds(array, path, count, width_px, height_px, convention)
        default: PoseConvention = "opencv"
    elif suffix == ".json":
        array, default = _json_matrices(path)
    else:
        array, default = _text_matrices(path), "opencv"
    if array.ndim != 3 or array.shape[1:] not in ((3, 4), (4, 4)):
        raise InputError(
            f"{path.name} has the shape {array.shape}; expected one 3x4 or 4x4 matrix per frame: export "
            "again."
        )
    if len(array) != count:
        raise other_count(path, len(array), count)
    axes = convention or default
    source = f"{path.name} (camera-to-world, {axes} axes)"
    problem = "The unit of the poses is not known, so nothing is measured in mm by them."
    return Poses(poses_from_world_from_camera(array, axes, path), False, source, None, (problem,))


def other_count(path: Path, got: int, count: int) -> InputError:
    """The error about poses that are not one per frame."""
    return InputError(
        f"{path.name} holds {got} poses for {count} frames; expected one per frame: use the poses of this "
        "clip."
    )


def load_numbers(path: Path) -> NDArray[np.float64]:
    """The array of a .npy file as float64.

    Raises:
        InputError: unreadable or no numbers.
    """
    try:
        return np.asarray(read_npy(path), dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        raise InputError(
            f"{path.name} is no readable array of numbers; expected one saved by numpy: export it again."
        ) from None


def poses_from_bounds(
    array: NDArray[np.float64],
    path: Path,
    count: int,
    width_px: int,
    height_px: int,
    convention: PoseConvention | None,
) -> Poses:
    """The poses and intrinsics of poses_bounds.npy, (T, 17): a 3x5 matrix, near and far per frame.

    Column 4 is (H, W, focal); files converted from StereoMIS hold (cy, cx, focal) and use OpenCV axes.
    The usual LLFF exchange of axes is not applied, as in EndoNeRF's own loader.

    Raises:
        InputError: not one row per frame, or for pictures of another size.
    """
    if array.ndim != 2 or array.shape[1] != 17 or not np.isfinite(array).all():
        raise InputError(
            f"{path.name} has the shape {array.shape}; expected finite numbers (frames, 17): export it again."
        )
    if len(array) != count:
        raise other_count(path, len(array), count)
    matrices = array[:, :15].reshape(-1, 3, 5)
    first, second, focal = np.moveaxis(matrices[:, :, 4], 1, 0)
    intrinsics = np.tile(np.eye(3), (count, 1, 1))
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal
    problems = []
    centred = np.abs(2 * first / height_px - 1).max() < _SIZE_TOLERANCE
    if centred and not np.allclose(first, height_px):
        intrinsics[:, 0, 2], intrinsics[:, 1, 2] = second, first
        default: PoseConvention = "opencv"
        problems.append(
            f"{path.name} holds the principal point in place of the size, as StereoMIS converters do."
        )
    else:
        default = "opengl"
        scale = width_px / second
        if np.abs(scale - 1).max() > 1e-6:
            if np.abs(height_px / first / scale - 1).max() > _SIZE_TOLERANCE:
                raise InputError(
                    f"{path.name} is for pictures of {second[0]:g}x{first[0]:g} but the frames are "
                    f"{width_px}x{height_px}; expected poses of these frames: export them again."
                )
            problems.append(
                f"{path.name} is for pictures of {second[0]:g} px width; the focal length was scaled."
            )
        intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal * scale
        intrinsics[:, 0, 2], intrinsics[:, 1, 2] = (width_px - 1) / 2, (height_px - 1) / 2
    if not (focal > 0).all():
        raise InputError(
            f"{path.name}: the focal length must be positive px, got {focal.min():g}: correct it."
        )
    axes = convention or default
    source = f"{path.name} (camera-to-world, {axes} axes)"
    camera = poses_from_world_from_camera(matrices[:, :, :4], axes, path)
    return Poses(camera, False, source, intrinsics, tuple(problems))


def _json_matrices(path: Path) -> tuple[NDArray[np.float64], PoseConvention]:
    """Camera-to-world matrices of a NeRF transforms file, or of a plain list of matrices."""
    value = read_json(path)
    convention: PoseConvention = "opencv"
    if isinstance(value, dict) and isinstance(value.get("frames"), list):
        convention = "opengl"
        value = [f.get("transform_matrix") if isinstance(f, dict) else None for f in value["frames"]]
    elif isinstance(value, dict):
        value = value.get("poses", value.get("world_from_camera"))
    return _matrices(value, path), convention


def _matrices(value: Any, path: Path) -> NDArray[np.float64]:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            f"{path.name} holds no list of camera matrices; expected 4x4 matrices under frames or poses: "
            "export "
            "again."
        ) from None


def _text_matrices(path: Path) -> NDArray[np.float64]:
    """Matrices of rows with 12 or 16 numbers, or with 8: stamp tx ty tz qx qy qz qw."""
    rows = read_rows(path)
    if rows.shape[1] in (12, 16):
        return rows.reshape(len(rows), -1, 4)
    if rows.shape[1] == 8:
        return quaternion_matrices(rows[:, 1:4], rows[:, 4:8], path)
    raise InputError(
        f"{path.name} has {rows.shape[1]} numbers a row; expected 8 (frame, translation, quaternion), 12 or "
        "16 "
        "(a matrix): export it again."
    )


def read_rows(path: Path) -> NDArray[np.float64]:
    """The table of numbers in a text file, (rows, columns); lines that start with # are left out.

    Raises:
        InputError: no numbers, or rows of different length.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").replace(",", " ").splitlines()
        rows = [[float(t) for t in line.split()] for line in lines if line.split() and line.strip()[0] != "#"]
        table = np.array(rows, dtype=np.float64)
    except (UnicodeDecodeError, ValueError):
        table = np.zeros(0)
    if table.ndim != 2:
        raise InputError(
            f"{path.name} is no table of numbers; expected one row of equal length per frame: export it "
            "again."
        )
    return table


def quaternion_matrices(
    translation: NDArray[np.float64], quats_xyzw: NDArray[np.float64], path: Path
) -> NDArray[np.float64]:
    """Rigid matrices (N, 4, 4) of translations (N, 3) and quaternions (N, 4) in the order x, y, z, w.

    Raises:
        InputError: a quaternion is zero.
    """
    try:
        rotation = rotation_from_quat(quats_xyzw[:, [3, 0, 1, 2]])
    except ValueError:
        raise InputError(
            f"{path.name} holds a quaternion of zeros; expected rotations: correct it."
        ) from None
    return rigid(rotation, translation)


def breaks(camera_from_world: NDArray[np.float64]) -> NDArray[np.int64]:
    """Frames whose camera lies over 5 mm or 5 degrees from the one before: the track broke there."""
    step = camera_from_world[1:] @ inverse(camera_from_world[:-1])
    cosine = (np.trace(step[:, :3, :3], axis1=1, axis2=2) - 1) / 2
    centres = inverse(camera_from_world)[:, :3, 3]
    far = np.linalg.norm(np.diff(centres, axis=0), axis=1) > _BREAK_MM
    return np.flatnonzero(far | (cosine < np.cos(np.radians(_BREAK_DEG)))) + 1
