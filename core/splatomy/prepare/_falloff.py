"""Depth from brightness: with the lamp at the lens, light falls with the squared distance.

Linear brightness I = gain * albedo * cos(slant) / r^2. Differences of albedo show in the chromaticity, since
blood that darkens tissue also reddens it; the slant follows from the depth itself, so both are solved in
turns. Only the shape is found: depth up to one factor.

Source: Collins and Bartoli, IPCAI 2012 (light fall-off in laparoscopy); the albedo model and the solver are
ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu

from splatomy.prepare._stereo import highlights

Float = NDArray[np.float64]
Image = NDArray[np.float32]
Bool = NDArray[np.bool_]

_LONG_SIDE = 112
_DARK = 0.004
_BRIGHT = 0.85
_FINE_SIGMA = 3.0
_TURNS = 3
_LEAST_COSINE = 0.4
_SMOOTHNESS = 60.0
_EDGE = 0.1


def linear_from_srgb(srgb: Image) -> Image:
    """Linear light of sRGB values in [0, 1] (IEC 61966-2-1)."""
    x = np.asarray(srgb, np.float32)
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(np.float32)


@dataclass(frozen=True)
class Shading:
    """A small picture's logarithms: light (H, W) of the red channel, chroma (H, W, 2), and weight (H, W).

    chroma: log green over red and log blue over red. weight: in [0, 1], 0 = hidden, shiny, dark or white.
    """

    light: Image
    chroma: Image
    weight: Image


def shading_of(picture: Image, hidden: Bool | None) -> Shading:
    """The logarithms of an sRGB picture (H, W, 3), averaged over the pixels that say something."""
    height, width = picture.shape[:2]
    factor = min(1.0, _LONG_SIDE / max(height, width))
    size = (max(2, round(width * factor)), max(2, round(height * factor)))
    linear = linear_from_srgb(picture)
    usable = (picture.max(-1) < _BRIGHT) & (linear.max(-1) > _DARK) & ~highlights(picture)
    if hidden is not None:
        # Instruments throw shadows and light on what is beside them.
        kernel = np.ones((3, 3), np.uint8)
        usable &= cv2.dilate(hidden.astype(np.uint8), kernel, iterations=max(1, width // 160)) == 0
    share = usable.astype(np.float32)
    weight = cv2.resize(share, size, interpolation=cv2.INTER_AREA)
    total = cv2.resize(linear * share[..., None], size, interpolation=cv2.INTER_AREA)
    mean = np.log(np.maximum(total / np.maximum(weight, 1e-3)[..., None], 1e-4))
    weight[weight < 0.25] = 0.0
    return Shading(mean[..., 0], mean[..., 1:] - mean[..., :1], weight)


def _smooth(image: Image, weight: Image, sigma: float) -> Image:
    total = cv2.GaussianBlur(weight, (0, 0), sigma) + 1e-4
    expanded = weight[..., None] if image.ndim == 3 else weight
    blurred = cv2.GaussianBlur(image * expanded, (0, 0), sigma)
    return np.asarray(blurred / (total[..., None] if image.ndim == 3 else total), np.float32)


def albedo_slopes(shadings: list[Shading]) -> Float:
    """How the logarithm of the red albedo follows the chroma, (2,), from fine detail.

    Over a few pixels the distance hardly changes, so brightness that varies there is albedo.
    """
    fine_light, fine_chroma, weights = [], [], []
    for shading in shadings:
        keep = shading.weight > 0.5
        low_light = _smooth(shading.light, shading.weight, _FINE_SIGMA)
        low_chroma = _smooth(shading.chroma, shading.weight, _FINE_SIGMA)
        fine_light.append((shading.light - low_light)[keep])
        fine_chroma.append((shading.chroma - low_chroma)[keep])
        weights.append(shading.weight[keep])
    y, x, w = np.concatenate(fine_light), np.concatenate(fine_chroma), np.concatenate(weights)
    slopes = np.zeros(2)
    if len(y) < 100:
        return slopes
    for _ in range(5):
        residual = y - x @ slopes
        scale = 1.4826 * float(np.median(np.abs(residual))) + 1e-4
        trust = w / (1 + (residual / (2 * scale)) ** 2)
        normal = (x * trust[:, None]).T @ x + 1e-3 * trust.sum() * np.eye(2) * float(np.var(x))
        slopes = np.linalg.solve(normal, (x * trust[:, None]).T @ y)
    return np.asarray(slopes)


def _neighbour_rows(shape: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pixel numbers of both ends of every horizontal and vertical pair of neighbours."""
    number = np.arange(shape[0] * shape[1]).reshape(shape)
    first = np.concatenate([number[:, :-1].ravel(), number[:-1].ravel()])
    second = np.concatenate([number[:, 1:].ravel(), number[1:].ravel()])
    return first, second


