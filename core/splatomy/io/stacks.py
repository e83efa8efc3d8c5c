"""Readers of DSA case folders, of image stacks with a geometry file, and of frame folders."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
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
from splatomy.io.geometry_files import Geometry, check_distances, number, read_geometry, read_json
from splatomy.io.mask_frames import precontrast_frames
from splatomy.io.volume import VOLUME_SUFFIXES, quiet_itk, read_array, read_header

FRAME_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
CASE_STACKS = ("fill_run", "DSA", "proj")
_OVERRIDES = ("geometry.csv", "geometry.xml", "projection_matrices.csv")
_INTENSITY: dict[str, Intensity] = {"LIN": "linear", "LOG": "log", "DISP": "display"}


def stack_named(folder: Path, stem: str) -> Path | None:
    """The stack file ``stem`` of a folder in any of the formats read, or None."""
    found = [folder / f"{stem}{suffix}" for suffix in VOLUME_SUFFIXES]
    return next((f for f in found if f.is_file()), None)


def is_case_folder(folder: Path) -> bool:
    """True if a folder holds a 4DRGS or VPAL case."""
    return any(stack_named(folder, name) is not None for name in CASE_STACKS)


def _stack_size(path: Path) -> tuple[int, int, int, tuple[float, float]]:
    """Count, height, width and pixel size (x, y) in mm, from the header alone."""
    reader = read_header(path)
    size = reader.GetSize()
    if len(size) == 2:
        size = (*size, 1)
    if len(size) != 3:
        raise InputError(
            f"{path.name} has {len(size)} dimensions; expected a stack of images (columns, rows, frames): "
            "export it "
            "as a 3D stack."
        )
    spacing = reader.GetSpacing()
    return int(size[2]), int(size[1]), int(size[0]), (float(spacing[0]), float(spacing[1]))


def _read_stack(path: Path, window: Window) -> NDArray[np.float32]:
    """The window of a stack file; only its box is kept in memory."""
    x, y, w, h = window.crop
    first, last = int(window.frames.min()), int(window.frames.max())
    if len(read_header(path).GetSize()) == 2:
        array = read_array(path, (x, y), (w, h))[None]
    else:
        array = read_array(path, (x, y, first), (w, h, last - first + 1))
    return window.binned(array[window.frames - first])


def case_source(folder: Path, options: InputOptions) -> DsaSource:
    """A 4DRGS case folder (mask and fill run, or subtracted) or its VPAL variant.

    Raises:
        InputError: files are missing, unreadable or do not fit each other.
    """
    fill, mask = stack_named(folder, "fill_run"), options.mask or stack_named(folder, "mask_run")
    layout = "4DRGS folder"
    subtracted = fill is None
    if fill is None:
        dsa = stack_named(folder, "DSA")
        fill = dsa or stack_named(folder, "proj")
        layout = "4DRGS folder, subtracted" if dsa else "VPAL folder, subtracted"
        mask = None
    if fill is None:
        raise InputError("The folder holds no fill_run.nii.gz, DSA.nii.gz or proj.nii.gz: add one of them.")
    transforms = folder / "transforms.json"
    source = _stack_source(fill, mask, stack_named(folder, "occluded"), layout, subtracted)
    geometry = None
    if transforms.is_file():
        geometry = read_geometry(transforms, source.count, source.width_px, source.height_px)
        source = _with_geometry(source, geometry, transforms)
    override = options.geometry or next((folder / n for n in _OVERRIDES if (folder / n).is_file()), None)
    if override is not None:
        pixel = _pixel_of(transforms, source, fill)
        # A 4DRGS stack has its rows turned for our world already, whatever file replaces the geometry.
        other = read_geometry(
            override, source.count, source.width_px, source.height_px, pixel, rtk_rows_up=False
        )
        source = _with_geometry(source, other, override)
    return source


def _pixel_of(transforms: Path, source: DsaSource, stack: Path) -> tuple[float, float]:
    """Detector pitch from transforms.json, else from the stack's own spacing."""
    if transforms.is_file():
        value = read_json(transforms)
        pair = value.get("proj_spacing") if isinstance(value, dict) else None
        if isinstance(pair, list) and len(pair) == 2:
            return number(pair[0], "proj_spacing", transforms), number(pair[1], "proj_spacing", transforms)
    return _stack_size(stack)[3]


