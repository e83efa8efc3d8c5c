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
from SplatomyLib.geometry import World, index_value, picture_from_pixels

SEGMENT = "hidden"
STATE = "Splatomy.ReviewState"
_LABELMAP = "Binary labelmap"
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
    """Masks (T, H, W), True = hidden, and review states of a sequence of segmentations."""
    count = sequence.GetNumberOfDataNodes()
    nodes = [sequence.GetNthDataNode(i) for i in range(count)]
    masks = [read_mask(node, shape) for node in nodes]
    states = [node.GetAttribute(STATE) or EDITED for node in nodes]
    return np.stack(masks) if masks else np.zeros((0, *shape), bool), states


def read_mask(segmentation: Any, shape: tuple[int, int]) -> np.ndarray:
    """The union of all segments, (H, W), True = hidden, on the pixels of pictures of that size."""
    mask = np.zeros(shape, bool)
    content = segmentation.GetSegmentation()
    for number in range(content.GetNumberOfSegments()):
        mask |= mask_of_segment(content.GetNthSegment(number), shape)
    return mask


def mask_of_segment(segment: Any, shape: tuple[int, int]) -> np.ndarray:
    """Where one segment is, (H, W), on the pixels of pictures of that size."""
    image = segment.GetRepresentation(_LABELMAP)
    if image is None or image.IsEmpty():
        return np.zeros(shape, bool)
    return _in_box(image, segment.GetLabelValue(), (1, *shape))[0]


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
    """Masks (T, H, W) of a segmentation of ``stack_masks``."""
    out = np.zeros(shape, bool)
    content = segmentation.GetSegmentation()
    for number in range(content.GetNumberOfSegments()):
        segment = content.GetNthSegment(number)
        image = segment.GetRepresentation(_LABELMAP)
        if image is not None and not image.IsEmpty():
            out |= _in_box(image, segment.GetLabelValue(), shape)
    return out


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


def _in_box(image: Any, label: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Where a labelmap has the label, on a grid of pictures (T, H, W); the labelmap may be cropped."""
    reference = slicer.vtkOrientedImageData()
    reference.SetDimensions(shape[2], shape[1], shape[0])
    reference.SetImageToWorldMatrix(vtk_matrix(picture_from_pixels()))
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
