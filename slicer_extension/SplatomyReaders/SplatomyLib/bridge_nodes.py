"""Nodes, attributes, folders and transforms that every part of the bridge uses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray, vtk_to_numpy

from SplatomyLib.geometry import RELATIVE, World

ROLE, UNIT, WORLD, RUN = "Splatomy.Role", "Splatomy.Unit", "Splatomy.World", "Splatomy.RunFolder"


def add_node(scene: Any, kind: str, name: str, attributes: Mapping[str, str] | None = None) -> Any:
    """A new node of the class, with a name that no other node has.

    Raises:
        RuntimeError: the scene does not know the class (its module's logic is missing).
    """
    node = scene.AddNewNodeByClass(kind, scene.GenerateUniqueName(name))
    if node is None:
        raise RuntimeError(f"The scene knows no {kind}: the Slicer module that brings it is not loaded.")
    for key, value in (attributes or {}).items():
        node.SetAttribute(key, value)
    return node


def nodes_with(scene: Any, kind: str, attribute: str, value: str | None = None) -> list[Any]:
    """Nodes of a class that have the attribute (of that value), in the scene's order."""
    count = scene.GetNumberOfNodesByClass(kind)
    nodes = [scene.GetNthNodeByClass(i, kind) for i in range(count)]
    found = [node for node in nodes if node.GetAttribute(attribute) is not None]
    return [node for node in found if value is None or node.GetAttribute(attribute) == value]


def vtk_matrix(matrix: np.ndarray) -> vtk.vtkMatrix4x4:
    """A (4, 4) array as VTK's matrix."""
    out = vtk.vtkMatrix4x4()
    out.DeepCopy(np.asarray(matrix, dtype=np.float64).ravel().tolist())
    return out


def array_of(matrix: vtk.vtkMatrix4x4) -> np.ndarray:
    """VTK's matrix as a (4, 4) array."""
    return np.array([[matrix.GetElement(i, j) for j in range(4)] for i in range(4)])


# -- the subject hierarchy ---------------------------------------------------------------------------


def hierarchy(scene: Any) -> Any:
    """The scene's subject hierarchy."""
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)


def folder(scene: Any, name: str, parent: int | None = None) -> int:
    """The item of a new folder."""
    tree = hierarchy(scene)
    top = tree.GetSceneItemID() if parent is None else parent
    return int(tree.CreateFolderItem(top, tree.GenerateUniqueItemName(name)))


def put_into(scene: Any, item: int, nodes: Iterable[Any]) -> None:
    """Moves nodes into a folder."""
    tree = hierarchy(scene)
    for node in nodes:
        if node is not None:
            found = tree.GetItemByDataNode(node)
            # Nodes that Slicer hides have no item of their own until they get one.
            if found:
                tree.SetItemParent(found, item)
            else:
                tree.CreateItem(item, node)


# -- worlds and units --------------------------------------------------------------------------------


def world_transform(scene: Any, world: World, name: str) -> Any:
    """The transform that the nodes of a world hang under, or None when its coordinates are the patient's.

    Its name and attributes say what the frame is and whether its lengths have a unit; a clinician may
    register it to a patient by changing its matrix.
    """
    if world.is_registered:
        return None
    kind = "isocentre" if world.is_lps else "endoscope"
    scale = "no unit" if world.unit == RELATIVE else "mm"
    attributes = {ROLE: "world", UNIT: world.unit, WORLD: world.name}
    title = f"{name}: {kind} to RAS (not registered, {scale})"
    node = add_node(scene, "vtkMRMLLinearTransformNode", title, attributes)
    node.SetMatrixTransformToParent(vtk_matrix(world.scene_from_nodes()))
    return node


def mark(node: Any, role: str, world: World, transform: Any = None) -> Any:
    """Says what a node is and in which unit, and hangs it under the transform of its world."""
    node.SetAttribute(ROLE, role)
    node.SetAttribute(UNIT, world.unit)
    node.SetAttribute(WORLD, world.name)
    if transform is not None and hasattr(node, "SetAndObserveTransformNodeID"):
        node.SetAndObserveTransformNodeID(transform.GetID())
    return node


def unit_of(node: Any) -> str:
    """The unit of lengths on a node: its own, else that of the transform that it hangs under, else mm."""
    while node is not None:
        unit = node.GetAttribute(UNIT)
        if unit is not None:
            return str(unit)
        node = node.GetParentTransformNode() if hasattr(node, "GetParentTransformNode") else None
    return "mm"


# -- arrays ------------------------------------------------------------------------------------------


def surface(points: np.ndarray, faces: np.ndarray, arrays: Mapping[str, np.ndarray]) -> vtk.vtkPolyData:
    """Triangles as VTK data; ``arrays`` go to the points. Without triangles each point is drawn."""
    data = vtk.vtkPolyData()
    corners = vtk.vtkPoints()
    corners.SetData(numpy_to_vtk(np.ascontiguousarray(points, dtype=np.float32), deep=True))
    data.SetPoints(corners)
    size = 3 if len(faces) else 1
    index = faces if len(faces) else np.arange(len(points))
    offsets = np.arange(0, index.size + 1, size, dtype=np.int64)
    cells = vtk.vtkCellArray()
    flat = np.ascontiguousarray(index, dtype=np.int64).ravel()
    cells.SetData(numpy_to_vtkIdTypeArray(offsets, deep=True), numpy_to_vtkIdTypeArray(flat, deep=True))
    data.SetPolys(cells) if len(faces) else data.SetVerts(cells)
    for name, values in arrays.items():
        add_array(data.GetPointData(), name, values)
    return data


def add_array(fields: Any, name: str, values: np.ndarray) -> None:
    """Adds a copy of the values under a name."""
    array = numpy_to_vtk(np.ascontiguousarray(values), deep=True)
    array.SetName(name)
    fields.AddArray(array)


def points_of(data: vtk.vtkPolyData) -> np.ndarray:
    """(N, 3) float64."""
    return vtk_to_numpy(data.GetPoints().GetData()).astype(np.float64)


def colour_table(scene: Any, name: str, colours: np.ndarray) -> Any:
    """The scene's continuous colour table of that name, made when it is missing.

    colours: (N, 3) in [0, 1], low to high, spread evenly and interpolated to 256 steps.
    """
    found = nodes_with(scene, "vtkMRMLColorTableNode", ROLE, f"colours: {name}")
    if found:
        return found[0]
    node = add_node(scene, "vtkMRMLColorTableNode", f"Splatomy {name}", {ROLE: f"colours: {name}"})
    node.SetTypeToUser()
    node.SetNumberOfColors(256)
    places = np.linspace(0, 1, len(colours))
    for step in range(256):
        red, green, blue = (float(np.interp(step / 255, places, colours[:, c])) for c in range(3))
        node.SetColor(step, f"{step / 255:.2f}", red, green, blue, 1.0)
    node.HideFromEditorsOff()
    return node
