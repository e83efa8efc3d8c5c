"""Geometry of projection stacks: matrices (CSV, JSON), RTK XML, 4DRGS transforms, plain angle lists."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from splatomy.capture import Grid
from splatomy.errors import InputError
from splatomy.geometry.cameras import Cameras, from_projection_matrices
from splatomy.geometry.conebeam import cone_beam
from splatomy.geometry.rigid import rigid

GEOMETRY_SUFFIXES = (".csv", ".json", ".xml")

_MAX_FILE_BYTES = 256 * 2**20
_MOST_DIGITS = 18


@dataclass(frozen=True)
class Geometry:
    """What a geometry file says about a stack of images.

    cameras: one per image, for images with row 0 on top as our world has it.
    flip_rows: the stack's rows must be reversed to fit the cameras.
    times_s: (T,) seconds or None. grid: where a volume is wanted, or None.
    """

    cameras: Cameras
    source: str
    flip_rows: bool = False
    times_s: NDArray[np.float64] | None = None
    grid: Grid | None = None
    sid_mm: float | None = None
    pixel_mm: tuple[float, float] | None = None
    problems: tuple[str, ...] = ()


def read_json(path: Path) -> Any:
    """The JSON value of a file.

    Raises:
        InputError: missing, too large or not JSON.
    """
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise InputError(
                f"{path.name} is larger than 256 MB; expected a small JSON file: check the path."
            )
        return json.loads(path.read_text(encoding="utf-8-sig"), parse_int=_whole)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; expected a JSON geometry file: check the path.") from None
    except (ValueError, RecursionError) as error:
        where = f" near line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise InputError(
            f"{path.name} is not readable JSON{where}; expected a complete UTF-8 JSON file: "
            "correct it or export it again."
        ) from None


def _whole(digits: str) -> int | float:
    """The number of a JSON text; one with more digits than any count has becomes a decimal."""
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def number(value: Any, name: str, path: Path) -> float:
    """``value`` as a finite float.

    Raises:
        InputError: it is absent or not a finite number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        got = "nothing" if value is None else repr(value)[:40]
        raise InputError(f"{path.name}: {name} must be a finite number, got {got}: add or correct it.")
    return float(value)


def _numbers(value: Any, name: str, path: Path) -> NDArray[np.float64]:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.array([np.nan])
    if array.size == 0 or not np.isfinite(array).all():
        raise InputError(f"{path.name}: {name} must hold finite numbers only: add or correct it.")
    return array


def check_distances(sad_mm: float, sid_mm: float, pixel_mm: Sequence[float], where: str) -> None:
    """Raises InputError for distances or pixel sizes that no C-arm has."""
    if not (sad_mm > 0 and sid_mm > 0):
        raise InputError(
            f"{where}: the distances must be positive millimetres, got source-isocentre {sad_mm:g} and "
            f"source-detector {sid_mm:g}: correct them."
        )
    if sid_mm < 10:
        raise InputError(
            f"{where}: distances of {sad_mm:g} and {sid_mm:g} look like metres; expected millimetres "
            "(for example 750 and 1200): multiply them by 1000."
        )
    if sid_mm > 20_000:
        raise InputError(
            f"{where}: distances of {sad_mm:g} and {sid_mm:g} look like micrometres; expected millimetres "
            "(for example 750 and 1200): divide them by 1000."
        )
    if sad_mm >= sid_mm:
        raise InputError(
            f"{where}: the source-isocentre distance (sad, {sad_mm:g} mm) must be smaller than the "
            f"source-detector distance (sid, {sid_mm:g} mm): check that they are not swapped."
        )
    if len(pixel_mm) != 2 or not all(math.isfinite(p) and p > 0 for p in pixel_mm):
        raise InputError(
            f"{where}: the pixel size must be two positive numbers in mm, got {list(pixel_mm)}: correct it."
        )


def check_radians(primary_rad: NDArray[np.float64], secondary_rad: NDArray[np.float64], where: str) -> None:
    """Raises InputError if the angles cannot be radians."""
    largest = max(np.abs(primary_rad).max(initial=0), np.abs(secondary_rad).max(initial=0))
    if largest > 2 * np.pi * 1.05:
        raise InputError(
            f"{where}: an angle of {largest:.4g} looks like degrees; expected radians (at most 6.28): "
            "multiply the angles by pi/180."
        )