def stack_source(path: Path, options: InputOptions) -> DsaSource:
    """One stack file of images with a geometry file given or lying beside it.

    The mask is the one given, or the only other stack in the folder with "mask" in its name. A stack
    named "DSA", "proj" or "sub" is taken as subtracted.

    Raises:
        InputError: files are unreadable or do not fit each other.
    """
    folder = path.parent
    stem = _stem(path)
    mask = options.mask
    if mask is None and "mask" not in stem:
        near = [
            p
            for p in sorted(folder.iterdir())
            if p != path and "mask" in _stem(p) and p.name.lower().endswith(VOLUME_SUFFIXES)
        ]
        mask = near[0] if len(near) == 1 else None
    subtracted = stem in ("dsa", "proj") or "subtract" in stem
    subtracted = subtracted if options.already_subtracted is None else options.already_subtracted
    mask = None if subtracted else mask
    source = _stack_source(path, mask, None, "image stack", subtracted)
    found = options.geometry or _geometry_beside(path)
    if found is None:
        return source
    pixel = _stack_size(path)[3]
    return _with_geometry(
        source, read_geometry(found, source.count, source.width_px, source.height_px, pixel), found
    )


def _stem(path: Path) -> str:
    name = path.name.lower()
    suffix = next((s for s in VOLUME_SUFFIXES if name.endswith(s)), path.suffix)
    return name.removesuffix(suffix)


def _geometry_beside(path: Path) -> Path | None:
    stem = path.name[: len(_stem(path))]
    names = [f"{stem}.xml", f"{stem}.csv", f"{stem}.json", "geometry.json", *_OVERRIDES, "transforms.json"]
    return next((path.parent / n for n in names if (path.parent / n).is_file()), None)


def _stack_source(
    fill: Path, mask: Path | None, occluded: Path | None, layout: str, subtracted: bool
) -> DsaSource:
    count, height, width, _ = _stack_size(fill)
    for other in (mask, occluded):
        if other is None:
            continue
        size = _stack_size(other)[:3]
        if size != (count, height, width):
            raise InputError(
                f"{other.name} has {size[0]} images of {size[2]}x{size[1]} but {fill.name} has {count} of "
                f"{width}x{height}; expected the same number and size: use runs of one acquisition."
            )
    files = tuple(f for f in (mask, fill, occluded) if f is not None)
    return DsaSource(
        layout=layout,
        count=count,
        height_px=height,
        width_px=width,
        intensity="linear",
        load=_stack_loader(fill, mask, occluded),
        cameras=None,
        geometry_source="none",
        times_s=None,
        input_files=files,
        already_subtracted=subtracted,
        has_mask=mask is not None,
    )


def _stack_loader(fill: Path, mask: Path | None, occluded: Path | None) -> Callable[[Window], Pixels]:
    def load(window: Window) -> Pixels:
        return Pixels(
            fill=_read_stack(fill, window),
            mask=None if mask is None else _read_stack(mask, window),
            occluded=None if occluded is None else _read_stack(occluded, window) > 0,
        )

    return load


