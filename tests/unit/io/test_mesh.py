"""Meshes and centrelines on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh

from splatomy.errors import InputError
from splatomy.extract.centreline import Centreline
from splatomy.io.mesh import read_lines_vtp, read_mesh, write_centreline_vtp, write_mesh
from splatomy.scene import Mesh


@pytest.fixture
def mesh() -> Mesh:
    ball = trimesh.creation.icosphere(2, 30.0)
    rng = np.random.default_rng(0)
    count = len(ball.vertices)
    return Mesh(
        (ball.vertices + [100, -50, 7]).astype(np.float32),
        ball.faces.astype(np.int32),
        rng.integers(0, 256, (count, 3)).astype(np.float32) / 255,
        rng.random(count).astype(np.float32),
    )


@pytest.mark.parametrize("suffix", ["ply", "obj", "stl", "glb", "vtp"])
def test_round_trip(mesh: Mesh, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "deep" / f"vessel.{suffix}"
    write_mesh(path, mesh)
    back = read_mesh(path)
    assert len(back.vertices_mm) == len(mesh.vertices_mm)
    np.testing.assert_allclose(
        back.vertices_mm[back.faces], mesh.vertices_mm[mesh.faces], atol=1e-4, err_msg=suffix
    )
    if suffix in ("ply", "vtp"):
        assert back.colours is not None and back.evidence is not None
        np.testing.assert_allclose(back.colours, mesh.colours, atol=1e-3)
        np.testing.assert_allclose(back.evidence, mesh.evidence, atol=1e-6)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", ["ply", "obj", "stl", "glb", "vtp"])
def test_damaged_files_get_one_sentence(mesh: Mesh, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"vessel.{suffix}"
    for content in (b"", b"\x00\xff nonsense", b"solid\n"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"vessel\.") as caught:
            read_mesh(path)
        assert "\n" not in str(caught.value)


def test_truncated_ply(mesh: Mesh, tmp_path: Path) -> None:
    path = tmp_path / "m.ply"
    write_mesh(path, mesh)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError):
        read_mesh(path)


def test_wrong_names_and_empty_meshes(mesh: Mesh, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no mesh extension"):
        write_mesh(tmp_path / "m.xyz", mesh)
    with pytest.raises(InputError, match="does not exist"):
        read_mesh(tmp_path / "m.ply")
    with pytest.raises(InputError, match="no faces"):
        write_mesh(tmp_path / "m.ply", replace(mesh, faces=np.zeros((0, 3), np.int32)))
    assert not list(tmp_path.iterdir())


def test_centreline_round_trip(tmp_path: Path) -> None:
    line = Centreline(
        np.arange(18.0).reshape(6, 3),
        np.linspace(1, 2, 6),
        np.array([-1, 0, 1, 1, 3, 2]),
        np.array([0, 0, 1, 2, 2, 1]),
    )
    path = tmp_path / "centreline.vtp"
    write_centreline_vtp(path, line)
    points, arrays = read_lines_vtp(path)
    np.testing.assert_array_equal(points, line.points_mm)
    np.testing.assert_array_equal(arrays["MaximumInscribedSphereRadius"], line.radius_mm)
    assert np.isnan(arrays["ArrivalTime"]).all()
    from vtkmodules.vtkIOXML import vtkXMLPolyDataReader

    reader = vtkXMLPolyDataReader()
    reader.SetFileName(str(path))
    reader.Update()
    data = reader.GetOutput()
    assert data.GetNumberOfLines() == 3
    cell = data.GetCell(1).GetPointIds()
    assert [cell.GetId(i) for i in range(cell.GetNumberOfIds())] == [1, 2, 5]
    write_centreline_vtp(path, replace(line, arrival_s=np.arange(6.0)))
    np.testing.assert_array_equal(read_lines_vtp(path)[1]["ArrivalTime"], np.arange(6.0))
    with pytest.raises(InputError, match=r"\.vtp"):
        write_centreline_vtp(tmp_path / "c.ply", line)
