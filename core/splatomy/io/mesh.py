"""Triangle meshes and centrelines on disk: ply, obj, stl, glb and vtp, coordinates in mm as they are."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import trimesh
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.io.atomic import atomic_path
from splatomy.io.vtp import read_vtp
from splatomy.scene import Mesh

MESH_SUFFIXES = (".ply", ".obj", ".stl", ".glb", ".vtp")


class CentrelineLike(Protocol):
    """What ``extract.centreline.Centreline`` has; io and extract do not import each other."""

    @property
    def points_mm(self) -> NDArray[np.float64]: ...
    @property
    def radius_mm(self) -> NDArray[np.float64]: ...
    @property
    def parent(self) -> NDArray[np.int64]: ...
    @property
    def branch(self) -> NDArray[np.int64]: ...
    @property
    def arrival_s(self) -> NDArray[np.float64] | None: ...


def write_mesh(path: Path | str, mesh: Mesh) -> None:
    """Writes a mesh in the format of the path's extension, atomically.

    ply and vtp keep ``evidence`` as the vertex property of that name; obj, stl and glb have no place
    for it. stl has no colours either. glb is written in mm, although its standard says metres, so
    that every format of ours has one scale.

    Raises:
        InputError: an unknown extension, or a mesh without faces.
    """
    target = Path(path)
    suffix = _suffix(target)
    if not len(mesh.faces):
        raise InputError(f"{target.name} is not written: the mesh has no faces; lower the surface level.")
    with atomic_path(target) as temporary:
        if suffix == ".vtp":
            _write_vtp(temporary, _mesh_polydata(mesh))
            return
        surface = trimesh.Trimesh(mesh.vertices_mm, mesh.faces, process=False, validate=False)
        if mesh.colours is not None and suffix != ".stl":
            colours = np.clip(np.rint(mesh.colours * 255), 0, 255).astype(np.uint8)
            surface.visual = trimesh.visual.ColorVisuals(surface, vertex_colors=colours)
        if mesh.evidence is not None and suffix == ".ply":
            surface.vertex_attributes["evidence"] = mesh.evidence.astype(np.float32)
        temporary.write_bytes(_encoded(surface, suffix))


def read_mesh(path: Path | str) -> Mesh:
    """The triangle mesh of a file, coordinates unchanged; several objects are joined.

    stl repeats each corner for each triangle: equal ones are merged.

    Raises:
        InputError: missing, unknown, damaged, or without triangles.
    """
    source = Path(path)
    suffix = _suffix(source)
    if not source.is_file():
        raise InputError(f"{source} does not exist; expected a mesh file: check the path.")
    if suffix == ".vtp":
        return _read_vtp_mesh(source)
    try:
        # Of the bytes, not of the path: materials and buffers that a file names elsewhere are not read.
        surface: Any = trimesh.load(
            io.BytesIO(source.read_bytes()), suffix[1:], force="mesh", process=False, maintain_order=True
        )
        vertices = np.asarray(surface.vertices, dtype=np.float32).reshape(-1, 3)
        faces = np.asarray(surface.faces, dtype=np.int32).reshape(-1, 3)
    except Exception as error:
        raise InputError(
            f"{source.name} cannot be read as a {suffix} mesh ({type(error).__name__}); "
            "copy or export it again."
        ) from error
    _check(source, vertices, faces)
    if suffix == ".stl":
        vertices, number = np.unique(vertices, axis=0, return_inverse=True)
        faces = number.reshape(-1)[faces].astype(np.int32)
    return Mesh(vertices, faces, _colours(surface, len(vertices)), _evidence(surface, len(vertices)))


def write_centreline_vtp(path: Path | str, line: CentrelineLike) -> None:
    """Writes one polyline per branch, from the junction it leaves to its end, atomically.

    Point arrays: MaximumInscribedSphereRadius (mm, VMTK's name) and ArrivalTime (s, NaN = unknown).
    Cell array: BranchId.

    Raises:
        InputError: the extension is not vtp.
    """
    target = Path(path)
    if target.suffix.lower() != ".vtp":
        raise InputError(f"Centrelines are written as .vtp, got {target.name}; change the extension.")
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonCore import vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData

    points = vtkPoints()
    points.SetData(numpy_to_vtk(np.ascontiguousarray(line.points_mm, dtype=np.float64), deep=True))
    cells = vtkCellArray()
    ids = []
    for number, chain in _chains(line):
        cells.InsertNextCell(len(chain))
        for point in chain:
            cells.InsertCellPoint(int(point))
        ids.append(number)
    data = vtkPolyData()
    data.SetPoints(points)
    data.SetLines(cells)
    arrival = np.full(len(line.points_mm), np.nan) if line.arrival_s is None else line.arrival_s
    _add(data.GetPointData(), "MaximumInscribedSphereRadius", line.radius_mm)
    _add(data.GetPointData(), "ArrivalTime", arrival)
    _add(data.GetCellData(), "BranchId", np.asarray(ids, dtype=np.int64))
    with atomic_path(target) as temporary:
        _write_vtp(temporary, data)


def read_lines_vtp(path: Path | str) -> tuple[NDArray[np.float64], dict[str, NDArray[Any]]]:
    """Points (M, 3) and the named point arrays of a vtp file: our centrelines or VMTK's.

    Raises:
        InputError: the file is missing or has no points.
    """
    data = read_vtp(Path(path))
    return data.points.astype(np.float64), dict(data.fields)


def _chains(line: CentrelineLike) -> list[tuple[int, list[int]]]:
    """(branch number, point indices) of each branch with at least one segment."""
    order = np.argsort(line.branch, kind="stable")
    starts = np.flatnonzero(np.diff(line.branch[order], prepend=-1))
    chains = []
    for part in np.split(order, starts[1:]) if len(order) else []:
        chain = [int(p) for p in part]
        before = int(line.parent[chain[0]])
        # The junction belongs to the parent branch; without it a gap would show.
        chain = ([before] if before >= 0 else []) + chain
        if len(chain) > 1:
            chains.append((int(line.branch[chain[-1]]), chain))
    return chains


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in MESH_SUFFIXES:
        raise InputError(
            f"{path.name} has no mesh extension; expected one of {', '.join(MESH_SUFFIXES)}: rename it."
        )
    return suffix


def _encoded(surface: trimesh.Trimesh, suffix: str) -> bytes:
    # glb keeps the triangle order of the input, and trimesh returns text for obj.
    data = surface.export(file_type=suffix[1:])
    return data.encode() if isinstance(data, str) else bytes(data)


def _check(path: Path, vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> None:
    if not len(vertices) or not len(faces):
        raise InputError(f"{path.name} holds no triangles; expected a surface mesh: export it again.")
    if faces.min() < 0 or faces.max() >= len(vertices) or not np.isfinite(vertices).all():
        raise InputError(f"{path.name} is damaged: wrong indices or coordinates; export it again.")


def _colours(surface: trimesh.Trimesh, count: int) -> NDArray[np.float32] | None:
    visual: Any = surface.visual
    if getattr(visual, "kind", None) != "vertex" or len(visual.vertex_colors) != count:
        return None
    return (np.asarray(visual.vertex_colors)[:, :3] / 255).astype(np.float32)


def _evidence(surface: trimesh.Trimesh, count: int) -> NDArray[np.float32] | None:
    raw = surface.metadata.get("_ply_raw") or {}
    data = raw.get("vertex", {}).get("data")
    names = getattr(getattr(data, "dtype", None), "names", None) or (data if isinstance(data, dict) else ())
    if data is None or "evidence" not in names:
        return None
    values = np.asarray(data["evidence"], dtype=np.float32).reshape(-1)
    return values if len(values) == count else None


def _mesh_polydata(mesh: Mesh) -> Any:
    from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray
    from vtkmodules.vtkCommonCore import vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData

    points = vtkPoints()
    points.SetData(numpy_to_vtk(np.ascontiguousarray(mesh.vertices_mm), deep=True))
    offsets = np.arange(0, 3 * len(mesh.faces) + 1, 3, dtype=np.int64)
    corners = np.ascontiguousarray(mesh.faces, dtype=np.int64).ravel()
    cells = vtkCellArray()
    cells.SetData(numpy_to_vtkIdTypeArray(offsets, deep=True), numpy_to_vtkIdTypeArray(corners, deep=True))
    data = vtkPolyData()
    data.SetPoints(points)
    data.SetPolys(cells)
    if mesh.evidence is not None:
        _add(data.GetPointData(), "evidence", mesh.evidence)
    if mesh.colours is not None:
        _add(data.GetPointData(), "RGB", np.clip(np.rint(mesh.colours * 255), 0, 255).astype(np.uint8))
    return data


def _add(fields: Any, name: str, values: NDArray[Any]) -> None:
    from vtkmodules.util.numpy_support import numpy_to_vtk

    array = numpy_to_vtk(np.ascontiguousarray(values), deep=True)
    array.SetName(name)
    fields.AddArray(array)


def _write_vtp(path: Path, data: Any) -> None:
    from vtkmodules.vtkIOXML import vtkXMLPolyDataWriter

    writer = vtkXMLPolyDataWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(data)
    writer.SetDataModeToAppended()
    writer.EncodeAppendedDataOff()
    if writer.Write() != 1:
        raise OSError(f"VTK could not write {path}")


def _read_vtp_mesh(path: Path) -> Mesh:
    data = read_vtp(path)
    vertices, faces = data.points.astype(np.float32), data.triangles
    if not len(faces):
        raise InputError(f"{path.name} holds no triangles; expected a surface mesh: export it again.")
    _check(path, vertices, faces)
    colours, evidence = data.fields.get("RGB"), data.fields.get("evidence")
    if colours is not None and (colours.ndim != 2 or colours.shape[1] < 3):
        colours = None
    if evidence is not None and evidence.ndim != 1:
        evidence = None
    return Mesh(
        vertices,
        faces,
        None if colours is None else colours[:, :3].astype(np.float32) / np.float32(255),
        None if evidence is None else evidence.astype(np.float32),
    )
