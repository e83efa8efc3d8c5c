"""Where the hidden part of an object is in every view: a whole shape is carried into all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.capture import Capture
from splatomy.errors import InputError
from splatomy.events import Progress, Task
from splatomy.geometry.visibility import first_hits
from splatomy.scene import Mesh

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]

_BEFORE = 0.03
"""What hides the object must lie this much nearer than the shape, in sizes of the shape."""
_AGREEING = 0.6
_DOUBTFUL = 0.5


@dataclass(frozen=True)
class HiddenParts:
    """The hidden part of an object in T views.

    masks: (T, H, W) True = the object is there, behind something else. depth_mm: (T, H, W) of the shape in
    the hidden part, NaN elsewhere and where a drawn mask reaches beyond the shape. occluder: (T, H, W) True =
    something stands before what the pixel would show, as masks say or depth tells. review: views whose mask a
    person should look at, and why.
    """

    masks: Bool
    depth_mm: Float32
    occluder: Bool
    review: Mapping[int, str]


def with_drawn_masks(capture: Capture, drawn: Mapping[int, Bool]) -> Capture:
    """The capture in which the views that a user drew count as known, hidden part and all.

    There ``target`` is the whole object, ``synthetic`` marks every pixel that the drawing decided, and the
    depth of these, which is that of what hides them, is forgotten.

    Raises:
        InputError: a drawing does not fit its view.
    """
    if capture.target is None:
        raise ValueError("drawn masks need masks of the visible object")
    if not drawn:
        return capture
    count, height, width = capture.target.shape
    target, synthetic = capture.target.copy(), np.zeros(capture.target.shape, np.bool_)
    depth = None if capture.depth_mm is None else capture.depth_mm.copy()
    for view, mask in drawn.items():
        if not 0 <= view < count or mask.shape != (height, width):
            raise InputError(
                f"The drawn mask of view {view} has {mask.shape[1]}x{mask.shape[0]} px; expected a view of "
                f"0 to {count - 1} and {width}x{height} px: draw it on the picture of its view."
            )
        decided = mask & ~capture.target[view]
        if capture.occluded is not None:
            decided |= capture.occluded[view]
        target[view] |= mask
        synthetic[view] = decided
        if depth is not None:
            depth[view][decided] = np.nan
    return capture.prepared(
        f"hidden part drawn in {len(drawn)} views", target=target, synthetic=synthetic, depth_mm=depth
    )


def hidden_parts(capture: Capture, mesh: Mesh, drawn: Mapping[int, Bool]) -> Task[HiddenParts]:
    """The hidden part in every view, of a closed shape of the whole object, with a test of visibility.

    A pixel belongs to it if the shape is there, the visible object is not, and something stands before:
    the masks of what hides it say so, or without them the measured depth is nearer than the shape. A drawn
    mask stands as the user drew it.

    Source: O2-Recon, propagation of reference masks; there points are splatted without any such test.
    """
    if capture.cameras is None or capture.target is None:
        raise ValueError("hidden parts need cameras and masks of the visible object")
    masks = np.zeros(capture.target.shape, np.bool_)
    occluder = np.zeros(capture.target.shape, np.bool_)
    depth = np.full(capture.target.shape, np.nan, np.float32)
    height, width = capture.target.shape[1:]
    vertices = mesh.vertices_mm.astype(np.float64)
    margin = _BEFORE * float(np.linalg.norm(np.ptp(vertices, axis=0)))
    review: dict[int, str] = {}
    usable = np.asarray(capture.details.get("has_target", [True] * len(capture)), np.bool_)
    for t in range(len(capture)):
        k, pose = capture.cameras.intrinsics[t], capture.cameras.camera_from_world[t]
        z, face, _ = first_hits(vertices, mesh.faces, k, pose, height, width)
        if usable[t]:
            occluder[t] = _before(capture, t, z, margin)
            found = occluder[t] & (face >= 0) & ~capture.target[t]
            small = cv2.morphologyEx(found.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
            masks[t] = drawn[t] & ~capture.target[t] if t in drawn else small
            depth[t] = np.where(masks[t] & (face >= 0), z, np.nan)
            reason = _doubt(small, masks[t], capture.target[t], t in drawn)
            if reason:
                review[t] = reason
        yield Progress("hidden masks", t + 1, len(capture))
    return HiddenParts(masks, depth, occluder, review)


def _before(capture: Capture, t: int, z: NDArray[np.float64], margin: float) -> Bool:
    """(H, W) something stands before what the pixel would show."""
    if capture.occluded is not None:
        return np.asarray(capture.occluded[t])
    if capture.depth_mm is None or capture.target is None:
        return np.zeros(z.shape, np.bool_)
    with np.errstate(invalid="ignore"):
        return np.asarray((capture.depth_mm[t] < z - margin) & np.isfinite(z) & ~capture.target[t])


def _doubt(found: Bool, used: Bool, visible: Bool, is_drawn: bool) -> str | None:
    """Why a person should look at a mask, or None."""
    if is_drawn:
        either = int((found | used).sum())
        overlap = int((found & used).sum()) / either if either else 1.0
        return None if overlap >= _AGREEING else f"the drawn mask and the shape agree by {overlap:.0%} only"
    whole = int((used | visible).sum())
    share = int(used.sum()) / whole if whole else 0.0
    return f"{share:.0%} of the object is hidden" if share > _DOUBTFUL else None
