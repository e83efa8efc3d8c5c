"""The block-wise zero set is that of the whole field: closed, turned outwards, in the right place."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from splatomy.extract.sparse_surface import sparse_surface
from splatomy.scene import Mesh


def _drive(task) -> Mesh:
    while True:
        try:
            next(task)
        except StopIteration as stop:
            return stop.value


def _sphere(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points - np.array([0.1, -0.2, 0.05]), axis=1) - 0.6


@pytest.mark.parametrize("cells", [20, 100, 130])
def test_sphere_across_many_blocks(cells):
    mesh = _drive(sparse_surface(_sphere, np.full(3, -1.0), np.full(3, 1.0), cells))
    solid = trimesh.Trimesh(mesh.vertices_mm, mesh.faces, process=False)
    assert solid.is_watertight and solid.body_count == 1
    cell = 2.0 / cells
    assert solid.volume == pytest.approx(4 / 3 * np.pi * 0.6**3, rel=3 * cell)
    np.testing.assert_allclose(_sphere(mesh.vertices_mm), 0, atol=cell**2)


def test_only_a_part_of_the_box_is_evaluated():
    """The far field costs a coarse look, not a full one."""
    asked = 0

    def counting(points: np.ndarray) -> np.ndarray:
        nonlocal asked
        asked += len(points)
        return _sphere(points)

    small = _drive(sparse_surface(counting, np.full(3, -4.0), np.full(3, 4.0), 288))
    assert len(small.faces) and asked < 0.35 * 289**3


def test_level_and_steepness():
    """A field with slopes other than one still has its surface found."""
    mesh = _drive(sparse_surface(lambda p: 1.5 * _sphere(p), np.full(3, -1.0), np.full(3, 1.0), 60, 0.15))
    radius = np.linalg.norm(mesh.vertices_mm - np.array([0.1, -0.2, 0.05]), axis=1)
    np.testing.assert_allclose(radius, 0.7, atol=2e-3)


def test_no_surface_is_an_empty_mesh():
    mesh = _drive(sparse_surface(lambda p: np.ones(len(p)), np.zeros(3), np.ones(3), 10))
    assert mesh.faces.shape == (0, 3)


def test_flat_box_keeps_its_cells_cubic():
    mesh = _drive(sparse_surface(lambda p: p[:, 2] - 0.11, np.zeros(3), np.array([1.0, 0.5, 0.3]), 50))
    low, high = mesh.vertices_mm.min(0), mesh.vertices_mm.max(0)
    np.testing.assert_allclose(high - low, [1.0, 0.5, 0.0], atol=1e-5)
    np.testing.assert_allclose(mesh.vertices_mm[:, 2], 0.11, atol=1e-6)


def test_blocks_join_though_values_differ_in_the_last_digits():
    """A network answers a little differently when it is asked with other points."""
    rng = np.random.default_rng(0)

    def shaky(points: np.ndarray) -> np.ndarray:
        return _sphere(points) + rng.normal(0, 1e-7, len(points))

    mesh = _drive(sparse_surface(shaky, np.full(3, -1.0), np.full(3, 1.0), 60, block=12))
    solid = trimesh.Trimesh(mesh.vertices_mm, mesh.faces, process=False)
    assert solid.is_watertight and solid.body_count == 1
