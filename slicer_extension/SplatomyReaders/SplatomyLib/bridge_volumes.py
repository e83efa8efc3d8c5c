"""Vessel volumes, 4D volumes, time maps and labels, and how they are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from SplatomyLib.bridge_frames import new_browser, playback_fps, refresh, times_of
from SplatomyLib.bridge_masks import segmentation_of_label
from SplatomyLib.bridge_nodes import add_node, array_of, colour_table, mark
from SplatomyLib.files import UnusableFile, read_nifti_floats
from SplatomyLib.geometry import World

ATTENUATION, SECONDS = ("attenuation", "1/mm"), ("time", "s")
QUANTITY, VALUE_UNIT, EMPTY_VALUE = "Splatomy.Quantity", "Splatomy.ValueUnit", "Splatomy.EmptyValue"
# Early is red, late is blue: arterial before venous, as readers of DSA expect.
_TIME_COLOURS = np.array(
    [
        [0.8, 0.0, 0.0],
        [1.0, 0.55, 0.0],
        [0.95, 0.95, 0.2],
        [0.2, 0.8, 0.3],
        [0.1, 0.45, 0.9],
        [0.25, 0.1, 0.6],
    ]
)
_VESSEL_OPACITY = ((0.0, 0.0), (0.18, 0.0), (0.35, 0.25), (0.6, 0.7), (1.0, 0.9))
_VESSEL_COLOURS = (
    (0.0, 0.25, 0.0, 0.0),
    (0.35, 0.7, 0.12, 0.08),
    (0.6, 0.9, 0.45, 0.3),
    (1.0, 1.0, 0.95, 0.85),
)


def load_volume(
    scene: Any, path: Path, name: str, world: World, transform: Any = None,
    quantity: tuple[str, str] = ATTENUATION, kind: str = "vtkMRMLScalarVolumeNode",
) -> Any:  # fmt: skip
    """The volume of a .nii.gz, .nrrd or .mha file at its place; ``quantity`` = what its values are, unit.

    Raises:
        UnusableFile: Slicer cannot read it.
    """
    node = add_node(scene, kind, name)
    try:
        read_into(node, path)
    except UnusableFile:
        scene.RemoveNode(node)
        raise
    node.SetAttribute(QUANTITY, quantity[0])
    node.SetAttribute(VALUE_UNIT, quantity[1])
    node.CreateDefaultDisplayNodes()
    return mark(node, quantity[0], world, transform)


def read_into(node: Any, path: Path) -> None:
    """Reads a volume file into a volume node, which need not be in a scene.

    Raises:
        UnusableFile: Slicer cannot read it.
    """
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    storage.SetSingleFile(True)
    if not path.is_file() or not storage.ReadData(node):
        raise UnusableFile(f"{path.name} cannot be read as a volume. Make or export it again.")


def load_volume_4d(scene: Any, path: Path, name: str, world: World, transform: Any = None) -> Any:
    """The browser of a 4D volume (.seq.nrrd); its leading sequence has the times in seconds.

    Raises:
        UnusableFile: Slicer cannot read it.
    """
    sequence = add_node(scene, "vtkMRMLSequenceNode", name)
    # Outside a scene this storage node makes scalar items of vector ones.
    storage = add_node(scene, "vtkMRMLVolumeSequenceStorageNode", f"{name} storage")
    storage.SetFileName(str(path))
    if not path.is_file() or not storage.ReadData(sequence) or sequence.GetNumberOfDataNodes() == 0:
        scene.RemoveNode(sequence)
        scene.RemoveNode(storage)
        raise UnusableFile(f"{path.name} cannot be read as a sequence of volumes. Export it again.")
    sequence.SetAndObserveStorageNodeID(storage.GetID())
    sequence.SetIndexName("time")
    sequence.SetIndexUnit("s")
    mark(sequence, "attenuation over time", world)
    times = times_of(sequence)
    top = 0.0
    for number in range(len(times)):
        item = sequence.GetNthDataNode(number)
        top = max(top, float(values_of(item).max()))
        mark(item, "attenuation", world)
        item.SetAttribute(VALUE_UNIT, ATTENUATION[1])
    browser = new_browser(scene, f"{name} over time")
    browser.AddSynchronizedSequenceNode(sequence)
    refresh(scene, browser)
    browser.SetPlaybackRateFps(playback_fps(times))
    proxy = browser.GetProxyNode(sequence)
    proxy.CreateDefaultDisplayNodes()
    display = proxy.GetDisplayNode()
    # One window for all times, or the vessels would not fade.
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0.0, max(top, 1e-6))
    mark(proxy, "attenuation", world, transform)
    return browser


def load_time_map(scene: Any, path: Path, name: str, world: World, transform: Any = None) -> Any:
    """A map of times (s) in colours; where the file has no time (NaN) the display is clear.

    Slicer cannot show NaN: the node holds a number below all times there, written in its attribute.
    """
    node = load_volume(scene, path, name, world, transform, SECONDS)
    values = read_nifti_floats(path) if path.name.endswith((".nii", ".nii.gz")) else values_of(node)
    known = np.isfinite(values)
    low, high = (float(values[known].min()), float(values[known].max())) if known.any() else (0.0, 1.0)
    empty = float(np.floor(low) - 1)
    set_values(node, np.where(known, values, np.float32(empty)))
    node.SetAttribute(EMPTY_VALUE, f"{empty:g}")
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID(colour_table(scene, "time", _TIME_COLOURS).GetID())
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(low, max(high, low + 1e-3))
    display.AutoThresholdOff()
    display.SetThreshold(low - 1e-6, high + 1e-6)
    display.SetApplyThreshold(True)
    return mark(node, "time map", world, transform)


def time_map_values(node: Any) -> np.ndarray:
    """The values (K, J, I) of a time map, NaN where there is no time."""
    values = values_of(node).astype(np.float32)
    empty = node.GetAttribute(EMPTY_VALUE)
    return values if empty is None else np.where(values == np.float32(empty), np.float32(np.nan), values)


def load_label(scene: Any, path: Path, name: str, world: World, transform: Any = None) -> Any:
    """The segmentation of a label file."""
    kind = "vtkMRMLLabelMapVolumeNode"
    label = load_volume(scene, path, f"{name} label", world, None, ("label", ""), kind)
    try:
        set_values(label, np.rint(values_of(label)).astype(np.int16))
        return segmentation_of_label(scene, label, name, world, transform)
    finally:
        scene.RemoveNode(label)


def values_of(volume: Any) -> np.ndarray:
    """Voxels (K, J, I), a view."""
    image = volume.GetImageData()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])


def affine_of(volume: Any) -> np.ndarray:
    """IJK -> RAS (4, 4) of a volume node."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return array_of(matrix)


