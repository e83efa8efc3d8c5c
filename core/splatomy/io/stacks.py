"""Readers of DSA case folders and of image stacks with a geometry file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.io.dsa import DsaSource, InputOptions, Pixels, Window
from splatomy.io.geometry_files import Geometry, number, read_geometry, read_json
from splatomy.io.volume import VOLUME_SUFFIXES, read_array, read_header

CASE_STACKS = ("fill_run", "DSA", "proj")
OVERRIDES = ("geometry.csv", "geometry.xml", "projection_matrices.csv")


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
        source = with_geometry(source, geometry, transforms)
    override = options.geometry or next((folder / n for n in OVERRIDES if (folder / n).is_file()), None)
    if override is not None:
        pixel = _pixel_of(transforms, source, fill)
        # A 4DRGS stack has its rows turned for our world already, whatever file replaces the geometry.
        other = read_geometry(
            override, source.count, source.width_px, source.height_px, pixel, rtk_rows_up=False
        )
        source = with_geometry(source, other, override)
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
    return with_geometry(
        source, read_geometry(found, source.count, source.width_px, source.height_px, pixel), found
    )


def _stem(path: Path) -> str:
    name = path.name.lower()
    suffix = next((s for s in VOLUME_SUFFIXES if name.endswith(s)), path.suffix)
    return name.removesuffix(suffix)


def _geometry_beside(path: Path) -> Path | None:
    stem = path.name[: len(_stem(path))]
    names = [f"{stem}.xml", f"{stem}.csv", f"{stem}.json", "geometry.json", *OVERRIDES, "transforms.json"]
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


def with_geometry(source: DsaSource, geometry: Geometry, path: Path) -> DsaSource:
    """The source with a geometry; its rows are reversed on loading when the geometry counts them upwards."""
    load = source.load
    problems = (*source.problems, *geometry.problems)
    if geometry.flip_rows:
        inner, height = source.load, source.height_px

        def load(window: Window) -> Pixels:
            x, y, w, h = window.crop
            # Unbinned, so that blocks are counted from the reversed image's first row.
            raw = inner(Window(window.frames, (x, height - y - h, w, h)))
            turned = (
                None if a is None else window.binned(a[:, ::-1])
                for a in (raw.fill, raw.mask, raw.occluded, raw.target)
            )
            fill, mask, hidden, target = turned
            return replace(
                raw,
                fill=np.asarray(fill),
                mask=mask,
                occluded=None if hidden is None else hidden > 0,
                target=None if target is None else target >= 0.5,
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
