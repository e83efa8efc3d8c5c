"""Dense optical flow between two frames, and what can be carried along it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]
Codes = NDArray[np.uint8]

_CONSISTENT_SHARE = 0.01
_CONSISTENT_PX2 = 0.5


def codes_of(image: NDArray[np.floating]) -> Codes:
    """An image (H, W, 3), sRGB in [0, 1], as 8-bit codes."""
    return np.asarray(np.rint(np.clip(image, 0, 1) * 255), dtype=np.uint8)


def working_size(height_px: int, width_px: int, longest_px: int) -> tuple[int, int]:
    """(height, width) of the picture scaled down, never up, to a longer side of ``longest_px``."""
    scale = min(1.0, longest_px / max(height_px, width_px))
    return max(round(height_px * scale), 16), max(round(width_px * scale), 16)


def shrunk(codes: Codes, size: tuple[int, int]) -> Codes:
    """The picture at (height, width) by area averaging."""
    return np.asarray(cv2.resize(codes, size[::-1], interpolation=cv2.INTER_AREA))


class FlowMeter:
    """Dense flow by inverse search (Kroeger et al., ECCV 2016), on grey pictures."""

    def __init__(self) -> None:
        self._search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def both(self, first: Codes, second: Codes) -> tuple[Float32, Float32]:
        """Flow (H, W, 2) in px from ``first`` to ``second``, and back; pixel u moves to u + flow(u)."""
        grey = [cv2.cvtColor(codes, cv2.COLOR_RGB2GRAY) for codes in (first, second)]
        start = np.zeros((*first.shape[:2], 2), np.float32)
        return (
            np.asarray(self._search.calc(grey[0], grey[1], start.copy()), dtype=np.float32),
            np.asarray(self._search.calc(grey[1], grey[0], start), dtype=np.float32),
        )


def fetched(field: Float32, flow: Float32) -> Float32:
    """The field (H, W) or (H, W, C) of the other frame, read where ``flow`` leads from each pixel."""
    height, width = flow.shape[:2]
    x = flow[..., 0] + np.arange(width, dtype=np.float32)
    y = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    return np.asarray(cv2.remap(field, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def arrives(flow: Float32) -> Bool:
    """Where ``flow`` leads to a place inside the picture, (H, W)."""
    height, width = flow.shape[:2]
    x = flow[..., 0] + np.arange(width)
    y = flow[..., 1] + np.arange(height)[:, None]
    return np.asarray((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1))


def consistent(flow: Float32, back: Float32) -> Bool:
    """Where going along ``flow`` and back ends where it began, (H, W): the place is visible in both frames.

    Source: Sundaram, Brox, Keutzer, ECCV 2010, eq. 5.
    """
    returned = fetched(back, flow)
    miss = np.square(flow + returned).sum(-1)
    length = np.square(flow).sum(-1) + np.square(returned).sum(-1)
    return np.asarray((miss < _CONSISTENT_SHARE * length + _CONSISTENT_PX2) & arrives(flow))


def background_motion(flow: Float32, weight: Float32) -> Float32:
    """The affine motion (H, W, 2) in px that most of the weighted pixels follow.

    Iteratively reweighted least squares with Cauchy weights, so that a minority that moves differently has
    no say.
    """
    step = max(1, min(flow.shape[:2]) // 64)
    rows, columns = np.mgrid[0 : flow.shape[0], 0 : flow.shape[1]].astype(np.float64)
    scale = max(flow.shape[:2])
    design = np.stack([np.ones_like(rows), columns / scale, rows / scale], -1)
    a = design[::step, ::step].reshape(-1, 3)
    b = flow[::step, ::step].reshape(-1, 2).astype(np.float64)
    prior = weight[::step, ::step].reshape(-1).astype(np.float64) + 1e-6
    w = prior
    solution = np.zeros((3, 2))
    for _ in range(8):
        solution = np.linalg.solve((a * w[:, None]).T @ a + 1e-9 * np.eye(3), (a * w[:, None]).T @ b)
        miss2 = np.square(b - a @ solution).sum(-1)
        w = prior / (1 + miss2 / max(float(np.median(miss2)), 0.01))
    return np.asarray(design @ solution, dtype=np.float32)
