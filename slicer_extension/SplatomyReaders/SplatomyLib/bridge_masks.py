"""Masks of frames as segmentations, one per frame, both ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from SplatomyLib.bridge_frames import add_to_browser, new_sequence, picture_of
from SplatomyLib.bridge_nodes import ROLE, add_node, mark, vtk_matrix
from SplatomyLib.casefile import CONFIRMED, EDITED
from SplatomyLib.files import UnusableFile
from SplatomyLib.geometry import World, applied, index_value, picture_from_pixels

SEGMENT = "hidden"
STATE = "Splatomy.ReviewState"
_LABELMAP, _SURFACE = "Binary labelmap", "Closed surface"
# Slicer's own tag, so that the Segment Editor's table shows the review.
_STATUS = "Segmentation.Status"
_STATUS_OF = {"untouched": "notstarted", "proposed": "inprogress", "propagated": "inprogress",
              EDITED: "inprogress", CONFIRMED: "completed"}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A kind of segment: its identifier, its name for people, and its colour in [0, 1]."""

    identifier: str
    name: str
    colour: tuple[float, float, float]


_HIDDEN = Part(SEGMENT, "Instruments (hidden)", (0.15, 0.75, 0.9))


def load_masks(
    scene: Any, masks: np.ndarray, times_s: Sequence[float], name: str, browser: Any,
    states: Sequence[str] | None = None,
) -> Any:  # fmt: skip
    """The sequence of segmentations of masks (T, H, W), True = hidden, at the times of the browser's frames.

    The browser's segmentation node can be edited: changes stay in the sequence.
    """
    sequence = new_sequence(scene, f"{name} masks")
    sequence.SetAttribute(ROLE, "masks")
    known = ["proposed"] * len(masks) if states is None else states
    for mask, time_s, state in zip(masks, times_s, known):
        sequence.SetDataNodeAtValue(mask_item(mask, state, f"{name} mask"), index_value(time_s))
    show_editable(scene, browser, sequence)
    return sequence


def show_editable(scene: Any, browser: Any, sequence: Any) -> Any:
    """The browser's node of a sequence of segmentations; what is painted there stays in the sequence."""
    proxy = add_to_browser(scene, browser, sequence, keep_changes=True)
    proxy.CreateDefaultDisplayNodes()
    proxy.SetAttribute(ROLE, sequence.GetAttribute(ROLE))
    proxy.GetDisplayNode().SetOpacity2DFill(0.35)
    return proxy


def read_masks(sequence: Any, shape: tuple[int, int]) -> tuple[np.ndarray, list[str]]:
    """Masks (T, H, W), True = hidden, and review states of a sequence of segmentations.

    Raises:
        UnusableFile: a segment cannot be brought onto the pixels.
    """
    masks = np.zeros((sequence.GetNumberOfDataNodes(), *shape), bool)
    nodes = [sequence.GetNthDataNode(i) for i in range(len(masks))]
    for number, node in enumerate(nodes):
        masks[number] = _union(node, (1, *shape), moment_of(sequence, number))[0]
    return masks, [node.GetAttribute(STATE) or EDITED for node in nodes]


def moment_of(sequence: Any, number: int) -> str:
    """Where in a sequence an item is, in the words of the browser's panel, for messages."""
    return f"at {sequence.GetIndexName()} {sequence.GetNthIndexValue(number)} {sequence.GetIndexUnit()}"


def mask_of_segment(content: Any, number: int, shape: tuple[int, int, int], place: str = "") -> np.ndarray:
    """Where one segment is, (T, H, W), on the pixels of pictures of that size, frame numbers along k.

    A segment without a labelmap, such as one whose source is a closed surface, is converted; the scene is
    left as it is. place: says in messages which segmentation it is.

    Raises:
        UnusableFile: it has something that cannot become pixels of the pictures.
    """
    segment = content.GetNthSegment(number)
    image, label = segment.GetRepresentation(_LABELMAP), segment.GetLabelValue()
    # Slicer leaves an empty labelmap behind where it could not convert a surface.
    if image is None or (image.IsEmpty() and content.GetSourceRepresentationName() != _LABELMAP):
        made = _rasterised(segment, shape, place)
        if made is None:
            return np.zeros(shape, bool)
        image, label = made.GetRepresentation(_LABELMAP), made.GetLabelValue()
    return np.zeros(shape, bool) if image.IsEmpty() else _in_box(image, label, shape)


