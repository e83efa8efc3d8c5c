"""Objects from clicks without a model: what has the colours about the clicks, by GrabCut."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.prepare.masks._flow import Bool, Codes, Float32
from splatomy.prepare.masks._refine import filled, guided, rim_of, touched_parts
from splatomy.review import Mask

_WORK_PX = 256
"""Longest side of the window at working size."""
_MARGIN_SHARE = 0.4
"""Of the picture's longest side: how far the window reaches beyond the clicks."""
_CLICK_SHARE = 0.008
"""Radius of the disc that a click is sure of, as a share of the picture's longest side."""
_ROUNDS = 2
_HOLE_SHARE = 0.003
_LIGHTNESS_WEIGHT = 0.5
"""Lightness differs within an object more than its hue does: the light is on the endoscope."""
_LEAST_DISTANCE, _MOST_DISTANCE = 6.0, 25.0
"""Bounds of the distance in CIE-LAB within which a colour is taken for the object's, to begin with."""
_FARTHEST = 1.3
"""Times that distance from which a colour is never the object's: GrabCut alone leaks into the tissue."""
_PICTURE_ACROSS = 80.0
"""The picture's longest side as a difference of colours: like colours are shared by nearness."""

Click = tuple[int, int]
Box = tuple[int, int, int, int]


def clicked_object(picture: Codes, inside: Sequence[Click], outside: Sequence[Click] = ()) -> Mask:
    """The object that the clicks ``inside`` lie on, (H, W), True = object; needs no model.

    picture: (H, W, 3) RGB, uint8. inside, outside: pixels (x, y) on the object, and on what is no part of it.
    All clicks of an object are given each time; the same clicks give the same object. The object is
    looked for in a window about the clicks, or in the whole picture if it goes on beyond that, at a
    reduced size; then its edge is laid on that of the picture. A click is kept: its pixel is in the object,
    or not.

    Source: Rother, Kolmogorov, Blake, "GrabCut" (SIGGRAPH 2004), as OpenCV has it, started from the colours
    near those of the clicks. It is no automatic step: it leaks along highlights (``masks-and-depth`` A8).

    Raises:
        ValueError: no click inside, a click beyond the picture, or a picture of another kind.
    """
    _check(picture, (*inside, *outside))
    if not inside:
        raise ValueError("expected at least one click on the object")
    size = picture.shape[1::-1]
    window = _window(size, (*inside, *outside))
    found = _in_window(picture, window, inside, outside)
    whole = (0, 0, *size)
    if window != whole and _is_cut_off(found, window):
        found = _in_window(picture, whole, inside, outside)
    return _kept(found, inside, outside)


def _in_window(picture: Codes, window: Box, inside: Sequence[Click], outside: Sequence[Click]) -> Bool:
    """The object (H, W), looked for in a part of the picture."""
    left, top, right, bottom = window
    part = np.ascontiguousarray(picture[top:bottom, left:right])
    scale = min(1.0, _WORK_PX / max(part.shape[:2]))
    size = max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale))
    small = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    radius = max(1, round(_CLICK_SHARE * max(picture.shape) * scale))

    def marked(clicks: Sequence[Click]) -> Bool:
        drawn = np.zeros(small.shape[:2], np.uint8)
        for x, y in clicks:
            place = min(int((x - left) * scale), size[0] - 1), min(int((y - top) * scale), size[1] - 1)
            cv2.circle(drawn, place, radius, 1, -1)
        return drawn > 0

    sure, other = marked(inside), marked(outside)
    found = _cut(small, sure & ~other, other)
    found = filled(touched_parts(found, sure), rim_of(np.zeros_like(found)), _HOLE_SHARE)
    out = np.zeros(picture.shape[:2], bool)
    out[top:bottom, left:right] = guided(found.astype(np.float32), small, part) > 0.5
    return out


