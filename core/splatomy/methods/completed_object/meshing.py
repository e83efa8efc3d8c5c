"""The object's mesh: the zero set of its field, with what was seen of it told from what was completed."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.measure import marching_cubes

from splatomy.background import beside
from splatomy.events import Progress, Task
from splatomy.extract.mesh import largest_components
from splatomy.extract.sparse_surface import sparse_surface
from splatomy.geometry.visibility import seen_vertices
from splatomy.methods.completed_object.config import Config
from splatomy.methods.completed_object.fairing import HIDDEN, MIRRORED, NEVER, SEEN, faired
from splatomy.methods.completed_object.fields import CascadedSdf, ColourField
from splatomy.methods.completed_object.mirroring import Mirrored, vertex_normals
from splatomy.methods.completed_object.rendering import grid_points
from splatomy.methods.completed_object.views import Frame, Views
from splatomy.scene import Mesh

_HALF = 1.0
_LEAST_PIECE = 0.05
_AT_A_TIME = 1 << 15
_SAME_SURFACE = 0.03
"""Measured depth this near (in spheres) shows the vertex itself."""


def preview_mesh(field: CascadedSdf, frame: Frame, cells: int) -> Mesh:
    """A coarse mesh of the field as it stands, without colours; empty if it has no zero set."""
    with torch.no_grad():
        points = grid_points(cells + 1, next(field.parameters()).device)
        values = torch.cat([field(part) for part in points.split(_AT_A_TIME)])
    grid = values.reshape((cells + 1,) * 3).cpu().numpy()
    if not grid.min() < 0 < grid.max():
        return Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    vertices, faces, _, _ = marching_cubes(grid, 0.0, gradient_direction="descent")
    world = frame.to_world(vertices * (2 * _HALF / cells) - _HALF)
    return Mesh(world.astype(np.float32), faces.astype(np.int32))


def object_mesh(
    field: CascadedSdf, colours: ColourField, views: Views, config: Config, mirrored: Mirrored | None
) -> Task[Mesh]:
    """The surface in the world, with colours and evidence; empty if the field has no zero set."""
    device = views.device

    def evaluate(points: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            parts = torch.as_tensor(points, device=device).split(_AT_A_TIME)
            return torch.cat([field(part) for part in parts]).cpu().numpy().astype(np.float32)

    box = np.full(3, _HALF)
    mesh = yield from sparse_surface(evaluate, -box, box, config.mesh_resolution)
    if not len(mesh.faces):
        return mesh
    mesh = largest_components(mesh, keep=0, min_area_share=_LEAST_PIECE)
    world = views.frame.to_world(mesh.vertices_mm)
    evidence, kind = yield from vertex_evidence(world, mesh.faces, views)
    if mirrored is not None:
        unseen = np.flatnonzero(kind != SEEN)
        places, outward = mesh.vertices_mm.astype(np.float64), vertex_normals(mesh)
        shown_as_image = partial(mirrored.shows, views, places[unseen], outward[unseen])
        kind[unseen[(yield from beside("symmetry", 0, 1, shown_as_image))]] = MIRRORED
    if views.completed:
        # Colours are those of the field's own surface, from which hidden parts move a little.
        work = partial(faired, mesh.vertices_mm.astype(np.float64), mesh.faces, kind)
        world = views.frame.to_world((yield from beside("fair", 0, 1, work)))
    shown = []
    with torch.no_grad():
        for part in torch.as_tensor(mesh.vertices_mm, device=device).split(_AT_A_TIME):
            _, features = field.full(part)
            shown.append(colours(part, features, None).cpu().numpy())
    return Mesh(world.astype(np.float32), mesh.faces, np.concatenate(shown).astype(np.float32), evidence)


def vertex_evidence(
    vertices: NDArray[np.float64], faces: NDArray[np.int32], views: Views
) -> Task[tuple[NDArray[np.float32], NDArray[np.int8]]]:
    """(V,) share of real pixels among all pixels, real and invented, that show a vertex, 0 if none does; and
    what the vertex is to the cameras, as in ``fairing``."""
    real = np.zeros(len(vertices), np.int32)
    invented = np.zeros(len(vertices), np.int32)
    kind = np.full(len(vertices), NEVER, np.int8)
    tolerance = _SAME_SURFACE * views.frame.scale
    for t in range(len(views)):
        seen = seen_vertices(vertices, faces, views.cameras, t, 0.25 * tolerance)
        kind[seen] = HIDDEN
        pixels, z = views.cameras[t].project(vertices[seen])
        column, row = np.rint(pixels[0]).astype(int).T
        measured = views.host_depth[t][row, column]
        # Where depth was measured it must be that of the vertex; without, the mesh itself is believed.
        same = (measured <= 0) | (np.abs(measured - z[0]) < tolerance)
        real[seen] += views.real[t][row, column] & same
        invented[seen] += views.invented[t][row, column]
        yield Progress("look at mesh", t + 1, len(views))
    kind[real > 0] = SEEN
    return (real / np.maximum(real + invented, 1)).astype(np.float32), kind
