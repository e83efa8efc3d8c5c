"""What a method makes: a scene, and the products taken from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from splatomy.capture import Grid
from splatomy.geometry.cameras import Cameras

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Render:
    """Images of a scene: colour (N, H, W, C); alpha, depth_mm (N, H, W) and normals (N, H, W, 3) or None.

    depth_mm: along z, NaN = no surface. normals: unit, camera axes. evidence: (N, H, W) in [0, 1], the share
    of real observations in what is shown, or None.
    """

    colour: NDArray[np.float32]
    alpha: NDArray[np.float32] | None = None
    depth_mm: NDArray[np.float32] | None = None
    normals: NDArray[np.float32] | None = None
    evidence: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh.

    vertices_mm: (V, 3). faces: (F, 3) int32. colours: (V, 3) in [0, 1] or None.
    evidence: (V,) in [0, 1], the share of real, not synthetic, observations; None = all real.
    """

    vertices_mm: NDArray[np.float32]
    faces: NDArray[np.int32]
    colours: NDArray[np.float32] | None = None
    evidence: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Volume:
    """Voxel values (I, J, K) float32, attenuation in 1/mm, on a grid affine_mm (4, 4) index -> world."""

    values: NDArray[np.float32]
    affine_mm: NDArray[np.float64]

    @property
    def grid(self) -> Grid:
        """The grid of the values."""
        i, j, k = self.values.shape
        return Grid((i, j, k), self.affine_mm)


@runtime_checkable
class Scene(Protocol):
    """A published reconstruction; it never changes once published.

    ``abilities`` is a subset of {"render", "surface", "volume"}; a verb outside it raises ValueError.
    """

    @property
    def abilities(self) -> frozenset[str]: ...

    @property
    def bounds_mm(self) -> NDArray[np.float64]:
        """World box, (2, 3) mm."""

    @property
    def time_range_s(self) -> tuple[float, float]: ...

    def render(self, cameras: Cameras, time_s: float | NDArray[np.floating]) -> Render:
        """Images (N, H, W, C) at one time, or at one time per camera."""

    def surface(self, time_s: float) -> Mesh: ...

    def volume(self, grid: Grid, time_s: float | None) -> Volume:
        """Attenuation at a time, or its mean over the scene's frame times when ``time_s`` is None."""

    def state(self) -> SceneState:
        """Everything needed to load the scene again."""


@runtime_checkable
class DrawsAnywhere(Protocol):
    """A scene that can be drawn by a device of choice; on the CPU unless asked."""

    def on(self, device: torch.device) -> Scene:
        """The same scene, drawn by that device."""


def drawn_by(device: torch.device, scene: Scene) -> Scene:
    """The scene, drawn by a device if it can be."""
    return scene.on(device) if isinstance(scene, DrawsAnywhere) else scene


@dataclass(frozen=True)
class SceneState:
    """A scene as named arrays and JSON values; its method's ``load_scene`` reads it back."""

    arrays: Mapping[str, NDArray[Any]]
    values: Mapping[str, Any] = field(default_factory=dict)
