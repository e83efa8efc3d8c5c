"""Truth folders of endoscopic clips: a round trip, foreign forms, and damaged ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from splatomy.errors import InputError
from splatomy.events import finish
from splatomy.geometry.cameras import Cameras
from splatomy.io.frames import write_picture
from splatomy.io.mesh import read_mesh
from splatomy.io.truth_endoscopy import is_tissue_truth, read_tissue_truth, write_tissue_truth
from splatomy.scene import Mesh


@pytest.fixture
def parts() -> dict:
    rng = np.random.default_rng(0)
    vertices = rng.normal(size=(3, 4, 3)).astype(np.float32)
    faces = np.array([[0, 1, 2], [1, 3, 2]], np.int32)
    evidence = np.array([1, 0, 1, 1], np.float32)
    depth = rng.uniform(50, 100, (3, 6, 8)).astype(np.float32)
    depth[0, 0, 0] = np.nan
    return {
        "rgb": (rng.integers(0, 256, (3, 6, 8, 3)) / 255).astype(np.float32),
        "depth_mm": depth,
        "occluded": rng.random((3, 6, 8)) > 0.5,
        "never_seen": rng.random((3, 6, 8)) > 0.9,
        "surface": Mesh(vertices[0], faces, np.full((4, 3), 0.2, np.float32), evidence),
        "vertices_mm": vertices,
        "cameras": Cameras(np.tile(np.eye(3), (3, 1, 1)), np.tile(np.eye(4), (3, 1, 1)), 8, 6),
        "times_s": np.arange(3) / 10,
    }


def test_a_truth_folder_comes_back_as_it_was_written(parts: dict, tmp_path: Path) -> None:
    folder = tmp_path / "truth"
    finish(write_tissue_truth(folder, **parts, description={"seed": 3}))
    assert is_tissue_truth(folder)
    truth = read_tissue_truth(folder)
    np.testing.assert_allclose(truth.rgb, parts["rgb"], atol=1e-6)
    np.testing.assert_array_equal(truth.depth_mm, parts["depth_mm"])
    np.testing.assert_array_equal(truth.occluded, parts["occluded"])
    np.testing.assert_array_equal(truth.never_seen, parts["never_seen"])
    for t, path in enumerate(truth.mesh_files):
        mesh = read_mesh(path)
        np.testing.assert_allclose(mesh.vertices_mm, parts["vertices_mm"][t], atol=1e-6)
        np.testing.assert_array_equal(mesh.faces, parts["surface"].faces)
        np.testing.assert_array_equal(mesh.evidence, parts["surface"].evidence)
    record = json.loads((folder / "truth.json").read_text())
    assert record["contract"] == 1 and record["seed"] == 3 and len(record["camera_from_world"]) == 3
    assert not list(folder.rglob(".*"))


def test_depth_pictures_need_their_scale(tmp_path: Path) -> None:
    steps = np.array([[0, 5000], [6000, 7000]], np.uint16)
    for t in range(2):
        (tmp_path / "depth").mkdir(exist_ok=True)
        write_picture(tmp_path / "depth" / f"{t}.png", steps)
    with pytest.raises(InputError, match="depth_scale_mm"):
        read_tissue_truth(tmp_path)
    (tmp_path / "truth.json").write_text('{"depth_scale_mm": 0.01}')
    depth = read_tissue_truth(tmp_path).depth_mm
    assert depth is not None and np.isnan(depth[0, 0, 0])
    assert depth[1, 1, 1] == pytest.approx(70)


def test_a_wrong_truth_folder_is_refused_in_one_sentence(parts: dict, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no truth folder"):
        read_tissue_truth(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no truth"):
        read_tissue_truth(tmp_path / "empty")
    folder = tmp_path / "truth"
    finish(write_tissue_truth(folder, **parts, description={}))
    (folder / "depth" / "000002.npy").write_bytes(b"\x93NUMPY broken")
    with pytest.raises(InputError, match="cannot be read"):
        read_tissue_truth(folder)
    (folder / "depth" / "000002.npy").unlink()
    with pytest.raises(InputError, match="different numbers of frames"):
        read_tissue_truth(folder)


def test_parts_must_belong_together(parts: dict, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="as many"):
        finish(write_tissue_truth(tmp_path, **{**parts, "times_s": np.zeros(2)}, description={}))
    with pytest.raises(ValueError, match="occluded"):
        finish(
            write_tissue_truth(tmp_path, **{**parts, "occluded": np.zeros((3, 2, 2), bool)}, description={})
        )
