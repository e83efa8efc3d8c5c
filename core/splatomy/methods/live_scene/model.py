"""The published scene: the surfels of a session and the poses it was seen from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from splatomy.capture import Grid
from splatomy.extract.tissue import MovingMesh, carried, depth_mesh
from splatomy.geometry.cameras import Cameras
from splatomy.kernels.surfel import SurfelRender, splat_surfels
from splatomy.methods.live_scene.breathing import Common
from splatomy.methods.live_scene.mapping import turned
from splatomy.methods.live_scene.motion import NodeMotion
from splatomy.scene import Mesh, Render, SceneState, Volume

SOLID_ALPHA = 0.5
_MESH_PX = 320
_MOST_VIEWS = 12
_SAME_SHARE = 0.03
"""A vertex whose depth another view explains to within this share is not made again."""
_SH0 = 0.28209479177387814


@dataclass(frozen=True)
class LiveScene:
    """What a session made of the tissue up to a generation; every array is on the host and never changes.

    surfels: means_mm (N, 3), quats_wxyz (N, 4), log_scales (N, 2), opacity_logit (N,), sh (N, 1, 3), evidence
        (N,) how far further keyframes confirmed it, seen_s (N,) when it was last confirmed.
    motion: of the deforming profile nodes_mm (M, 3), changes (K, M, 6), times_s (K,), nodes (N, 4),
        shares (N, 4), and where the tissue breathes what ``breathing.Common`` needs; else empty.
    views: the cameras of the keyframes. now: the newest camera. resting: further maps that were not joined,
        as "number.name" arrays like those of ``surfels``.
    metric: False = all lengths are in an unknown unit.
    """

    surfels: Mapping[str, NDArray[Any]]
    motion: Mapping[str, NDArray[Any]]
    views: Cameras
    view_times_s: NDArray[np.float64]
    now: Cameras
    time_s: float
    generation: int
    near_mm: float
    unit_mm: float
    spacing_mm: float
    metric: bool
    resting: Mapping[str, NDArray[Any]]

    abilities = frozenset({"render", "surface"})

    @property
    def bounds_mm(self) -> NDArray[np.float64]:
        """World box of the surfels, (2, 3)."""
        means = self.surfels["means_mm"].astype(np.float64)
        return np.stack([means.min(0), means.max(0)])

    @property
    def time_range_s(self) -> tuple[float, float]:
        """From the first keyframe to the newest frame."""
        return float(self.view_times_s.min()), max(self.time_s, float(self.view_times_s.max()))

    @cached_property
    def _tensors(self) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(np.array(a)) for name, a in self.surfels.items()}

    def _placed(self, time_s: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Places (N, 3) and rotations (N, 4) of the surfels at a time."""
        t = self._tensors
        if not self.motion or not len(self.motion["times_s"]):
            return t["means_mm"], t["quats_wxyz"]
        times = self.motion["times_s"]
        after = int(np.clip(np.searchsorted(times, time_s), 0, len(times) - 1))
        before = max(after - 1, 0) if times[after] > time_s else after
        gap = max(float(times[after] - times[before]), 1e-9)
        share = float(np.clip((time_s - times[before]) / gap, 0, 1)) if after != before else 1.0
        changes = self.motion["changes"].astype(np.float32)
        state = NodeMotion(self.spacing_mm, self.unit_mm, torch.device("cpu"))
        state.nodes_mm = torch.from_numpy(np.array(self.motion["nodes_mm"]))
        state.changes = torch.from_numpy((1 - share) * changes[before] + share * changes[after])
        nodes = torch.from_numpy(np.array(self.motion["nodes"]))
        shares = torch.from_numpy(np.array(self.motion["shares"]))
        with torch.no_grad():
            means, quats = state.moved(t["means_mm"], t["quats_wxyz"], nodes, shares)
        if "twists" not in self.motion:
            return means, quats
        common = torch.as_tensor(Common.of(self.motion).at(time_s), dtype=torch.float32)
        return means @ common[:3, :3].T + common[:3, 3], turned(common[:3, :3], quats)

    def places_mm(self, time_s: float) -> NDArray[np.float32]:
        """Where the surfels are at a time, (N, 3)."""
        return np.asarray(self._placed(time_s)[0].numpy(), np.float32)

    def _draw(self, camera: Cameras, time_s: float) -> SurfelRender:
        t = self._tensors
        means, quats = self._placed(time_s)
        colours = torch.cat([t["sh"][:, 0] * _SH0 + 0.5, t["evidence"][:, None]], 1)
        with torch.no_grad():
            return splat_surfels(
                means,
                quats,
                t["log_scales"].exp(),
                torch.sigmoid(t["opacity_logit"]),
                colours,
                torch.from_numpy(camera.intrinsics[0]),
                torch.from_numpy(camera.camera_from_world[0]),
                camera.width_px,
                camera.height_px,
                near_mm=self.near_mm,
            )

    def render(self, cameras: Cameras, time_s: float | NDArray[np.floating]) -> Render:
        """Colours, alpha, depths (NaN where less than half of a ray is stopped), normals and evidence."""
        times = np.broadcast_to(np.asarray(time_s, dtype=np.float64), (len(cameras),))
        drawn = [self._draw(cameras[n], float(t)) for n, t in enumerate(times)]
        colour = np.stack([d.colour.numpy() for d in drawn])
        alpha = np.stack([d.alpha.numpy() for d in drawn])
        depth = np.stack([d.depth_mm.numpy() for d in drawn])
        normals = np.stack([d.normal.numpy() for d in drawn])
        depth = np.where(alpha < SOLID_ALPHA, np.float32(np.nan), depth)
        normals = normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-6)
        evidence = (colour[..., 3] / np.maximum(alpha, 1e-6)).clip(0, 1)
        return Render(
            colour[..., :3].clip(0, 1),
            alpha,
            depth,
            normals,
            np.where(alpha > 0, evidence, 0).astype(np.float32),
        )

    @cached_property
    def _mesh(self) -> tuple[MovingMesh, float]:
        """Depth meshes of keyframes, each where those before it show nothing, carried by the surfels."""
        time_s = self.time_s
        chosen = np.unique(np.linspace(0, len(self.views) - 1, min(_MOST_VIEWS, len(self.views))).astype(int))
        parts: list[Mesh] = []
        for n in [*chosen[::-1].tolist()]:
            camera = self.views[n]
            drawn = self._draw(camera, time_s)
            alpha, depth = drawn.alpha.numpy(), drawn.depth_mm.numpy().copy()
            depth[alpha < SOLID_ALPHA] = np.nan
            shares = (drawn.colour.numpy() / np.maximum(alpha, 1e-6)[..., None]).clip(0, 1)
            for done in parts:
                depth[_explained(done, camera, depth)] = np.nan
            stride = max(1, round(camera.width_px / _MESH_PX))
            part = depth_mesh(depth, camera, shares[..., :3], shares[..., 3], stride)
            if len(part.faces):
                parts.append(part)
        if not parts:
            empty = np.zeros((0, 3), np.float32)
            whole = Mesh(empty, np.zeros((0, 3), np.int32), empty, np.zeros(0, np.float32))
        else:
            whole = _joined(parts)
        return carried(whole, self._placed(time_s)[0].numpy()), time_s

    def surface(self, time_s: float) -> Mesh:
        """The mesh of one time: vertices and faces correspond over time."""
        mesh, at_s = self._mesh
        if not self.motion:
            return mesh.rest
        return mesh.at(self._placed(time_s)[0].numpy() - self._placed(at_s)[0].numpy())

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
        arrays |= {f"resting.{name}": array for name, array in self.resting.items()}
        arrays |= {
            "views.intrinsics": self.views.intrinsics,
            "views.camera_from_world": self.views.camera_from_world,
            "views.times_s": self.view_times_s,
            "now.intrinsics": self.now.intrinsics,
            "now.camera_from_world": self.now.camera_from_world,
        }
        values = {
            "time_s": self.time_s,
            "generation": self.generation,
            "near_mm": self.near_mm,
            "unit_mm": self.unit_mm,
            "spacing_mm": self.spacing_mm,
            "size_px": [self.views.width_px, self.views.height_px],
            "metric": self.metric,
        }
        return SceneState(arrays, values)