def _with_geometry(source: DsaSource, geometry: Geometry, path: Path) -> DsaSource:
    """The source with a geometry; its rows are reversed on loading when the geometry counts them upwards."""
    load = source.load
    problems = (*source.problems, *geometry.problems)
    if geometry.flip_rows:
        inner, height = source.load, source.height_px

        def load(window: Window) -> Pixels:
            x, y, w, h = window.crop
            # Unbinned, so that blocks are counted from the reversed image's first row.
            raw = inner(Window(window.frames, (x, height - y - h, w, h)))
            turned = [None if a is None else a[:, ::-1] for a in (raw.fill, raw.mask, raw.occluded)]
            fill, mask, hidden = turned
            return Pixels(
                fill=window.binned(np.asarray(fill)),
                mask=None if mask is None else window.binned(mask),
                occluded=None if hidden is None else window.binned(hidden) > 0,
            )

        problems = (*problems, f"Image rows were reversed, because {path.name} counts them upwards.")
    times = source.times_s if geometry.times_s is None else geometry.times_s
    if times is not None and len(times) != source.count:
        raise InputError(
            f"{path.name} gives {len(times)} times for {source.count} images; expected one each: correct it."
        )
    return replace(
        source,
        load=load,
        cameras=geometry.cameras,
        geometry_source=geometry.source,
        sid_mm=geometry.sid_mm or source.sid_mm,
        pixel_mm=geometry.pixel_mm or source.pixel_mm,
        times_s=times,
        grid=source.grid if geometry.grid is None else geometry.grid,
        problems=problems,
        input_files=(*source.input_files, path),
    )


# ---------------------------------------------------------------------------------------------------
# Frame folders


def frame_files(folder: Path) -> list[Path]:
    """The image files of a folder, or of its ``frames`` folder, in natural order."""
    where = folder / "frames" if (folder / "frames").is_dir() else folder
    files = [p for p in where.iterdir() if p.suffix.lower() in FRAME_SUFFIXES and not p.name.startswith(".")]
    return sorted(
        files, key=lambda p: [int(t) if t.isdigit() else t.lower() for t in re.split(r"(\d+)", p.name)]
    )


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
    source = DsaSource(
        layout="frame folder",
        count=len(files),
        height_px=height,
        width_px=width,
        intensity="linear",
        load=lambda window: _load_frames(files, window, False, (height, width), targets),
        cameras=None,
        geometry_source="none",
        times_s=None,
        input_files=(*files, *targets),
    )
    path, entry = _frame_geometry(folder, options)
    if path is None:
        return source
    if entry is not None and "positioner_primary_angle_deg" in entry:
        return _with_run_entry(source, entry, path, files, targets)
    if entry is not None:
        raise InputError(f"{path.name}: the entry of this run lacks positioner_primary_angle_deg: add it.")
    return _with_geometry(source, read_geometry(path, len(files), width, height), path)


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
    beside = next((here / n for n in _OVERRIDES if (here / n).is_file()), None)
    return beside, None


def _with_run_entry(
    source: DsaSource, entry: Mapping[str, Any], path: Path, files: list[Path], targets: list[Path]
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
        load=lambda window: _load_frames(files, window, True, size, targets),
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


def _load_frames(
    files: list[Path], window: Window, mirror: bool, size: tuple[int, int], targets: list[Path]
) -> Pixels:
    fill = _load_pictures(files, window, mirror, size)
    masks, problems = precontrast_frames(fill)
    # Half of the range: lossy pictures of masks are not quite black and white.
    target = _load_pictures(targets, window, mirror, size) > 127 if targets else None
    return Pixels(fill, mask_frames=masks, problems=problems, target=target)


def _load_pictures(
    files: list[Path], window: Window, mirror: bool, size: tuple[int, int]
) -> NDArray[np.float32]:
    images = []
    for index in window.frames:
        data = np.fromfile(files[index], dtype=np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH) if data.size else None
        if image is None:
            raise InputError(
                f"{files[index].name} is no readable picture; expected a complete one: export it again."
            )
        if image.shape != size:
            raise InputError(
                f"{files[index].name} is {image.shape[1]}x{image.shape[0]} but the first frame is "
                f"{size[1]}x{size[0]}; "
                "expected one size: choose the folder of one run."
            )
        images.append(window.cut(image[:, ::-1] if mirror else image))
    return np.stack(images)
