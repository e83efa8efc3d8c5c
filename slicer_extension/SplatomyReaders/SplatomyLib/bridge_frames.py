"""Clips and DSA runs as sequences with times, played by a browser; cameras as transforms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from SplatomyLib.bridge_nodes import ROLE, UNIT, WORLD, add_node, array_of, mark, vtk_matrix
from SplatomyLib.files import UnusableFile, read_json
from SplatomyLib.geometry import World, index_value, picture_from_pixels, world_of_run

# Pictures play at least this fast, so that a run of one frame a minute can still be watched.
_SLOWEST_FPS, _FASTEST_FPS = 1.0, 60.0
PIXELS = "px"


def new_sequence(scene: Any, name: str) -> Any:
    """An empty sequence over seconds, which keeps what is put into it."""
    node = add_node(scene, "vtkMRMLSequenceNode", name)
    node.SetIndexName("time")
    node.SetIndexUnit("s")
    node.SetIndexTypeFromString("numeric")
    return node


def new_browser(scene: Any, name: str) -> Any:
    """A browser; the first sequence that it gets leads."""
    node = add_node(scene, "vtkMRMLSequenceBrowserNode", name)
    node.SetPlaybackItemSkippingEnabled(True)
    return node


def add_to_browser(scene: Any, browser: Any, sequence: Any, keep_changes: bool = False) -> Any:
    """The node that shows the browser's moment of the sequence.

    keep_changes: what a person does to that node is kept in the sequence.
    """
    browser.AddSynchronizedSequenceNode(sequence)
    browser.SetSaveChanges(sequence, keep_changes)
    refresh(scene, browser)
    return browser.GetProxyNode(sequence)


def refresh(scene: Any, browser: Any) -> None:
    """Shows the browser's moment in every node that it drives."""
    logic = slicer.modules.sequences.logic()
    if logic.GetMRMLScene() is not scene:
        raise ValueError("the scene must be the one that the Sequences module works on")
    logic.UpdateProxyNodesFromSequences(browser)


def times_of(sequence: Any) -> np.ndarray:
    """(T,) seconds."""
    count = sequence.GetNumberOfDataNodes()
    return np.array([float(sequence.GetNthIndexValue(i)) for i in range(count)])


def load_frames(scene: Any, folder: Path, name: str) -> Any:
    """The browser of the frames that ``splatomy frames`` wrote; its leading sequence holds the pictures.

    Pixels have size 1 and no unit: pictures are shown, never measured.

    Raises:
        UnusableFile: no such folder, or its pictures do not fit its frames.json.
    """
    about = read_json(folder / "frames.json")
    times = distinct_times(about["times_s"])
    is_colour = about["modality"] == "colour"
    height, width = int(about["height_px"]), int(about["width_px"])
    integrals = None if is_colour else _line_integrals(folder, (len(times), height, width))
    kind = "vtkMRMLVectorVolumeNode" if is_colour else "vtkMRMLScalarVolumeNode"
    sequence = new_sequence(scene, f"{name} frames")
    for number, time_s in enumerate(times):
        if integrals is None:
            picture = read_picture(folder / "pictures" / f"{number:06d}.png")
        else:
            picture = integrals[number]
        if picture.shape[:2] != (height, width):
            raise UnusableFile(f"Picture {number} of {folder.name} has another size than frames.json says.")
        item = getattr(slicer, kind)()
        item.SetName(f"{name} frame")
        _set_picture(item, picture)
        sequence.SetDataNodeAtValue(item, index_value(time_s))
    world = world_of_run(about)
    for key, value in {ROLE: "frames", UNIT: PIXELS, WORLD: world.name}.items():
        sequence.SetAttribute(key, value)
    sequence.SetAttribute("Splatomy.FrameNumbers", " ".join(str(n) for n in about["frames"]))
    sequence.SetAttribute("Splatomy.Metric", str(world.metric))
    browser = new_browser(scene, name)
    proxy = add_to_browser(scene, browser, sequence)
    _show_picture(proxy, integrals)
    browser.SetPlaybackRateFps(playback_fps(times))
    return browser


