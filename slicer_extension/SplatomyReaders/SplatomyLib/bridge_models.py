"""Meshes, moving meshes with evidence, centrelines and Gaussians as models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from SplatomyLib.bridge_frames import add_to_browser, new_sequence
from SplatomyLib.bridge_nodes import add_array, add_node, colour_table, mark, points_of, surface
from SplatomyLib.files import Ply, UnusableFile, read_ply
from SplatomyLib.geometry import World, applied, index_value

# Invented places are magenta, as in the engine's reports; really seen ones look like tissue.
_EVIDENCE_COLOURS = np.array([[0.9, 0.0, 0.9], [0.95, 0.6, 0.75], [0.98, 0.85, 0.75]])
_SH_DEGREE_0 = 0.28209479177387814
VESSEL_COLOUR = (0.85, 0.12, 0.12)


def mesh_data(ply: Ply, world: World) -> vtk.vtkPolyData:
    """A mesh in node coordinates, with ``evidence`` and ``RGB`` where the file has them."""
    arrays: dict[str, np.ndarray] = {}
    if ply.has("evidence"):
        arrays["evidence"] = ply.vertex["evidence"].astype(np.float32)
    if ply.has("red", "green", "blue"):
        arrays["RGB"] = np.stack([ply.vertex[c] for c in ("red", "green", "blue")], -1).astype(np.uint8)
    return surface(applied(world.nodes_from_file(), ply.points), ply.faces, arrays)


def load_mesh(scene: Any, path: Path, name: str, world: World, transform: Any = None) -> Any:
    """The model of a mesh file of the engine (.ply).

    Raises:
        UnusableFile: the file holds no triangles.
    """
    ply = read_ply(path)
    if not len(ply.faces):
        raise UnusableFile(
            f"{path.name} holds no triangles: expected a mesh. Open it as Gaussians or points."
        )
    node = add_node(scene, "vtkMRMLModelNode", name)
    node.SetAndObserveMesh(mesh_data(ply, world))
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetVisibility2D(True)
    mark(node, "mesh", world, transform)
    show_best_colours(scene, node)
    return node


def load_moving_mesh(
    scene: Any, files: Sequence[tuple[float, Path]], name: str, browser: Any, world: World,
    transform: Any = None,
) -> Any:  # fmt: skip
    """The sequence of a clip's meshes, (time in s, file), played by the browser; the newest model is shown.

    The model that changes with time is ``browser.GetProxyNode(sequence)``.
    """
    sequence = new_sequence(scene, name)
    mark(sequence, "moving mesh", world)
    for time_s, path in files:
        item = slicer.vtkMRMLModelNode()
        item.SetName(name)
        item.SetAndObserveMesh(mesh_data(read_ply(path), world))
        mark(item, "moving mesh", world)
        sequence.SetDataNodeAtValue(item, index_value(time_s))
    proxy = add_to_browser(scene, browser, sequence)
    proxy.CreateDefaultDisplayNodes()
    mark(proxy, "moving mesh", world, transform)
    show_best_colours(scene, proxy)
    return sequence


def show_best_colours(scene: Any, model: Any) -> None:
    """Evidence when the mesh has it, else its own colours, else those of vessels."""
    fields = model.GetPolyData().GetPointData()
    if fields.HasArray("evidence"):
        show_evidence(scene, model)
    elif fields.HasArray("RGB"):
        show_own_colours(model)
    else:
        model.GetDisplayNode().SetColor(*VESSEL_COLOUR)


def show_evidence(scene: Any, model: Any) -> None:
    """Colours a mesh by its share of real observations: 0 = invented (magenta), 1 = always seen."""
    display = model.GetDisplayNode()
    display.SetActiveScalar("evidence", vtk.vtkAssignAttribute.POINT_DATA)
    display.SetAndObserveColorNodeID(colour_table(scene, "evidence", _EVIDENCE_COLOURS).GetID())
    display.SetScalarRangeFlag(slicer.vtkMRMLDisplayNode.UseManualScalarRange)
    display.SetScalarRange(0.0, 1.0)
    display.SetScalarVisibility(True)


def show_own_colours(model: Any) -> None:
    """Colours a mesh as the camera saw it."""
    display = model.GetDisplayNode()
    display.SetActiveScalar("RGB", vtk.vtkAssignAttribute.POINT_DATA)
    display.SetScalarRangeFlag(slicer.vtkMRMLDisplayNode.UseDirectMapping)
    display.SetScalarVisibility(True)


def load_centreline(scene: Any, path: Path, name: str, world: World, transform: Any = None) -> Any:
    """The model of a centreline file (.vtp), one line per branch, ready for SlicerVMTK.

    VMTK's modules look for the point array ``Radius``; the file's own arrays stay as they are.

    Raises:
        UnusableFile: the file has no lines.
    """
    reader = vtk.vtkXMLPolyDataReader()
    reader.SetFileName(str(path))
    reader.Update()
    data = vtk.vtkPolyData()
    data.DeepCopy(reader.GetOutput())
    if data.GetNumberOfPoints() == 0 or data.GetNumberOfLines() == 0:
        raise UnusableFile(f"{path.name} holds no lines: expected centrelines. Make them again.")
    # In place: a new data set would lose the names of the branches.
    data.GetPoints().SetData(_points_array(applied(world.nodes_from_file(), points_of(data))))
    radius = data.GetPointData().GetArray("MaximumInscribedSphereRadius")
    if radius is not None:
        add_array(data.GetPointData(), "Radius", vtk_to_numpy(radius))
    node = add_node(scene, "vtkMRMLModelNode", name)
    node.SetAndObserveMesh(data)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetLineWidth(4)
    if radius is not None:
        display.SetActiveScalar("Radius", vtk.vtkAssignAttribute.POINT_DATA)
        display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeRainbow")
        display.SetScalarVisibility(True)
    return mark(node, "centreline", world, transform)


def _points_array(points: np.ndarray) -> Any:
    carrier = vtk.vtkPolyData()
    add_array(carrier.GetPointData(), "Points", np.ascontiguousarray(points, dtype=np.float64))
    return carrier.GetPointData().GetArray("Points")


def branches(model: Any) -> list[np.ndarray]:
    """The points (M, 3) of each line of a centreline model, in node coordinates."""
    data = model.GetPolyData()
    points = points_of(data)
    corners = vtk.vtkIdList()
    lines = []
    for cell in range(data.GetNumberOfCells()):
        data.GetCellPoints(cell, corners)
        lines.append(points[[corners.GetId(i) for i in range(corners.GetNumberOfIds())]])
    return lines


def load_gaussians(scene: Any, path: Path, name: str, world: World, transform: Any = None) -> Any:
    """Gaussians as a model of points; all their attributes are point arrays of the same names.

    Slicer has no renderer of Gaussians; the file stays the original and its path is an attribute.

    Raises:
        UnusableFile: no Gaussian PLY.
    """
    node = add_node(scene, "vtkMRMLModelNode", name)
    node.SetAndObserveMesh(gaussian_data(read_ply(path), world))
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetPointSize(3)
    node.GetDisplayNode().SetVisibility2D(False)
    node.SetAttribute("Splatomy.File", str(path))
    mark(node, "gaussians", world, transform)
    if node.GetPolyData().GetPointData().HasArray("RGB"):
        show_own_colours(node)
    else:
        node.GetDisplayNode().SetColor(*VESSEL_COLOUR)
    return node


def gaussian_data(ply: Ply, world: World) -> vtk.vtkPolyData:
    """Gaussians' centres in node coordinates with every attribute of the file."""
    if not ply.has("opacity", "scale_0", "rot_0"):
        raise UnusableFile("The file holds no Gaussians: expected opacity, scale and rotation at each point.")
    names = [name for name in ply.vertex.dtype.names or () if name not in ("x", "y", "z")]
    arrays = {name: ply.vertex[name].astype(np.float32) for name in names}
    if ply.has("f_dc_0", "f_dc_1", "f_dc_2"):
        mean = np.stack([ply.vertex[f"f_dc_{c}"] for c in range(3)], -1)
        arrays["RGB"] = (np.clip(0.5 + _SH_DEGREE_0 * mean, 0, 1) * 255).astype(np.uint8)
    return surface(applied(world.nodes_from_file(), ply.points), np.empty((0, 3)), arrays)