def _rasterised(segment: Any, shape: tuple[int, int, int], place: str) -> Any:
    """A segment of its own with the labelmap of one that has none, None for one without any content."""
    kinds: list[str] = []
    segment.GetContainedRepresentationNames(kinds)
    filled = [kind for kind in kinds if segment.GetRepresentation(kind).GetNumberOfPoints()]
    if not filled:
        return None
    part, alone = slicer.vtkSegment(), slicer.vtkSegmentation()
    for kind in filled:
        part.AddRepresentation(kind, segment.GetRepresentation(kind))
    alone.SetSourceRepresentationName(_SURFACE if _SURFACE in filled else filled[0])
    alone.AddSegment(part, SEGMENT)
    converter = slicer.vtkSegmentationConverter
    alone.SetConversionParameter(
        converter.GetReferenceImageGeometryParameterName(), converter.SerializeImageGeometry(_grid(shape))
    )
    # Else the labelmap is as large as the surface, whatever that is.
    rule = slicer.vtkClosedSurfaceToBinaryLabelmapConversionRule
    alone.SetConversionParameter(rule.GetCropToReferenceImageGeometryParameterName(), "1")
    # Slicer's converter ends the program when it is to crop a surface beside the pictures.
    if (
        alone.CreateRepresentation(_SURFACE)
        and _is_over(part.GetRepresentation(_SURFACE), shape)
        and alone.CreateRepresentation(_LABELMAP)
        and not part.GetRepresentation(_LABELMAP).IsEmpty()
        and _in_box(part.GetRepresentation(_LABELMAP), part.GetLabelValue(), shape).any()
    ):
        return part
    raise UnusableFile(
        f'The segment "{segment.GetName()}" {place} cannot be used as a mask: expected a binary labelmap, '
        f"or a closed surface that crosses the pictures; its {filled[0].lower()} gives no pixel of them. "
        "Paint it with the Segment Editor, or remove the segment, and try again."
    )


def _is_over(surface: Any, shape: tuple[int, int, int]) -> bool:
    """True if the box of a surface reaches over a pixel's middle of pictures (T, H, W)."""
    box = np.array(surface.GetBounds()).reshape(3, 2).T
    places = applied(np.linalg.inv(picture_from_pixels()), box)
    low, high = np.ceil(places.min(0)), np.floor(places.max(0))
    return bool((np.maximum(low, 0) <= np.minimum(high, np.array(shape[::-1]) - 1)).all())


def _union(segmentation: Any, shape: tuple[int, int, int], place: str) -> np.ndarray:
    """All segments together, (T, H, W)."""
    out = np.zeros(shape, bool)
    content = segmentation.GetSegmentation()
    for number in range(content.GetNumberOfSegments()):
        out |= mask_of_segment(content, number, shape, place)
    return out


def mask_item(mask: np.ndarray, state: str, name: str) -> Any:
    """A segmentation of one frame's mask (H, W), True = hidden, to be put into a sequence."""
    item = slicer.vtkMRMLSegmentationNode()
    item.SetName(name)
    item.SetAttribute(ROLE, "masks")
    # An empty mask keeps an empty segment to paint into.
    add_segment(item, mask[None])
    set_state(item, state)
    return item


def set_state(segmentation: Any, state: str) -> None:
    """Writes a frame's review state on its segmentation and, in Slicer's words, on its segments."""
    segmentation.SetAttribute(STATE, state)
    content = segmentation.GetSegmentation()
    for number in range(content.GetNumberOfSegments()):
        content.GetNthSegment(number).SetTag(_STATUS, _STATUS_OF[state])


