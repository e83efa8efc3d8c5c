"""The surface of a scene that moves: the field is pulled onto its disks at rest, and they carry the mesh."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from splatomy.background import beside
from splatomy.errors import InputError
from splatomy.events import Notice, Progress, Task
from splatomy.extract.tissue import MovingMesh, carried
from splatomy.gaussians.deform import Moved
from splatomy.gaussians.density import rotate
from splatomy.gaussians.init import neighbour_distance_mm
from splatomy.gaussians.store import GaussianStore
from splatomy.geometry.cameras import Cameras
from splatomy.kernels.ready import hash_kernel, made_ready
from splatomy.methods.pulled_surface.config import Config
from splatomy.methods.pulled_surface.meshing import (
    cell_of,
    nearest_colours,
    views_of,
    with_faces,
    zero_set,
)
from splatomy.methods.pulled_surface.pulling import Puller
from splatomy.methods.pulled_surface.space import Space, rendered_points, seen_space
from splatomy.methods.pulled_surface.start import framed
from splatomy.methods.pulled_surface.views import HALF, Frame
from splatomy.scene import Mesh, Render

_SOLID_OPACITY = 0.3
_FEWEST = 50
_THICKNESS = 0.1
"""Of a disk without one, in spacings."""
_FARTHEST = 3.0
"""In spacings: what lies farther from every disk is the field's guess, and is cut off."""
_SURFACE_POINTS = 200_000
_REPORT_EVERY_S = 0.3


@runtime_checkable
class MovingSurfels(Protocol):
    """A scene of disks that move, such as ``dynamic_tissue`` makes."""

    @property
    def surfels(self) -> Mapping[str, NDArray[Any]]: ...

    @property
    def rest(self) -> Cameras: ...

    @property
    def rest_time_s(self) -> float: ...

    def surfels_at(self, time_s: float) -> Moved: ...

    def render(self, cameras: Cameras, time_s: float | NDArray[np.floating]) -> Render: ...


@dataclass(frozen=True)
class PulledTissue:
    """A mesh of one topology that the disks of its scene carry."""

    scene: MovingSurfels
    mesh: MovingMesh

    def at(self, time_s: float) -> Mesh:
        """The mesh at a time; vertices and faces correspond over time."""
        moved, rest = (self.scene.surfels_at(t).means_mm.numpy() for t in (time_s, self.scene.rest_time_s))
        return self.mesh.at(moved - rest)


def pull_tissue(scene: MovingSurfels, config: Config, device: torch.device) -> Task[PulledTissue]:
    """The scene's surface: a field pulled onto its disks at rest, cut to what the resting camera sees.

    The disks stay where the method of the scene has put them; each vertex moves as its nearest disks do.

    Raises:
        InputError: hardly any disk is solid, or the field has no surface in sight.

    Source: GS-Pull's pulling of queries, here with fixed disks and without pictures.
    """
    yield from made_ready(*([hash_kernel] if device.type == "cpu" else []))
    moved = scene.surfels_at(scene.rest_time_s)
    means = moved.means_mm.numpy()
    solid = np.flatnonzero(1 / (1 + np.exp(-scene.surfels["opacity_logit"])) > _SOLID_OPACITY)
    if len(solid) < _FEWEST:
        raise InputError(
            f"The scene has {len(solid)} solid disks; expected at least {_FEWEST} to pull a surface onto: "
            "train it longer."
        )
    _, frame = framed(means[solid].astype(np.float64), None)
    store, spacing = _disks(scene, moved, solid, frame, device)
    camera = frame.cameras(scene.rest)
    space = yield from _space(scene, camera, frame, config.seed)
    puller = Puller(config, spacing, device)
    reported = 0.0
    for step in range(config.joint_steps):
        puller.advance(step / config.joint_steps)
        loss = puller.loss(store, puller.samples(store, space))
        loss.backward()
        puller.step()
        store.optimiser.zero_grad(set_to_none=True)
        if time.monotonic() - reported > _REPORT_EVERY_S:
            reported = time.monotonic()
            yield Progress("pull", step + 1, config.joint_steps, {"loss": float(loss.detach())})
    puller.advance(1.0)
    mesh = yield from _trimmed(puller, store, camera)
    if not len(mesh.faces):
        raise InputError(
            "The field has no surface in sight: take more joint_steps, or train the scene longer."
        )
    yield Notice("info", "pulled", f"{len(mesh.faces)} faces pulled onto {len(solid)} disks.")
    surfels = {"means_mm": frame.to_working(means), **{k: scene.surfels[k] for k in ("opacity_logit", "sh")}}
    colours = yield from beside("colour mesh", 0, 1, partial(nearest_colours, mesh.vertices_mm, surfels))
    world = frame.to_world(mesh.vertices_mm).astype(np.float32)
    evidence = _evidence(scene, means, world)
    return PulledTissue(scene, carried(Mesh(world, mesh.faces, colours, evidence), means))


