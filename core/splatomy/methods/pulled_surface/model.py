"""The published scene: Gaussians and mesh of a still surface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splatomy.capture import Grid
from splatomy.geometry.cameras import Cameras
from splatomy.geometry.visibility import look_at
from splatomy.kernels.spherical_harmonics import colours_from_sh
from splatomy.kernels.surfel import SurfelRender, splat_surfels
from splatomy.scene import Mesh, Render, SceneState, Volume

SOLID_ALPHA = 0.5


def draw(
    tensors: Mapping[str, Tensor],
    means: Tensor,
    camera: tuple[Tensor, Tensor, int, int],
    near: float,
    background: float | None,
    degree: int | None = None,
    screen_gradient: Tensor | None = None,
) -> SurfelRender:
    """The picture of Gaussians whose centres are ``means`` (N, 3)."""
    intrinsics, pose, width, height = camera
    centre = -(pose[:3, :3].T @ pose[:3, 3])
    colours = colours_from_sh(tensors["sh"], means.detach() - centre.to(means), degree)
    behind = None if background is None else colours.new_full((3,), background)
    return splat_surfels(
        means,
        tensors["quats_wxyz"],
        tensors["log_scales"].exp(),
        torch.sigmoid(tensors["opacity_logit"]),
        colours,
        intrinsics,
        pose,
        width,
        height,
        background=behind,
        near_mm=near,
        screen_gradient=screen_gradient,
    )


@dataclass(frozen=True)
class PulledScene:
    """A still surface; every array is on the host and never changes; lengths in the world's unit.

    surfels: means_mm (N, 3), quats_wxyz (N, 4), log_scales (N, 2), opacity_logit (N,), sh (N, K, 3), for the
        working cube: world = centre + scale * working. mesh: of the surface, or None before there is one.
    background: brightness behind the object, or None. metric: False = the unit is not known.
    """

    surfels: Mapping[str, NDArray[Any]]
    centre: NDArray[np.float64]
    scale: float
    mesh: Mesh | None
    near: float
    background: float | None
    metric: bool

    @property
    def abilities(self) -> frozenset[str]:
        """Always renders; has a surface once it was extracted."""
        return frozenset({"render"} if self.mesh is None else {"render", "surface"})

    @property
    def bounds_mm(self) -> NDArray[np.float64]:
        """World box of the mesh, or of the Gaussians, (2, 3)."""
        if self.mesh is not None and len(self.mesh.vertices_mm):
            points = self.mesh.vertices_mm.astype(np.float64)
        else:
            points = self.surfels["means_mm"].astype(np.float64) * self.scale + self.centre
        return np.stack([points.min(0), points.max(0)])

    @property
    def time_range_s(self) -> tuple[float, float]:
        """Nothing moves."""
        return 0.0, 0.0

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        return {name: torch.from_numpy(np.array(a)) for name, a in self.surfels.items()}

    def render(self, cameras: Cameras, time_s: float | NDArray[np.floating]) -> Render:
        """Colours and alpha of the disks; depth (NaN = none), normals and evidence of the mesh.

        The last steps move disks for the pictures alone, up to some way off the surface. Before there is a
        mesh, depth and normals are those of the disks, NaN where less than half of a ray is stopped.
        """
        pose = cameras.camera_from_world.copy()
        pose[:, :3, 3] = (pose[:, :3, :3] @ self.centre + pose[:, :3, 3]) / self.scale
        colour, alpha, depth, normals = [], [], [], []
        with torch.no_grad():
            for n in range(len(cameras)):
                camera = (
                    torch.from_numpy(cameras.intrinsics[n]), torch.from_numpy(pose[n]),
                    cameras.width_px, cameras.height_px,
                )  # fmt: skip
                picture = draw(self._tensors, self._tensors["means_mm"], camera, self.near, self.background)
                colour.append(picture.colour.numpy().clip(0, 1))
                alpha.append(picture.alpha.numpy())
                solid = alpha[-1] >= SOLID_ALPHA
                depth.append(np.where(solid, picture.depth_mm.numpy() * self.scale, np.nan))
                length = picture.normal.norm(dim=2, keepdim=True).clamp_min(1e-6)
                normals.append((picture.normal / length).numpy())
        render = Render(
            np.stack(colour).astype(np.float32),
            np.stack(alpha).astype(np.float32),
            np.stack(depth).astype(np.float32),
            np.stack(normals).astype(np.float32),
        )
        return render if self.mesh is None else replace(render, **self._of_mesh(self.mesh, cameras))

    @staticmethod
    def _of_mesh(mesh: Mesh, cameras: Cameras) -> dict[str, NDArray[np.float32]]:
        """What a render takes from the mesh; no surface is no evidence."""
        size = (len(cameras), cameras.height_px, cameras.width_px)
        depth, normals = np.full(size, np.nan, np.float32), np.zeros((*size, 3), np.float32)
        found = {"depth_mm": depth, "normals": normals}
        if mesh.evidence is not None:
            found["evidence"] = np.zeros(size, np.float32)
        vertices = mesh.vertices_mm.astype(np.float64)
        for n in range(len(cameras) if len(mesh.faces) else 0):
            view = look_at(vertices, mesh.faces, cameras, n)
            depth[n][view.hit], normals[n][view.hit] = view.depth_mm, view.normals
            if mesh.evidence is not None:
                found["evidence"][n][view.hit] = (mesh.evidence[view.corners] * view.share).sum(1)
        return found

    def without_surface(self) -> PulledScene:
        """The disks alone, which then tell depth and normals."""
        return replace(self, mesh=None)

    def surface(self, time_s: float) -> Mesh:
        """The mesh, the same at all times.

        Raises:
            ValueError: it was not extracted yet.
        """
        if self.mesh is None:
            raise ValueError("the surface has not been extracted yet")
        return self.mesh

    def volume(self, grid: Grid, time_s: float | None) -> Volume:
        """Not an ability of a surface.

        Raises:
            ValueError: always.
        """
        raise ValueError("a pulled surface has no volume; take the surface")

    def state(self) -> SceneState:
        """The scene as arrays and values."""
        arrays: dict[str, NDArray[Any]] = {f"surfels.{k}": v for k, v in self.surfels.items()}
        arrays["centre"] = self.centre
        arrays["world_from_surfels"] = np.diag([self.scale] * 3 + [1.0])
        arrays["world_from_surfels"][:3, 3] = self.centre
        if self.mesh is not None:
            arrays |= {"mesh.vertices_mm": self.mesh.vertices_mm, "mesh.faces": self.mesh.faces}
            for name in ("colours", "evidence"):
                array = getattr(self.mesh, name)
                if array is not None:
                    arrays[f"mesh.{name}"] = array
        values = {
            "scale": self.scale,
            "near": self.near,
            "background": self.background,
            "metric": self.metric,
        }
        return SceneState(arrays, values)


def load_scene(state: SceneState) -> PulledScene:
    """The scene that ``PulledScene.state`` described."""
    arrays, values = state.arrays, state.values
    mesh = None
    if "mesh.vertices_mm" in arrays:
        more = (arrays.get(f"mesh.{name}") for name in ("colours", "evidence"))
        mesh = Mesh(arrays["mesh.vertices_mm"], arrays["mesh.faces"], *more)
    background = values["background"]
    return PulledScene(
        {k.removeprefix("surfels."): v for k, v in arrays.items() if k.startswith("surfels.")},
        np.asarray(arrays["centre"], np.float64),
        float(values["scale"]),
        mesh,
        float(values["near"]),
        None if background is None else float(background),
        bool(values["metric"]),
    )