def _line_integrals(folder: Path, shape: tuple[int, int, int]) -> np.ndarray:
    try:
        values = np.load(folder / "line_integrals.npy", allow_pickle=False)
    except (OSError, ValueError):
        raise UnusableFile(
            f"The line integrals of {folder.name} cannot be read. Load the run again."
        ) from None
    if values.shape != shape:
        raise UnusableFile(f"The line integrals of {folder.name} are not {shape}. Load the run again.")
    return values


def distinct_times(times_s: list[float]) -> list[float]:
    """The times, or the frames' numbers where times repeat: a sequence keeps one item for each value."""
    texts = [index_value(t) for t in times_s]
    return list(times_s) if len(set(texts)) == len(texts) else [float(n) for n in range(len(times_s))]


def playback_fps(times_s: list[float] | np.ndarray) -> float:
    """Frames a second in real time, within what can be watched."""
    steps = np.diff(np.asarray(times_s, dtype=np.float64))
    middle = float(np.median(steps)) if len(steps) else 0.0
    return float(np.clip(1 / middle, _SLOWEST_FPS, _FASTEST_FPS)) if middle > 0 else 10.0


def read_picture(path: Path) -> np.ndarray:
    """A PNG, (H, W) or (H, W, 3), first row at the top.

    Raises:
        UnusableFile: missing or no PNG.
    """
    reader = vtk.vtkPNGReader()
    if not path.is_file() or not reader.CanReadFile(str(path)):
        raise UnusableFile(f"{path.parent.name}/{path.name} cannot be read: expected a PNG. Load it again.")
    reader.SetFileName(str(path))
    reader.Update()
    image = reader.GetOutput()
    width, height, _ = image.GetDimensions()
    # VTK counts rows from the bottom.
    values = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[::-1]
    return values[..., 0] if values.shape[-1] == 1 else values[..., :3]


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Writes (H, W) bool as an 8-bit PNG, 255 = True, atomically."""
    height, width = mask.shape
    image = vtk.vtkImageData()
    image.SetDimensions(width, height, 1)
    codes = np.where(mask[::-1], np.uint8(255), np.uint8(0)).ravel()
    image.GetPointData().SetScalars(numpy_to_vtk(codes, deep=True))
    writer = vtk.vtkPNGWriter()
    temporary = path.with_name(f".{path.name}.new")
    writer.SetFileName(str(temporary))
    writer.SetInputData(image)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer.Write()
    temporary.replace(path)


def image_of(picture: np.ndarray) -> vtk.vtkImageData:
    """(H, W) or (H, W, 3) as VTK's image of one slice, the first row first."""
    height, width = picture.shape[:2]
    image = vtk.vtkImageData()
    image.SetDimensions(width, height, 1)
    values = np.ascontiguousarray(picture).reshape(height * width, -1)
    scalars = numpy_to_vtk(values[:, 0] if values.shape[1] == 1 else values, deep=True)
    scalars.SetName("ImageScalars")
    image.GetPointData().SetScalars(scalars)
    return image


def picture_of(volume: Any) -> np.ndarray:
    """The first slice of a volume node, (H, W) or (H, W, 3)."""
    image = volume.GetImageData()
    width, height, _ = image.GetDimensions()
    values = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(
        -1, height, width, image.GetNumberOfScalarComponents()
    )
    return values[0, ..., 0] if values.shape[-1] == 1 else values[0]


def _set_picture(volume: Any, picture: np.ndarray) -> None:
    volume.SetAndObserveImageData(image_of(picture))
    volume.SetIJKToRASMatrix(vtk_matrix(picture_from_pixels()))


