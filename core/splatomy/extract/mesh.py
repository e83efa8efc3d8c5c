"""Iso-surfaces of volumes and their clean-up (VTK, imported when first used)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from splatomy.errors import InputError
from splatomy.extract.vessels import VesselLabel
from splatomy.scene import Mesh, Volume


def iso_surface(volume: Volume, level: float) -> Mesh:
    """The surface where the volume crosses ``level``, in world mm, faces turned outwards (to low values).

    Regions that reach the volume's faces are closed there. A volume that never exceeds the level
    gives a mesh without faces.

    Args:
        volume: values (I, J, K) in any unit.
        level: in the same unit.

    Source: flying edges (Schroeder et al. 2015, VTK).
    """
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkFiltersCore import vtkFlyingEdges3D

    values = np.nan_to_num(np.asarray(volume.values, dtype=np.float32))
    # A rim below the level closes the surface; its height puts the cap half a voxel outside.
    low = np.float32(min(float(values.min(initial=0.0)), 2 * level - float(values.max(initial=0.0))))
    padded = np.pad(values, 1, constant_values=low)
    image = vtkImageData()
    image.SetDimensions(*padded.shape)
    image.GetPointData().SetScalars(numpy_to_vtk(padded.ravel(order="F"), deep=True))
    contour = vtkFlyingEdges3D()
    contour.SetInputData(image)
    contour.SetValue(0, level)
    contour.ComputeNormalsOff()
    contour.ComputeScalarsOff()
    contour.Update()
    index, faces = _arrays(contour.GetOutput())
    affine = volume.affine_mm
    world = (index - 1.0) @ affine[:3, :3].T + affine[:3, 3]
    # Flying edges turns faces towards low values in index space; a mirrored affine turns them over.
    if np.linalg.det(affine[:3, :3]) < 0:
        faces = faces[:, ::-1]
    return Mesh(world.astype(np.float32), np.ascontiguousarray(faces, dtype=np.int32))


def vessel_surface(vessels: VesselLabel, *, smooth: bool = False) -> Mesh:
    """The sub-voxel wall of a vessel label, world mm; ``smooth`` relaxes the steps of noise."""
    mesh = iso_surface(Volume(vessels.fill, vessels.affine_mm), 1.0)
    return smooth_mesh(mesh) if smooth else mesh


def smooth_mesh(mesh: Mesh, iterations: int = 20, pass_band: float = 0.1) -> Mesh:
    """The mesh after windowed-sinc smoothing, which keeps volumes nearly unchanged.

    Args:
        mesh: triangles; colours and evidence stay with their vertices.
        iterations: degree of the filter.
        pass_band: 0 = smoothest, 2 = unchanged; small bands round sharp features off.

    Source: Taubin, Zhang and Golub 1996 (VTK).
    """
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkFiltersCore import vtkWindowedSincPolyDataFilter

    if not len(mesh.faces) or iterations < 1:
        return mesh
    smoother = vtkWindowedSincPolyDataFilter()
    smoother.SetInputData(_polydata(mesh))
    smoother.SetNumberOfIterations(iterations)
    smoother.SetPassBand(pass_band)
    smoother.BoundarySmoothingOff()
    smoother.FeatureEdgeSmoothingOff()
    smoother.NonManifoldSmoothingOn()
    smoother.NormalizeCoordinatesOn()
    smoother.Update()
    vertices = vtk_to_numpy(smoother.GetOutput().GetPoints().GetData())
    return Mesh(vertices.astype(np.float32), mesh.faces, mesh.colours, mesh.evidence)


def decimated(mesh: Mesh, num_faces: int) -> Mesh:
    """The mesh with about ``num_faces`` triangles; colours and evidence are those of the nearest old vertex.

    Source: quadric error metrics (Garland and Heckbert 1997, VTK).
    """
    from vtkmodules.vtkFiltersCore import vtkQuadricDecimation

    if len(mesh.faces) <= num_faces:
        return mesh
    filter_ = vtkQuadricDecimation()
    filter_.SetInputData(_polydata(mesh))
    filter_.SetTargetReduction(1 - num_faces / len(mesh.faces))
    filter_.VolumePreservationOn()
    filter_.Update()
    vertices, faces = _arrays(filter_.GetOutput())
    # The filter leaves vertices behind that no triangle uses.
    used, number = np.unique(faces, return_inverse=True)
    vertices, faces = vertices[used], number.reshape(-1, 3)
    _, nearest = cKDTree(mesh.vertices_mm).query(vertices, workers=-1)
    colours = None if mesh.colours is None else mesh.colours[nearest]
    evidence = None if mesh.evidence is None else mesh.evidence[nearest]
    return Mesh(vertices.astype(np.float32), faces.astype(np.int32), colours, evidence)


def largest_components(mesh: Mesh, keep: int = 1, min_area_share: float = 0.0) -> Mesh:
    """The connected pieces of largest area.

    Args:
        mesh: triangles.
        keep: how many pieces; 0 = no limit.
        min_area_share: pieces below this share of the largest piece's area are dropped.

    Raises:
        InputError: ``keep`` is negative.
    """
    if keep < 0:
        raise InputError(f"The number of mesh pieces to keep must be 0 (all) or more, got {keep}.")
    if not len(mesh.faces):
        return mesh
    count = len(mesh.vertices_mm)
    rows = mesh.faces.ravel()
    columns = np.roll(mesh.faces, -1, axis=1).ravel()
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(count, count))
    pieces, piece = connected_components(graph, directed=False)
    corners = mesh.vertices_mm[mesh.faces].astype(np.float64)
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    area = np.bincount(piece[mesh.faces[:, 0]], areas, minlength=pieces)
    order = np.argsort(-area, kind="stable")[: keep or pieces]
    chosen = order[area[order] >= min_area_share * area[order[0]]]
    return _of_faces(mesh, np.isin(piece[mesh.faces[:, 0]], chosen))


def _of_faces(mesh: Mesh, faces: NDArray[np.bool_]) -> Mesh:
    """The mesh of the chosen faces alone, without unused vertices."""
    used, number = np.unique(mesh.faces[faces], return_inverse=True)

    def pick(array: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
        return None if array is None else array[used]

    return Mesh(
        mesh.vertices_mm[used],
        number.reshape(-1, 3).astype(np.int32),
        pick(mesh.colours),
        pick(mesh.evidence),
    )


def _polydata(mesh: Mesh) -> Any:
    """A vtkPolyData of the mesh's triangles."""
    from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray
    from vtkmodules.vtkCommonCore import vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData

    points = vtkPoints()
    points.SetData(numpy_to_vtk(np.ascontiguousarray(mesh.vertices_mm), deep=True))
    cells = vtkCellArray()
    offsets = np.arange(0, 3 * len(mesh.faces) + 1, 3, dtype=np.int64)
    cells.SetData(
        numpy_to_vtkIdTypeArray(offsets, deep=True),
        numpy_to_vtkIdTypeArray(np.ascontiguousarray(mesh.faces, dtype=np.int64).ravel(), deep=True),
    )
    data = vtkPolyData()
    data.SetPoints(points)
    data.SetPolys(cells)
    return data


def _arrays(data: Any) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices (V, 3) and triangles (F, 3) of a vtkPolyData."""
    from vtkmodules.util.numpy_support import vtk_to_numpy

    if data.GetNumberOfPolys() == 0:
        return np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64)
    vertices = vtk_to_numpy(data.GetPoints().GetData()).astype(np.float64)
    faces = vtk_to_numpy(data.GetPolys().GetConnectivityArray()).reshape(-1, 3)
    return vertices, faces.astype(np.int64)
