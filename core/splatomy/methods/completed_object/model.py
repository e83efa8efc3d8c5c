"""The published scene: the object's mesh and the fields that colour it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from splatomy.capture import Grid
from splatomy.geometry.cameras import Cameras
from splatomy.geometry.visibility import look_at
from splatomy.methods.completed_object.fields import CascadedSdf, ColourField
from splatomy.scene import Mesh, Render, SceneState, Volume

_AT_A_TIME = 1 << 15


@dataclass(frozen=True)
class CompletedScene:
    """A still object; every array is on the host and never changes; lengths in the world's unit.

    networks: weights of the fields ("field.", "colours."), which live in the unit sphere: world = centre +
    scale * unit. mesh: in the world. levels, log2_table: of the hash grid. detailed: the fine field takes
    part. metric: False = the unit is not known. symmetry: what of the shape its symmetry told, in a sentence.
    """

    networks: Mapping[str, NDArray[Any]]
    centre: NDArray[np.float64]
    scale: float
    mesh: Mesh
    levels: int
    log2_table: int
    detailed: bool
    metric: bool
    symmetry: str = ""

    @property
    def abilities(self) -> frozenset[str]:
        """Renders and has a surface."""
        return frozenset({"render", "surface"})

    @property
    def bounds_mm(self) -> NDArray[np.float64]:
        """World box of the mesh, or of the sphere, (2, 3)."""
        if len(self.mesh.vertices_mm):
            points = self.mesh.vertices_mm.astype(np.float64)
            return np.stack([points.min(0), points.max(0)])
        return np.stack([self.centre - self.scale, self.centre + self.scale])

    @property
    def time_range_s(self) -> tuple[float, float]:
        """Nothing moves."""
        return 0.0, 0.0

    @cached_property
    def _fields(self) -> tuple[CascadedSdf, ColourField]:
        field, colours = CascadedSdf(self.levels, self.log2_table), ColourField()
        for part, module in (("field", field), ("colours", colours)):
            state = {
                name: torch.from_numpy(np.array(self.networks[f"{part}.{name}"]))
                for name in module.state_dict()
            }
            module.load_state_dict(state)
        field.detailed = self.detailed
        return field, colours

    def render(self, cameras: Cameras, time_s: float | NDArray[np.floating]) -> Render:
        """The mesh as the cameras see it, coloured by the field; black where there is nothing.

        alpha is 1 on the object; evidence is the share of real observations of what is shown.
        """
        size = (len(cameras), cameras.height_px, cameras.width_px)
        colour, normals = np.zeros((*size, 3), np.float32), np.zeros((*size, 3), np.float32)
        alpha, evidence = np.zeros(size, np.float32), np.zeros(size, np.float32)
        depth = np.full(size, np.nan, np.float32)
        vertices = self.mesh.vertices_mm.astype(np.float64)
        for n in range(len(cameras) if len(self.mesh.faces) else 0):
            view = look_at(vertices, self.mesh.faces, cameras, n)
            points = (vertices[view.corners] * view.share[..., None]).sum(1)
            alpha[n], depth[n][view.hit], normals[n][view.hit] = view.hit, view.depth_mm, view.normals
            if self.mesh.evidence is not None:
                evidence[n][view.hit] = (self.mesh.evidence[view.corners] * view.share).sum(1)
            colour[n][view.hit] = self._colour(points, points - cameras.centres_mm[n])
        return Render(colour, alpha, depth, normals, evidence)

    def _colour(self, points: NDArray[np.float64], rays: NDArray[np.float64]) -> NDArray[np.float32]:
        """sRGB (N, 3) of world points (N, 3) seen along directions (N, 3)."""
        field, colours = self._fields
        unit = torch.from_numpy(((points - self.centre) / self.scale).astype(np.float32))
        seen = torch.from_numpy((rays / np.linalg.norm(rays, axis=1, keepdims=True)).astype(np.float32))
        found = []
        with torch.no_grad():
            for part, along in zip(unit.split(_AT_A_TIME), seen.split(_AT_A_TIME), strict=True):
                _, features = field.full(part)
                found.append(colours(part, features, along if self.detailed else None).numpy())
        return np.concatenate(found) if found else np.zeros((0, 3), np.float32)

    def surface(self, time_s: float) -> Mesh:
        """The mesh, the same at all times."""
        return self.mesh

    def volume(self, grid: Grid, time_s: float | None) -> Volume:
        """Not an ability of an object.

        Raises:
            ValueError: always.
        """
        raise ValueError("a completed object has no volume; take the surface")

    def state(self) -> SceneState:
        """The scene as arrays and values."""
        arrays: dict[str, NDArray[Any]] = {**self.networks, "centre": self.centre}
        arrays |= {"mesh.vertices_mm": self.mesh.vertices_mm, "mesh.faces": self.mesh.faces}
        for name in ("colours", "evidence"):
            array = getattr(self.mesh, name)
            if array is not None:
                arrays[f"mesh.{name}"] = array
        values = {
            "scale": self.scale,
            "levels": self.levels,
            "log2_table": self.log2_table,
            "detailed": self.detailed,
            "metric": self.metric,
            "background": 0.0,
            "symmetry": self.symmetry,
        }
        return SceneState(arrays, values)


def load_scene(state: SceneState) -> CompletedScene:
    """The scene that ``CompletedScene.state`` described."""
    arrays, values = state.arrays, state.values
    more = (arrays.get(f"mesh.{name}") for name in ("colours", "evidence"))
    return CompletedScene(
        {k: v for k, v in arrays.items() if k.startswith(("field.", "colours."))},
        np.asarray(arrays["centre"], np.float64),
        float(values["scale"]),
        Mesh(arrays["mesh.vertices_mm"], arrays["mesh.faces"], *more),
        int(values["levels"]),
        int(values["log2_table"]),
        bool(values["detailed"]),
        bool(values["metric"]),
        str(values.get("symmetry", "")),
    )
