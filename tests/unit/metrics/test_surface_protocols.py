"""Surface protocols on shapes whose distances are known exactly."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree

from splatomy.metrics.surface import sample_surface, surface_metrics
from splatomy.metrics.surface_protocols import (
    dtu_metrics,
    even_samples,
    in_prism,
    o2recon_metrics,
    part_metrics,
    thinned,
    tnt_metrics,
    without_unit,
)
from splatomy.scene import Mesh


def ball(radius: float, detail: int = 4) -> Mesh:
    made = trimesh.creation.icosphere(subdivisions=detail, radius=radius)
    return Mesh(np.asarray(made.vertices, np.float32), np.asarray(made.faces, np.int32))


def plate(side: float, height: float, cells: int = 1) -> Mesh:
    line = np.linspace(0, side, cells + 1)
    x, y = np.meshgrid(line, line, indexing="ij")
    vertices = np.stack([x, y, np.full_like(x, height)], -1).reshape(-1, 3).astype(np.float32)
    i, j = (a.ravel() for a in np.meshgrid(np.arange(cells), np.arange(cells), indexing="ij"))
    a = i * (cells + 1) + j
    b, c, d = a + cells + 1, a + cells + 2, a + 1
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    return Mesh(vertices, faces.astype(np.int32))


def test_even_samples_cover_without_crowding() -> None:
    points = even_samples(plate(20.0, 0.0), 0.5)
    nearest, _ = cKDTree(points).query(points, k=2)
    assert nearest[:, 1].min() >= 0.5
    gap, _ = cKDTree(points).query(np.random.default_rng(0).uniform(0, 20, (2000, 3)) * [1, 1, 0])
    assert gap.max() < 0.8
    again = thinned(points, 0.5)
    assert len(again) == len(points)


def test_dtu_measures_an_offset_plane_and_leaves_out_what_is_far() -> None:
    truth = even_samples(plate(20.0, 0.0), 0.2)
    made = dtu_metrics(plate(20.0, 0.5), truth)
    assert made["accuracy_dtu_mm"] == pytest.approx(0.5, abs=0.03)
    assert made["chamfer_mean_dtu_mm"] == pytest.approx(0.5, abs=0.03)
    stray = plate(5.0, 300.0)
    joined = Mesh(
        np.concatenate([plate(20.0, 0.5).vertices_mm, stray.vertices_mm]),
        np.concatenate([plate(20.0, 0.5).faces, stray.faces + 4]),
    )
    assert dtu_metrics(joined, truth)["accuracy_dtu_mm"] == pytest.approx(0.5, abs=0.03)


def test_dtu_scores_where_the_scanner_saw_and_above_the_table() -> None:
    truth = even_samples(plate(20.0, 0.0), 0.2)
    # The scanner saw the left half; there the surface is right, elsewhere it is 2 mm off.
    left, right = plate(10.0, 0.0), plate(10.0, 2.0)
    halves = [left.vertices_mm, left.vertices_mm + np.float32([0, 10, 0])]
    halves += [right.vertices_mm + np.float32([10, 0, 0]), right.vertices_mm + np.float32([10, 10, 0])]
    faces = np.concatenate([left.faces + 4 * n for n in range(4)])
    mesh = Mesh(np.concatenate(halves), faces.astype(np.int32))
    seen = np.zeros((21, 21, 21), np.bool_)
    seen[:10] = True
    box = (np.array([0.0, 0, -10]), np.array([20.0, 20, 10]), 1.0)
    made = dtu_metrics(mesh, truth, seen, *box)
    assert made["accuracy_dtu_mm"] < 0.2 < 0.8 < dtu_metrics(mesh, truth)["accuracy_dtu_mm"]
    # Only truth with x < 10 lies above this table.
    plane = np.array([-1.0, 0, 0, 10])
    assert dtu_metrics(mesh, truth, seen, *box, plane)["completeness_dtu_mm"] < 0.2


def test_tanks_and_temples_counts_inside_the_crop() -> None:
    truth = sample_surface(plate(100.0, 0.0), 40_000)
    near = tnt_metrics(plate(100.0, 2.0), truth, 5.0)
    assert near["fscore_tnt"] == 1.0 and near["tau_mm"] == 5.0
    far = tnt_metrics(plate(100.0, 8.0), truth, 5.0)
    assert far["fscore_tnt"] == 0.0 and far["fscore_tnt_icp"] > 0.95
    half = tnt_metrics(plate(50.0, 0.0), truth, 5.0)
    assert half["precision_tnt"] == 1.0 and half["recall_tnt"] == pytest.approx(0.3, abs=0.04)
    square = np.array([[0, 0, 0], [50, 0, 0], [50, 50, 0], [0, 50, 0.0]])
    cropped = tnt_metrics(plate(50.0, 0.0), truth, 5.0, square, 2, -10.0, 10.0)
    assert cropped["fscore_tnt"] > 0.99
    assert tnt_metrics(plate(50.0, 0.0), truth, 5.0, square, 2, 10.0, 20.0)["fscore_tnt"] == 0.0


def test_a_prism_knows_its_inside() -> None:
    corner = np.array([[0, 0, 0], [4, 0, 0], [4, 4, 0], [2, 1, 0], [0, 4, 0.0]])
    points = np.array([[2, 0.5, 0], [2, 3, 0], [0.5, 2, 0], [3.5, 2, 0], [5, 1, 0], [2, 0.5, 9.0]])
    assert in_prism(points, corner, 2, -1, 1).tolist() == [True, False, True, True, False, False]


def test_o2recon_counts_by_area_where_its_release_counts_vertices() -> None:
    # The right half, 60 mm off, has nearly all of the vertices.
    left, right = plate(1000.0, 0.0), plate(1000.0, 60.0, cells=60)
    joined = Mesh(
        np.concatenate([left.vertices_mm, right.vertices_mm + np.float32([1000, 0, 0])]),
        np.concatenate([left.faces, right.faces + 4]),
    )
    corners = np.float32([[0, 0, 0], [2000, 0, 0], [2000, 1000, 0], [0, 1000, 0]])
    truth = Mesh(corners, np.int32([[0, 1, 2], [0, 2, 3]]))
    made = o2recon_metrics(joined, truth)
    assert made["accuracy_mm_o2recon"] == pytest.approx(30, abs=3)
    assert made["precision_50mm_o2recon"] == pytest.approx(0.5, abs=0.03)
    assert made["precision_100mm_o2recon"] == 1.0
    assert made["precision_50mm_o2recon_vertices"] < 0.1


def test_seen_and_hidden_parts_are_told_apart() -> None:
    truth = ball(50.0)
    seen = (truth.vertices_mm[:, 2] > 0).astype(np.float32)
    truth = Mesh(truth.vertices_mm, truth.faces, None, seen)
    upper = truth.faces[(truth.vertices_mm[truth.faces][..., 2] > -2).all(1)]
    made = part_metrics(Mesh(truth.vertices_mm, upper), truth)
    assert made["completeness_seen_mm"] < 1.0 < 10.0 < made["completeness_hidden_mm"]
    assert part_metrics(ball(50.0), ball(50.0)) == {}


def test_without_a_unit_thresholds_are_shares_of_the_size() -> None:
    small, large = (without_unit(ball(1.01 * r), ball(r)) for r in (0.1, 100.0))
    assert small["chamfer_mean_units"] == pytest.approx(large["chamfer_mean_units"] / 1000, rel=0.02)
    assert small["fscore_1pct"] == pytest.approx(large["fscore_1pct"], abs=0.01)
    assert not any("mm" in key for key in small)


def test_a_scan_of_points_is_as_good_a_truth_as_a_mesh() -> None:
    truth = ball(50.0)
    points = sample_surface(truth, 100_000, 1)
    by_points, by_mesh = surface_metrics(ball(51.0), points), surface_metrics(ball(51.0), truth)
    assert by_points["chamfer_mean_mm"] == pytest.approx(by_mesh["chamfer_mean_mm"], abs=0.01)
    assert by_points["chamfer_mean_mm"] == pytest.approx(1.0, abs=0.1)
