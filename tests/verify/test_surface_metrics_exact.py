"""Surface figures against exact distances between points and triangles, on the meshes of ../shared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from splatomy.extract.mesh_check import mesh_figures
from splatomy.io.mesh import read_mesh
from splatomy.metrics.surface import sample_surface, surface_metrics
from splatomy.metrics.surface_protocols import dtu_metrics, even_samples
from splatomy.scene import Mesh

pytestmark = pytest.mark.verify

_MESHES = Path(__file__).resolve().parents[3] / "shared" / "data" / "meshes"
_SIZE_MM = 100.0


def sized(name: str) -> Mesh:
    """A mesh of the folder with its box's diagonal made 100 mm."""
    mesh = read_mesh(_MESHES / name)
    size = float(np.linalg.norm(np.ptp(mesh.vertices_mm, axis=0)))
    middle = (mesh.vertices_mm.min(0) + mesh.vertices_mm.max(0)) / 2
    return Mesh(((mesh.vertices_mm - middle) * (_SIZE_MM / size)).astype(np.float32), mesh.faces)


def exact_mean(points: np.ndarray, mesh: Mesh) -> float:
    """Mean distance of points to the mesh's triangles, exact but for float32."""
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(mesh.vertices_mm.astype(np.float32), mesh.faces.astype(np.uint32))
    return float(scene.compute_distance(points.astype(np.float32)).numpy().mean())


@pytest.mark.parametrize("name", ["spot.obj", "stanford-bunny.obj", "fandisk.obj"])
def test_distances_are_those_of_the_surfaces(name: str) -> None:
    truth = sized(name)
    turn = np.radians(3.0)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    moved = Mesh((truth.vertices_mm @ rotation.T + [0.4, -0.2, 0.5]).astype(np.float32), truth.faces)
    made = surface_metrics(moved, truth)
    accuracy = exact_mean(sample_surface(moved, 100_000), truth)
    completeness = exact_mean(sample_surface(truth, 100_000, 1), moved)
    # Samples on the other side lie up to half their spacing beside the nearest point.
    assert made["accuracy_mm"] == pytest.approx(accuracy, abs=0.06)
    assert made["completeness_mm"] == pytest.approx(completeness, abs=0.06)
    assert made["accuracy_mm"] >= accuracy - 0.005
    # Alignment undoes the motion.
    assert made["chamfer_icp_sum_mm"] < 0.35 * made["chamfer_sum_mm"]
    fine = dtu_metrics(moved, even_samples(truth, 0.2))
    assert fine["accuracy_dtu_mm"] == pytest.approx(accuracy, abs=0.06)
    assert fine["completeness_dtu_mm"] == pytest.approx(completeness, abs=0.06)


@pytest.mark.parametrize("name", ["spot.obj", "fandisk.obj"])
def test_a_mesh_scores_nothing_against_itself_however_it_is_tessellated(name: str) -> None:
    truth = sized(name)
    # Every triangle in four: the same surface with four times the vertices in one half of it.
    half = truth.vertices_mm[truth.faces].mean(1)[:, 0] > 0
    corners = truth.vertices_mm[truth.faces[half]]
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
    split = np.concatenate([np.stack(t, 1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
    vertices = np.concatenate([truth.vertices_mm, split.reshape(-1, 3)])
    new = np.arange(len(split) * 3).reshape(-1, 3) + len(truth.vertices_mm)
    finer = Mesh(vertices.astype(np.float32), np.concatenate([truth.faces[~half], new]).astype(np.int32))
    assert mesh_figures(finer).area == pytest.approx(mesh_figures(truth).area, rel=1e-4)
    found = surface_metrics(finer, truth)
    assert found["chamfer_mean_mm"] < 0.25 and found["fscore_0.5mm"] > 0.97
