"""The truth of a still scene's surface: our own folder, one scan of DTU, or one scene of Tanks and Temples.

mesh.ply or points.ply (DTU: stl*_total.ply; Tanks and Temples: SCENE.ply) · rgb/, depth/ (the object alone) ·
ObsMask*.mat, Plane*.mat (DTU) · SCENE.json, SCENE_trans.txt (Tanks and Temples) · truth.json with tau
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.io.geometry_files import read_json
from splatomy.io.matlab import read_matlab
from splatomy.io.mesh import read_mesh
from splatomy.io.poses import read_rows
from splatomy.io.truth_endoscopy import is_tissue_truth, read_tissue_truth
from splatomy.scene import Mesh

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]

_TAU_MM = {
    "barn": 10.0, "caterpillar": 5.0, "church": 25.0, "courthouse": 25.0, "ignatius": 3.0,
    "meetingroom": 10.0, "truck": 5.0,
}  # fmt: skip
_METRES = 1000.0


@dataclass(frozen=True)
class ObservedSpace:
    """Where DTU's scanner could see. voxels: (I, J, K) bool from corner low_mm (3,), spacing_mm apart.

    plane: (4,), points with a positive product stand above the table, or None.
    """

    voxels: NDArray[np.bool_]
    low_mm: Float
    high_mm: Float
    spacing_mm: float
    plane: Float | None


@dataclass(frozen=True)
class CropPrism:
    """What of a scene is scored: a polygon (P, 3) drawn along an axis (0 to 2) from low to high."""

    polygon: Float
    axis: int
    low: float
    high: float


@dataclass(frozen=True)
class SurfaceTruth:
    """What is known exactly of a surface; lengths in mm where the set has a scale; None = not given.

    mesh, or points (P, 3). rgb: (T, H, W, 3) and depth_mm (T, H, W), NaN = nothing, of the object alone.
    observed: of DTU. crop, tau_mm, truth_from_world (4, 4): of Tanks and Temples.
    """

    mesh: Mesh | None = None
    points_mm: Float | None = None
    rgb: Float32 | None = None
    depth_mm: Float32 | None = None
    observed: ObservedSpace | None = None
    crop: CropPrism | None = None
    tau_mm: float | None = None
    truth_from_world: Float | None = None


def read_surface_truth(folder: Path) -> SurfaceTruth:
    """The truth of a folder; any part may be missing, but not all.

    Raises:
        InputError: it does not exist, holds nothing, or a file in it cannot be read.
    """
    if not folder.is_dir():
        raise InputError(
            f"There is no truth folder {folder}: expected one with mesh.ply or points.ply. Check the path."
        )
    record = read_json(folder / "truth.json") if (folder / "truth.json").is_file() else {}
    pictures = read_tissue_truth(folder) if is_tissue_truth(folder) else None
    file = _surface_file(folder)
    mesh = points = None
    if file is not None:
        mesh, points = _surface(file)
    scale = _METRES if _is_tanks_and_temples(folder) else 1.0
    truth = SurfaceTruth(
        mesh=mesh,
        points_mm=None if points is None else points * scale,
        rgb=None if pictures is None else pictures.rgb,
        depth_mm=None if pictures is None else pictures.depth_mm,
        observed=_observed(folder),
        crop=_crop(folder, scale),
        tau_mm=_tau(folder, record),
        truth_from_world=_alignment(folder),
    )
    if mesh is None and points is None and truth.rgb is None and truth.depth_mm is None:
        raise InputError(
            f"{folder.name} holds no truth of a surface: expected mesh.ply, points.ply, rgb/ or depth/. Give "
            "the truth folder that belongs to the input."
        )
    return truth


def _surface_file(folder: Path) -> Path | None:
    """The file of the true surface: by its usual name, else the only mesh or cloud of the folder."""
    for name in ("mesh.ply", "points.ply", "mesh.obj"):
        if (folder / name).is_file():
            return folder / name
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".ply", ".obj", ".stl"))
    totals = [p for p in found if p.name.startswith("stl") and p.stem.endswith("_total")]
    files = totals or [p for p in found if p.parent == folder]
    if len(files) > 1:
        raise InputError(
            f"{folder.name} holds {len(files)} surfaces ({files[0].name}, {files[1].name}, ...): expected "
            "that of one scene. Give a folder with one, or name it mesh.ply or points.ply."
        )
    return files[0] if files else None


def _surface(file: Path) -> tuple[Mesh | None, Float | None]:
    """A mesh, or the points of a cloud."""
    if file.suffix.lower() == ".ply":
        try:
            loaded: Any = trimesh.load(file, process=False)
        except Exception as error:
            raise InputError(
                f"{file.name} cannot be read ({type(error).__name__}); expected a PLY: copy it again."
            ) from error
        if not len(getattr(loaded, "faces", ())):
            points = np.asarray(getattr(loaded, "vertices", ()), np.float64).reshape(-1, 3)
            if not len(points) or not np.isfinite(points).all():
                raise InputError(f"{file.name} holds no points, or such as are not finite: copy it again.")
            return None, points
    return read_mesh(file), None


def _only(folder: Path, pattern: str) -> Path | None:
    found = sorted(folder.rglob(pattern))
    if len(found) > 1:
        raise InputError(
            f"{folder.name} holds {len(found)} files {pattern}: expected that of one scan. Give a folder of "
            "one scan."
        )
    return found[0] if found else None


def _observed(folder: Path) -> ObservedSpace | None:
    """DTU's observation mask and table."""
    mask, table = _only(folder, "ObsMask*.mat"), _only(folder, "Plane*.mat")
    if mask is None:
        return None
    try:
        values = read_matlab(mask)
        voxels = np.asarray(values["ObsMask"]).astype(np.bool_)
        box, spacing = np.asarray(values["BB"], np.float64), float(np.ravel(values["Res"])[0])
        plane = None if table is None else np.asarray(read_matlab(table)["P"], np.float64).ravel()
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise InputError(
            f"{mask.name} is no observation mask of DTU ({type(error).__name__}): expected ObsMask, BB and "
            "Res, and P in the plane's file. Copy it again."
        ) from error
    return ObservedSpace(voxels, box[0], box[1], spacing, plane)