def stack_masks(scene: Any, browser: Any, masks: np.ndarray, name: str) -> tuple[Any, Any]:
    """All frames as one volume, the frame number along k, and its segmentation.

    There the Segment Editor's "Fill between slices" fills masks between frames in time.
    """
    frames = browser.GetMasterSequenceNode()
    pictures = np.stack([_grey(picture_of(frames.GetNthDataNode(i))) for i in range(len(masks))])
    volume = add_node(scene, "vtkMRMLScalarVolumeNode", f"{name} all frames", {ROLE: "frame stack"})
    volume.SetAndObserveImageData(_stack_image(pictures))
    volume.SetIJKToRASMatrix(vtk_matrix(picture_from_pixels()))
    volume.CreateDefaultDisplayNodes()
    node = add_node(scene, "vtkMRMLSegmentationNode", f"{name} all masks", {ROLE: "mask stack"})
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    add_segment(node, masks)
    node.CreateDefaultDisplayNodes()
    return volume, node


def read_stack(segmentation: Any, shape: tuple[int, int, int]) -> np.ndarray:
    """Masks (T, H, W) of a segmentation of ``stack_masks``.

    Raises:
        UnusableFile: a segment cannot be brought onto the pixels.
    """
    return _union(segmentation, shape, "of all frames")


def _grey(picture: np.ndarray) -> np.ndarray:
    return picture.mean(-1).astype(np.uint8) if picture.ndim == 3 else picture


def _stack_image(values: np.ndarray) -> vtk.vtkImageData:
    image = vtk.vtkImageData()
    image.SetDimensions(values.shape[2], values.shape[1], values.shape[0])
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(values).ravel(), deep=True))
    return image


def add_segment(segmentation: Any, masks: np.ndarray, part: Part = _HIDDEN) -> None:
    """Adds masks (T, H, W), True = marked, as a segment; frame numbers along k."""
    image = slicer.vtkOrientedImageData()
    image.ShallowCopy(_stack_image(masks.astype(np.uint8)))
    image.SetImageToWorldMatrix(vtk_matrix(picture_from_pixels()))
    content = segmentation.GetSegmentation()
    content.SetSourceRepresentationName(_LABELMAP)
    serialised = slicer.vtkSegmentationConverter.SerializeImageGeometry(image)
    content.SetConversionParameter(
        slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName(), serialised
    )
    segment = slicer.vtkSegment()
    segment.SetName(part.name)
    segment.SetColor(*part.colour)
    segment.AddRepresentation(_LABELMAP, image)
    content.AddSegment(segment, part.identifier)


def _grid(shape: tuple[int, int, int]) -> Any:
    """The geometry of pictures (T, H, W), without values."""
    grid = slicer.vtkOrientedImageData()
    grid.SetDimensions(shape[2], shape[1], shape[0])
    grid.SetImageToWorldMatrix(vtk_matrix(picture_from_pixels()))
    return grid


def _in_box(image: Any, label: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Where a labelmap has the label, on a grid of pictures (T, H, W); the labelmap may be cropped."""
    reference = _grid(shape)
    reference.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    same = slicer.vtkOrientedImageData()
    resample = slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage
    if not resample(image, reference, same, False):
        raise ValueError("a segment's labelmap cannot be brought onto the pictures")
    values = vtk_to_numpy(same.GetPointData().GetScalars())
    i0, i1, j0, j1, k0, k1 = same.GetExtent()
    box = values.reshape(k1 - k0 + 1, j1 - j0 + 1, i1 - i0 + 1) == label
    out = np.zeros(shape, bool)
    # Without padding the result is the part of the reference that the labelmap covers.
    out[k0 : k1 + 1, j0 : j1 + 1, i0 : i1 + 1] = box
    return out


def segmentation_of_label(scene: Any, volume: Any, name: str, world: World, transform: Any = None) -> Any:
    """Segments of a label volume, one for each label, with a closed surface for 3D views."""
    node = add_node(scene, "vtkMRMLSegmentationNode", name)
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    if not logic.ImportLabelmapToSegmentationNode(volume, node):
        raise ValueError("the label volume cannot become a segmentation")
    content = node.GetSegmentation()
    for number in range(content.GetNumberOfSegments()):
        segment = content.GetNthSegment(number)
        segment.SetName("Vessels" if content.GetNumberOfSegments() == 1 else f"Label {number + 1}")
        segment.SetColor(0.85, 0.12, 0.12)
    # Slicer's smoothing of surfaces takes away vessels of a few voxels.
    content.SetConversionParameter("Smoothing factor", "0.0")
    node.CreateDefaultDisplayNodes()
    node.CreateClosedSurfaceRepresentation()
    return mark(node, "vessels", world, transform)
