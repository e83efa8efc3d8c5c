"""SCARED keyframe folders: after the challenge's preprocessing, or raw with the stacked video."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.io.calibration import Calibration, Lens, read_calibration
from splatomy.io.depth_folder import DepthFolder, read_depth
from splatomy.io.endoscopy import EndoscopySource, whole_box
from splatomy.io.frames import frame_folder_source, name_numbers, natural_key, picture_files
from splatomy.io.geometry_files import read_json
from splatomy.io.options import InputOptions
from splatomy.io.picture_analysis import eye_boxes
from splatomy.io.poses import Poses
from splatomy.io.video import video_source

CALIBRATIONS = ("endoscope_calibration.yaml", "endoscope_calibration.yml")
_FARTHEST_MM = 300.0
_LARGEST_MEMBER = 2**20
_POINTS = "scene_points"


def _data_folder(folder: Path) -> Path:
    return folder / "data" if (folder / "data").is_dir() else folder


def _is_prepared(data: Path) -> bool:
    return (data / "left_finalpass").is_dir() and (data / "frame_data").is_dir()


def is_scared(folder: Path) -> bool:
    """True if a folder is a SCARED keyframe (or its data folder)."""
    data = _data_folder(folder)
    raw = any((folder / name).is_file() for name in CALIBRATIONS) and (data / "rgb.mp4").is_file()
    return _is_prepared(data) or raw


def scared_source(folder: Path, options: InputOptions) -> EndoscopySource:
    """The clip of a SCARED keyframe. There are no instruments in it, so nothing is masked.

    Stored camera poses are world-to-camera in mm; a depth is focal length times baseline over disparity.

    Raises:
        InputError: files are missing, unreadable or do not fit each other.
    """
    data = _data_folder(folder)
    return _prepared(data, options) if _is_prepared(data) else _raw(folder, data, options)


def _prepared(data: Path, options: InputOptions) -> EndoscopySource:
    files = picture_files(data / "left_finalpass")
    frames = frame_folder_source(data / "left_finalpass", files, options.frame_time_s)
    names = tuple(f.stem for f in files)
    tables = [read_json(data / "frame_data" / f"{name}.json") for name in names]
    camera, intrinsics = _frame_data(tables, [f"{name}.json" for name in names])
    k = intrinsics[0]
    return EndoscopySource(
        layout="SCARED folder",
        left=frames,
        left_box=whole_box(frames),
        depth=_disparity(data, names) if options.depth is None else None,
        poses=Poses(camera, True, "frame_data (world-to-camera in mm)", intrinsics)
        if options.poses is None
        else None,
        calibration=Calibration(
            Lens(k, np.zeros(5)), None, None, (frames.width_px, frames.height_px), "frame_data"
        )
        if options.calibration is None
        else None,
        frame_names=names,
        found=frames.found,
        assumed=frames.assumed,
    )


def _frame_data(tables: list[Any], names: list[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """camera_from_world (T, 4, 4) and intrinsics (T, 3, 3) of the frames' JSON objects."""
    cameras, intrinsics = [], []
    for table, name in zip(tables, names, strict=True):
        try:
            cameras.append(np.array(table["camera-pose"], dtype=np.float64).reshape(4, 4))
            intrinsics.append(np.array(table["camera-calibration"]["KL"], dtype=np.float64).reshape(3, 3))
        except (KeyError, TypeError, ValueError, OverflowError):
            raise InputError(
                f"{name} lacks camera-pose (4x4) or camera-calibration KL (3x3); expected SCARED's frame "
                "data: "
                "prepare the data set again."
            ) from None
    poses = np.stack(cameras)
    rotation = poses[:, :3, :3]
    error = np.abs(rotation @ np.swapaxes(rotation, 1, 2) - np.eye(3)).max((1, 2))
    if not (error < 0.02).all():
        raise InputError(
            f"{names[int(error.argmax())]}: camera-pose is no rigid motion: prepare the data again."
        )
    return poses, np.stack(intrinsics)


