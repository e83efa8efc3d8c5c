"""Reader of folders of pictures: the frames of one DSA run, with a geometry file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.io.dicom_xa import angio_cameras
from splatomy.io.dsa import DsaSource, InputOptions, Intensity, Pixels, Window
from splatomy.io.frames import natural_key, read_picture
from splatomy.io.geometry_files import check_distances, number, read_geometry, read_json
from splatomy.io.mask_frames import precontrast_frames
from splatomy.io.stacks import OVERRIDES, with_geometry
from splatomy.io.volume import quiet_itk

_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_INTENSITY: dict[str, Intensity] = {"LIN": "linear", "LOG": "log", "DISP": "display"}


def frame_files(folder: Path) -> list[Path]:
    """The image files of a folder, or of its ``frames`` folder, in natural order."""
    where = folder / "frames" if (folder / "frames").is_dir() else folder
    files = [p for p in where.iterdir() if p.suffix.lower() in _SUFFIXES and not p.name.startswith(".")]
    return sorted(files, key=lambda p: natural_key(p.name))


def frames_source(folder: Path, options: InputOptions) -> DsaSource:
    """A folder of PNG, JPEG or TIFF frames of one run, with its geometry file.

    ``geometry.json`` is looked for in the folder and up to three parents; a ``runs`` object in it is
    keyed by the run's folder relative to the file.

    Raises:
        InputError: no frames, or files that cannot be read.
    """
    files = frame_files(folder)
    if not files:
        raise InputError("The folder holds no PNG, JPEG or TIFF frames: choose the folder of one run.")
    width, height = _image_size(files[0])
    targets = _target_files(folder, options, len(files))
    masks = _mask_files(options, len(files))
    source = DsaSource(
        layout="frame folder",
        count=len(files),
        height_px=height,
        width_px=width,
        intensity="linear",
        load=lambda window: _load_frames(files, window, False, (height, width), targets, masks),
        has_mask=bool(masks),
        cameras=None,
        geometry_source="none",
        times_s=None,
        input_files=(*files, *targets, *masks),
    )
    path, entry = _frame_geometry(folder, options)
    if path is None:
        if options.of_angiography:
            return source
        note = "Grey pictures are taken for an X-ray run: open a grey endoscopic clip with --layout mono."
        return replace(source, problems=(*source.problems, note))
    if entry is not None and "positioner_primary_angle_deg" in entry:
        return _with_run_entry(source, entry, path, files, targets, masks)
    if entry is not None:
        raise InputError(f"{path.name}: the entry of this run lacks positioner_primary_angle_deg: add it.")
    return with_geometry(source, read_geometry(path, len(files), width, height), path)


def _image_size(path: Path) -> tuple[int, int]:
    """Width and height from the header."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with quiet_itk():
            reader.ReadImageInformation()
    except RuntimeError:
        raise InputError(
            f"{path.name} is no readable picture; expected PNG, JPEG or TIFF: export it again."
        ) from None
    return int(reader.GetSize()[0]), int(reader.GetSize()[1])


def _frame_geometry(folder: Path, options: InputOptions) -> tuple[Path | None, Mapping[str, Any] | None]:
    """The geometry file of a run folder, and the run's entry in it when it lists several runs."""
    if options.geometry is not None and options.geometry.suffix.lower() != ".json":
        return options.geometry, None
    here = folder.resolve()
    candidates = [p / "geometry.json" for p in (here, *list(here.parents)[:3])]
    candidates = (
        [options.geometry] if options.geometry is not None else [p for p in candidates if p.is_file()]
    )
    for path in candidates:
        value = read_json(path)
        runs = value.get("runs") if isinstance(value, dict) else None
        if isinstance(value, dict) and "positioner_primary_angle_deg" in value:
            return path, value
        if not isinstance(runs, dict):
            return path, None
        for key, entry in runs.items():
            if (path.resolve().parent / key) == here and isinstance(entry, dict):
                return path, entry
    beside = next((here / n for n in OVERRIDES if (here / n).is_file()), None)
    return beside, None


