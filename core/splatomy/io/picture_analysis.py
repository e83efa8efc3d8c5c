"""What sampled frames show about a recording: two eyes, combed fields, black borders, a round picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from splatomy.io.frame_source import Frame
from splatomy.io.options import Crop, StereoLayout

_LARGEST_SHIFT = 0.12
"""Largest disparity that is looked for, as a share of an eye's width."""

_STEREO_MATCH = 0.3
_BLACK = 24
"""Grey levels (of 255) below this are border; compressed video makes black uneven."""

_SMALLEST_BORDER = 0.01
_COMB_SHARE = 0.02


def grey(frame: Frame) -> NDArray[np.float32]:
    """Mean of the colours, (H, W) float32 in grey levels 0 to 255."""
    scale = 255 / np.iinfo(frame.dtype).max / 3
    # Adding planes is many times faster than a mean along the short last axis.
    total = np.add(frame[..., 0], frame[..., 1], dtype=np.float32)
    total += frame[..., 2]
    return np.asarray(total * np.float32(scale))


def stereo_match(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """How well two grey pictures (H, W) are views of one scene: the best correlation, 0 to 1, over shifts.

    Large structure is taken out first, because light falls off alike in every endoscopic picture.
    """
    height, width = one.shape
    scale = 192 / max(width, height)
    size = (max(16, round(width * scale)), max(16, round(height * scale)))
    small = [cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in (one, other)]
    fine = [p - cv2.GaussianBlur(p, (0, 0), 6) for p in small]
    margin_x, margin_y = round(_LARGEST_SHIFT * size[0]), max(2, round(0.03 * size[1]))
    inner = fine[0][margin_y:-margin_y, margin_x:-margin_x]
    if inner.std() < 0.5:
        return 0.0
    return float(cv2.matchTemplate(fine[1], np.ascontiguousarray(inner), cv2.TM_CCOEFF_NORMED).max())


def stereo_layout(frames: list[Frame]) -> tuple[StereoLayout, float]:
    """The layout of the frames and how sure it is: the correlation of the two halves (mono: the larger)."""
    sbs, tb = [], []
    for frame in frames:
        picture = grey(frame)
        height, width = picture.shape
        if min(width, height) < 32:
            continue
        sbs.append(stereo_match(picture[:, : width // 2], picture[:, width - width // 2 :]))
        tb.append(stereo_match(picture[: height // 2], picture[height - height // 2 :]))
    side, stacked = (float(np.median(found)) if found else 0.0 for found in (sbs, tb))
    if max(side, stacked) < _STEREO_MATCH:
        return "mono", max(side, stacked)
    return ("sbs", side) if side >= stacked else ("tb", stacked)


def eye_boxes(layout: StereoLayout, width_px: int, height_px: int) -> tuple[Crop, Crop | None]:
    """The boxes of the left and the right eye: left half or top half is the left eye."""
    if layout == "sbs":
        half = width_px // 2
        return (0, 0, half, height_px), (width_px - half, 0, half, height_px)
    if layout == "tb":
        half = height_px // 2
        return (0, 0, width_px, half), (0, height_px - half, width_px, half)
    return (0, 0, width_px, height_px), None


def combed_share(frames: list[Frame]) -> float:
    """Share of picture tiles (0 to 1), in the frame that shows it most, where two fields are interleaved.

    In a combed tile the second difference between neighbouring rows exceeds that between rows of one
    field; in a smooth picture it is the smaller one, and in noise both are equal.
    """
    worst = 0.0
    for frame in frames:
        # Every second column is enough, and half the work.
        p = grey(frame[:, ::2])
        if p.shape[0] < 64 or p.shape[1] < 32:
            continue
        near = np.abs(2 * p[2:-2] - p[1:-3] - p[3:-1])
        far = np.abs(2 * p[2:-2] - p[:-4] - p[4:])
        tiles = [ndimage.uniform_filter(d, 32)[16::32, 16::32] for d in (near, far)]
        combed = (tiles[0] > 1.4 * tiles[1]) & (tiles[0] > 3)
        worst = max(worst, float(combed.mean()))
    return worst


def is_combed(share: float) -> bool:
    """True if that share of combed tiles means interlaced video."""
    return share > _COMB_SHARE


def deinterlaced(frame: Frame) -> Frame:
    """The picture of the frame's upper field: combed pixels of odd rows are interpolated, others stay.

    A pixel is combed when it stands out from both neighbouring rows to the same side, and these agree.
    """
    p = frame.astype(np.int32)
    above, below = p[:-2:2], p[2::2]
    odd = p[1 : 2 * len(below) : 2]
    limit = 6 * (np.iinfo(frame.dtype).max // 255)
    first, second = odd - above, odd - below
    combed = (first * second > 0) & (np.minimum(abs(first), abs(second)) > limit)
    combed &= abs(above - below) < np.maximum(abs(first), abs(second))
    any_colour = combed[..., 0] | combed[..., 1] | combed[..., 2]
    wide = cv2.dilate(any_colour.astype(np.uint8), np.ones((3, 5), np.uint8)).astype(bool)
    out = frame.copy()
    rows = out[1 : 2 * len(below) : 2]
    rows[wide] = ((above + below + 1) // 2)[wide].astype(frame.dtype)
    if frame.shape[0] % 2 == 0 and frame.shape[0] > 1:
        out[-1] = out[-2]
    return out


@dataclass(frozen=True)
class ActivePicture:
    """Where the picture lies in the frame.

    box: x, y, width, height. outside: (H, W) bool over the whole frame, True = not picture, or None when
    the box is full. shape: "full", "rectangle", "circle" or "other shape".
    """

    box: Crop
    outside: NDArray[np.bool_] | None
    shape: str


def active_picture(frames: list[Frame]) -> ActivePicture:
    """The part of the frames that is ever bright, without the black border around it.

    Only darkness that reaches the frame's edge counts; the border is the outside of a convex shape.
    """
    brightest = np.max([cv2.medianBlur(_brightest_colour(_eight_bit(frame)), 5) for frame in frames], axis=0)
    height, width = brightest.shape
    whole = ActivePicture((0, 0, width, height), None, "full")
    labels, count = ndimage.label(brightest >= _BLACK)
    if count == 0:
        return whole
    sizes = np.bincount(labels.ravel())[1:]
    lit = labels == 1 + int(sizes.argmax())
    # A dark scene leaves lit patches; a border leaves one large lit region.
    if sizes.max() < 0.2 * lit.size:
        return whole
    # Thin lines and text in the border do not belong to the picture.
    core = cv2.morphologyEx(lit.astype(np.uint8), cv2.MORPH_OPEN, np.ones((9, 9), np.uint8)).astype(bool)
    if not core.any():
        return whole
    rows = np.flatnonzero(core.sum(1) > 0.02 * width)
    columns = np.flatnonzero(core.sum(0) > 0.02 * height)
    if len(rows) == 0 or len(columns) == 0:
        return whole
    box = (int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1)
    inside = _hull(core & _box_mask(box, core.shape))
    in_box = inside[box[1] : box[1] + box[3], box[0] : box[0] + box[2]]
    missing = 1 - float(in_box.mean())
    if missing < 0.02:
        border = 1 - box[2] * box[3] / lit.size
        return whole if border < _SMALLEST_BORDER else ActivePicture(box, None, "rectangle")
    # Vignetted corners of a normal picture are dark, not black: the border must be black all over.
    if float((brightest[~inside] < _BLACK).mean()) < 0.97:
        return ActivePicture(box, None, "rectangle") if box != whole.box else whole
    return ActivePicture(box, ~inside, "circle" if _is_round(in_box) else "other shape")


def _brightest_colour(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The largest of the three channels, (H, W)."""
    return np.maximum(np.maximum(frame[..., 0], frame[..., 1]), frame[..., 2])


def _eight_bit(frame: Frame) -> NDArray[np.uint8]:
    return np.asarray(frame if frame.dtype == np.uint8 else frame >> 8, dtype=np.uint8)


def _box_mask(box: Crop, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    mask = np.zeros(shape, dtype=bool)
    mask[box[1] : box[1] + box[3], box[0] : box[0] + box[2]] = True
    return mask


def _hull(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The convex hull of a mask, filled."""
    rows = np.flatnonzero(mask.any(1))
    first, last = mask.argmax(1)[rows], mask.shape[1] - 1 - mask[:, ::-1].argmax(1)[rows]
    points = np.concatenate([np.stack([first, rows], -1), np.stack([last, rows], -1)])
    try:
        corners = points[ConvexHull(points).vertices]
    except (QhullError, ValueError):
        return mask
    out: NDArray[Any] = np.zeros(mask.shape, np.uint8)
    cv2.fillConvexPoly(out, np.ascontiguousarray(corners, np.int32), 1)
    return out.astype(bool)


def _is_round(in_box: NDArray[np.bool_]) -> bool:
    """True if a shape is a disc that may be cut by straight edges of its box."""
    edge = in_box & ~ndimage.binary_erosion(in_box)
    # Only the edge inside the box is curved; where the disc is cut, it runs along the box.
    edge[:2] = edge[-2:] = False
    edge[:, :2] = edge[:, -2:] = False
    y, x = np.nonzero(edge)
    if len(x) < 20:
        return False
    residual = np.zeros(len(x))
    for _ in range(4):
        # A disc cut obliquely has straight edges too: the worst quarter does not count.
        kept = residual <= np.quantile(residual, 0.75)
        # The algebraic circle fit: x^2 + y^2 = 2 a x + 2 b y + c.
        system = np.stack([2 * x, 2 * y, np.ones_like(x)], -1)[kept].astype(np.float64)
        a, b, c = np.linalg.lstsq(system, (x**2 + y**2)[kept].astype(np.float64), rcond=None)[0]
        radius = np.sqrt(max(c + a * a + b * b, 1e-9))
        residual = abs(np.hypot(x - a, y - b) - radius)
    return bool(np.quantile(residual, 0.7) < 0.015 * radius)
