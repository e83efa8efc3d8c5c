"""Edit operations on masks: each gives a new mask and what it takes to undo it bit for bit."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from splatomy.prepare.masks.propagate import signed_distance
from splatomy.review import Mask

_SHIFT = 8
"""Fractional bits of the coordinates that OpenCV draws with."""


@dataclass(frozen=True)
class Patch:
    """The pixels that an operation flipped, which is how it is undone and done again.

    box: rows and columns [top, bottom, left, right) around them. flipped: their bits in the box, packed and
    compressed. before, after: checksums of the whole mask, so that a patch never meets another mask.
    """

    box: tuple[int, int, int, int]
    flipped: bytes
    before: int
    after: int

    @staticmethod
    def between(before: Mask, after: Mask) -> Patch:
        """The patch that leads from one mask to another of the same size."""
        if before.shape != after.shape:
            raise ValueError(f"masks must have one shape, got {before.shape} and {after.shape}")
        difference = before ^ after
        rows, columns = np.flatnonzero(difference.any(1)), np.flatnonzero(difference.any(0))
        box = (0, 0, 0, 0)
        if len(rows):
            box = (int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
        part = difference[box[0] : box[1], box[2] : box[3]]
        return Patch(box, zlib.compress(np.packbits(part).tobytes(), 1), _checksum(before), _checksum(after))

    @property
    def is_empty(self) -> bool:
        """True if the operation changed nothing."""
        return self.box[0] == self.box[1]

    def undone(self, mask: Mask) -> Mask:
        """The mask before the operation, from the one after it.

        Raises:
            ValueError: it is not the mask after the operation.
        """
        return self._flip(mask, self.after, self.before)

    def redone(self, mask: Mask) -> Mask:
        """The mask after the operation, from the one before it.

        Raises:
            ValueError: it is not the mask before the operation.
        """
        return self._flip(mask, self.before, self.after)

    def _flip(self, mask: Mask, expected: int, result: int) -> Mask:
        if _checksum(mask) != expected:
            raise ValueError("the mask is not the one that this operation was recorded on")
        top, bottom, left, right = self.box
        shape = (bottom - top, right - left)
        bits = np.frombuffer(zlib.decompress(self.flipped), np.uint8)
        out = mask.copy()
        out[top:bottom, left:right] ^= np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape) > 0
        if _checksum(out) != result:
            raise ValueError("the record of the operation is damaged")
        return _frozen(out)


@dataclass(frozen=True)
class Edit:
    """What an operation made of a mask.

    mask: the new one, (H, W), True = hidden, not writable. patch: to undo it.
    touched: (H, W), True = the user decided on this pixel, also where it did not change.
    """

    operation: str
    mask: Mask
    patch: Patch
    touched: Mask


def paint(mask: Mask, stroke_px: ArrayLike, radius_px: float, *, hide: bool = True) -> Edit:
    """The mask with a brush stroke hidden, or visible where ``hide`` is False; edges are sharp.

    stroke_px: points (N, 2) as x, y of pixel centres, joined by straight lines. radius_px: of the brush; a
    pixel is touched when its centre lies at most this far from the stroke.

    Raises:
        ValueError: no point, or a radius below 0.
    """
    points = _points(stroke_px)
    touched = np.zeros(mask.shape, bool)
    for a, b in zip(points, points[1:] if len(points) > 1 else points):
        touch(touched, a, b, radius_px)
    return cover(mask, touched, hide=hide)


def touch(touched: Mask, a_px: ArrayLike, b_px: ArrayLike, radius_px: float) -> tuple[int, int, int, int]:
    """Marks, in place, the pixels that a round brush touches on a straight line between two points.

    touched: (H, W), writable. a_px, b_px: x, y of pixel centres. radius_px: see ``paint``.
    Returns rows and columns [top, bottom, left, right) that were looked at; empty when all lie outside.

    Raises:
        ValueError: a radius below 0.
    """
    if radius_px < 0:
        raise ValueError(f"radius_px must not be negative, got {radius_px}")
    a, b = np.asarray(a_px, dtype=np.float64), np.asarray(b_px, dtype=np.float64)
    height, width = touched.shape
    left, top = np.maximum(np.floor(np.minimum(a, b) - radius_px).astype(int), 0).tolist()
    high = np.ceil(np.maximum(a, b) + radius_px).astype(int) + 1
    right, bottom = np.minimum(high, [width, height]).tolist()
    if left >= right or top >= bottom:
        return 0, 0, 0, 0
    x, y = np.arange(left, right) - a[0], (np.arange(top, bottom) - a[1])[:, None]
    along = b - a
    length2 = float(along @ along)
    share = 0.0 if length2 == 0 else np.clip((x * along[0] + y * along[1]) / length2, 0, 1)
    miss2 = np.square(x - share * along[0]) + np.square(y - share * along[1])
    touched[top:bottom, left:right] |= miss2 <= radius_px**2 + 1e-9
    return top, bottom, left, right


def cover(mask: Mask, touched: Mask, *, hide: bool = True) -> Edit:
    """The mask with the touched pixels (H, W) hidden, or visible where ``hide`` is False."""
    return _edit("paint" if hide else "erase", mask, np.where(touched, hide, mask), touched)


def erase(mask: Mask, stroke_px: ArrayLike, radius_px: float) -> Edit:
    """The mask with a brush stroke made visible; see ``paint``."""
    return paint(mask, stroke_px, radius_px, hide=False)


def polygon(mask: Mask, corners_px: ArrayLike, *, hide: bool = True) -> Edit:
    """The mask with the inside of a polygon or lasso hidden, or visible where ``hide`` is False.

    corners_px: (N, 2) as x, y of pixel centres; the last is joined to the first. The border belongs to it.

    Raises:
        ValueError: no corner.
    """
    corners = _points(corners_px)
    drawn = np.zeros(mask.shape, np.uint8)
    fixed = np.rint(corners * (1 << _SHIFT)).astype(np.int32)
    cv2.fillPoly(drawn, [fixed[:, None]], 1, lineType=cv2.LINE_8, shift=_SHIFT)
    touched = drawn > 0
    return _edit("polygon", mask, np.where(touched, hide, mask), touched)


def fill(mask: Mask, seed_px: tuple[int, int]) -> Edit:
    """The mask with the region of one value about a pixel (x, y) flipped: a hole is filled, a patch removed.

    Visible regions are joined over edges alone, so that a closed outline holds; hidden ones over corners too.

    Raises:
        ValueError: the pixel lies outside.
    """
    x, y = seed_px
    if not (0 <= x < mask.shape[1] and 0 <= y < mask.shape[0]):
        raise ValueError(f"seed_px {seed_px} lies outside of {mask.shape[1]}x{mask.shape[0]}")
    value = bool(mask[y, x])
    same = (mask == value).astype(np.uint8)
    _, labels = cv2.connectedComponents(same, connectivity=8 if value else 4)
    touched = np.asarray(labels == labels[y, x])
    return _edit("fill", mask, np.where(touched, not value, mask), touched)


def grow(mask: Mask, distance_px: float) -> Edit:
    """The mask with every pixel hidden that lies at most this far from a hidden one (centre to centre).

    Raises:
        ValueError: a negative distance.
    """
    return _changed("grow", mask, _grown(mask, distance_px))


def shrink(mask: Mask, distance_px: float) -> Edit:
    """The mask with every pixel visible that lies at most this far from a visible one (centre to centre).

    Raises:
        ValueError: a negative distance.
    """
    return _changed("shrink", mask, ~_grown(~mask, distance_px))


def invert(mask: Mask) -> Edit:
    """The mask with hidden and visible exchanged everywhere."""
    return _edit("invert", mask, ~mask, np.ones(mask.shape, bool))


def copy_from(mask: Mask, other: Mask) -> Edit:
    """The mask of another frame in place of this one.

    Raises:
        ValueError: another size.
    """
    if other.shape != mask.shape:
        raise ValueError(f"the other mask must have shape {mask.shape}, got {other.shape}")
    return _edit("copy", mask, other, np.ones(mask.shape, bool))


def interpolate(mask: Mask, before: Mask, after: Mask, share: float) -> Edit:
    """The mask between those of two other frames, by their signed distances; needs no pictures.

    share: 0 at the frame of ``before``, 1 at that of ``after``.

    Raises:
        ValueError: another size, or a share outside of [0, 1].
    """
    if before.shape != mask.shape or after.shape != mask.shape or not 0 <= share <= 1:
        raise ValueError(f"expected masks of shape {mask.shape} and a share in [0, 1], got {share}")
    distance = (1 - share) * signed_distance(before) + share * signed_distance(after)
    return _edit("interpolate", mask, distance < 0, np.ones(mask.shape, bool))


def _grown(mask: Mask, distance_px: float) -> Mask:
    if distance_px < 0:
        raise ValueError(f"distance_px must not be negative, got {distance_px}")
    if not mask.any():
        return mask
    away = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(away <= distance_px + 1e-4)


def _points(points_px: ArrayLike) -> NDArray[np.float64]:
    points = np.asarray(points_px, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) == 0 or not np.isfinite(points).all():
        raise ValueError(f"points must be finite and of shape (N, 2) with N > 0, got {points.shape}")
    return points


def _changed(operation: str, mask: Mask, new: Mask) -> Edit:
    return _edit(operation, mask, new, new ^ mask)


def _edit(operation: str, mask: Mask, new: Mask, touched: Mask) -> Edit:
    result = _frozen(np.array(new, dtype=bool))
    return Edit(operation, result, Patch.between(mask, result), touched)


def _frozen(mask: Mask) -> Mask:
    mask.flags.writeable = False
    return mask


def _checksum(mask: Mask) -> int:
    return zlib.crc32(np.packbits(mask).tobytes())
