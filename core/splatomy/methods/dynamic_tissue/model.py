"""The published scene: surfels at rest, and how they move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splatomy.capture import Grid
from splatomy.extract.tissue import MovingMesh, carried, depth_mesh
from splatomy.fields.attenuation import TimeBasis
from splatomy.gaussians.deform import CurveDeformation, Moved, NodeDeformation
from splatomy.geometry.cameras import Cameras
from splatomy.kernels.spherical_harmonics import colours_from_sh
from splatomy.kernels.surfel import SurfelRender, splat_surfels
from splatomy.scene import Mesh, Render, SceneState, Volume

Deformation = NodeDeformation | CurveDeformation
SOLID_ALPHA = 0.5
"""Below this no depth is given: what shines through a gap may lie anywhere."""
_MESH_PX = 320
"""The mesh has about as many vertices along the picture's width."""


def moved_surfels(tensors: Mapping[str, Tensor], deformation: Deformation, time_s: float) -> Moved:
    """The surfels of named parameters and bindings at a time."""
    shape = (tensors["means_mm"], tensors["quats_wxyz"], tensors["log_scales"])
    if isinstance(deformation, NodeDeformation):
        return deformation.moved(*shape, tensors["nodes"], tensors["shares"], time_s)
    return deformation.moved(*shape, tensors["curves"], time_s)


def draw(
    moved: Moved,
    tensors: Mapping[str, Tensor],
    camera: tuple[Tensor, Tensor, int, int],
    near_mm: float,
    degree: int | None = None,
    extra: Tensor | None = None,
    screen_gradient: Tensor | None = None,
) -> SurfelRender:
    """The picture of moved surfels; ``extra`` (N, E): values blended behind the three colours.

    camera: intrinsics (3, 3), camera_from_world (4, 4), width and height in px.
    """
    intrinsics, pose, width, height = camera
    centre = -(pose[:3, :3].T @ pose[:3, 3])
    colours = colours_from_sh(tensors["sh"], moved.means_mm - centre.to(moved.means_mm), degree)
    if moved.gain is not None:
        colours = colours * moved.gain
    if extra is not None:
        colours = torch.cat([colours, extra], 1)
    return splat_surfels(
        moved.means_mm,
        moved.quats_wxyz,
        moved.log_scales.exp(),
        torch.sigmoid(tensors["opacity_logit"]),
        colours,
        intrinsics,
        pose,
        width,
        height,
        near_mm=near_mm,
        screen_gradient=screen_gradient,
    )