def _explained(mesh: Mesh, camera: Cameras, depth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Pixels (H, W) of a depth map whose surface a mesh holds already."""
    pixels, z = camera.project(mesh.vertices_mm.astype(np.float64))
    height, width = depth.shape
    with np.errstate(invalid="ignore"):
        x, y = np.rint(pixels[0]).T
        inside = (z[0] > 0) & (x >= 0) & (y >= 0) & (x < width) & (y < height)
    column, row = x[inside].astype(int), y[inside].astype(int)
    covered = np.zeros(depth.shape, bool)
    with np.errstate(invalid="ignore"):
        same = np.abs(depth[row, column] - z[0][inside]) < _SAME_SHARE * z[0][inside]
    covered[row[same], column[same]] = True
    around = np.zeros_like(covered)
    # Vertices of another view leave gaps between pixels of this one.
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            around |= np.roll(covered, (dy, dx), (0, 1))
    return around


def _joined(parts: list[Mesh]) -> Mesh:
    """All meshes as one."""
    starts = np.cumsum([0, *(len(p.vertices_mm) for p in parts)])
    faces = [p.faces + start for p, start in zip(parts, starts[:-1], strict=True)]
    colours = [p.colours for p in parts if p.colours is not None]
    evidence = [p.evidence for p in parts if p.evidence is not None]
    return Mesh(
        np.concatenate([p.vertices_mm for p in parts]),
        np.concatenate(faces).astype(np.int32),
        np.concatenate(colours),
        np.concatenate(evidence),
    )


def load_scene(state: SceneState) -> LiveScene:
    """The scene that ``LiveScene.state`` described."""

    def part(prefix: str) -> dict[str, NDArray[Any]]:
        return {k.removeprefix(prefix): v for k, v in state.arrays.items() if k.startswith(prefix)}

    width, height = (int(n) for n in state.values["size_px"])
    views, now = part("views."), part("now.")
    return LiveScene(
        part("surfels."),
        part("motion."),
        Cameras(views["intrinsics"], views["camera_from_world"], width, height),
        views["times_s"],
        Cameras(now["intrinsics"], now["camera_from_world"], width, height),
        float(state.values["time_s"]),
        int(state.values["generation"]),
        float(state.values["near_mm"]),
        float(state.values["unit_mm"]),
        float(state.values["spacing_mm"]),
        bool(state.values["metric"]),
        part("resting."),
    )
