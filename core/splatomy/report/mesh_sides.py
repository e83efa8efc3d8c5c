"""A mesh drawn from several sides, by the exact z-buffer: no window and no graphics card are needed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from splatomy.geometry.cameras import Cameras
from splatomy.geometry.orbit import ball_about, front_and_up, orbit
from splatomy.geometry.visibility import first_hits
from splatomy.report.data import MeshSide
from splatomy.scene import Mesh

Float = NDArray[np.float64]

_SIDES = (
    ("front", 0.0, 18.0),
    ("right", 90.0, 18.0),
    ("back", 180.0, 18.0),
    ("left", 270.0, 18.0),
    ("above", 0.0, 75.0),
    ("below", 0.0, -75.0),
)
_SEEN, _UNSEEN = np.array([0.16, 0.55, 0.68]), np.array([0.93, 0.42, 0.16])
"""Blue is seen, orange is not: told apart with any colour vision."""
_AMBIENT = 0.35


def mesh_sides(mesh: Mesh, cameras: Cameras, size_px: int = 320) -> list[MeshSide]:
    """The mesh from the cameras' side, three others, above and below, (size_px, size_px) each.

    cameras: of the input, which say what front and up are.
    """
    if not len(mesh.faces):
        return []
    vertices = np.asarray(mesh.vertices_mm, np.float64)
    middle, radius = ball_about(vertices)
    if radius <= 0:
        return []
    normals = _normals(vertices, mesh.faces)
    colours = np.full((len(vertices), 3), 0.72) if mesh.colours is None else mesh.colours.astype(np.float64)
    share = np.ones(len(vertices)) if mesh.evidence is None else mesh.evidence.astype(np.float64)
    trust = _UNSEEN + share[:, None] * (_SEEN - _UNSEEN)
    turns, lifts = (np.radians([side[k] for side in _SIDES]) for k in (1, 2))
    views = orbit(*front_and_up(cameras, middle), middle, radius, turns, lifts, size_px)
    sides = []
    for number, (name, _, _) in enumerate(_SIDES):
        k, pose = views.intrinsics[number], views.camera_from_world[number]
        _, face, weights = first_hits(vertices, mesh.faces, k, pose, size_px, size_px)
        hit = face >= 0
        corners, w = mesh.faces[face[hit]], weights[hit][..., None]
        normal = (normals[corners] * w).sum(1) @ pose[:3, :3].T
        normal /= np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-12)
        # A lamp at the viewer; both sides of a sheet are lit.
        light = _AMBIENT + (1 - _AMBIENT) * np.abs(normal[:, 2:])
        drawn = []
        for paint, shade in ((colours, 0.35 + 0.65 * light), (trust, light)):
            picture = np.full((size_px, size_px, 3), np.nan)
            picture[hit] = ((paint[corners] * w).sum(1) * shade).clip(0, 1)
            drawn.append(picture)
        sides.append(MeshSide(name, drawn[0], drawn[1]))
    return sides


def _normals(vertices: Float, faces: NDArray[np.int32]) -> Float:
    """Vertex normals (V, 3), weighted by area, not of unit length."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    cross = np.cross(b - a, c - a)
    normals = np.zeros_like(vertices)
    for i in range(3):
        np.add.at(normals, faces[:, i], cross)
    return normals
