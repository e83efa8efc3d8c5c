"""Surface metrics on spheres and planes."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from splatomy.geometry.rigid import rigid, rotation_from_vector
from splatomy.metrics.surface import icp, point_metrics, sample_surface, surface_metrics, vertex_metrics
from splatomy.scene import Mesh


def sphere(radius: float, shift: tuple[float, float, float] = (0, 0, 0)) -> Mesh:
    ball = trimesh.creation.icosphere(4, radius)
    return Mesh((ball.vertices + np.array(shift)).astype(np.float32), ball.faces.astype(np.int32))


def test_samples_are_even_in_area_and_repeatable() -> None:
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [9, 0, 0], [12, 0, 0], [9, 1, 0]], np.float32)
    mesh = Mesh(vertices, np.array([[0, 1, 2], [3, 4, 5]], np.int32))
    points = sample_surface(mesh, 4000, seed=3)
    assert (points[:, 0] > 5).mean() == pytest.approx(0.75, abs=0.01)
    np.testing.assert_array_equal(points, sample_surface(mesh, 4000, seed=3))
    with pytest.raises(ValueError, match="area"):
        sample_surface(Mesh(vertices, np.zeros((0, 3), np.int32)))


def test_concentric_spheres() -> None:
    found = surface_metrics(sphere(10.5), sphere(10.0), (0.25, 1.0), count=30_000)
    assert found["accuracy_mm"] == pytest.approx(0.5, abs=0.03)
    assert found["completeness_mm"] == pytest.approx(0.5, abs=0.03)
    assert found["chamfer_sum_mm"] == pytest.approx(2 * found["chamfer_mean_mm"])
    assert found["hd95_mm"] == pytest.approx(0.5, abs=0.06)
    assert found["fscore_0.25mm"] == 0 and found["fscore_1mm"] == 1


def test_a_missing_half_shows_in_completeness_alone() -> None:
    whole = sphere(10.0)
    half = Mesh(whole.vertices_mm, whole.faces[(whole.vertices_mm[whole.faces, 2] > 0).all(1)])
    found = surface_metrics(half, whole, count=20_000)
    assert found["accuracy_mm"] < 0.2
    assert found["completeness_mm"] > 2
    assert found["recall_1mm"] < 0.6 < found["precision_1mm"]


def test_icp_hides_a_shift_and_says_so() -> None:
    box = trimesh.creation.box((20, 12, 8)).subdivide().subdivide().subdivide().subdivide()
    truth = Mesh(box.vertices.astype(np.float32), box.faces.astype(np.int32))
    moved = Mesh(truth.vertices_mm + np.float32([0.8, 0.5, 0.3]), truth.faces)
    found = surface_metrics(moved, truth, count=20_000)
    assert found["chamfer_sum_mm"] > 0.8
    assert found["chamfer_icp_sum_mm"] < 0.5 * found["chamfer_sum_mm"]
    # As many points as vertices on both sides: the clouds fall onto each other.
    paper = vertex_metrics(moved, truth)
    assert (
        paper["chamfer_vertices_icp_sum_mm"]
        < vertex_metrics(moved, truth, align=False)["chamfer_vertices_sum_mm"]
    )


def test_icp_finds_a_small_motion() -> None:
    fixed = np.random.default_rng(0).normal(size=(4000, 3)) * [8, 5, 3]
    motion = rigid(rotation_from_vector(np.array([0.02, -0.03, 0.01])), np.array([0.1, 0.05, -0.1]))
    moving = (fixed - motion[:3, 3]) @ motion[:3, :3]
    np.testing.assert_allclose(icp(moving, fixed), motion, atol=1e-3)


def test_empty_clouds_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one point"):
        point_metrics(np.zeros((0, 3)), np.zeros((5, 3)))
