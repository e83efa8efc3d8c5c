"""The tissue's surface: a triangle mesh over material coordinates that breathes and is pulled.

A point of the tissue keeps its material coordinates (s, t) in mm for ever; only its place moves. World
frame: the first camera, OpenCV axes, mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from splatomy.phantoms._tissue_texture import noise

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Pull:
    """A grasped place: material centre (2,) mm, radius of influence, and the displacement (3,) when full."""

    centre_mm: Float
    radius_mm: float
    reach_mm: Float
    grasp_s: float
    full_s: float
    ease_s: float
    release_s: float

    def share(self, time_s: float) -> float:
        """How far the tissue is pulled, in [0, 1]: up from grasp to full, down from ease to release."""
        up = _ease((time_s - self.grasp_s) / (self.full_s - self.grasp_s))
        down = _ease((time_s - self.ease_s) / (self.release_s - self.ease_s))
        return up * (1 - down)


def _ease(x: float) -> float:
    t = min(max(x, 0.0), 1.0)
    return t * t * t * (10 - 15 * t + 6 * t * t)


@dataclass(frozen=True)
class TissueShape:
    """The rest surface and its motion.

    origin_mm (2,), spacing_mm: material coordinates of node (row, column) are origin + spacing * (column,
    row). relief_mm: (R, C) distance from the tilted plane, negative towards the camera. breath_mm:
    (R, C, 3) displacement at full inspiration. lag_s: (R, C) delay of the breath.
    """

    origin_mm: Float
    spacing_mm: float
    distance_mm: float
    slope: Float
    relief_mm: Float
    breath_mm: Float
    lag_s: Float
    breath_period_s: float
    pull: Pull

    def _at(self, nodes: Float, s_mm: Float, t_mm: Float) -> Float:
        """Node values (R, C, ...) at material coordinates (N,)."""
        rows = (t_mm - self.origin_mm[1]) / self.spacing_mm
        columns = (s_mm - self.origin_mm[0]) / self.spacing_mm
        flat = nodes.reshape(*nodes.shape[:2], -1)
        found = [
            ndimage.map_coordinates(flat[..., k], [rows, columns], order=1, mode="nearest")
            for k in range(flat.shape[-1])
        ]
        return np.stack(found, -1).reshape(*s_mm.shape, *nodes.shape[2:])

    def _place(self, s: Float, t: Float, relief: Float, breath: Float, lag: Float, time_s: float) -> Float:
        x = (time_s - lag) / self.breath_period_s
        # The square of a sine dwells at the end of expiration, as ventilated tissue does.
        share = np.sin(np.pi * x) ** 2
        rest = np.stack([s, t, self.distance_mm + self.slope[0] * s + self.slope[1] * t + relief], -1)
        far = ((s - self.pull.centre_mm[0]) ** 2 + (t - self.pull.centre_mm[1]) ** 2) / self.pull.radius_mm**2
        tent = self.pull.share(time_s) * np.exp(-0.5 * far)
        return np.asarray(rest + share[..., None] * breath + tent[..., None] * self.pull.reach_mm)

    def nodes_mm(self, time_s: float) -> Float:
        """Places of all mesh vertices, (R, C, 3) mm."""
        rows, columns = self.relief_mm.shape
        t, s = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
        s = self.origin_mm[0] + self.spacing_mm * s
        t = self.origin_mm[1] + self.spacing_mm * t
        return self._place(s, t, self.relief_mm, self.breath_mm, self.lag_s, time_s)

    def points_mm(self, material_mm: Float, time_s: float) -> Float:
        """Places (N, 3) mm of material coordinates (N, 2)."""
        s, t = np.asarray(material_mm, np.float64).T
        relief, breath, lag = (self._at(x, s, t) for x in (self.relief_mm, self.breath_mm, self.lag_s))
        return self._place(s, t, relief, breath, lag, time_s)

    @property
    def faces(self) -> NDArray[np.int32]:
        """Triangles (F, 3) of the row-major vertices, anticlockwise as the camera sees them."""
        rows, columns = self.relief_mm.shape
        number = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
        a, b = number[:-1, :-1], number[:-1, 1:]
        c, d = number[1:, :-1], number[1:, 1:]
        halves = np.stack([np.stack([a, c, b], -1), np.stack([b, c, d], -1)], 2)
        return np.ascontiguousarray(halves.reshape(-1, 3))


def tissue_shape(
    rng: np.random.Generator,
    size_mm: tuple[float, float],
    spacing_mm: float,
    distance_mm: float,
    breath_mm: float,
    breath_period_s: float,
    pull: Pull,
) -> TissueShape:
    """A tilted, folded patch of (width, height) mm, centred on the optical axis.

    distance_mm: of the plane on the optical axis. breath_mm: typical displacement at full inspiration.
    """
    shape = (round(size_mm[1] / spacing_mm) + 1, round(size_mm[0] / spacing_mm) + 1)

    def waves(row_mm: float, column_mm: float, octaves: int = 1) -> Float:
        return noise(rng, shape, (row_mm / spacing_mm, column_mm / spacing_mm), octaves).astype(np.float64)

    # Ridged noise: sharp valleys between rounded folds.
    folds = np.abs(waves(26, 44, 2)) - 0.8
    relief = 3.2 * waves(60, 60) - 3.6 * folds + 0.35 * waves(7, 7, 2)
    relief = ndimage.gaussian_filter(relief, 0.9 / spacing_mm)
    direction = np.array([0.35 * rng.choice([-1.0, 1.0]), 0.85, -0.65])
    sway = 1 + 0.30 * np.stack([waves(50, 50) for _ in range(3)], -1)
    lag = 0.10 * breath_period_s * np.clip(waves(70, 70), -2, 2)
    return TissueShape(
        origin_mm=-0.5 * spacing_mm * np.array([shape[1] - 1.0, shape[0] - 1.0]),
        spacing_mm=spacing_mm,
        distance_mm=distance_mm,
        slope=np.array([rng.uniform(-0.10, 0.10), -0.38]),
        relief_mm=relief,
        breath_mm=breath_mm * direction * sway,
        lag_s=lag - float(lag.mean()),
        breath_period_s=breath_period_s,
        pull=pull,
    )
