"""The newest snapshot of a run in the scene: one set of nodes, changed in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk

from SplatomyLib import bridge_frames, bridge_models, bridge_volumes
from SplatomyLib.bridge_markups import add_measurement
from SplatomyLib.bridge_nodes import UNIT, add_node, mark, surface
from SplatomyLib.files import UnusableFile, read_ply
from SplatomyLib.geometry import World, applied
from SplatomyLib.live import LivePoints

EVERY_S = 2.0


class LivePreview:
    """Shows snapshots at most every ``every_s`` seconds; older ones that were not shown are dropped.

    world: of the input; its transform places the preview. A live session's points replace its Gaussians.
    """

    def __init__(
        self, scene: Any, name: str, world: World, transform: Any = None, every_s: float = EVERY_S
    ) -> None:
        self._scene, self._name, self._world, self._transform = scene, name, world, transform
        self._every_s = every_s
        self.points = LivePoints()
        self._nodes: dict[str, str] = {}
        self._waiting: dict[str, str] | None = None
        self._shown_s: float | None = None

    def offer(self, files: Mapping[str, str]) -> None:
        """A snapshot was announced."""
        self._waiting = dict(files)

    def show(self, now_s: float) -> bool:
        """Loads the newest snapshot when it is time; True if something was shown.

        A snapshot's files are removed by the engine when newer ones are there: one that is gone already
        is passed over.
        """
        if self._waiting is None or (self._shown_s is not None and now_s - self._shown_s < self._every_s):
            return False
        files, self._waiting = self._waiting, None
        self._shown_s = now_s
        shown = False
        for kind, show in (
            ("volume", self._volume), ("gaussians", self._gaussians), ("points", self._points),
            ("preview", self._picture),
        ):  # fmt: skip
            if kind in files and not (kind == "gaussians" and "points" in files):
                shown |= self._tried(show, Path(files[kind]))
        return shown

    def _tried(self, show: Callable[[Path], None], path: Path) -> bool:
        try:
            show(path)
        except (OSError, UnusableFile):
            return False
        return True

    def nodes(self) -> list[Any]:
        """The nodes that are still in the scene."""
        found = [self._scene.GetNodeByID(identifier) for identifier in self._nodes.values()]
        return [node for node in found if node is not None]

    def remove(self) -> None:
        """Takes the preview out of the scene."""
        for node in self.nodes():
            self._scene.RemoveNode(node)
        self._nodes = {}

    def _node(self, kind: str) -> Any:
        return self._scene.GetNodeByID(self._nodes[kind]) if kind in self._nodes else None

    def _keep(self, kind: str, node: Any) -> None:
        self._nodes[kind] = node.GetID()

    def _volume(self, path: Path) -> None:
        node = self._node("volume")
        if node is None:
            name = f"{self._name} preview"
            node = bridge_volumes.load_volume(self._scene, path, name, self._world, self._transform)
            bridge_volumes.show_vessels(self._scene, node)
            self._keep("volume", node)
            return
        new = slicer.vtkMRMLScalarVolumeNode()
        bridge_volumes.read_into(new, path)
        matrix = vtk.vtkMatrix4x4()
        new.GetIJKToRASMatrix(matrix)
        was_modifying = node.StartModify()
        node.SetAndObserveImageData(new.GetImageData())
        node.SetIJKToRASMatrix(matrix)
        node.EndModify(was_modifying)

    def _gaussians(self, path: Path) -> None:
        self._show_points(bridge_models.gaussian_data(read_ply(path), self._world))

    def _points(self, path: Path) -> None:
        points = self.points
        points.take(path)
        if points.metric != self._world.metric:
            # The surgeon has set the scale, or has taken it back.
            self._world = World(self._world.name, points.metric)
            if self._transform is not None:
                self._transform.SetAttribute(UNIT, self._world.unit)
        places = applied(self._world.nodes_from_file(), points.arrays("xyz", 3))
        colours = points.arrays("rgb", 3).astype(np.uint8)
        arrays = {"RGB": colours, "confidence": points.arrays("confidence", 1)}
        self._show_points(surface(places, np.empty((0, 3)), arrays))
        self._show_marks()

    def _show_marks(self) -> None:
        """Marks of the session as fiducials that follow the tissue."""
        node, marks = self._node("marks"), self.points.marks()
        if node is None:
            if not marks:
                return
            name, unit = f"{self._name} marks", self._world.unit
            node = add_measurement(self._scene, "points", np.zeros((0, 3)), name, self._transform, unit)
            node.SetLocked(True)
            self._keep("marks", node)
        node.RemoveAllControlPoints()
        for name, place in marks:
            point = applied(self._world.nodes_from_file(), place[None])[0]
            node.AddControlPoint(vtk.vtkVector3d(*point), name)

    def _show_points(self, data: vtk.vtkPolyData) -> None:
        node = self._node("gaussians")
        if node is None:
            node = add_node(self._scene, "vtkMRMLModelNode", f"{self._name} preview points")
            mark(node, "gaussians", self._world, self._transform)
            node.SetAndObserveMesh(data)
            node.CreateDefaultDisplayNodes()
            node.GetDisplayNode().SetPointSize(3)
            node.GetDisplayNode().SetVisibility2D(False)
            if data.GetPointData().HasArray("RGB"):
                bridge_models.show_own_colours(node)
            self._keep("gaussians", node)
        else:
            node.SetAndObserveMesh(data)

    def _picture(self, path: Path) -> None:
        node = self._node("preview")
        picture = bridge_frames.read_picture(path)
        name = f"{self._name} preview picture"
        self._keep("preview", bridge_frames.show_new_picture(self._scene, node, picture, name))