def _disparity(data: Path, names: tuple[str, ...]) -> DepthFolder | None:
    """The disparity maps as depth in mm: Q[2,3] / Q[3,2] over the disparity."""
    files: dict[int, Path] = {}
    focal_baseline: dict[int, float] = {}
    for i, name in enumerate(names):
        disparity, table = data / "disparity" / f"{name}.tiff", data / "reprojection_data" / f"{name}.json"
        if not (disparity.is_file() and table.is_file()):
            continue
        try:
            q = np.array(read_json(table)["reprojection-matrix"], dtype=np.float64).reshape(4, 4)
        except (KeyError, TypeError, ValueError, OverflowError):
            raise InputError(
                f"{table.name} lacks the 4x4 reprojection-matrix; expected SCARED's reprojection data: "
                "prepare "
                "the data set again."
            ) from None
        if q[3, 2] == 0:
            raise InputError(
                f"{table.name}: the reprojection matrix has no baseline: prepare the data set again."
            )
        files[i], focal_baseline[i] = disparity, abs(float(q[2, 3] / q[3, 2]))
    if not files:
        return None
    first = read_depth(next(iter(files.values())))
    problems = ("Depth of this data set is incomplete, and poor in data sets 4 and 5.",)
    return DepthFolder(
        files=files,
        scale=1.0,
        metric=True,
        name="disparity",
        kind="disparity tiff",
        height_px=first.shape[0],
        width_px=first.shape[1],
        focal_baseline=focal_baseline,
        farthest=_FARTHEST_MM,
        problems=problems,
    )


def _raw(folder: Path, data: Path, options: InputOptions) -> EndoscopySource:
    video = video_source(data / "rgb.mp4", options.frame_time_s)
    left_box, right_box = eye_boxes("tb", video.width_px, video.height_px)
    path = next(folder / name for name in CALIBRATIONS if (folder / name).is_file())
    calibration, scaled = read_calibration(path).fitted(left_box[2], left_box[3])
    problems = [] if scaled is None else [scaled]
    tables = _frame_tables(data)
    poses = None
    if tables and options.poses is None:
        names = sorted(tables, key=natural_key)
        if len(names) < video.count:
            problems.append(f"There are poses for {len(names)} of {video.count} frames, so none is used.")
        else:
            camera, _ = _frame_data([tables[n] for n in names[: video.count]], names[: video.count])
            poses = Poses(camera, True, "frame_data (world-to-camera in mm)")
    depth, notes = _points(folder, data, video.count, options, (left_box[3], left_box[2]))
    return EndoscopySource(
        layout="SCARED folder, raw",
        left=video,
        left_box=left_box,
        right=video,
        right_box=right_box,
        stereo="tb",
        calibration=calibration if options.calibration is None else None,
        depth=depth,
        poses=poses,
        found=video.found,
        assumed=video.assumed,
        problems=(*video.problems, *problems, *notes),
    )


def _points(
    folder: Path, data: Path, count: int, options: InputOptions, size: tuple[int, int]
) -> tuple[DepthFolder | None, list[str]]:
    """Depth in mm by structured light where it is used, and what to say of it.

    size: rows and columns of an eye. scene_points holds one map of points per frame, left_depth_map.tiff
    that of the first frame, which one frame of depth would not make better than two eyes.
    """
    if options.depth is not None:
        return None, []
    files: dict[int, Path] = {}
    if (data / _POINTS).is_dir():
        maps = picture_files(data / _POINTS, (".tif", ".tiff"))
        numbers = name_numbers(maps)
        if numbers is not None:
            files = {n: p for n, p in zip(numbers.tolist(), maps, strict=True) if n < count}
    first, notes = folder / "left_depth_map.tiff", []
    if first.is_file() and (files or options.depth_source == "given"):
        files.setdefault(0, first)
    elif first.is_file():
        notes.append(
            "left_depth_map.tiff is of the first frame alone: depth comes from the two eyes "
            "(--depth-source given uses it all the same)."
        )
    if (data / f"{_POINTS}.tar.gz").is_file() and not (data / _POINTS).is_dir():
        notes.append(f"{_POINTS}.tar.gz holds depth of every frame: unpack it to {_POINTS} to use it.")
    if not files:
        return None, notes
    if len(files) < count:
        notes.append(f"There is depth for {len(files)} of {count} frames; in the others it is unknown.")
    points = DepthFolder(
        files=files,
        scale=1.0,
        metric=True,
        name=_POINTS if len(files) > 1 else first.name,
        kind="points tiff",
        height_px=size[0],
        width_px=size[1],
        farthest=_FARTHEST_MM,
        points=True,
    )
    return points, [*notes, "Depth of this data set is incomplete, and poor in data sets 4 and 5."]


def _frame_tables(data: Path) -> Mapping[str, Any]:
    """The frames' JSON objects by name, from the folder or the archive; nothing is unpacked."""
    if (data / "frame_data").is_dir():
        return {p.name: read_json(p) for p in (data / "frame_data").glob("*.json")}
    archive = data / "frame_data.tar.gz"
    if not archive.is_file():
        return {}
    tables: dict[str, Any] = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isfile() and member.size < _LARGEST_MEMBER else None
                if file is not None and member.name.endswith(".json"):
                    tables[Path(member.name).name] = json.loads(file.read())
    except (tarfile.TarError, OSError, EOFError, ValueError):
        raise InputError(f"{archive.name} is no readable archive of JSON files: copy it again.") from None
    return tables
