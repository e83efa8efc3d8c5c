"""The live preview: one set of nodes, changed in place, not more often than every two seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splatomy.io.volume import read_volume, write_volume
from splatomy.scene import Volume
from SplatomyLib import bridge_volumes
from SplatomyLib.bridge_nodes import points_of
from SplatomyLib.geometry import World
from SplatomyLib.preview import LivePreview

WORLD = World("isocentre as LPS")


@pytest.fixture
def snapshots(dsa_run: Path, tmp_path: Path) -> list[dict[str, str]]:
    """Three snapshots with volumes of their own."""
    volume = read_volume(dsa_run / "volumes" / "volume.nii.gz")
    found = []
    for number in range(3):
        path = tmp_path / f"step_{number}.nii.gz"
        affine = volume.affine_mm.copy()
        affine[:3, 3] += number
        write_volume(path, Volume(volume.values * (number + 1), affine))
        gaussians = dsa_run / "scene" / "gaussians.ply"
        picture = dsa_run / "renders" / f"frame_{number:04d}.png"
        found.append({"volume": str(path), "gaussians": str(gaussians), "preview": str(picture)})
    return found


def test_nodes_are_changed_in_place_and_not_too_often(scene: Any, snapshots: list[dict[str, str]]) -> None:
    preview = LivePreview(scene, "run", WORLD)
    assert not preview.show(0.0)
    preview.offer(snapshots[0])
    assert preview.show(10.0)
    nodes = {node.GetID() for node in preview.nodes()}
    total = scene.GetNumberOfNodes()
    assert len(nodes) == 3
    preview.offer(snapshots[1])
    assert not preview.show(11.9)
    # The newest counts; the one between is never read.
    preview.offer(snapshots[2])
    assert preview.show(12.1)
    assert {node.GetID() for node in preview.nodes()} == nodes
    assert scene.GetNumberOfNodes() == total
    volume = next(
        node for node in preview.nodes() if "preview" in node.GetName() and node.GetName().endswith("preview")
    )
    truth = read_volume(snapshots[2]["volume"])
    assert np.allclose(bridge_volumes.values_of(volume), truth.values.T)
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ truth.affine_mm
    assert np.allclose(bridge_volumes.affine_of(volume), ras, atol=1e-4)
    points = next(node for node in preview.nodes() if node.IsA("vtkMRMLModelNode"))
    assert len(points_of(points.GetPolyData())) > 10
    preview.remove()
    assert preview.nodes() == []


def test_files_that_are_gone_and_nodes_that_are_gone_do_no_harm(
    scene: Any, snapshots: list[dict[str, str]], tmp_path: Path
) -> None:
    """The engine removes older snapshots, and a person may delete nodes or close the scene."""
    preview = LivePreview(scene, "run", WORLD)
    preview.offer({"volume": str(tmp_path / "gone.nii.gz"), "gaussians": str(tmp_path / "gone.ply")})
    assert not preview.show(0.0)
    broken = tmp_path / "half.nii.gz"
    broken.write_bytes(Path(snapshots[0]["volume"]).read_bytes()[:200])
    preview.offer({"volume": str(broken)})
    preview.show(3.0)
    preview.offer(snapshots[0])
    assert preview.show(6.0)
    for node in preview.nodes():
        scene.RemoveNode(node)
    preview.offer(snapshots[1])
    assert preview.show(9.0)
    assert len(preview.nodes()) == 3
