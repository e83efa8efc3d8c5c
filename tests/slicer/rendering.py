"""Pictures by Slicer's own displayable managers, off-screen: what a person would see in its views."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

THREE_D = (
    "vtkMRMLCameraDisplayableManager", "vtkMRMLViewDisplayableManager", "vtkMRMLModelDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D", "vtkMRMLVolumeRenderingDisplayableManager",
    "vtkMRMLMarkupsDisplayableManager", "vtkMRMLColorLegendDisplayableManager",
)  # fmt: skip


def three_d_view(made: Any, size: tuple[int, int], look: Any = None, white: bool = True) -> np.ndarray:
    """The 3D view of a scene, (H, W, 3). look: called with the camera; the whole scene without it."""
    scene, application = made.scene, made.application
    view = slicer.vtkMRMLViewNode()
    view.SetName("View1")
    view.SetLayoutName("1")
    view.SetBoxVisible(False)
    view.SetAxisLabelsVisible(False)
    if white:
        view.SetBackgroundColor(1, 1, 1)
        view.SetBackgroundColor2(1, 1, 1)
    view = scene.AddNode(view)
    renderer, window = vtk.vtkRenderer(), vtk.vtkRenderWindow()
    window.SetOffScreenRendering(True)
    window.SetSize(*size)
    window.SetMultiSamples(0)
    window.AddRenderer(renderer)
    interactor = vtk.vtkRenderWindowInteractor()
    interactor.SetRenderWindow(window)
    factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
    factory.SetMRMLApplicationLogic(application)
    for name in THREE_D:
        if not factory.IsDisplayableManagerRegistered(name):
            factory.RegisterDisplayableManager(name)
    managers = factory.InstantiateDisplayableManagers(renderer)
    managers.SetMRMLDisplayableNode(view)
    window.Render()
    renderer.ResetCamera()
    if look is not None:
        look(renderer.GetActiveCamera())
    renderer.ResetCameraClippingRange()
    window.Render()
    return _pixels(window)


def slice_view(made: Any, volume: Any, size: tuple[int, int]) -> np.ndarray:
    """The axial slice view of a volume with the segmentations on it, (H, W, 3)."""
    scene = made.scene
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLApplicationLogic(made.application)
    logic.SetMRMLScene(scene)
    node = logic.AddSliceNode("Red")
    node.SetOrientationToAxial()
    logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
    node.SetDimensions(*size, 1)
    logic.UpdatePipeline()
    logic.FitSliceToBackground(*size)
    logic.SnapSliceOffsetToIJK()
    logic.UpdatePipeline()
    renderer, window = vtk.vtkRenderer(), vtk.vtkRenderWindow()
    window.SetOffScreenRendering(True)
    window.SetSize(*size)
    window.AddRenderer(renderer)
    interactor = vtk.vtkRenderWindowInteractor()
    interactor.SetRenderWindow(window)
    mapper, actor = vtk.vtkImageMapper(), vtk.vtkActor2D()
    mapper.SetColorWindow(255)
    mapper.SetColorLevel(127.5)
    port = logic.GetImageDataConnection()
    port.GetProducer().Update()
    blended = vtk.vtkImageData()
    blended.DeepCopy(port.GetProducer().GetOutputDataObject(port.GetIndex()))
    mapper.SetInputData(blended)
    actor.SetMapper(mapper)
    renderer.AddViewProp(actor)
    factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
    factory.SetMRMLApplicationLogic(made.application)
    for name in ("vtkMRMLSegmentationsDisplayableManager2D", "vtkMRMLModelSliceDisplayableManager"):
        if not factory.IsDisplayableManagerRegistered(name):
            factory.RegisterDisplayableManager(name)
    managers = factory.InstantiateDisplayableManagers(renderer)
    managers.SetMRMLDisplayableNode(node)
    # Nodes that were there before the manager are drawn at their next change.
    for number in range(scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")):
        scene.GetNthNodeByClass(number, "vtkMRMLSegmentationNode").GetDisplayNode().Modified()
    node.Modified()
    window.Render()
    picture = _pixels(window)
    logic.SetMRMLScene(None)
    return picture


def _pixels(window: Any) -> np.ndarray:
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    grab.Update()
    image = grab.GetOutput()
    width, height, _ = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[::-1, :, :3].copy()


def save(picture: np.ndarray, path: Path) -> None:
    """Writes (H, W, 3) as PNG."""
    from SplatomyLib.bridge_frames import image_of

    writer = vtk.vtkPNGWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(image_of(picture[::-1]))
    writer.Write()
