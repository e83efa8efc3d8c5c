"""What was dropped or chosen: its kind, a report on it, and its frames once it is opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from splatomy.errors import InputError
from splatomy.events import Progress, Task
from splatomy.geometry.conebeam import gantry_angles_rad
from splatomy.io.options import InputOptions
from splatomy_gui.frames import ClipFrames, Frames, RunFrames, ViewFrames

_STACK_NAMES = ("fill_run", "mask_run", "dsa")
_VOLUME_NAMES = ("volume", "vessels", "arrival_s", "peak_s", "transit_s", "ct", "cta", "label")


class Kind(StrEnum):
    """What an input is to the app."""

    ENDOSCOPY = "endoscopy"
    ANGIOGRAPHY = "angiography"
    SURFACE = "surface"
    VOLUME = "volume"
    RUN = "run"
    CASE = "case"


@dataclass(frozen=True)
class Inspection:
    """An input and what ``splatomy inspect`` says of it. report: the JSON record, empty for a finished one.

    ambiguous: a file of voxels that may be a finished volume or frames.
    """

    path: Path
    options: InputOptions
    kind: Kind
    report: dict[str, Any] = field(default_factory=dict)
    ambiguous: bool = False

    @property
    def workspace(self) -> str:
        """Key of the workspace that opens it."""
        return self.kind.value if self.kind in (Kind.ENDOSCOPY, Kind.SURFACE) else Kind.ANGIOGRAPHY.value

    @property
    def usable(self) -> bool:
        """False if there are problems that forbid opening it."""
        return bool(self.report.get("usable", True))

    @property
    def problems(self) -> tuple[str, ...]:
        """What was found to be wrong or noteworthy."""
        return tuple(self.report.get("problems", ()))


@dataclass(frozen=True)
class OpenedInput:
    """An input with its frames, ready to be looked at. notes: found, assumed and problematic."""

    source: Path
    options: InputOptions
    kind: Kind
    frames: Frames
    notes: tuple[str, ...] = ()
    metric: bool = True
    geometry: dict[str, Any] = field(default_factory=dict)


def inspect(path: Path, options: InputOptions, kind: Kind | None = None) -> Inspection:
    """The kind of an input and the report on it; reads headers and a few frames.

    kind: what it is taken for, where its content allows several.

    Raises:
        InputError: it does not exist or is of no known kind.
    """
    from splatomy.io.case import case_folder, is_case
    from splatomy.io.detect import inspect_input, is_endoscopy
    from splatomy.io.volume import has_volume_suffix, is_volume_4d

    if not path.exists():
        raise InputError(
            f"{path.name} does not exist any more; expected a file or folder: choose another one."
        )
    if is_case(path):
        return Inspection(case_folder(path), InputOptions(), Kind.CASE)
    if path.name == "run.json" or (path / "run.json").is_file():
        return Inspection(path.parent if path.is_file() else path, InputOptions(), Kind.RUN)
    if kind is None and path.is_file() and has_volume_suffix(path):
        name = path.name.lower().split(".")[0]
        is_stack = name in _STACK_NAMES or (path.parent / "transforms.json").is_file()
        sure = path.name.lower().endswith(".seq.nrrd") or name in _VOLUME_NAMES or is_volume_4d(path)
        if sure and not is_stack:
            return Inspection(path, options, Kind.VOLUME)
        report = inspect_input(path, options)
        if not is_stack and not _has_geometry(report.as_json()):
            return Inspection(path, options, Kind.VOLUME, ambiguous=True)
        return Inspection(path, options, Kind.ANGIOGRAPHY, report.as_json())
    if kind is Kind.VOLUME:
        return Inspection(path, options, Kind.VOLUME, ambiguous=True)
    found = Kind.ENDOSCOPY if is_endoscopy(path, options) else Kind.ANGIOGRAPHY
    report = inspect_input(path, options)
    record = report.as_json()
    if record["kind"] == "image set":
        found = Kind.SURFACE
    if record["kind"] == "unknown":
        raise InputError(record["problems"][0])
    return Inspection(path, options, found, record)


def _has_geometry(report: dict[str, Any]) -> bool:
    return any(view.get("source_to_isocentre_mm") is not None for view in report.get("views", ()))


def open_frames(source: Path, options: InputOptions) -> Task[OpenedInput]:
    """The frames of an endoscopic clip, the views of a still scene, or a DSA run, subtracted.

    Raises:
        InputError: it cannot be used.
    """
    from splatomy.io.detect import is_endoscopy, is_image_set

    yield Progress("open", 0, 1)
    if is_image_set(source, options):
        return (yield from _open_views(source, options))
    if is_endoscopy(source, options):
        return (yield from _open_clip(source, options))
    return (yield from _open_run(source, options))


def _open_clip(source: Path, options: InputOptions) -> Task[OpenedInput]:
    from splatomy.io.endoscopy_detect import open_endoscopy

    clip = yield from open_endoscopy(source, options)
    geometry = {
        "crop": list(clip.crop),
        "bin": clip.bin,
        "intrinsics_px": clip.cameras.intrinsics.tolist(),
        "camera_from_world": clip.cameras.camera_from_world.tolist(),
        "intrinsics_known": clip.intrinsics_known,
        "poses_known": clip.poses_known,
        "undistorted": clip.undistorted,
        "world": "first camera, OpenCV axes",
    }
    notes = (*clip.found, *clip.assumed, *clip.problems)
    return OpenedInput(source, options, Kind.ENDOSCOPY, ClipFrames(clip), notes, clip.metric, geometry)


def _open_views(source: Path, options: InputOptions) -> Task[OpenedInput]:
    from splatomy.io.image_sets import image_set_source, load_image_set

    views = yield from load_image_set(image_set_source(source, options), options)
    geometry: dict[str, Any] = {"crop": list(views.crop), "bin": views.bin, "world": "the input's world"}
    if views.cameras is not None:
        geometry["intrinsics_px"] = views.cameras.intrinsics.tolist()
        geometry["camera_from_world"] = views.cameras.camera_from_world.tolist()
    notes = (*views.found, *views.assumed, *views.problems)
    return OpenedInput(source, options, Kind.SURFACE, ViewFrames(views), notes, views.metric, geometry)


def _open_run(source: Path, options: InputOptions) -> Task[OpenedInput]:
    from splatomy.io.detect import open_input
    from splatomy.prepare.subtract import SubtractConfig, subtract

    run = open_input(source, options)
    yield Progress("open", 1, 2)
    integrals = np.nan_to_num(run.fill_run) if run.already_subtracted else None
    if integrals is None and run.mask is not None:
        made = yield from subtract(
            run.mask, run.fill_run, SubtractConfig(), already_log=run.intensity == "log"
        )
        integrals = made.line_integrals
    angles = None
    geometry: dict[str, Any] = {"world": run.world}
    if run.cameras is not None:
        angles = np.degrees(gantry_angles_rad(run.cameras))
        if run.mirrored:
            # The positioner angles of DICOM count from another axis and the other way round.
            angles = np.stack([angles[:, 0] - 90, -angles[:, 1]], -1)
            angles[:, 0] -= 360 * np.round(angles[0, 0] / 360)
        geometry["intrinsics_px"] = run.cameras.intrinsics.tolist()
        geometry["camera_from_world"] = run.cameras.camera_from_world.tolist()
    frames = RunFrames(run, integrals, angles)
    # The grey scale is found here, off the GUI thread.
    frames.window  # noqa: B018
    return OpenedInput(source, options, Kind.ANGIOGRAPHY, frames, run.problems, True, geometry)
