"""NeRF image sets: ``transforms.json`` (or transforms_train.json) of NeRF, instant-ngp and nerfstudio.

transform_matrix is camera-to-world with OpenGL axes. Pixel centres lie at 0.5 there, at 0 here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.io.frames import PICTURE_SUFFIXES
from splatomy.io.geometry_files import number, read_json
from splatomy.io.image_sets.source import ImageSetSource, LensKind, View
from splatomy.io.listed import listed_file
from splatomy.io.options import InputOptions
from splatomy.io.poses import poses_from_world_from_camera

_NAMES = ("transforms.json", "transforms_train.json")
_DISTORTION = ("k1", "k2", "p1", "p2", "k3")
_FISHEYE = ("k1", "k2", "k3", "k4")
_FLAT_LENSES = (
    "PERSPECTIVE",
    "SIMPLE_PINHOLE",
    "PINHOLE",
    "SIMPLE_RADIAL",
    "RADIAL",
    "OPENCV",
    "FULL_OPENCV",
)
_MOST_FRAMES = 100_000


def nerf_file(path: Path) -> Path | None:
    """The NeRF transforms file of a folder (or the file itself), or None; those of 4DRGS have no matrices."""
    candidates = [path] if path.is_file() and path.name in _NAMES else [path / name for name in _NAMES]
    for file in candidates:
        if not file.is_file():
            continue
        try:
            value = read_json(file)
        except InputError:
            continue
        frames = value.get("frames") if isinstance(value, dict) else None
        first = frames[0] if isinstance(frames, list) and frames else None
        if isinstance(first, dict) and "transform_matrix" in first:
            return file
    return None


def is_nerf(path: Path) -> bool:
    """True if a path is a NeRF image set."""
    return nerf_file(path) is not None


def nerf_source(path: Path, options: InputOptions) -> ImageSetSource:
    """The views of a NeRF set; listed pictures that are not there are left out and counted.

    Raises:
        InputError: no lens, no rigid poses, or no pictures.
    """
    file = nerf_file(path)
    if file is None:
        raise InputError(
            f"{path.name} holds no transforms.json with transform_matrix; choose another folder."
        )
    value = read_json(file)
    frames = value["frames"]
    if len(frames) > _MOST_FRAMES or not all(isinstance(f, dict) for f in frames):
        raise InputError(f"{file.name}: frames must be a list of at most {_MOST_FRAMES} objects: correct it.")
    convention = options.poses_convention or "opengl"
    matrices = poses_from_world_from_camera(_matrices(frames, file), convention, file)
    views, missing = [], []
    for frame, pose in zip(frames, matrices, strict=True):
        picture = _beside(file, frame.get("file_path"), with_suffix=True)
        if picture is None:
            missing.append(str(frame.get("file_path")))
            continue
        views.append(_view(frame, value, pose, picture, file))
    if not views:
        raise InputError(
            f"None of the {len(frames)} pictures that {file.name} lists is there (first: {missing[0]}); "
            "expected them beside it: copy the set again."
        )
    problems = ["The unit of the poses is not known, so nothing is measured in mm by them."]
    if missing:
        problems.append(f"{len(missing)} of {len(frames)} listed pictures are missing and left out.")
    return ImageSetSource(
        layout="NeRF transforms",
        views=tuple(views),
        axes=f"{file.name}, camera-to-world, {convention} axes",
        axes_sure=False,
        depth_unit=number(value.get("depth_unit_scale_factor", 0.001), "depth_unit_scale_factor", file),
        found=(f"{len(views)} pictures",),
        assumed=() if options.poses_convention else ("the poses have opengl axes (--poses-convention)",),
        problems=tuple(problems),
        input_files=(file,),
    )


def _matrices(frames: list[dict[str, Any]], file: Path) -> NDArray[np.float64]:
    try:
        array = np.array([f["transform_matrix"] for f in frames], dtype=np.float64)
    except (KeyError, TypeError, ValueError, OverflowError):
        array = np.zeros(0)
    if array.ndim != 3 or array.shape[1:] not in ((3, 4), (4, 4)):
        raise InputError(
            f"{file.name}: every frame needs a 4x4 transform_matrix of numbers: export it again."
        )
    # Some exporters leave a common scale in the rotation.
    scale = np.cbrt(np.abs(np.linalg.det(array[:, :3, :3])))
    if np.isfinite(scale).all() and (scale > 1e-9).all() and np.ptp(scale) < 1e-3 * scale.mean():
        array[:, :3, :3] /= scale[:, None, None]
    return array


def _beside(file: Path, name: object, with_suffix: bool = False) -> Path | None:
    """A listed file, seen from the folder of the list; never outside of it."""
    if not isinstance(name, str) or not name:
        return None
    if "\\" in name:
        # Exporters on Windows write their own separators.
        name = name.replace("\\", "/")
    names = (name, *(name + s for s in PICTURE_SUFFIXES)) if with_suffix else (name,)
    return next((p for n in names if (p := listed_file(file.parent, n)) is not None), None)


def _view(
    frame: Mapping[str, Any], common: Mapping[str, Any], pose: NDArray[np.float64], picture: Path, file: Path
) -> View:
    both = {**common, **frame}
    width, height = (round(number(both[k], k, file)) if k in both else None for k in ("w", "h"))
    fisheye = _is_fisheye(both, file)
    names = _FISHEYE if fisheye else _DISTORTION
    distortion = np.array([number(both.get(k, 0.0), k, file) for k in names])
    lens: LensKind = "fisheye" if fisheye else "polynomial"
    return View(
        picture=picture,
        intrinsics=_intrinsics(both, width, height, picture, file),
        camera_from_world=pose,
        width_px=width,
        height_px=height,
        distortion=distortion if distortion.any() else None,
        lens=lens,
        occluder=_beside(file, both.get("mask_path")),
        depth=_beside(file, both.get("depth_file_path")),
        mask_from_alpha=picture.suffix.lower() in (".png", ".webp", ".tif", ".tiff"),
    )


def _is_fisheye(both: Mapping[str, Any], file: Path) -> bool:
    """True for a fisheye lens, as nerfstudio and instant-ngp say it."""
    model = str(both.get("camera_model", "OPENCV")).upper()
    if both.get("is_fisheye") is True or "FISHEYE" in model:
        return True
    if model not in _FLAT_LENSES:
        raise InputError(
            f"{file.name}: the camera model {model[:40]} is not supported; expected a flat picture (PINHOLE, "
            "OPENCV) or a fisheye lens (OPENCV_FISHEYE): export the set as one of them."
        )
    return False


def _intrinsics(
    both: Mapping[str, Any], width: int | None, height: int | None, picture: Path, file: Path
) -> NDArray[np.float64]:
    if width is None or height is None:
        from splatomy.io.frames import read_picture

        height, width = read_picture(picture).shape[:2]
    if "fl_x" in both:
        fx = number(both["fl_x"], "fl_x", file)
        fy = number(both.get("fl_y", fx), "fl_y", file)
    elif "camera_angle_x" in both:
        fx = width / (2 * math.tan(_angle(both["camera_angle_x"], "camera_angle_x", file) / 2))
        fy = fx
        if "camera_angle_y" in both:
            fy = height / (2 * math.tan(_angle(both["camera_angle_y"], "camera_angle_y", file) / 2))
    else:
        raise InputError(f"{file.name} names no lens: expected fl_x (px) or camera_angle_x (rad): add it.")
    if min(fx, fy) <= 0:
        raise InputError(
            f"{file.name}: the focal length must be positive px, got {min(fx, fy):g}: correct it."
        )
    cx = number(both.get("cx", width / 2), "cx", file) - 0.5
    cy = number(both.get("cy", height / 2), "cy", file) - 0.5
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def _angle(value: Any, name: str, file: Path) -> float:
    angle = number(value, name, file)
    if not 0 < angle < math.pi:
        raise InputError(f"{file.name}: {name} must be radians between 0 and pi, got {angle:g}: correct it.")
    return angle