def cameras_of_matrices(
    matrices: NDArray[np.float64], width_px: int, height_px: int, where: str
) -> tuple[Cameras, bool]:
    """Cameras of (N, 3, 4) matrices world mm -> pixel, and whether the images' rows must be reversed.

    A matrix that maps a right-handed world to an image counted upwards is a mirror image, which no
    camera makes; reversing the rows of matrix and image together turns it into a real camera.

    Raises:
        InputError: a matrix is singular, or the isocentre does not lie in front of the source.
    """
    try:
        cameras = from_projection_matrices(matrices, width_px, height_px)
    except ValueError as error:
        raise InputError(f"{where}: {error}; expected 3x4 matrices world mm to pixel: correct it.") from None
    depth = cameras.camera_from_world[:, 2, 3]
    if (depth > 0).all():
        return cameras, False
    if (depth < 0).all():
        flip = np.array([[1.0, 0, 0], [0, -1, height_px - 1], [0, 0, 1]])
        return from_projection_matrices(flip @ matrices, width_px, height_px), True
    raise InputError(
        f"{where}: the matrices disagree about which side of the source the origin lies on; expected all "
        "views to look at it: check the handedness of each matrix."
    )


def read_geometry(
    path: Path,
    count: int | None,
    width_px: int,
    height_px: int,
    pixel_mm: tuple[float, float] | None = None,
    *,
    rtk_rows_up: bool = True,
) -> Geometry:
    """The geometry of ``count`` images from a CSV, JSON or RTK XML file.

    count: number of images; None = as many as the file describes.
    pixel_mm: detector pitch (x, y) if known elsewhere; RTK files do not hold it.
    rtk_rows_up: the stack is stored as RTK wants it, row 0 at the lowest v.

    Raises:
        InputError: unreadable, impossible, or for another number of images.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        raise InputError(f"{path} does not exist; expected a geometry file: check the path.")
    if suffix == ".csv":
        geometry = _read_csv(path, width_px, height_px)
    elif suffix == ".xml":
        geometry = _read_rtk(path, width_px, height_px, pixel_mm, rtk_rows_up)
    elif suffix == ".json":
        geometry = geometry_of_json(read_json(path), path, width_px, height_px, count)
    else:
        raise InputError(f"{path.name} is no known geometry file; expected .csv, .json or .xml: convert it.")
    if count is not None and len(geometry.cameras) != count:
        raise InputError(
            f"{path.name} describes {len(geometry.cameras)} views but the image stack has {count}; "
            "expected one view per image: use the geometry of this run."
        )
    return geometry


def _read_csv(path: Path, width_px: int, height_px: int) -> Geometry:
    """12 numbers per row (3x4, row by row); a header is optional and may name a ``time_s`` column."""
    try:
        rows = [r for r in csv.reader(path.read_text(encoding="utf-8-sig").splitlines()) if any(r)]
    except (UnicodeDecodeError, csv.Error):
        raise InputError(
            f"{path.name} is not a text CSV file; expected 12 numbers a row: export it."
        ) from None
    header: list[str] = []
    if rows and not _all_numbers(rows[0]):
        header = [name.strip().lower() for name in rows.pop(0)]
    times = None
    try:
        table = np.array([[float(x) for x in row] for row in rows])
    except ValueError:
        table = np.zeros((0, 0))
    if table.ndim == 2 and "time_s" in header and len(header) == table.shape[1]:
        column = header.index("time_s")
        times = table[:, column]
        table = np.delete(table, column, axis=1)
    if table.ndim != 2 or table.shape[0] == 0 or table.shape[1] != 12:
        raise InputError(
            f"{path.name} must hold 12 numbers per row, a 3x4 projection matrix row by row: correct or "
            "export it again."
        )
    cameras, flip = cameras_of_matrices(table.reshape(-1, 3, 4), width_px, height_px, path.name)
    return Geometry(cameras, f"projection matrices in {path.name}", flip, times)


def _all_numbers(row: list[str]) -> bool:
    try:
        return all(math.isfinite(float(x)) for x in row)
    except ValueError:
        return False


# RTK (X, Y, Z) = world (y, z, x): RTK turns about its Y axis, we turn about z.
_RTK_FROM_WORLD = np.array([[0.0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])


def _read_rtk(
    path: Path, width_px: int, height_px: int, pixel_mm: tuple[float, float] | None, rows_up: bool
) -> Geometry:
    """RTK's ThreeDCircularProjectionGeometry; its matrices map RTK world mm to detector mm (v upwards)."""
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise InputError(f"{path.name} is larger than 256 MB; expected an RTK geometry file: check the path.")
    text = path.read_bytes()
    # Entities could expand without end; RTK's own DOCTYPE line declares none.
    if b"<!ENTITY" in text:
        raise InputError(f"{path.name} declares XML entities; expected a plain RTK file: export it again.")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        raise InputError(
            f"{path.name} is not readable XML; expected RTK's ThreeDCircularProjectionGeometry: export it "
            "again."
        ) from None
    projections = root.findall("Projection")
    if root.tag != "RTKThreeDCircularGeometry" or not projections:
        raise InputError(
            f"{path.name} is no RTK geometry; expected RTKThreeDCircularGeometry with at least one "
            "Projection, "
            f"got {root.tag[:40]} with {len(projections)}: export it again."
        )
    if pixel_mm is None:
        raise InputError(
            f"{path.name} needs the detector's pixel size in mm, which RTK files do not hold; expected it "
            "in the "
            "image file's spacing or in a geometry.json: add it."
        )
    shared = {child.tag: child.text for child in root if child.tag != "Projection"}
    physical = np.stack([_rtk_matrix(p, shared, path) for p in projections]) @ _RTK_FROM_WORLD
    pixel_from_mm = np.array(
        [
            [1 / pixel_mm[0], 0, (width_px - 1) / 2],
            [0, -1 / pixel_mm[1], (height_px - 1) / 2],
            [0, 0, 1],
        ]
    )
    cameras, mirrored = cameras_of_matrices(pixel_from_mm @ physical, width_px, height_px, path.name)
    if mirrored:
        raise InputError(f"{path.name} holds mirrored matrices; expected RTK's own axes: export it again.")
    return Geometry(cameras, f"RTK geometry in {path.name}", rows_up)


