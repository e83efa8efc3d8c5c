"""A MRML scene with 3D Slicer's module logics, made of the wheel ``slicer-core``, without the application.

It has what Slicer's start-up gives to every scene: node classes registered by the logics, colour nodes,
and the reader of scene bundles.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import slicer
import vtk

# The order in which Slicer's start-up makes them; later ones look up earlier ones.
LOGICS = {
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Units": "vtkSlicerUnitsLogic",
    "Colors": "vtkSlicerColorLogic",
    "Cameras": "vtkSlicerCamerasModuleLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Models": "vtkSlicerModelsLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Texts": "vtkSlicerTextsLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
}


class SlicerScene:
    """The scene, the application logic and the module logics; they must live as long as the scene."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.scene = slicer.vtkMRMLScene()
        slicer.mrmlScene = self.scene
        self.application = slicer.vtkSlicerApplicationLogic()
        self.application.SetTemporaryPath(str(folder))
        self.application.SetMRMLScene(self.scene)
        self.logics: dict[str, Any] = {}
        # They look for terminologies and colours that come with the application.
        shown = vtk.vtkObject.GetGlobalWarningDisplay()
        vtk.vtkObject.SetGlobalWarningDisplay(False)
        for name, kind in LOGICS.items():
            logic = getattr(slicer, kind)()
            logic.SetMRMLApplicationLogic(self.application)
            logic.SetMRMLScene(self.scene)
            self.application.SetModuleLogic(name, logic)
            self.logics[name] = logic
        vtk.vtkObject.SetGlobalWarningDisplay(shown)
        # slicer.util looks module logics up there, as it does in the application.
        slicer.modules = SimpleNamespace(
            **{name.lower(): _module(logic) for name, logic in self.logics.items()}
        )
        self._bundles = self._bundle_reader(folder)

    def _bundle_reader(self, folder: Path) -> tuple[Any, Any]:
        """What reading a .mrb file needs."""
        remote, manager = slicer.vtkMRMLRemoteIOLogic(), slicer.vtkDataIOManagerLogic()
        remote.SetMRMLScene(self.scene)
        manager.SetMRMLApplicationLogic(self.application)
        remote.GetCacheManager().SetRemoteCacheDirectory(str(folder / "cache"))
        remote.AddDataIOToScene()
        manager.SetAndObserveDataIOManager(remote.GetDataIOManager())
        return remote, manager

    def close(self) -> None:
        """Ends the scene before its logics."""
        self.scene.Clear(True)


def _module(logic: Any) -> Any:
    give: Callable[[], Any] = lambda: logic  # noqa: E731 - a method of the stand-in for a module
    return SimpleNamespace(logic=give)
