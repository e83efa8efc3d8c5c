"""Single frames of an endoscopic clip as they are kept: fields, distortion, crop and bin taken care of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.io.endoscopy import EndoscopySource
from splatomy.io.endoscopy_options import assumed_intrinsics
from splatomy.io.frame_source import Frame, cut
from splatomy.io.options import Crop
from splatomy.io.picture_analysis import deinterlaced


@dataclass(frozen=True)
class EyeLens:
    """The lens of the left eye as the cameras will use it, and the maps that take its distortion out."""

    intrinsics: NDArray[np.float64]
    known: bool
    maps: tuple[Any, Any] | None

    def straight(self, picture: NDArray[Any], nearest: bool = False) -> NDArray[Any]:
        """A whole eye's picture without distortion."""
        if self.maps is None:
            return picture
        how = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
        return np.asarray(cv2.remap(picture, self.maps[0], self.maps[1], how))


def left_lens(source: EndoscopySource, crop: Crop, view_deg: float) -> EyeLens:
    """Intrinsics for the whole left eye. One eye alone is freed of distortion; two are rectified later."""
    if source.poses is not None and source.poses.intrinsics is not None:
        return EyeLens(source.poses.intrinsics, True, None)
    if source.calibration is None:
        aspect = source.pixel_aspect * (source.left.pixel_aspect if source.stereo == "mono" else 1.0)
        k = assumed_intrinsics(crop[2], crop[3], aspect, view_deg)
        k[:2, 2] += crop[:2]
        return EyeLens(k, False, None)
    lens = source.calibration.left
    maps = None
    if lens.distorts and source.right is None:
        size = (source.width_px, source.height_px)
        maps = cv2.initUndistortRectifyMap(
            lens.intrinsics, lens.distortion, np.eye(3), lens.intrinsics, size, cv2.CV_32FC1
        )
    return EyeLens(lens.intrinsics, True, maps)


def eye_picture(
    picture: Frame, box: Crop, deinterlace: bool, crop: Crop, size: int, lens: EyeLens | None = None
) -> NDArray[Any]:
    """One eye's picture as it is kept: fields, distortion, crop and bin taken care of."""
    eye = cut(picture, box)
    if deinterlace:
        eye = deinterlaced(eye)
    if lens is not None:
        eye = lens.straight(np.ascontiguousarray(eye))
    eye = cut(eye, crop)
    if size == 1:
        return eye
    h, w = eye.shape[0] // size, eye.shape[1] // size
    blocks = eye[: h * size, : w * size].reshape(h, size, w, size, 3)
    return np.round(blocks.mean((1, 3), dtype=np.float32)).astype(eye.dtype)


def _fit(part: NDArray[Any], source: EndoscopySource, crop: Crop, lens: EyeLens) -> NDArray[Any]:
    """A mask or depth map of a whole eye, straight and cropped; one of the crop's size is left as it is."""
    if part.shape == (source.height_px, source.width_px):
        return cut(lens.straight(part, nearest=True), crop)
    return part


def outside_of(source: EndoscopySource, crop: Crop, size: int, lens: EyeLens) -> NDArray[np.bool_]:
    """What no frame shows, (H, W): the border, what a straightened picture lacks, and a tool bar."""
    whole = np.zeros((source.height_px, source.width_px), dtype=np.uint8)
    if source.active is not None and source.active.outside is not None:
        whole |= source.active.outside
    if lens.maps is not None:
        seen = cv2.remap(np.ones_like(whole), *lens.maps, cv2.INTER_NEAREST)
        whole = lens.straight(whole, nearest=True) | (1 - seen)
    if source.bottom_rows:
        whole[-source.bottom_rows :] = 1
    return _blocks(cut(whole, crop) > 0, size)


def _blocks(hidden: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """A mask (H, W) in blocks: a block is hidden when any of its pixels is."""
    h, w = hidden.shape[0] // size, hidden.shape[1] // size
    return np.asarray(hidden[: h * size, : w * size].reshape(h, size, w, size).any((1, 3)))


def hidden_in(
    source: EndoscopySource,
    number: int,
    crop: Crop,
    size: int,
    lens: EyeLens,
    outside: NDArray[np.bool_],
) -> NDArray[np.bool_] | None:
    """What the given mask and the outside hide of a frame, (H, W), or None where there is no mask.

    Raises:
        InputError: the mask is unreadable or of another size.
    """
    if source.masks is None:
        return None
    full = (source.masks.height_px, source.masks.width_px)
    target = (source.height_px, source.width_px)
    if full == (crop[3], crop[2]) and not source.masks.resizable:
        target = full
    mask = source.masks.hidden(number, *target)
    if mask is None:
        return None
    return outside | _blocks(_fit(mask.astype(np.uint8), source, crop, lens) > 0, size)


def depth_in(
    source: EndoscopySource, number: int, crop: Crop, size: int, lens: EyeLens
) -> NDArray[np.float32] | None:
    """The given depth of a frame, (H, W), NaN = unknown, or None; a block has the mean of its known depths.

    Raises:
        InputError: the map is unreadable or of another size.
    """
    if source.depth is None:
        return None
    target = (source.height_px, source.width_px)
    if (source.depth.height_px, source.depth.width_px) == (crop[3], crop[2]):
        target = (crop[3], crop[2])
    depth = source.depth.depth(number, *target)
    if depth is None:
        return None
    fitted = np.asarray(_fit(depth, source, crop, lens), dtype=np.float32)
    # Straightened, a picture has corners that nothing falls on, which come as 0.
    fitted = np.where(fitted > 0, fitted, np.float32(np.nan))
    h, w = crop[3] // size, crop[2] // size
    parts = fitted[: h * size, : w * size].reshape(h, size, w, size)
    known = np.isfinite(parts)
    with np.errstate(invalid="ignore"):
        mean = np.where(known, parts, 0).sum((1, 3)) / known.sum((1, 3))
    return np.asarray(mean, np.float32)
