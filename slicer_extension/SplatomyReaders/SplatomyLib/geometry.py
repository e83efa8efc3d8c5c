"""Axes of the engine's files and of the scene, as 4x4 matrices.

The scene is RAS in mm. DSA files are LPS in mm. Endoscopic files have the first camera's OpenCV axes
(x right, y down, z forward).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
RAS_FROM_LPS = LPS_FROM_RAS
SCENE_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])
MM, RELATIVE = "mm", "relative"


@dataclass(frozen=True)
class World:
    """The world frame of a run.

    name: as in run.json: "LPS", "isocentre as LPS", "first camera", or an input's own world.
    metric: False = lengths have no unit. mm_per_unit: the scale that a person gave, or None.
    """

    name: str
    metric: bool = True
    mm_per_unit: float | None = None

    @property
    def is_lps(self) -> bool:
        """True if coordinates in files are LPS."""
        return "LPS" in self.name

    @property
    def is_registered(self) -> bool:
        """True if the axes are those of a patient."""
        return self.name == "LPS"

    @property
    def unit(self) -> str:
        """Unit of lengths in the scene, ``MM`` or ``RELATIVE``."""
        return MM if self.metric or self.mm_per_unit else RELATIVE

    def scene_from_nodes(self) -> np.ndarray:
        """(4, 4) of the transform that the nodes of this world hang under.

        Coordinates of LPS worlds are turned to RAS when files are read, so theirs is the identity.
        """
        if self.is_lps:
            return np.eye(4)
        scale = 1.0 if self.metric or not self.mm_per_unit else self.mm_per_unit
        return SCENE_FROM_OPENCV @ np.diag([scale, scale, scale, 1.0])

    def nodes_from_file(self) -> np.ndarray:
        """(4, 4) from coordinates in files to coordinates in nodes."""
        return RAS_FROM_LPS if self.is_lps else np.eye(4)


def world_of_run(record: dict[str, Any]) -> World:
    """The world of a run's run.json, or of a frames.json."""
    return World(str(record.get("world", "")), record.get("metric") is not False)


def applied(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (N, 3) moved by a (4, 4) matrix."""
    return np.asarray(points, dtype=np.float64) @ matrix[:3, :3].T + matrix[:3, 3]


def picture_from_pixels(pitch: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """IJK -> RAS (4, 4) of a picture: upright in Slicer's axial view, the first pixel at the origin.

    pitch: size of a pixel along columns (x) and rows (y).
    """
    # In the axial view the right side of the screen is -R and the lower one is -A.
    return np.diag([-pitch[0], -pitch[1], 1.0, 1.0])


def index_value(time_s: float) -> str:
    """A time as the index value of a sequence item; equal times give equal texts in every sequence."""
    return f"{time_s:.9g}"