def _solve(target: Image, weight: Image, start: Image) -> Image:
    """The field nearest to ``target`` where it has weight and smooth elsewhere; real edges stay.

    Edges are kept by reweighting (a Huber-like penalty of the neighbour differences of ``start``).
    """
    first, second = _neighbour_rows(target.shape)
    flat = start.ravel().astype(np.float64)
    step = np.abs(flat[first] - flat[second])
    stiff = _SMOOTHNESS / (1 + step / _EDGE)
    n = target.size
    edges = sparse.coo_matrix(
        (np.concatenate([np.ones_like(stiff), -np.ones_like(stiff)]),
         (np.concatenate([np.arange(len(stiff))] * 2), np.concatenate([first, second]))),
        shape=(len(stiff), n),
    ).tocsr()  # fmt: skip
    data = weight.ravel().astype(np.float64) + 1e-6
    system = edges.T @ sparse.diags(stiff) @ edges + sparse.diags(data)
    factors = splu(system.tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
    found = factors.solve(data * target.ravel())
    return np.asarray(found.reshape(target.shape), np.float32)


def _cosine(log_range: Image, rays: Float) -> Image:
    """Cosine (H, W) of the angle between the surface's normal and the direction to the lens.

    rays: (H, W, 3) unit directions.
    """
    points = rays * np.exp(log_range - log_range.mean())[..., None]
    down, across = np.gradient(points, axis=(0, 1))
    normal = np.cross(across, down)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-12
    return np.abs((normal * rays).sum(-1)).astype(np.float32)


def log_range_of(shading: Shading, slopes: Float, rays: Float, before: tuple[Image, Image] | None) -> Image:
    """Logarithm (H, W) of the distance to the lens, up to a constant.

    slopes: see ``albedo_slopes``. rays: (H, W, 3) unit directions of the small picture's pixels.
    before: the last frame's result moved to this one, and its weight (H, W) in [0, 1].
    """
    light = shading.light - (shading.chroma @ slopes).astype(np.float32)
    keep = shading.weight > 0
    middle = float(np.median(light[keep])) if keep.any() else 0.0
    light = np.clip(light - middle, -3, 3)
    found = np.zeros(light.shape, np.float32)
    cosine = np.ones(light.shape, np.float32)
    for turn in range(_TURNS):
        target = -0.5 * (light - np.log(np.maximum(cosine, _LEAST_COSINE)))
        weight = shading.weight
        if before is not None:
            moved, trust = before
            both = trust * (shading.weight > 0)
            if both.any():
                moved = moved - np.float32(np.average(moved - target, weights=both))
            target = (weight * target + trust * moved) / np.maximum(weight + trust, 1e-6)
            weight = weight + trust
        found = _solve(target, weight, found if turn else _smooth(target, weight, _FINE_SIGMA))
        # Half a step: the full one would swing between too steep and too flat.
        cosine = 0.5 * (cosine + _smooth(_cosine(found, rays), np.ones_like(found), 1.5))
    return found
