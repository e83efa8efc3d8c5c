"""What no frame of the clip shows: made up from the surroundings, plainly and without invented detail."""

from __future__ import annotations

import cv2
import numpy as np

from splatomy.prepare.inpaint.fields import Bool, Float32, filled_smoothly

_FADE_PX = 12.0
_MOST_TRUSTED = 0.1


def complete(
    image: Float32, missing: Bool, otherwise: Float32, outside: Bool | None = None
) -> tuple[Float32, Float32]:
    """The image (H, W, 3) with missing pixels (H, W) filled smoothly, and the confidence (H, W) there.

    otherwise: (3,) colour for a frame of which nothing is known. outside: (H, W), True = no tissue, never
    looked at. Confidence starts at 0.1 and falls with the distance in px from what is known; it is 0
    where nothing is ``missing``.

    A smooth fill is on purpose: synthesised texture would look like anatomy that nobody has seen.
    """
    if not missing.any():
        return image, np.zeros(missing.shape, np.float32)
    known = ~missing if outside is None else ~(missing | outside)
    if not known.any():
        filled = np.where(missing[..., None], otherwise, image).astype(np.float32)
        return filled, np.zeros(missing.shape, np.float32)
    top, bottom, left, right = _around(missing)
    part = (slice(top, bottom), slice(left, right))
    if not known[part].any():
        part = (slice(None), slice(None))
    filled = image.copy()
    smooth = filled_smoothly(image[part], known[part].astype(np.float32))
    filled[part] = np.where(missing[part][..., None], smooth, image[part])
    distance = cv2.distanceTransform(missing.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    confidence = missing * (_MOST_TRUSTED * np.exp(-np.asarray(distance) / _FADE_PX))
    return filled, confidence.astype(np.float32)


def _around(missing: Bool) -> tuple[int, int, int, int]:
    """The box (top, bottom, left, right) of the missing pixels with as much again of known ones around."""
    rows, columns = np.flatnonzero(missing.any(1)), np.flatnonzero(missing.any(0))
    height, width = int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)
    margin = max(height, width, 8)
    top, left = max(0, int(rows[0]) - margin), max(0, int(columns[0]) - margin)
    return top, int(rows[-1]) + margin + 1, left, int(columns[-1]) + margin + 1
