"""Pictures of any size taken apart into equal tiles, and put together again without seams."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from splatomy.prepare.inpaint.fields import Bool, Float32

Box = tuple[slice, slice]


def starts(first: int, last: int, side: int, size: int, overlap: int) -> list[int]:
    """Where tiles of ``side`` px begin that cover ``first`` to ``last`` of a line of ``size`` px."""
    first = max(0, min(first - overlap // 2, size - side))
    needed = last + 1 + overlap // 2 - first
    if needed <= side:
        return [first]
    count = -(-(needed - overlap) // max(side - overlap, 1))
    end = max(first, min(size - side, last + 1 + overlap // 2 - side))
    return sorted({round(first + (end - first) * n / max(count - 1, 1)) for n in range(count)})


def tiles(wanted: Bool, side: int, overlap: int) -> list[Box]:
    """Boxes of side x side px that cover all wanted pixels (H, W) and overlap; none without any."""
    height, width = wanted.shape
    rows = np.flatnonzero(wanted.any(1))
    if not len(rows):
        return []
    boxes = []
    for top in starts(int(rows[0]), int(rows[-1]), side, height, overlap):
        band = wanted[top : top + side].any(0)
        columns = np.flatnonzero(band)
        if not len(columns):
            continue
        for left in starts(int(columns[0]), int(columns[-1]), side, width, overlap):
            box = (slice(top, top + side), slice(left, left + side))
            if wanted[box].any():
                boxes.append(box)
    return boxes


def window(side: int, overlap: int) -> Float32:
    """Weights (side, side) of a tile: they fall linearly towards its border, and nowhere to 0."""
    ramp = np.minimum(np.arange(side) + 1, np.arange(side)[::-1] + 1) / max(overlap, 1)
    line = np.minimum(ramp, 1.0).astype(np.float32)
    return np.asarray(line[:, None] * line[None])


def assembled(
    shape: tuple[int, int], boxes: Sequence[Box], parts: Sequence[NDArray[np.floating]], overlap: int
) -> Float32:
    """The picture (H, W, C) of tiles (s, s, C), blended where they overlap; 0 where there is none."""
    total = np.zeros((*shape, parts[0].shape[-1]), np.float32)
    mass = np.zeros(shape, np.float32)
    weight = window(parts[0].shape[0], overlap)
    for box, part in zip(boxes, parts, strict=True):
        total[box] += weight[..., None] * part
        mass[box] += weight
    return np.asarray(total / np.maximum(mass, 1e-6)[..., None], np.float32)