def _is_tanks_and_temples(folder: Path) -> bool:
    return any(folder.glob("*_trans.txt"))


def _crop(folder: Path, scale: float) -> CropPrism | None:
    """The crop volume of Tanks and Temples (Open3D's SelectionPolygonVolume)."""
    for file in sorted(folder.glob("*.json")):
        value = read_json(file)
        if not isinstance(value, dict) or value.get("class_name") != "SelectionPolygonVolume":
            continue
        try:
            polygon = np.asarray(value["bounding_polygon"], np.float64).reshape(-1, 3)
            axis = "XYZ".index(str(value["orthogonal_axis"]).upper())
            low, high = float(value["axis_min"]), float(value["axis_max"])
        except (KeyError, ValueError, TypeError):
            raise InputError(
                f"{file.name} is no complete crop volume: expected bounding_polygon, orthogonal_axis, "
                "axis_min and axis_max. Copy it again."
            ) from None
        return CropPrism(polygon * scale, axis, low * scale, high * scale)
    return None


def _tau(folder: Path, record: Any) -> float | None:
    given = record.get("tau_mm") if isinstance(record, dict) else None
    if isinstance(given, int | float) and given > 0:
        return float(given)
    names = [
        folder.name.lower(),
        *(p.name.lower().removesuffix("_trans.txt") for p in folder.glob("*_trans.txt")),
    ]
    return next((_TAU_MM[name] for name in names if name in _TAU_MM), None)


def _alignment(folder: Path) -> Float | None:
    """The similarity from the poses of Tanks and Temples to the scan, metres made mm."""
    file = _only(folder, "*_trans.txt")
    if file is None:
        return None
    rows = read_rows(file)
    if rows.shape != (4, 4):
        raise InputError(f"{file.name} holds no 4x4 matrix: copy it again.")
    matrix = rows.astype(np.float64)
    matrix[:3] *= _METRES
    return matrix
