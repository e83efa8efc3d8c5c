"""Truth of surfaces in our own layout, DTU's and that of Tanks and Temples."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from scipy.io import savemat

from splatomy.errors import InputError
from splatomy.io.truth_surface import read_surface_truth


def cloud(path: Path, count: int = 200) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    points = np.random.default_rng(0).normal(size=(count, 3))
    path.write_bytes(trimesh.PointCloud(points).export(file_type="ply"))


def test_a_scan_of_dtu(tmp_path: Path) -> None:
    cloud(tmp_path / "Points" / "stl" / "stl024_total.ply")
    voxels = np.zeros((4, 5, 6), np.uint8)
    voxels[1:3] = 1
    box = np.array([[-1.0, -2, -3], [3, 4, 5]])
    savemat(tmp_path / "ObsMask24_10.mat", {"ObsMask": voxels, "BB": box, "Res": 2.0})
    savemat(tmp_path / "Plane24.mat", {"P": np.array([[0.0], [0], [1], [5]])})
    truth = read_surface_truth(tmp_path)
    assert truth.points_mm is not None and truth.points_mm.shape == (200, 3) and truth.mesh is None
    assert truth.observed is not None and truth.observed.voxels.sum() == 60
    assert truth.observed.spacing_mm == 2.0 and truth.observed.plane is not None
    assert np.array_equal(truth.observed.low_mm, box[0])
    cloud(tmp_path / "Points" / "stl" / "stl037_total.ply")
    with pytest.raises(InputError, match="2 surfaces"):
        read_surface_truth(tmp_path)


def test_a_scene_of_tanks_and_temples_is_in_mm(tmp_path: Path) -> None:
    folder = tmp_path / "any"
    cloud(folder / "Barn.ply")
    matrix = np.diag([2.0, 2, 2, 1])
    matrix[:3, 3] = [1, 0, 0]
    np.savetxt(folder / "Barn_trans.txt", matrix)
    crop = {
        "class_name": "SelectionPolygonVolume", "orthogonal_axis": "Y", "axis_min": -1.0, "axis_max": 2.0,
        "bounding_polygon": [[0, 0, 0], [1, 0, 0], [1, 0, 1]],
    }  # fmt: skip
    (folder / "Barn.json").write_text(json.dumps(crop))
    truth = read_surface_truth(folder)
    assert truth.tau_mm == 10.0 and truth.crop is not None and truth.crop.axis == 1
    assert truth.crop.high == 2000 and truth.truth_from_world is not None
    assert truth.truth_from_world[0].tolist() == [2000, 0, 0, 1000]
    assert truth.points_mm is not None and np.abs(truth.points_mm).max() > 1000
    (folder / "Barn.json").write_text(json.dumps({**crop, "axis_min": "low"}))
    with pytest.raises(InputError, match="no complete crop volume"):
        read_surface_truth(folder)


def test_what_is_no_truth_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no truth folder"):
        read_surface_truth(tmp_path / "none")
    with pytest.raises(InputError, match="no truth of a surface"):
        read_surface_truth(tmp_path)
    (tmp_path / "mesh.ply").write_text("ply and nothing else")
    with pytest.raises(InputError, match=r"mesh\.ply"):
        read_surface_truth(tmp_path)
    (tmp_path / "mesh.ply").unlink()
    cloud(tmp_path / "points.ply")
    savemat(tmp_path / "ObsMask1.mat", {"Other": np.zeros(3)})
    with pytest.raises(InputError, match="no observation mask"):
        read_surface_truth(tmp_path)