def _with_run_entry(
    source: DsaSource,
    entry: Mapping[str, Any],
    path: Path,
    files: list[Path],
    targets: list[Path],
    masks: list[Path],
) -> DsaSource:
    """The source with geometry and times of a run's entry, which uses DICOM's names and angles."""
    count = entry.get("number_of_frames")
    if isinstance(count, int) and count != source.count:
        raise InputError(
            f"{path.name} says {count} frames but the folder holds {source.count}; expected the same "
            "number: check "
            "that the entry belongs to this run."
        )
    sid = number(entry.get("distance_source_to_detector_mm"), "distance_source_to_detector_mm", path)
    sad = number(entry.get("distance_source_to_patient_mm"), "distance_source_to_patient_mm", path)
    pair = entry.get("imager_pixel_spacing_mm")
    if not isinstance(pair, list) or len(pair) != 2:
        raise InputError(f"{path.name} lacks imager_pixel_spacing_mm [row, column]: add it.")
    row, column = (number(p, "imager_pixel_spacing_mm", path) for p in pair)
    check_distances(sad, sid, (column, row), path.name)
    angles = [
        np.broadcast_to(np.asarray(entry.get(name, 0.0), dtype=np.float64), (source.count,))
        for name in ("positioner_primary_angle_deg", "positioner_secondary_angle_deg")
    ]
    cameras = angio_cameras(angles[0], angles[1], sad, sid, source.width_px, source.height_px, (column, row))
    times = None
    if entry.get("frame_time_ms") is not None:
        times = np.arange(source.count) * number(entry["frame_time_ms"], "frame_time_ms", path) / 1000
    size = (source.height_px, source.width_px)
    return replace(
        source,
        load=lambda window: _load_frames(files, window, True, size, targets, masks),
        mirrored=True,
        cameras=cameras,
        times_s=times,
        intensity=_INTENSITY.get(str(entry.get("pixel_intensity_relationship", "LIN")), "display"),
        geometry_source=f"positioner angles in {path.name}",
        sid_mm=sid,
        pixel_mm=(column, row),
        input_files=(*source.input_files, path),
    )


def _target_files(folder: Path, options: InputOptions, count: int) -> list[Path]:
    """The pictures of ``options.target`` that belong to a run of ``count`` frames; none without it."""
    if options.target is None:
        return []
    inside = folder / options.target
    files = frame_files(inside if inside.is_dir() else options.target)
    if len(files) != count:
        raise InputError(
            f"{options.target.name} holds {len(files)} mask pictures for {count} frames; expected one each: "
            "give the folder that belongs to the run, or its name inside each run."
        )
    return files


def _mask_files(options: InputOptions, count: int) -> list[Path]:
    """The pictures without contrast that --mask names: one for each of ``count`` frames; none without it."""
    if options.mask is None:
        return []
    if not options.mask.exists():
        raise InputError(f"{options.mask} does not exist; expected pictures without contrast: check --mask.")
    files = frame_files(options.mask) if options.mask.is_dir() else [options.mask]
    if len(files) not in (1, count):
        raise InputError(
            f"{options.mask.name} holds {len(files)} pictures without contrast for {count} frames; expected "
            "one, or one for each: use runs of one acquisition."
        )
    return files * count if len(files) == 1 else files


def _load_frames(
    files: list[Path],
    window: Window,
    mirror: bool,
    size: tuple[int, int],
    targets: list[Path],
    masks: list[Path],
) -> Pixels:
    fill = _load_pictures(files, window, mirror, size)
    # Half of the range: lossy pictures of masks are not quite black and white.
    target = _load_pictures(targets, window, mirror, size) > 127 if targets else None
    if masks:
        return Pixels(fill, _load_pictures(masks, window, mirror, size), mask_frames=(), target=target)
    first, problems = precontrast_frames(fill)
    return Pixels(fill, mask_frames=first, problems=problems, target=target)


def _load_pictures(
    files: list[Path], window: Window, mirror: bool, size: tuple[int, int]
) -> NDArray[np.float32]:
    images = []
    for index in window.frames:
        image = read_picture(files[index], cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
        if image.shape != size:
            raise InputError(
                f"{files[index].name} is {image.shape[1]}x{image.shape[0]} but the first frame is "
                f"{size[1]}x{size[0]}; "
                "expected one size: choose the folder of one run."
            )
        images.append(window.cut(image[:, ::-1] if mirror else image))
    return np.stack(images)