@dataclass(frozen=True)
class TissueScene:
    """Surfels that move; every array is on the host and never changes.

    surfels: means_mm (N, 3), quats_wxyz (N, 4), log_scales (N, 2), opacity_logit (N,), sh (N, K, 3) and
        evidence (N,), the share of the frames showing a surfel in which it was really seen; for the paper's
        motion also curves (N, 9, 3, B).
    motion: for shared nodes nodes_mm (M, 3), coefficients (M, K, 8), nodes (N, k) and shares (N, k); else
        empty.
    unit_mm: of the motion's coefficients. near_mm: nothing nearer is drawn.
    rest, rest_time_s: the camera and the time from which the mesh is taken.
    metric: False = all lengths are in an unknown unit.
    """

    surfels: Mapping[str, NDArray[Any]]
    motion: Mapping[str, NDArray[Any]]
    frame_times_s: NDArray[np.float64]
    unit_mm: float
    near_mm: float
    rest: Cameras
    rest_time_s: float
    metric: bool

    abilities = frozenset({"render", "surface"})

    @property
    def bounds_mm(self) -> NDArray[np.float64]:
        """World box of the resting surfels, (2, 3)."""
        means = self.surfels["means_mm"].astype(np.float64)
        return np.stack([means.min(0), means.max(0)])

    @property
    def time_range_s(self) -> tuple[float, float]:
        """First and last frame time."""
        return float(self.frame_times_s.min()), float(self.frame_times_s.max())

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        arrays = {**self.surfels, "nodes": self.motion.get("nodes"), "shares": self.motion.get("shares")}
        return {name: torch.from_numpy(np.array(a)) for name, a in arrays.items() if a is not None}

    @cached_property
    def _deformation(self) -> Deformation:
        start, end = self.time_range_s
        if not self.motion:
            bases = self.surfels["curves"].shape[-1]
            return CurveDeformation(start, end, bases, 1.0, self.unit_mm, torch.device("cpu"))
        coefficients = torch.from_numpy(np.array(self.motion["coefficients"]))
        nodes = torch.from_numpy(np.array(self.motion["nodes_mm"]))
        found = NodeDeformation(nodes, TimeBasis(start, end, coefficients.shape[1]), self.unit_mm)
        found.coefficients = coefficients
        return found

    def surfels_at(self, time_s: float) -> Moved:
        """The surfels at a time, without gradients."""
        with torch.no_grad():
            return moved_surfels(self._tensors, self._deformation, time_s)

    def _draw(self, cameras: Cameras, n: int, moved: Moved) -> SurfelRender:
        pose = (torch.from_numpy(cameras.intrinsics[n]), torch.from_numpy(cameras.camera_from_world[n]))
        extra = self._tensors["evidence"][:, None]
        with torch.no_grad():
            camera = (*pose, cameras.width_px, cameras.height_px)
            return draw(moved, self._tensors, camera, self.near_mm, extra=extra)

    def render(self, cameras: Cameras, time_s: float | NDArray[np.floating]) -> Render:
        """Colours, alpha, depths (NaN where less than half of a ray is stopped), normals and evidence."""
        times = np.broadcast_to(np.asarray(time_s, dtype=np.float64), (len(cameras),))
        drawn = [self._draw(cameras, n, self.surfels_at(float(t))) for n, t in enumerate(times)]
        size = (len(drawn), cameras.height_px, cameras.width_px)
        colour = np.empty((*size, 4), np.float32)
        alpha, depth = np.empty(size, np.float32), np.empty(size, np.float32)
        normals = np.empty((*size, 3), np.float32)
        for n, picture in enumerate(drawn):
            colour[n], alpha[n] = picture.colour.numpy(), picture.alpha.numpy()
            depth[n], normals[n] = picture.depth_mm.numpy(), picture.normal.numpy()
        depth[alpha < SOLID_ALPHA] = np.nan
        normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-6)
        evidence = (colour[..., 3] / np.maximum(alpha, 1e-6)).clip(0, 1)
        return Render(colour[..., :3].clip(0, 1), alpha, depth, normals, np.where(alpha > 0, evidence, 0))

    @cached_property
    def _mesh(self) -> MovingMesh:
        moved = self.surfels_at(self.rest_time_s)
        picture = self._draw(self.rest, 0, moved)
        alpha = picture.alpha.numpy()
        depth = np.where(alpha < SOLID_ALPHA, np.nan, picture.depth_mm.numpy())
        shares = picture.colour.numpy() / np.maximum(alpha, 1e-6)[..., None]
        stride = max(1, round(self.rest.width_px / _MESH_PX))
        mesh = depth_mesh(depth, self.rest, shares[..., :3].clip(0, 1), shares[..., 3].clip(0, 1), stride)
        return carried(mesh, moved.means_mm.numpy())

    def surface(self, time_s: float) -> Mesh:
        """The mesh of one time moved by the deformation: vertices and faces correspond over time."""
        moved, rest = (self.surfels_at(t).means_mm.numpy() for t in (time_s, self.rest_time_s))
        return self._mesh.at(moved - rest)

    def volume(self, grid: Grid, time_s: float | None) -> Volume:
        """Not an ability of surfels: take ``surface``.

        Raises:
            ValueError: always.
        """
        raise ValueError("surfels have no volume; take the surface")

    def state(self) -> SceneState:
        """The scene as arrays and values."""
        arrays = {f"surfels.{name}": array for name, array in self.surfels.items()}
        arrays |= {f"motion.{name}": array for name, array in self.motion.items()}
        arrays |= {
            "frame_times_s": self.frame_times_s,
            "rest_intrinsics": self.rest.intrinsics,
            "rest_camera_from_world": self.rest.camera_from_world,
        }
        values = {
            "unit_mm": self.unit_mm,
            "near_mm": self.near_mm,
            "rest_time_s": self.rest_time_s,
            "rest_size_px": [self.rest.width_px, self.rest.height_px],
            "metric": self.metric,
        }
        return SceneState(arrays, values)


def load_scene(state: SceneState) -> TissueScene:
    """The scene that ``TissueScene.state`` described."""

    def part(prefix: str) -> dict[str, NDArray[Any]]:
        return {k.removeprefix(prefix): v for k, v in state.arrays.items() if k.startswith(prefix)}

    width, height = state.values["rest_size_px"]
    pose = state.arrays["rest_intrinsics"], state.arrays["rest_camera_from_world"]
    return TissueScene(
        part("surfels."),
        part("motion."),
        state.arrays["frame_times_s"],
        float(state.values["unit_mm"]),
        float(state.values["near_mm"]),
        Cameras(*pose, int(width), int(height)),
        float(state.values["rest_time_s"]),
        bool(state.values["metric"]),
    )
