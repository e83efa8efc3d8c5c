"""Which pictures of a run are wanted: cameras and times from the words of the command line."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from splatomy.checks import is_whole_number
from splatomy.errors import InputError
from splatomy.geometry.cameras import Cameras
from splatomy.geometry.conebeam import cameras_at_angles
from splatomy.io.run import RunFolder
from splatomy.io.views import Views, read_views
from splatomy.scene import Scene

DEFAULT_SIZE_PX = 512
_MAX_SIZE_PX = 8192


@dataclass(frozen=True)
class Shot:
    """One picture: its name without extension, one camera (N = 1) and a time in seconds."""

    name: str
    camera: Cameras
    time_s: float


def run_views(folder: RunFolder) -> Views:
    """The views that the run was made from.

    Raises:
        InputError: the run does not hold them.
    """
    path = folder.path / "scene" / "cameras.json"
    if not path.exists():
        raise InputError(
            f"{folder.path.name} does not hold its input's cameras (scene/cameras.json): expected a run of "
            "this version. Reconstruct again, or give views with --cameras FILE."
        )
    return read_views(path, 1, 1)


def check_c_arm(folder: RunFolder, option: str) -> None:
    """Raises InputError for an option of angiography when the run is of an endoscopic clip."""
    if {"clip", "views"} & folder.record().keys():
        raise InputError(
            f"{option} turns a C-arm, but {folder.path.name} was made from pictures in colour: expected "
            "--cameras there. Choose input, fixed:K or a file."
        )


def parse_angles(text: str, positioner: bool) -> tuple[float, float]:
    """Primary and secondary gantry angle in radians of PRIMARY,SECONDARY in degrees.

    positioner: the degrees are DICOM's positioner angles (positive = LAO and cranial).

    Raises:
        InputError: not two finite numbers.
    """
    try:
        primary, secondary = (float(part) for part in text.split(","))
    except ValueError:
        primary = secondary = np.nan
    if not np.isfinite([primary, secondary]).all() or abs(secondary) >= 90:
        raise InputError(
            f"--angles expects PRIMARY,SECONDARY in degrees, the second within 90, got {text!r}. Use 30,10."
        )
    if positioner:
        primary, secondary = primary + 90, -secondary
    return float(np.radians(primary)), float(np.radians(secondary))


def parse_times(text: str, time_range_s: tuple[float, float]) -> NDArray[np.float64] | None:
    """Seconds of "T0,T1,...", or None for "all".

    Raises:
        InputError: not numbers, or outside the run.
    """
    if text == "all":
        return None
    try:
        times = np.array([float(part) for part in text.split(",")])
    except ValueError:
        raise InputError(f"--times expects all, or seconds with commas, got {text!r}. Use 0.5,1.2.") from None
    for time_s in times:
        check_time(float(time_s), time_range_s)
    return times


def time_range(folder: RunFolder, scene: Scene) -> tuple[float, float]:
    """First and last second of the run: of its scene and of its input, whose last frame may be held out."""
    start, end = scene.time_range_s
    if (folder.path / "scene" / "cameras.json").exists():
        own = run_views(folder).times_s
        if own is not None:
            return min(start, float(own.min())), max(end, float(own.max()))
    return start, end


def check_time(time_s: float, time_range_s: tuple[float, float]) -> None:
    """Raises InputError for a time at which the run knows nothing."""
    start, end = time_range_s
    if not start - 1e-6 <= time_s <= end + 1e-6:
        raise InputError(
            f"The time {time_s:g} s lies outside the run: expected {start:.3f} to {end:.3f} s. Change it."
        )


def check_size(size_px: int | None) -> None:
    """Raises InputError for a picture side that is no sensible number of pixels."""
    if size_px is not None and not 8 <= size_px <= _MAX_SIZE_PX:
        raise InputError(f"--size expects 8 to {_MAX_SIZE_PX} px, got {size_px}. Use {DEFAULT_SIZE_PX}.")


def scaled(cameras: Cameras, size_px: int | None) -> Cameras:
    """The cameras of the same pictures with ``size_px`` as longer side; None leaves them as they are."""
    if size_px is None:
        return cameras
    scale = size_px / max(cameras.width_px, cameras.height_px)
    k = cameras.intrinsics.copy()
    k[:, :2] *= scale
    # Pixel centres lie at integers, so the corner of the image is at -1/2.
    k[:, :2, 2] += (scale - 1) / 2
    width, height = (max(1, round(n * scale)) for n in (cameras.width_px, cameras.height_px))
    return Cameras(k, cameras.camera_from_world, width, height)


def fixed_camera(text: str, views: Views) -> Cameras:
    """The camera that "fixed:K" names.

    Raises:
        InputError: no such camera.
    """
    number = text.removeprefix("fixed:")
    if not is_whole_number(number) or int(number) >= len(views.cameras):
        raise InputError(
            f"--cameras {text}: expected fixed:K with K from 0 to {len(views.cameras) - 1}, the run's "
            "frames. Choose one of them."
        )
    return views.cameras[int(number)]


def chosen_views(folder: RunFolder, arguments: Namespace) -> Views:
    """The views of --angles or --cameras; times_s is None unless each camera has its own time.

    Raises:
        InputError: the words or the file name no camera.
    """
    check_size(arguments.size)
    words = arguments.cameras or "input"
    if arguments.angles is not None:
        check_c_arm(folder, "--angles")
        own = run_views(folder)
        angles = parse_angles(arguments.angles, own.positioner_angles)
        return Views(cameras_at_angles(own.cameras, *angles, arguments.size or DEFAULT_SIZE_PX))
    if words == "input":
        found = run_views(folder)
    elif words.startswith("fixed:"):
        found = Views(fixed_camera(words, run_views(folder)))
    else:
        found = _file_views(Path(words), folder)
    return replace(found, cameras=scaled(found.cameras, arguments.size))


def _file_views(path: Path, folder: RunFolder) -> Views:
    """The views of a file; where it gives no image size it is that of the run's input."""
    own = folder.path / "scene" / "cameras.json"
    like = read_views(own, 1, 1).cameras if own.exists() else None
    width, height = (DEFAULT_SIZE_PX, DEFAULT_SIZE_PX) if like is None else (like.width_px, like.height_px)
    return read_views(path, width, height)


def choose_shots(folder: RunFolder, scene: Scene, arguments: Namespace) -> list[Shot]:
    """Every picture that `render` was asked for.

    Cameras that have times of their own (the input's, or a file's) are taken at these for --times all;
    every other combination is each camera at each time, for "all" at the input's frame times.

    Raises:
        InputError: the words, or a file, cannot be used.
    """
    views = chosen_views(folder, arguments)
    known = time_range(folder, scene)
    times = parse_times(arguments.times, known)
    cameras = views.cameras
    if times is None and views.times_s is not None:
        for time_s in views.times_s:
            check_time(float(time_s), known)
        return [Shot(f"frame_{n:04d}", cameras[n], float(t)) for n, t in enumerate(views.times_s)]
    if times is None:
        own = run_views(folder).times_s
        times = np.unique(known if own is None else own)
    if arguments.angles is not None:
        names: Sequence[str] = ["dsa_" + "_".join(f"{float(a):+.0f}" for a in arguments.angles.split(","))]
    else:
        names = [f"camera_{n:04d}" for n in range(len(cameras))]
        if (arguments.cameras or "").startswith("fixed:"):
            names = [f"camera_{int(arguments.cameras.removeprefix('fixed:')):04d}"]
    return [Shot(f"{name}_{t:07.3f}s", cameras[n], t) for n, name in enumerate(names) for t in times.tolist()]