def load_renders(
    scene: Any, folder: Path, times_s: list[float], name: str, browser: Any, world: World
) -> Any:
    """The sequence of a run's own pictures of its input views, ``frame_NUMBER.png``, at their times.

    They are synthetic: what a camera would see without instruments, or a simulated angiogram.

    Raises:
        UnusableFile: pictures are missing.
    """
    sequence = new_sequence(scene, name)
    for number, time_s in enumerate(distinct_times(times_s)):
        picture = read_picture(folder / f"frame_{number:04d}.png")
        kind = "vtkMRMLVectorVolumeNode" if picture.ndim == 3 else "vtkMRMLScalarVolumeNode"
        item = getattr(slicer, kind)()
        item.SetName(name)
        _set_picture(item, picture)
        sequence.SetDataNodeAtValue(item, index_value(time_s))
    for key, value in {ROLE: "renders", UNIT: PIXELS, WORLD: world.name}.items():
        sequence.SetAttribute(key, value)
    add_to_browser(scene, browser, sequence).CreateDefaultDisplayNodes()
    return sequence


def show_new_picture(scene: Any, volume: Any, picture: np.ndarray, name: str) -> Any:
    """A picture in the given volume node, or, when there is none, in a new one."""
    if volume is None or scene.GetNodeByID(volume.GetID()) is None:
        kind = "vtkMRMLVectorVolumeNode" if picture.ndim == 3 else "vtkMRMLScalarVolumeNode"
        volume = add_node(scene, kind, name, {UNIT: PIXELS})
        _set_picture(volume, picture)
        volume.CreateDefaultDisplayNodes()
    else:
        _set_picture(volume, picture)
    return volume


def _show_picture(volume: Any, integrals: np.ndarray | None) -> None:
    """Display of the frames: colours as they are, line integrals dark on white."""
    volume.CreateDefaultDisplayNodes()
    display = volume.GetDisplayNode()
    if integrals is not None:
        top = float(np.nanquantile(integrals, 0.999))
        display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeInvertedGrey")
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(0.0, max(top, 1e-6))


# -- cameras -----------------------------------------------------------------------------------------


def load_cameras(scene: Any, path: Path, name: str, browser: Any, world: World, transform: Any = None) -> Any:
    """The sequence of camera poses of a views.json, world from camera (OpenCV axes), in node coordinates.

    The browser's transform node moves with the frames; hang a model under it to see the endoscope or tube.

    Raises:
        UnusableFile: the file lists no cameras, or not as many as it has times.
    """
    views = read_json(path)
    try:
        poses = np.asarray(views["camera_from_world"], dtype=np.float64).reshape(-1, 4, 4)
        times = distinct_times(views["times_s"])
        if len(times) != len(poses):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise UnusableFile(f"{path.name} lists no cameras with times. Load the input again.") from None
    sequence = new_sequence(scene, f"{name} cameras")
    mark(sequence, "cameras", world)
    for time_s, camera_from_world in zip(times, poses):
        item = slicer.vtkMRMLLinearTransformNode()
        item.SetName(f"{name} camera")
        node_from_camera = world.nodes_from_file() @ np.linalg.inv(camera_from_world)
        item.SetMatrixTransformToParent(vtk_matrix(node_from_camera))
        sequence.SetDataNodeAtValue(item, index_value(time_s))
    proxy = add_to_browser(scene, browser, sequence)
    mark(proxy, "cameras", world, transform)
    return sequence


def look_through(camera_node: Any, camera_transform: Any, focal_px: float, height_px: int) -> None:
    """Sets a Slicer camera to a recorded one, so that the 3D view shows what the camera saw.

    camera_transform: the browser's node of ``load_cameras``.
    """
    to_world = vtk.vtkMatrix4x4()
    camera_transform.GetMatrixTransformToWorld(to_world)
    matrix = array_of(to_world)
    position, forward, down = matrix[:3, 3], matrix[:3, 2], matrix[:3, 1]
    camera = camera_node.GetCamera()
    camera.SetPosition(*position)
    camera.SetFocalPoint(*(position + 100 * forward / np.linalg.norm(forward)))
    camera.SetViewUp(*-down)
    camera.SetViewAngle(float(np.degrees(2 * np.arctan2(height_px / 2, focal_px))))
    camera_node.ResetClippingRange()