def _rtk_matrix(
    projection: ElementTree.Element, shared: Mapping[str, str | None], path: Path
) -> NDArray[np.float64]:
    """The 3x4 matrix of one RTK projection, given directly or by its nine parameters."""
    values = {**shared, **{child.tag: child.text for child in projection}}
    try:
        if values.get("Matrix"):
            matrix = np.array([float(x) for x in (values["Matrix"] or "").split()]).reshape(3, 4)
            return np.asarray(_numbers(matrix, "Matrix", path))
        given = {
            k: float(v or "nan") for k, v in values.items() if k not in ("Matrix",) and (v or "").strip()
        }
    except ValueError:
        raise InputError(
            f"{path.name}: a Projection holds text instead of numbers: export it again."
        ) from None
    if not all(math.isfinite(value) for value in given.values()):
        raise InputError(f"{path.name}: a Projection holds an infinite number: export it again.")
    if given.get("RadiusCylindricalDetector", 0.0) != 0:
        raise InputError(
            f"{path.name} describes a curved detector; expected a flat one: resample the images."
        )
    missing = [
        k for k in ("SourceToIsocenterDistance", "SourceToDetectorDistance", "GantryAngle") if k not in given
    ]
    if missing:
        raise InputError(f"{path.name} lacks {', '.join(missing)} in a Projection: add it.")
    sad, sid = given["SourceToIsocenterDistance"], given["SourceToDetectorDistance"]
    check_distances(sad, sid, (1.0, 1.0), path.name)
    gantry = math.radians(given["GantryAngle"])
    tilt = math.radians(given.get("OutOfPlaneAngle", 0.0))
    roll = math.radians(given.get("InPlaneAngle", 0.0))
    source = np.array([given.get("SourceOffsetX", 0.0), given.get("SourceOffsetY", 0.0)])
    offset = np.array([given.get("ProjectionOffsetX", 0.0), given.get("ProjectionOffsetY", 0.0)])
    # Euler ZXY of the object, so every angle enters with its sign reversed.
    rotation = _turn(2, -roll) @ _turn(0, -tilt) @ _turn(1, -gantry)
    camera = rigid(rotation, np.array([-source[0], -source[1], -sad]))
    magnify = np.array([[-sid, 0, 0, 0], [0, -sid, 0, 0], [0, 0, 1.0, 0]])
    shift = np.eye(3)
    shift[:2, 2] = source - offset
    return np.asarray(shift @ magnify @ camera)


