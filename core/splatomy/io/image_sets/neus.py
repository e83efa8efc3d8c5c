"""Folders of NeuS and DTU: image/, mask/ and ``cameras_sphere.npz``.

``world_mat_N`` is K [R | t] (4 x 4), world to pixels; ``scale_mat_N`` maps the unit sphere to the world.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.checks import is_whole_number
from splatomy.errors import InputError
from splatomy.geometry.cameras import from_projection_matrices
from splatomy.io.arrays import read_npz
from splatomy.io.frames import name_numbers, picture_files
from splatomy.io.image_sets.source import ImageSetSource, View
from splatomy.io.options import InputOptions

_CAMERAS = ("cameras_sphere.npz", "cameras.npz", "cameras_large.npz")
_PICTURES, _MASKS = ("image", "images", "rgb"), ("mask", "masks")
_DTU_SPHERE_MM = (50.0, 600.0)
"""Radii of the objects of DTU; in metres or scene units they would be far smaller or arbitrary."""


def cameras_file(folder: Path) -> Path | None:
    """The camera file of such a folder, or None."""
    return next((folder / name for name in _CAMERAS if (folder / name).is_file()), None)


def is_neus(folder: Path) -> bool:
    """True if a folder holds such cameras and pictures."""
    return cameras_file(folder) is not None and _sub(folder, _PICTURES) is not None


def _sub(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The first of the named folders that holds pictures."""
    return next((folder / n for n in names if (folder / n).is_dir() and picture_files(folder / n)), None)


def neus_source(folder: Path, options: InputOptions) -> ImageSetSource:
    """The views of a NeuS folder; a scene named like a DTU scan with a sphere of its size is in mm.

    Raises:
        InputError: the cameras cannot be read or do not belong to the pictures.
    """
    path, pictures = cameras_file(folder), _sub(folder, _PICTURES)
    if path is None or pictures is None:
        raise InputError(f"{folder.name} holds no cameras_sphere.npz with a folder image; choose another.")
    arrays = _arrays(path)
    files = picture_files(pictures)
    numbers = [int(k.removeprefix("world_mat_")) for k in arrays if _is_numbered(k, "world_mat_")]
    if len(numbers) < len(files):
        raise InputError(
            f"{path.name} holds {len(numbers)} cameras for {len(files)} pictures; expected world_mat_N for "
            "each: use the file of this scene."
        )
    # Cameras are counted from 0 in the order of the pictures, whatever the pictures' own numbers are.
    numbers = sorted(numbers)[: len(files)]
    scales = [arrays.get(f"scale_mat_{n}", np.eye(4)) for n in numbers]
    matrices = np.stack([arrays[f"world_mat_{n}"][:3, :4] for n in numbers])
    try:
        cameras = from_projection_matrices(matrices, 1, 1)
    except ValueError as error:
        raise InputError(
            f"{path.name}: {error}; expected world_mat_N = K [R | t]: use the file of this scene."
        ) from None
    masks = _masks(folder, files)
    views = tuple(
        View(file, cameras.intrinsics[i], cameras.camera_from_world[i], mask=masks.get(i))
        for i, file in enumerate(files)
    )
    bounds, radius = _sphere(scales[0])
    is_dtu = folder.name.lower().startswith(("scan", "dtu_scan")) and _DTU_SPHERE_MM[0] < radius
    is_dtu = is_dtu and radius < _DTU_SPHERE_MM[1]
    problems = []
    if 0 < len(masks) < len(files):
        problems.append(f"There are object masks for {len(masks)} of {len(files)} pictures.")
    if not is_dtu:
        problems.append("The unit of the poses is not known, so nothing is measured in mm by them.")
    return ImageSetSource(
        layout="NeuS folder" + (" (DTU)" if is_dtu else ""),
        views=views,
        unit_mm=1.0 if is_dtu else None,
        axes=f"{path.name}, K [R | t], opencv axes",
        bounds=bounds,
        found=(f"{len(files)} pictures", f"{len(masks)} object masks"),
        problems=tuple(problems),
        input_files=(path,),
    )


def _arrays(path: Path) -> Mapping[str, NDArray[np.float64]]:
    """The 4x4 matrices of the file by name."""
    try:
        arrays = read_npz(path, lambda name: "inv" not in name)
        found = {name: np.asarray(array, np.float64) for name, array in arrays.items()}
    except (ValueError, TypeError, OverflowError):
        raise InputError(
            f"{path.name} is no readable set of arrays; expected world_mat_N and scale_mat_N: copy it again."
        ) from None
    return {k: v for k, v in found.items() if v.shape in ((4, 4), (3, 4)) and np.isfinite(v).all()}


def _is_numbered(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and is_whole_number(name.removeprefix(prefix))


def _sphere(scale: NDArray[Any]) -> tuple[NDArray[np.float64], float]:
    """The box (2, 3) about the unit sphere that a scale_mat maps to the world, and its radius."""
    centre, radius = scale[:3, 3], float(np.linalg.norm(scale[:3, 0]))
    return np.stack([centre - radius, centre + radius]), radius


def _masks(folder: Path, files: list[Path]) -> dict[int, Path]:
    """Picture index -> mask, by name, by number or in order."""
    where = _sub(folder, _MASKS)
    if where is None:
        return {}
    masks = picture_files(where)
    by_stem = {p.stem: p for p in masks}
    found = {i: by_stem[f.stem] for i, f in enumerate(files) if f.stem in by_stem}
    if found:
        return found
    own, theirs = name_numbers(files), name_numbers(masks)
    if own is not None and theirs is not None and set(theirs.tolist()) <= set(own.tolist()):
        by_number = dict(zip(theirs.tolist(), masks, strict=True))
        return {i: by_number[n] for i, n in enumerate(own.tolist()) if n in by_number}
    return dict(enumerate(masks)) if len(masks) == len(files) else {}
