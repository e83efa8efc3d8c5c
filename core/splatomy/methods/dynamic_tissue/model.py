"""The published scene: surfels at rest, and how they move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from splatomy.capture import Grid
from splatomy.extract.tissue import MovingMesh, carried, depth_mesh
from splatomy.fields.attenuation import TimeBasis
from splatomy.gaussians.deform import CurveDeformation, Moved, NodeDeformation
from splatomy.geometry.cameras import Cameras
from splatomy.kernels.spherical_harmonics import colours_from_sh
from splatomy.kernels.surfel import SurfelRender, splat_surfels
from splatomy.scene import CPU, Mesh, Render, SceneState, Volume

Deformation = NodeDeformation | CurveDeformation
SOLID_ALPHA = 0.5
"""Below this no depth is given: what shines through a gap may lie anywhere."""
_MESH_PX = 320
"""The mesh has about as many vertices along the picture's width."""


def moved_surfels(tensors: Mapping[str, Tensor], deformation: Deformation, time: float | Tensor) -> Moved:
    """The surfels of named parameters and bindings at a time (s, or its ``moment``)."""
    shape = (tensors["means_mm"], tensors["quats_wxyz"], tensors["log_scales"])
    if isinstance(deformation, NodeDeformation):
        return deformation.moved(*shape, tensors["nodes"], tensors["shares"], time)
    return deformation.moved(*shape, tensors["curves"], time)


def on_host(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Copies on the host, through memory that a GPU writes to directly: ten times as fast as elsewhere."""
    if not tensors[0].is_cuda:
        return tensors
    copies = tuple(torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for t in tensors)
    for copy, tensor in zip(copies, tensors, strict=True):
        copy.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream(tensors[0].device).synchronize()
    return copies


def stacked(pictures: Sequence[Tensor]) -> NDArray[np.float32]:
    """Pictures (...) on the host as one array (N, ...)."""
    return (pictures[0][None] if len(pictures) == 1 else torch.stack([*pictures])).numpy()


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
    device: torch.device = CPU
    """What draws it."""

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
        found = {name: torch.from_numpy(np.array(a)) for name, a in arrays.items() if a is not None}
        return {name: tensor.to(self.device) for name, tensor in found.items()}

    def on(self, device: torch.device) -> TissueScene:
        """The same scene, drawn by a device."""
        return replace(self, device=device)

    @cached_property
    def _deformation(self) -> Deformation:
        start, end = self.time_range_s
        if not self.motion:
            bases = self.surfels["curves"].shape[-1]
            return CurveDeformation(start, end, bases, 1.0, self.unit_mm, self.device)
        coefficients = torch.from_numpy(np.array(self.motion["coefficients"])).to(self.device)
        nodes = torch.from_numpy(np.array(self.motion["nodes_mm"])).to(self.device)
        found = NodeDeformation(nodes, TimeBasis(start, end, coefficients.shape[1]), self.unit_mm)
        found.coefficients = coefficients
        return found

    def surfels_at(self, time_s: float) -> Moved:
        """The surfels at a time, without gradients."""
        with torch.no_grad():
            return moved_surfels(self._tensors, self._deformation, time_s)

    def _draw(self, cameras: Cameras, n: int, moved: Moved) -> SurfelRender:
        pose = (
            torch.as_tensor(cameras.intrinsics[n], device=self.device),
            torch.as_tensor(cameras.camera_from_world[n], device=self.device),
        )
        extra = self._tensors["evidence"][:, None]
        with torch.no_grad():
            camera = (*pose, cameras.width_px, cameras.height_px)
            return draw(moved, self._tensors, camera, self.near_mm, extra=extra)

    def render(self, cameras: Cameras, time_s: float | NDArray[np.floating]) -> Render:
        """Colours, alpha, depths (NaN where less than half of a ray is stopped), normals and evidence."""
        times = np.broadcast_to(np.asarray(time_s, dtype=np.float64), (len(cameras),))
        pictures: list[tuple[Tensor, ...]] = []
        for n, time in enumerate(times):
            drawn = self._draw(cameras, n, self.surfels_at(float(time)))
            solid = torch.where(drawn.alpha < SOLID_ALPHA, torch.nan, drawn.depth_mm)
            seen = (drawn.colour[..., 3] / drawn.alpha.clamp_min(1e-6)).clamp(0, 1)
            evidence = torch.where(drawn.alpha > 0, seen, 0.0)
            normal = normalize(drawn.normal, dim=-1, eps=1e-6)
            pictures.append(on_host(drawn.colour[..., :3].clamp(0, 1), drawn.alpha, solid, normal, evidence))
        return Render(*(stacked(parts) for parts in zip(*pictures, strict=True)))

    @cached_property
    def _mesh(self) -> MovingMesh:
        moved = self.surfels_at(self.rest_time_s)
        picture = self._draw(self.rest, 0, moved)
        alpha = picture.alpha.cpu().numpy()
        depth = np.where(alpha < SOLID_ALPHA, np.nan, picture.depth_mm.cpu().numpy())
        shares = picture.colour.cpu().numpy() / np.maximum(alpha, 1e-6)[..., None]
        stride = max(1, round(self.rest.width_px / _MESH_PX))
        mesh = depth_mesh(depth, self.rest, shares[..., :3].clip(0, 1), shares[..., 3].clip(0, 1), stride)
        return carried(mesh, moved.means_mm.cpu().numpy())

    def surface(self, time_s: float) -> Mesh:
        """The mesh of one time moved by the deformation: vertices and faces correspond over time."""
        moved, rest = (self.surfels_at(t).means_mm.cpu().numpy() for t in (time_s, self.rest_time_s))
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