def set_values(volume: Any, values: np.ndarray) -> None:
    """Replaces the voxels (K, J, I) of a volume, in place."""
    image = vtk.vtkImageData()
    image.SetDimensions(*values.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(values).ravel(), deep=True))
    volume.SetAndObserveImageData(image)


def save_volume(volume: Any, path: Path) -> None:
    """Writes a volume node as .nii.gz, .nrrd or .mha; what is no time in a time map becomes NaN again.

    Raises:
        UnusableFile: it cannot be written.
    """
    if volume.GetAttribute(EMPTY_VALUE) is not None:
        copy = slicer.vtkMRMLScalarVolumeNode()
        matrix = vtk.vtkMatrix4x4()
        volume.GetIJKToRASMatrix(matrix)
        set_values(copy, time_map_values(volume))
        copy.SetIJKToRASMatrix(matrix)
        volume = copy
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    storage.SetUseCompression(True)
    if not storage.WriteData(volume):
        raise UnusableFile(f"{path.name} cannot be written. Check the folder and the space in it.")


def show_vessels(scene: Any, volume: Any) -> Any:
    """Volume rendering of a vessel volume: clear outside vessels, red to white with attenuation.

    The display node; its region is the whole volume and can be cropped in Slicer's module.
    """
    top = max(float(np.quantile(values_of(volume), 0.9995)), 1e-9)
    look = add_node(scene, "vtkMRMLVolumePropertyNode", "Splatomy vessels")
    opacity, colours = vtk.vtkPiecewiseFunction(), vtk.vtkColorTransferFunction()
    for share, value in _VESSEL_OPACITY:
        opacity.AddPoint(share * top, value)
    for share, red, green, blue in _VESSEL_COLOURS:
        colours.AddRGBPoint(share * top, red, green, blue)
    drawn = look.GetVolumeProperty()
    drawn.SetScalarOpacity(opacity)
    drawn.SetColor(colours)
    drawn.SetInterpolationTypeToLinear()
    drawn.ShadeOn()
    drawn.SetAmbient(0.25)
    drawn.SetDiffuse(0.8)
    drawn.SetSpecular(0.3)
    display = add_node(scene, "vtkMRMLGPURayCastVolumeRenderingDisplayNode", f"{volume.GetName()} rendering")
    display.SetAndObserveVolumePropertyNodeID(look.GetID())
    volume.AddAndObserveDisplayNodeID(display.GetID())
    display.SetVisibility(True)
    return display


def enhancement_curve(browser: Any, where: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Times (T,) s and mean attenuation (T,) 1/mm of a 4D volume.

    where: (K, J, I) bool, None = everywhere.
    """
    sequence = browser.GetMasterSequenceNode()
    times = times_of(sequence)
    found = []
    for number in range(len(times)):
        values = values_of(sequence.GetNthDataNode(number))
        found.append(float(values.mean() if where is None else values[where].mean()))
    return times, np.array(found)
