"""Two shafted instruments: their paths, and their parts as round cones.

A grasper comes in, takes the tissue, pulls it and lets go; a dissector sweeps above it. Both pivot about a
port outside the picture. Part rows are (ax, ay, az, ra, bx, by, bz, rb) in mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splatomy.phantoms._tissue_shape import TissueShape

Float = NDArray[np.float64]

# Red, green, blue (linear), strength and exponent of the highlight.
_SHAFT = (0.024, 0.026, 0.031, 0.30, 60.0)
_BAND = (0.050, 0.052, 0.056, 0.26, 60.0)
_STEEL = (0.045, 0.046, 0.049, 0.45, 60.0)
_JAW = (0.040, 0.041, 0.043, 0.45, 70.0)


@dataclass(frozen=True)
class Instrument:
    """Where one instrument is in every frame.

    tips_mm: (T, 3). port_mm: (3,), the pivot. opening_rad: (T,) angle between the jaws. roll_rad: of the
    jaws about their axis.
    """

    tips_mm: Float
    port_mm: Float
    opening_rad: Float
    roll_rad: float

    def parts(self, frame: int, radius_mm: float) -> tuple[Float, Float]:
        """Parts (E, 8) and their looks (E, 5) in one frame, for a shaft of this radius."""
        r, tip = radius_mm, self.tips_mm[frame]
        shaft = _unit(tip - self.port_mm)
        # The wrist bends towards the tissue.
        jaw = _unit(shaft + np.array([0.0, 0.0, 0.55]))
        side = np.cross(jaw, _unit(np.cross(shaft, [0.3, 0.5, 0.8])))
        side = np.cos(self.roll_rad) * _unit(side) + np.sin(self.roll_rad) * np.cross(jaw, _unit(side))
        root = tip - 3.1 * r * jaw
        wrist = root - 1.3 * r * _unit(jaw + 0.5 * shaft)
        neck = wrist - 1.1 * r * shaft
        parts: list[tuple[Float, float, Float, float, tuple[float, ...]]] = []
        for sign in (-1.0, 1.0):
            swing = np.tan(0.5 * self.opening_rad[frame])
            middle = root + 1.5 * r * (jaw + sign * (swing + 0.16) * side)
            end = root + 3.1 * r * (jaw + sign * (swing + 0.03) * side)
            parts.append((root + 0.25 * r * sign * side, 0.27 * r, middle, 0.22 * r, _JAW))
            parts.append((middle, 0.22 * r, end, 0.10 * r, _JAW))
        # Two cheeks of the clevis, its pin, and the wrist's steel.
        pin = 0.62 * r * np.cross(jaw, side)
        parts.append((root - pin, 0.20 * r, root + pin, 0.20 * r, _BAND))
        for sign in (-1.0, 1.0):
            cheek = sign * 0.48 * r * np.cross(jaw, side)
            parts.append((root + cheek, 0.24 * r, wrist + cheek, 0.36 * r, _STEEL))
        parts.append((wrist, 0.55 * r, neck, 0.72 * r, _STEEL))
        parts.append((neck - 0.5 * r * shaft, 0.86 * r, neck - 1.0 * r * shaft, 0.86 * r, _BAND))
        parts.append((neck - 1.3 * r * shaft, r, neck - 80.0 * r * shaft, r, _SHAFT))
        parts.append((neck - 2.2 * r * shaft, 1.012 * r, neck - 2.35 * r * shaft, 1.012 * r, _BAND))
        rows = [np.concatenate([a, [ra], b, [rb]]) for a, ra, b, rb, _ in parts]
        return np.stack(rows), np.array([look for *_, look in parts])


def _unit(v: Float) -> Float:
    return np.asarray(v / np.linalg.norm(v))


def _ease(x: Float) -> Float:
    t = np.clip(x, 0.0, 1.0)
    return np.asarray(t * t * (3 - 2 * t))


def grasper(rng: np.random.Generator, shape: TissueShape, times_s: Float, side: float) -> Instrument:
    """The instrument that holds the pulled place from its grasp to its release.

    side: -1 or 1, the side of the picture from which it enters.
    """
    pull = shape.pull
    held = np.stack([shape.points_mm(pull.centre_mm[None], t)[0] for t in times_s])
    # It comes from over tissue that it will hide later, so that most of that tissue is seen before.
    before = np.array([12.0 * side, -10.0 + rng.uniform(-3, 3), -9.0])
    after = np.array([10.0 * side, 10.0 + rng.uniform(-3, 3), -8.0])
    length = float(times_s[-1] - times_s[0]) or 1.0
    come = _ease((pull.grasp_s - times_s) / max(pull.grasp_s, 1e-6))
    go = _ease((times_s - pull.release_s) / max(length - pull.release_s, 1e-6))
    free = np.maximum(come, go)
    tips = held + come[:, None] * before + go[:, None] * after
    port = np.array([70.0 * side, -36.0 + rng.uniform(-4, 4), -16.0])
    return Instrument(tips, port, 0.05 + 0.75 * np.minimum(4 * free, 1.0), rng.uniform(-0.5, 0.5))


def dissector(rng: np.random.Generator, shape: TissueShape, times_s: Float, side: float) -> Instrument:
    """The instrument that sweeps a few millimetres above the tissue."""
    length = float(times_s[-1] - times_s[0]) or 1.0
    turn = 2 * np.pi * times_s / length
    phase = rng.uniform(0, 2 * np.pi, 2)
    across = -16.0 * side + 9.5 * np.sin(1.1 * turn + phase[0])
    along = 6.0 + 7.5 * np.sin(1.45 * turn + phase[1])
    surface = [
        shape.points_mm(np.array([[a, b]]), t)[0] for a, b, t in zip(across, along, times_s, strict=True)
    ]
    hover = np.array([0.0, 0.0, -4.0])
    port = np.array([68.0 * side, 36.0 + rng.uniform(-4, 4), -18.0])
    opening = 0.35 + 0.3 * np.sin(5 * turn)
    return Instrument(np.stack(surface) + hover, port, opening, rng.uniform(-0.5, 0.5))