def _disks(
    scene: MovingSurfels, moved: Moved, solid: NDArray[np.intp], frame: Frame, device: torch.device
) -> tuple[GaussianStore, float]:
    """The solid disks in the working cube, turned to the resting camera, and their usual distance."""
    means = moved.means_mm.numpy()[solid]
    working = frame.to_working(means).astype(np.float32)
    spacing = float(np.median(neighbour_distance_mm(working)))
    quats = moved.quats_wxyz[torch.from_numpy(solid)].float()
    normals = rotate(quats, torch.tensor([[0.0, 0.0, 1.0]]).repeat(len(solid), 1)).numpy()
    facing = ((scene.rest.centres_mm[0] - means) * normals).sum(1)
    scales = moved.log_scales.numpy()[solid][:, :2] - np.log(frame.scale)
    rows = {
        "means_mm": torch.from_numpy(working),
        "quats_wxyz": quats,
        "log_scales": torch.from_numpy(scales.astype(np.float32)),
        "log_thickness": torch.full((len(solid), 1), float(np.log(_THICKNESS * spacing))),
        "opacity_logit": torch.from_numpy(scene.surfels["opacity_logit"][solid].astype(np.float32)),
    }
    store = GaussianStore({n: row.to(device) for n, row in rows.items()}, dict.fromkeys(rows, 0.0))
    outward = np.where(facing >= 0, 1.0, -1.0).astype(np.float32)
    store.side["outward"] = torch.from_numpy(outward)[:, None].to(device)
    return store, spacing


def _space(scene: MovingSurfels, camera: Cameras, frame: Frame, seed: int) -> Task[Space]:
    """What the resting camera sees of space and of the surface."""
    shown = scene.render(scene.rest, scene.rest_time_s)
    if shown.depth_mm is None or shown.normals is None:
        raise ValueError("the scene renders no depth or no normals")
    depths = np.nan_to_num(shown.depth_mm / frame.scale).astype(np.float32)
    rng = np.random.default_rng([seed, 6])
    surface = rendered_points(depths[0], shown.normals[0], camera, _SURFACE_POINTS, rng)
    return (yield from seen_space(camera, depths, *surface))


def _trimmed(puller: Puller, store: GaussianStore, camera: Cameras) -> Task[Mesh]:
    """The zero set near the disks and in sight, working units."""
    mesh = yield from zero_set(puller)
    if not len(mesh.faces):
        return mesh
    seen = yield from views_of(mesh, camera, cell_of(puller.config))
    means = store["means_mm"].detach().cpu().numpy()
    distance, _ = cKDTree(means).query(mesh.vertices_mm, workers=-1)
    near = distance < max(_FARTHEST * puller.spacing, 2 * cell_of(puller.config))
    shown = np.asarray((seen > 0) & near & (np.abs(mesh.vertices_mm) < HALF).all(1))
    return with_faces(mesh, np.all(shown[mesh.faces], axis=1))


def _evidence(
    scene: MovingSurfels, means: NDArray[np.float32], vertices: NDArray[np.float32]
) -> NDArray[np.float32] | None:
    """Evidence (V,) of the nearest disk, where the scene's disks have one."""
    given = scene.surfels.get("evidence")
    if given is None:
        return None
    _, nearest = cKDTree(means).query(vertices, workers=-1)
    return np.asarray(given[nearest], np.float32)
