"""TSDF fusion and Poisson reconstruction of exact depth give back the shape that was rendered."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from splatomy.capture import Grid
from splatomy.errors import InputError
from splatomy.events import finish
from splatomy.extract.open3d_baselines import poisson_mesh, tsdf_mesh
from splatomy.geometry.cameras import Cameras
from splatomy.geometry.orbit import orbit
from splatomy.geometry.visibility import first_hits
from splatomy.scene import Mesh, Render, SceneState, Volume


class Drawn:
    """A scene that is a mesh, rendered exactly by the z-buffer."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.abilities = frozenset({"render", "surface"})
        self.bounds_mm = np.stack([mesh.vertices_mm.min(0), mesh.vertices_mm.max(0)]).astype(np.float64)
        self.time_range_s = (0.0, 0.0)

    def render(self, cameras: Cameras, time_s: object) -> Render:
        vertices = self.mesh.vertices_mm.astype(np.float64)
        size = cameras.height_px, cameras.width_px
        depth, face, _ = first_hits(
            vertices, self.mesh.faces, cameras.intrinsics[0], cameras.camera_from_world[0], *size
        )
        corners = vertices[self.mesh.faces]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        seen = np.where((face >= 0)[..., None], normal[face] @ cameras.camera_from_world[0, :3, :3].T, 0)
        colour = np.repeat((face >= 0)[..., None] * np.float32(0.5), 3, -1)
        return Render(
            colour[None].astype(np.float32),
            (face >= 0)[None].astype(np.float32),
            np.where(np.isfinite(depth), depth, np.nan)[None].astype(np.float32),
            seen[None].astype(np.float32),
        )

    def surface(self, time_s: float) -> Mesh:
        return self.mesh

    def volume(self, grid: Grid, time_s: float | None) -> Volume:
        raise ValueError("no volume")

    def state(self) -> SceneState:
        return SceneState({})


@pytest.fixture(scope="module")
def scene() -> Drawn:
    made = trimesh.creation.icosphere(subdivisions=4, radius=10.0)
    vertices = np.asarray(made.vertices, np.float32) + np.float32([5, 0, -3])
    evidence = (vertices[:, 0] > 5).astype(np.float32)
    return Drawn(Mesh(vertices, np.asarray(made.faces, np.int32), None, evidence))


@pytest.fixture(scope="module")
def cameras() -> Cameras:
    turns = np.arange(10) * 2 * np.pi / 5
    lifts = np.repeat(np.radians([50.0, -50.0]), 5)
    middle = np.array([5.0, 0, -3])
    return orbit(np.array([1.0, 0, 0]), np.array([0, 0, 1.0]), middle, 12.0, turns, lifts, 160)


@pytest.mark.parametrize("make", [tsdf_mesh, poisson_mesh])
def test_a_ball_comes_back(make: object, scene: Drawn, cameras: Cameras) -> None:
    quality = {"cells": 64} if make is tsdf_mesh else {"depth": 6}
    mesh = finish(make(scene, cameras, **quality))  # type: ignore[operator]
    off = np.linalg.norm(mesh.vertices_mm - [5, 0, -3], axis=1) - 10
    # A cell is 0.31 mm; no half-pixel or half-cell shift may be left.
    assert np.abs(off).mean() < 0.1 and abs(off.mean()) < 0.06
    assert np.linalg.norm(mesh.vertices_mm.mean(0) - [5, 0, -3]) < 0.3
    assert mesh.evidence is not None and mesh.colours is not None
    clear = np.abs(mesh.vertices_mm[:, 0] - 5) > 1
    assert np.array_equal(mesh.evidence[clear] > 0, mesh.vertices_mm[clear, 0] > 5)


def test_a_grid_too_large_for_the_machine_is_refused(scene: Drawn, cameras: Cameras) -> None:
    with pytest.raises(InputError, match=r"TSDF grid of 2000000 cells.*fewer cells"):
        finish(tsdf_mesh(scene, cameras, cells=2_000_000))
