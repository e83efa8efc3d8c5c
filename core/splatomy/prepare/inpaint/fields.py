"""Smooth fields on the pixel grid: completion of what was measured in places only, warps, compositions."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu

Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

_PLATE_NODES = 28
"""Nodes of the thin plate along the longer side of a picture."""
_STIFFNESS = 0.2


@lru_cache(maxsize=8)
def grid(height: int, width: int) -> tuple[Float32, Float32]:
    """Columns and rows (H, W) of all pixels; shared, so never written to."""
    rows, columns = np.indices((height, width), dtype=np.float32)
    rows.flags.writeable = columns.flags.writeable = False
    return columns, rows


def warped(image: NDArray[Any], flow: Float32, border: int = cv2.BORDER_REPLICATE) -> NDArray[Any]:
    """The image (H, W[, C]) read at x + flow(x), flow (H, W, 2) px, bilinear."""
    columns, rows = grid(*flow.shape[:2])
    return np.asarray(
        cv2.remap(image, columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_LINEAR, borderMode=border)
    )


def squared_length(field: Float32) -> Float32:
    """Squared lengths (...) of vectors (..., 2); many times as fast as a sum along so short an axis."""
    x, y = field[..., 0], field[..., 1]
    return np.asarray(x * x + y * y)


def read_at(
    image: NDArray[Any], x: Float32, y: Float32, how: int = cv2.INTER_LINEAR, outside: float | None = None
) -> NDArray[Any]:
    """The image (H, W[, C]) at places x, y (N,) px; ``outside``: its value there, None = nearest."""
    count, width = len(x), 1024
    padded = np.zeros((2, -(-max(count, 1) // width) * width), np.float32)
    padded[0, :count], padded[1, :count] = x, y
    # OpenCV takes no more than 32,767 places a row.
    border = cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_CONSTANT
    places = padded.reshape(2, -1, width)
    found = cv2.remap(image, places[0], places[1], how, borderMode=border, borderValue=[outside or 0.0] * 4)
    return np.asarray(found).reshape(-1, *image.shape[2:])[:count]


def composed(first: Float32, second: Float32) -> Float32:
    """Flow (H, W, 2) of a -> c from a -> b and b -> c."""
    return np.asarray(first + warped(second, first), np.float32)


@lru_cache(maxsize=8)
def _bending(rows: int, columns: int) -> Any:
    """The bending energy of a thin plate on a grid of nodes, (rows * columns) squared, sparse."""

    def second(n: int) -> Any:
        return sparse.diags([1.0, -2.0, 1.0], [0, 1, 2], shape=(max(n - 2, 0), n))

    def first(n: int) -> Any:
        return sparse.diags([-1.0, 1.0], [0, 1], shape=(n - 1, n))

    across = sparse.kron(sparse.eye(rows), second(columns))
    down = sparse.kron(second(rows), sparse.eye(columns))
    twist = sparse.kron(first(rows), first(columns))
    return (across.T @ across + down.T @ down + 2 * twist.T @ twist).tocsc()


def thin_plate(values: Float32, weight: Float32) -> Float32:
    """The smoothest field (H, W, C) near ``values`` where ``weight`` (H, W) is positive; goes on affinely.

    Source: smoothing thin-plate spline (Wahba 1990) on a coarse grid of nodes, bilinear in between.
    """
    height, width = weight.shape
    cell = max(1, -(-max(height, width) // _PLATE_NODES))
    columns, rows = max(3, -(-width // cell)), max(3, -(-height // cell))
    mass = cv2.resize(weight, (columns, rows), interpolation=cv2.INTER_AREA)
    moment = cv2.resize(values * weight[..., None], (columns, rows), interpolation=cv2.INTER_AREA)
    moment = moment.reshape(rows * columns, -1).astype(np.float64)
    # The faint pull towards the mean keeps the system solvable with fewer than three data.
    mean = moment.sum(0) / max(float(mass.sum()), 1e-9)
    weights = mass.ravel().astype(np.float64) + 1e-7
    system = sparse.diags(weights) + _STIFFNESS * _bending(rows, columns)
    nodes = splu(system.tocsc()).solve(moment + 1e-7 * mean).astype(np.float32)
    field = cv2.resize(nodes.reshape(rows, columns, -1), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(field.reshape(values.shape), np.float32)


def spread(values: Float32, weight: Float32, sigma_px: float) -> tuple[Float32, Float32]:
    """Weighted local mean (H, W, C) under a Gaussian, and its mass (H, W); 0 where there is no mass.

    Wide Gaussians run on a smaller picture.
    """
    factor = max(1, int(sigma_px / 3))
    height, width = weight.shape
    size = (max(1, width // factor), max(1, height // factor))
    mass, moment = _shrunk(values, weight, size)
    mass = cv2.GaussianBlur(mass, (0, 0), sigma_px / factor)
    moment = np.asarray(cv2.GaussianBlur(moment, (0, 0), sigma_px / factor)).reshape(*mass.shape, -1)
    small = moment / np.maximum(mass, 1e-6)[..., None]
    mean = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))
    mass = cv2.resize(mass, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(mean.reshape(values.shape), np.float32), np.asarray(mass, np.float32)


def _shrunk(values: Float32, weight: Float32, size: tuple[int, int]) -> tuple[Any, Any]:
    """The mean weight and the mean of weight * value at size (width, height)."""
    weighted = values * weight[..., None]
    # OpenCV averages over areas of up to four channels at once.
    groups = [weighted[..., n : n + 4] for n in range(0, weighted.shape[-1], 4)]
    shrunk = [cv2.resize(group.copy(), size, interpolation=cv2.INTER_AREA) for group in groups]
    moment = np.concatenate([part.reshape(*size[::-1], -1) for part in shrunk], -1)
    return cv2.resize(weight, size, interpolation=cv2.INTER_AREA), moment


def filled_smoothly(values: Float32, weight: Float32) -> Float32:
    """The values (H, W, C) with every pixel of weight 0 taken from ever wider neighbourhoods.

    Source: push-pull of Gortler et al. (The Lumigraph, 1996).
    """
    height, width = weight.shape
    if min(height, width) <= 2 or weight.min() > 0:
        mean = (values * weight[..., None]).sum((0, 1)) / max(float(weight.sum()), 1e-9)
        return np.where(weight[..., None] > 0, values, mean).astype(np.float32)
    mass, moment = _shrunk(values, weight, ((width + 1) // 2, (height + 1) // 2))
    small = np.asarray(moment).reshape(*mass.shape, -1) / np.maximum(mass, 1e-9)[..., None]
    coarse = filled_smoothly(small.astype(np.float32), np.minimum(mass * 4, 1).astype(np.float32))
    fine = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR))
    share = weight[..., None]
    return np.asarray(share * values + (1 - share) * fine.reshape(values.shape), np.float32)


def grown(mask: Bool, radius_px: int) -> Bool:
    """The mask (H, W) dilated by a disc."""
    size = 2 * radius_px + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disc) > 0)
