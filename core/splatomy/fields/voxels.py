"""A scene of voxels, static or modulated over time by projected ratios."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from splatomy.capture import Grid
from splatomy.geometry.cameras import Cameras
from splatomy.kernels.march import march
from splatomy.scene import Mesh, Render, SceneState, Volume


@dataclass(frozen=True)
class VoxelScene:
    """Attenuation on a grid, times a ratio read from per-frame pictures when there are any.

    base: the static volume, 1/mm. times_s: (T,) the frame times.
    ratios: (T, H, W) factors of ``base`` along each frame's rays, or None for a static scene.
    ratio_cameras: the T cameras of the ratios.
    """

    base: Volume
    times_s: NDArray[np.float64]
    ratios: NDArray[np.float32] | None = None
    ratio_cameras: Cameras | None = None

    abilities = frozenset({"render", "volume"})

    @property
    def bounds_mm(self) -> NDArray[np.float64]:
        """World box of the voxels, (2, 3) mm."""
        return self.base.grid.bounds_mm

    @property
    def time_range_s(self) -> tuple[float, float]:
        """First and last frame time."""
        return float(self.times_s.min()), float(self.times_s.max())

    @cached_property
    def _filled(self) -> NDArray[np.intp]:
        """Flat indices of the voxels that hold anything: a constraint volume is almost empty."""
        return np.flatnonzero(self.base.values)

    def _ratio(self, frame: int) -> NDArray[np.float32]:
        """Each voxel's factor in one frame, in the shape of the base; zero where the base is."""
        factor = np.zeros(self.base.values.size, np.float32)
        if self.ratios is not None and self.ratio_cameras is not None:
            index = np.stack(np.unravel_index(self._filled, self.base.values.shape), -1)
            centres_mm = index @ self.base.affine_mm[:3, :3].T + self.base.affine_mm[:3, 3]
            pixels, _ = self.ratio_cameras[frame].project(centres_mm)
            where = [pixels[0, :, 1], pixels[0, :, 0]]
            factor[self._filled] = map_coordinates(self.ratios[frame], where, order=1, mode="nearest")
        return factor.reshape(self.base.values.shape)

    def _on_own_grid(self, time_s: float | None) -> Volume:
        if self.ratios is None or time_s is None:
            return self.base
        order = np.argsort(self.times_s)
        place = float(np.interp(time_s, self.times_s[order], np.arange(len(order))))
        low = int(place)
        high = min(low + 1, len(order) - 1)
        share = np.float32(place - low)
        factor = (1 - share) * self._ratio(int(order[low])) + share * self._ratio(int(order[high]))
        return Volume(self.base.values * factor, self.base.affine_mm)

    def volume(self, grid: Grid, time_s: float | None) -> Volume:
        """Attenuation on any grid by trilinear interpolation, zero outside."""
        own = self._on_own_grid(time_s)
        if grid.shape == own.values.shape and np.allclose(grid.affine_mm, own.affine_mm):
            return own
        to_own = np.linalg.inv(own.affine_mm) @ grid.affine_mm
        values = np.empty(grid.shape, np.float32)
        j, k = np.meshgrid(np.arange(grid.shape[1]), np.arange(grid.shape[2]), indexing="ij")
        for i in range(grid.shape[0]):
            where = np.stack([np.full_like(j, i), j, k]).reshape(3, -1)
            index = to_own[:3, :3] @ where + to_own[:3, 3:]
            values[i] = map_coordinates(own.values, index, order=1, cval=0.0).reshape(j.shape)
        return Volume(values, grid.affine_mm)

    def render(self, cameras: Cameras, time_s: float | NDArray[np.floating]) -> Render:
        """Line integrals, (N, H, W, 1)."""
        times = np.broadcast_to(np.asarray(time_s, dtype=np.float64), (len(cameras),))
        images = [
            march(self._on_own_grid(float(t)).values, self.base.affine_mm, cameras[n])[0]
            for n, t in enumerate(times)
        ]
        return Render(np.stack(images)[..., None])

    def surface(self, time_s: float) -> Mesh:
        """Not an ability of voxels: take ``volume`` and extract an iso-surface.

        Raises:
            ValueError: always.
        """
        raise ValueError("a voxel scene has no surface of its own; extract one from its volume")

    def state(self) -> SceneState:
        """The scene as arrays."""
        arrays: dict[str, NDArray[Any]] = {
            "values": self.base.values,
            "affine_mm": self.base.affine_mm,
            "times_s": self.times_s,
        }
        size: dict[str, int] = {}
        if self.ratios is not None and self.ratio_cameras is not None:
            cameras = self.ratio_cameras
            arrays |= {
                "ratios": self.ratios,
                "intrinsics": cameras.intrinsics,
                "camera_from_world": cameras.camera_from_world,
            }
            size = {"width_px": cameras.width_px, "height_px": cameras.height_px}
        return SceneState(arrays, size)


def load_voxel_scene(state: SceneState) -> VoxelScene:
    """The scene that ``VoxelScene.state`` described."""
    a = state.arrays
    base = Volume(a["values"], a["affine_mm"])
    if "ratios" not in a:
        return VoxelScene(base, a["times_s"])
    cameras = Cameras(
        a["intrinsics"],
        a["camera_from_world"],
        int(state.values["width_px"]),
        int(state.values["height_px"]),
    )
    return VoxelScene(base, a["times_s"], a["ratios"], cameras)
