"""What keeps a scope from seeing tissue: smoke, a black picture, and being pulled out of the body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from splatomy.phantoms._tissue_texture import noise

Float32 = NDArray[np.float32]

StreamState = Literal["tissue", "smoke", "black", "outside"]

_EASE_S = 0.5
"""Smoke comes and goes within this time; the other two are there at once."""
_SMOKE_COLOUR = np.array([0.62, 0.60, 0.60], np.float32)
_DRAPE_COLOUR = np.array([0.30, 0.46, 0.55], np.float32)
SMOKE_HIDES = 0.5
"""Share of smoke in a pixel's light from which its depth is unknown."""


@dataclass(frozen=True)
class Disturbance:
    """A part of every cycle in which less or no tissue is seen.

    start, stop: as shares of the cycle. strength: greatest share of smoke in a pixel's light.
    """

    kind: Literal["smoke", "black", "outside"]
    start: float
    stop: float
    strength: float = 0.75


def disturbance_at(
    disturbances: tuple[Disturbance, ...], time_s: float, cycle_s: float
) -> tuple[Disturbance | None, float]:
    """The disturbance at a time, and how far it is there, in [0, 1]."""
    phase = (time_s % cycle_s) / cycle_s
    for one in disturbances:
        if one.start <= phase < one.stop:
            if one.kind != "smoke":
                return one, 1.0
            edge = min(phase - one.start, one.stop - phase) * cycle_s / _EASE_S
            return one, min(1.0, edge)
    return None, 0.0


def haze_texture(rng: np.random.Generator) -> Float32:
    """Density of smoke that drifts through the picture, (512, 512) in [0, 1], without a seam."""
    clouds = noise(rng, (512, 512), (170, 230), 4)
    # Mirrored halves meet without a seam however far the smoke has drifted.
    half = clouds[:256, :256]
    seamless = np.concatenate([half, half[:, ::-1]], 1)
    seamless = np.concatenate([seamless, seamless[::-1]], 0)
    low, high = np.quantile(seamless, [0.02, 0.98])
    return np.clip((seamless - low) / (high - low), 0, 1).astype(np.float32)


def haze(texture: Float32, time_s: float, height_px: int, width_px: int) -> Float32:
    """Density of smoke in every pixel, (H, W) in [0.35, 1]; two layers drift against each other."""
    rows, columns = (
        np.arange(height_px) * 256.0 / height_px,
        np.arange(width_px) * 256.0 / max(width_px, 1),
    )
    layers = []
    for speed_r, speed_c in ((-38.0, 22.0), (-24.0, -31.0)):
        r = np.floor(rows + speed_r * time_s).astype(int) % texture.shape[0]
        c = np.floor(columns + speed_c * time_s).astype(int) % texture.shape[1]
        layers.append(texture[r[:, None], c[None]])
    return np.asarray(0.35 + 0.65 * np.maximum(*layers), np.float32)


def with_smoke(linear: Float32, share: Float32) -> Float32:
    """Linear light (H, W, 3) behind smoke that gives the share (H, W) of the light."""
    return np.asarray(linear * (1 - share[..., None]) + _SMOKE_COLOUR * share[..., None], np.float32)


def outside_picture(texture: Float32, time_s: float, height_px: int, width_px: int) -> Float32:
    """Linear light (H, W, 3) outside of the body: blurred blue drapes and a lamp."""
    drapes = haze(texture, 0.35 * time_s, height_px, width_px)
    y, x = np.mgrid[:height_px, :width_px] / max(height_px, width_px)
    lamp = np.exp(-(((x - 0.3 - 0.1 * np.sin(time_s)) ** 2 + (y - 0.2) ** 2) / 0.02))
    light = (0.35 + 0.65 * drapes)[..., None] * _DRAPE_COLOUR + 0.9 * lamp[..., None]
    return np.asarray(light, np.float32)