def _turn(axis: int, angle: float) -> NDArray[np.float64]:
    """The rotation matrix about one axis."""
    i, j = (axis + 1) % 3, (axis + 2) % 3
    out = np.eye(3)
    out[i, i] = out[j, j] = math.cos(angle)
    out[j, i] = math.sin(angle)
    out[i, j] = -math.sin(angle)
    return out


def geometry_of_json(value: Any, path: Path, width_px: int, height_px: int, count: int | None) -> Geometry:
    """Geometry of a JSON value: 4DRGS transforms, a list of matrices, or our generic angle list.

    The generic form: ``sad_mm``, ``sid_mm``, ``pixel_mm`` [x, y], ``primary_rad`` or ``primary_deg`` and
    optionally ``secondary_*`` (a number, or one per image), ``matrices``, ``times_s`` or ``frame_time_s``.
    """
    if isinstance(value, list):
        value = {"matrices": value}
    if not isinstance(value, dict):
        raise InputError(f"{path.name} must hold a JSON object or a list of matrices: correct it.")
    if "frames" in value:
        # Imported here because that module builds on this one.
        from splatomy.io.transforms import geometry_of_transforms

        return geometry_of_transforms(value, path, width_px, height_px)
    if count is None:
        count = _num_views(value, path)
    times = None
    if value.get("times_s") is not None:
        times = _numbers(value["times_s"], "times_s", path)
    elif value.get("frame_time_s") is not None:
        times = np.arange(count, dtype=np.float64) * number(value["frame_time_s"], "frame_time_s", path)
    if "matrices" in value:
        matrices = _numbers(value["matrices"], "matrices", path)
        if matrices.size % 12:
            raise InputError(f"{path.name}: matrices must be 3x4, 12 numbers each: correct it.")
        cameras, flip = cameras_of_matrices(matrices.reshape(-1, 3, 4), width_px, height_px, path.name)
        return Geometry(cameras, f"projection matrices in {path.name}", flip, times)
    sad, sid = number(value.get("sad_mm"), "sad_mm", path), number(value.get("sid_mm"), "sid_mm", path)
    pixel = _numbers(value.get("pixel_mm"), "pixel_mm", path).ravel()
    pixel = np.repeat(pixel, 2) if len(pixel) == 1 else pixel
    check_distances(sad, sid, pixel.tolist(), path.name)
    primary = _angles(value, "primary", path, required=True)
    secondary = _angles(value, "secondary", path, required=False)
    try:
        angles = np.broadcast_to(primary, (count,)), np.broadcast_to(secondary, (count,))
    except ValueError:
        raise InputError(
            f"{path.name} gives {len(primary)} primary and {len(secondary)} secondary angles but the run has "
            f"{count} images; expected one angle per image: correct it."
        ) from None
    pitch = (float(pixel[0]), float(pixel[1]))
    cameras = cone_beam(*angles, sad, sid, width_px, height_px, pitch)
    return Geometry(cameras, f"angles in {path.name}", False, times, sid_mm=sid, pixel_mm=pitch)


def _num_views(value: Mapping[str, Any], path: Path) -> int:
    """How many views a JSON object describes."""
    if "matrices" in value:
        return _numbers(value["matrices"], "matrices", path).size // 12
    primary = _angles(value, "primary", path, required=True)
    return max(len(primary), len(_angles(value, "secondary", path, required=False)))


def _angles(value: Mapping[str, Any], name: str, path: Path, *, required: bool) -> NDArray[np.float64]:
    """Angles in radians of ``name_rad`` or ``name_deg``."""
    if f"{name}_deg" in value:
        return np.atleast_1d(np.radians(_numbers(value[f"{name}_deg"], f"{name}_deg", path)))
    if f"{name}_rad" in value:
        angles = np.atleast_1d(_numbers(value[f"{name}_rad"], f"{name}_rad", path))
        check_radians(angles, np.zeros(1), path.name)
        return angles
    if required:
        raise InputError(f"{path.name} lacks {name}_deg (or {name}_rad), one gantry angle per image: add it.")
    return np.zeros(1)
