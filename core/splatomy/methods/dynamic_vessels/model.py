"""The published scene: Gaussians with a table of densities over time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from splatomy.capture import Grid
from splatomy.geometry.cameras import Cameras
from splatomy.kernels.voxelize import voxelize
from splatomy.kernels.xray import splat
from splatomy.scene import CPU, Mesh, Render, SceneState, Volume


@dataclass(frozen=True)
class VesselScene:
    """Radiative Gaussians whose densities are linear between table times.

    means_mm (N, 3); quats_wxyz (N, 4); log_scales (N, 3) log mm; density_per_mm (N, S) at table_times_s (S,).
    frame_times_s (T,): the times that the mean is taken over. extent_mm (2, 3): the volume's box.
    """

    means_mm: NDArray[np.float32]
    quats_wxyz: NDArray[np.float32]
    log_scales: NDArray[np.float32]
    density_per_mm: NDArray[np.float32]
    table_times_s: NDArray[np.float64]
    frame_times_s: NDArray[np.float64]
    extent_mm: NDArray[np.float64]
    device: torch.device = CPU
    """What draws it."""

    abilities = frozenset({"render", "volume"})

    @property
    def bounds_mm(self) -> NDArray[np.float64]:
        """World box, (2, 3) mm."""
        return self.extent_mm

    @property
    def time_range_s(self) -> tuple[float, float]:
        """First and last frame time."""
        return float(self.frame_times_s.min()), float(self.frame_times_s.max())

    def _time_weights(self, time_s: float | None) -> NDArray[np.float32]:
        """How much each column of the table counts at a time, or in the mean over the frames: (S,)."""
        times = self.frame_times_s if time_s is None else np.array([time_s])
        out = np.zeros(len(self.table_times_s))
        place = np.interp(times, self.table_times_s, np.arange(len(out)))
        low = np.minimum(place.astype(int), max(len(out) - 2, 0))
        np.add.at(out, low, 1 - (place - low))
        np.add.at(out, np.minimum(low + 1, len(out) - 1), place - low)
        return (out / len(times)).astype(np.float32)

    def density_at(self, time_s: float | None) -> NDArray[np.float32]:
        """Densities (N,) in 1/mm at a time, or their mean over the frames."""
        return np.asarray(self.density_per_mm @ self._time_weights(time_s), dtype=np.float32)

    def on(self, device: torch.device) -> VesselScene:
        """The same scene, drawn by a device."""
        return replace(self, device=device)

    @cached_property
    def _shape(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        arrays = (self.means_mm, self.quats_wxyz, self.log_scales)
        m, q, s = (torch.from_numpy(np.array(a)).to(self.device) for a in arrays)
        return m, q, s.exp()

    @cached_property
    def _table(self) -> torch.Tensor:
        return torch.from_numpy(np.array(self.density_per_mm)).to(self.device)

    def _density(self, time_s: float | None) -> torch.Tensor:
        return self._table @ torch.from_numpy(self._time_weights(time_s)).to(self.device)

    def render(self, cameras: Cameras, time_s: float | NDArray[np.floating]) -> Render:
        """Line integrals, (N, H, W, 1)."""
        times = np.broadcast_to(np.asarray(time_s, dtype=np.float64), (len(cameras),))
        images = np.empty((len(cameras), cameras.height_px, cameras.width_px, 1), np.float32)
        with torch.no_grad():
            for n, t in enumerate(times):
                image = splat(
                    *self._shape,
                    self._density(float(t)),
                    torch.from_numpy(cameras.intrinsics[n]),
                    torch.from_numpy(cameras.camera_from_world[n]),
                    cameras.width_px,
                    cameras.height_px,
                    pixel_average=True,
                )
                images[n, ..., 0] = image.cpu().numpy()
        return Render(images)

    def volume(self, grid: Grid, time_s: float | None) -> Volume:
        """Attenuation averaged over each voxel, 1/mm."""
        with torch.no_grad():
            values = voxelize(
                *self._shape,
                self._density(time_s),
                grid.shape,
                torch.from_numpy(grid.affine_mm),
            )
        return Volume(values.cpu().numpy(), grid.affine_mm)

    def surface(self, time_s: float) -> Mesh:
        """Not an ability of radiative Gaussians: take ``volume`` and extract an iso-surface.

        Raises:
            ValueError: always.
        """
        raise ValueError("radiative Gaussians have no surface of their own; extract one from the volume")

    def state(self) -> SceneState:
        """The scene as arrays; the density is stored both as its table and as its time mean."""
        arrays: dict[str, NDArray[Any]] = {
            "means_mm": self.means_mm,
            "quats_wxyz": self.quats_wxyz,
            "log_scales": self.log_scales,
            "density_table_per_mm": self.density_per_mm,
            "density_per_mm": self.density_at(None),
            "table_times_s": self.table_times_s,
            "frame_times_s": self.frame_times_s,
            "extent_mm": self.extent_mm,
        }
        return SceneState(arrays)


def load_scene(state: SceneState) -> VesselScene:
    """The scene that ``VesselScene.state`` described."""
    a = state.arrays
    return VesselScene(
        a["means_mm"],
        a["quats_wxyz"],
        a["log_scales"],
        a["density_table_per_mm"],
        a["table_times_s"],
        a["frame_times_s"],
        a["extent_mm"],
    )
