"""The mesh of the field: its zero set, with what no picture shows marked or cut off."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from splatomy.background import beside
from splatomy.events import Notice, Progress, Task
from splatomy.extract.mesh import largest_components
from splatomy.extract.sparse_surface import sparse_surface
from splatomy.geometry.cameras import Cameras
from splatomy.geometry.visibility import seen_vertices
from splatomy.kernels.spherical_harmonics import C0
from splatomy.methods.pulled_surface.config import Config
from splatomy.methods.pulled_surface.pulling import Puller
from splatomy.methods.pulled_surface.start import pixels_of
from splatomy.methods.pulled_surface.views import HALF, Frame, Pictures
from splatomy.scene import Mesh

_FULL_EVIDENCE = 3
"""Views that must show a vertex for full evidence."""
_LEAST_PIECE = 0.02
_REACH = 1.02
_UNSIGNED_LEVEL = 1.5
"""In cells: an unsigned field never crosses zero, so the shell this far about its floor is taken."""
_BLOCK = {"hash": 48, "mlp": 20}
"""Cells along a block: a block of the deep network takes as long as one of the small one."""
_SOLID_OPACITY = 0.3
_UNSEEN_GREY = 0.5
"""Colour of what no picture shows: that of disks there was never compared with anything."""


def surface_mesh(
    puller: Puller, surfels: Mapping[str, NDArray[Any]], frame: Frame, pictures: Pictures
) -> Task[Mesh]:
    """The surface in the world, with colours and evidence; empty with a warning if the field has none.

    surfels: in the working cube, for the colours. A closed object keeps what no picture shows, grey, with
    evidence 0; of a scene without masks, and of an unsigned field, that is cut off.
    """
    config = puller.config
    mesh = yield from zero_set(puller, closed=pictures.masked and config.signed)
    if not len(mesh.faces):
        yield Notice(
            "warning", "empty-surface",
            "The field has no surface inside the box: train longer, or check poses and masks.",
        )  # fmt: skip
        return mesh
    views = yield from views_of(mesh, frame.cameras(pictures.cameras), cell_of(config), pictures.weight)
    evidence = np.minimum(1.0, views / _FULL_EVIDENCE).astype(np.float32)
    colours = yield from beside("colour mesh", 0, 1, partial(nearest_colours, mesh.vertices_mm, surfels))
    colours[views == 0] = _UNSEEN_GREY
    mesh = Mesh(mesh.vertices_mm, mesh.faces, colours, evidence)
    if not config.signed or (config.trim and not pictures.masked):
        mesh = with_faces(mesh, np.any(views[mesh.faces] > 0, axis=1))
        mesh = yield from beside("pieces", 0, 1, partial(_of_some_size, mesh))
    world = frame.to_world(mesh.vertices_mm).astype(np.float32)
    return Mesh(world, mesh.faces, mesh.colours, mesh.evidence)


def cell_of(config: Config) -> float:
    """Side of a cell of the mesh's grid, working units."""
    return 2 * _REACH * HALF / config.mesh_resolution


def zero_set(puller: Puller, *, closed: bool = False) -> Task[Mesh]:
    """The field's zero set in the working cube, without crumbs.

    closed: what reaches the cube's sides ends there in a face.
    A level other than zero is taken where the settings say so, or the field has no sign; its vertices are
    then moved back by that level along the slope.

    Source: GS-Pull's release, which takes a level of 0.002 for the sign is undecided near thin parts.
    """
    config = puller.config
    box, cell = np.full(3, _REACH * HALF), cell_of(config)
    level = config.mesh_level * HALF
    if not config.signed:
        level = max(level, _UNSIGNED_LEVEL * cell)

    def evaluate(points: NDArray[np.float32]) -> NDArray[np.float32]:
        values = puller.evaluate(points)
        return np.maximum(values, np.abs(points).max(1) - HALF) if closed else values

    block = _BLOCK[config.field]
    mesh = yield from sparse_surface(evaluate, -box, box, config.mesh_resolution, level, block)
    if not len(mesh.faces):
        return mesh
    if level:
        mesh = yield from _moved_back(mesh, puller, level)
    return (yield from beside("pieces", 0, 1, partial(_of_some_size, mesh)))


def _moved_back(mesh: Mesh, puller: Puller, level: float) -> Task[Mesh]:
    """The mesh of one level on the zero set; blocks keep the memory small."""
    vertices = mesh.vertices_mm.copy()
    for start in range(0, len(vertices), 1 << 15):
        rows = slice(start, start + (1 << 15))
        points = torch.as_tensor(vertices[rows], device=puller.device)
        with torch.no_grad():
            _, slope = puller.value_and_slope(points)
            slope = torch.nn.functional.normalize(slope, dim=1)
        vertices[rows] -= level * slope.cpu().numpy()
        yield Progress("mesh", rows.stop, len(vertices))
    return Mesh(vertices, mesh.faces)


def _of_some_size(mesh: Mesh) -> Mesh:
    return largest_components(mesh, keep=0, min_area_share=_LEAST_PIECE)


def views_of(
    mesh: Mesh, cameras: Cameras, cell: float, weight: NDArray[np.float32] | None = None
) -> Task[NDArray[np.int32]]:
    """(V,) number of cameras that see each vertex where ``weight`` (T, H, W) is not 0; working units."""
    vertices = np.asarray(mesh.vertices_mm, np.float64)
    views = np.zeros(len(vertices), np.int32)
    for t in range(len(cameras)):
        seen = seen_vertices(vertices, mesh.faces, cameras, t, 0.5 * cell)
        if weight is not None:
            column, row, within = pixels_of(cameras[t], vertices)
            seen &= within & (weight[t][row, column] > 0)
        views += seen
        yield Progress("look at mesh", t + 1, len(cameras))
    return views


def with_faces(mesh: Mesh, faces: NDArray[np.bool_]) -> Mesh:
    """The chosen faces (F,) and the vertices that they need."""
    used, number = np.unique(mesh.faces[faces], return_inverse=True)

    def pick(array: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
        return None if array is None else array[used]

    corners = number.reshape(-1, 3).astype(np.int32)
    return Mesh(mesh.vertices_mm[used], corners, pick(mesh.colours), pick(mesh.evidence))


def nearest_colours(
    vertices: NDArray[np.floating], surfels: Mapping[str, NDArray[Any]]
) -> NDArray[np.float32]:
    """Colours (V, 3) of the nearest disks, the solid ones first."""
    opacity = 1 / (1 + np.exp(-surfels["opacity_logit"]))
    solid = opacity > _SOLID_OPACITY
    if solid.sum() < 10:
        solid[:] = True
    count = min(4, int(solid.sum()))
    distance, index = cKDTree(surfels["means_mm"][solid]).query(vertices, k=count, workers=-1)
    distance, index = (np.asarray(x).reshape(len(vertices), -1) for x in (distance, index))
    base = 0.5 + C0 * surfels["sh"][solid][:, 0]
    weight = 1 / (distance + 1e-3)
    mixed = (base[index] * weight[..., None]).sum(1) / weight.sum(1, keepdims=True)
    return np.asarray(mixed.clip(0, 1), np.float32)