def _check(picture: Codes, clicks: Sequence[Click]) -> None:
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(f"expected a picture (H, W, 3) of uint8, got {picture.shape} of {picture.dtype}")
    height, width = picture.shape[:2]
    for x, y in clicks:
        if not (0 <= x < width and 0 <= y < height):
            raise ValueError(f"the click {(x, y)} lies outside of {width}x{height}")


def _window(size_px: tuple[int, int], clicks: Sequence[Click]) -> Box:
    """Left, top, right, bottom of what is looked at."""
    points = np.asarray(clicks)
    margin = round(_MARGIN_SHARE * max(size_px))
    left, top = np.maximum(points.min(0) - margin, 0).tolist()
    right, bottom = np.minimum(points.max(0) + margin + 1, size_px).tolist()
    return left, top, right, bottom


def _is_cut_off(found: Bool, window: Box) -> bool:
    """True if the object goes on beyond the window."""
    left, top, right, bottom = window
    height, width = found.shape
    inner = (left > 0, right < width, top > 0, bottom < height)
    edges = (found[:, left], found[:, right - 1], found[top], found[bottom - 1])
    return any(goes_on and bool(edge.any()) for goes_on, edge in zip(inner, edges, strict=True))


def _cut(small: Codes, sure: Bool, other: Bool) -> Bool:
    """The object (h, w) by GrabCut, from discs that are sure to belong to it and discs that are not."""
    alike, far = _alike(small, sure, other)
    labels = np.where(alike, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[far | other] = cv2.GC_BGD
    labels[sure] = cv2.GC_FGD
    if not (labels % 2 == 0).any():
        # Nothing differs from the object: there is no background to learn colours from.
        return np.ones_like(sure)
    # The mixtures of colours start from random pixels.
    cv2.setRNGSeed(0)
    mixtures = np.zeros((1, 65)), np.zeros((1, 65))
    whole = (0, 0, *small.shape[1::-1])
    cv2.grabCut(small, labels, whole, *mixtures, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    return np.asarray(labels % 2 == 1)


def _alike(small: Codes, sure: Bool, other: Bool) -> tuple[Bool, Bool]:
    """Pixels (h, w) with the colours of the clicks that hang together with them; those of far colours."""
    lab = np.asarray(cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), dtype=np.float32)
    lab = np.asarray(cv2.GaussianBlur(lab, (0, 0), 1.0), dtype=np.float32)
    lab[..., 0] *= _LIGHTNESS_WEIGHT
    near = _distance(lab, sure)
    # Object and the rest are two groups of distances.
    levels = np.clip(near * 4, 0, 255).astype(np.uint8)
    threshold, _ = cv2.threshold(levels, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    reach = float(np.clip(threshold / 4, _LEAST_DISTANCE, _MOST_DISTANCE))
    alike = near <= reach
    if other.any():
        places = np.stack(np.meshgrid(*map(np.arange, small.shape[1::-1])), -1)
        nearby = np.asarray(places * (_PICTURE_ACROSS / max(small.shape[:2])), dtype=np.float32)
        either = np.concatenate([lab, nearby], -1)
        alike &= _distance(either, sure) <= _distance(either, other)
    return touched_parts(np.asarray(alike | sure), sure), np.asarray(near > _FARTHEST * reach)


def _distance(features: Float32, seeds: Bool) -> Float32:
    """Distance (h, w) of the features (h, w, c) to those of the nearest place that the seeds mark."""
    count, parts = cv2.connectedComponents(seeds.astype(np.uint8))
    marked = [np.median(features[parts == n], axis=0) for n in range(1, count)]
    distances = [np.linalg.norm(features - each, axis=-1) for each in marked]
    return np.asarray(np.minimum.reduce(distances), dtype=np.float32)


def _kept(found: NDArray[np.bool_], inside: Sequence[Click], outside: Sequence[Click]) -> Mask:
    for x, y in inside:
        found[y, x] = True
    for x, y in outside:
        found[y, x] = False
    found.flags.writeable = False
    return found
