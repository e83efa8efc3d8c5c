"""A DSA run in a scene: every product at the place that the engine's own files give it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from splatomy.io.mesh import read_lines_vtp, read_mesh
from splatomy.io.volume import read_volume, read_volume_4d
from SplatomyLib import bridge_case, bridge_markups, bridge_models, bridge_tables, bridge_volumes
from SplatomyLib.bridge_frames import times_of
from SplatomyLib.bridge_nodes import RUN, hierarchy, points_of, unit_of
from SplatomyLib.files import UnusableFile
from SplatomyLib.geometry import World

LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
WORLD = World("isocentre as LPS")


@pytest.fixture
def loaded(scene: Any, dsa_run: Path) -> bridge_case.Loaded:
    return bridge_case.load_run(scene, dsa_run)


def test_every_product_arrives(loaded: bridge_case.Loaded) -> None:
    assert loaded.problems == []
    expected = {
        "volume", "rendering", "vessels", "arrival", "peak", "transit", "volume_4d", "volume_now", "mesh",
        "centreline", "branches", "gaussians", "renders", "metrics", "training", "enhancement",
    }  # fmt: skip
    assert expected <= loaded.nodes.keys()


def test_volume_lies_where_its_nifti_says(loaded: bridge_case.Loaded, dsa_run: Path) -> None:
    """NIfTI affines are RAS, as the scene is; nibabel is an independent reader."""
    image = nibabel.load(dsa_run / "volumes" / "volume.nii.gz")
    node = loaded.nodes["volume"]
    assert np.array_equal(bridge_volumes.values_of(node), image.get_fdata(dtype=np.float32).T)
    # The two readers may order axes differently, so places of voxels are compared, not matrices.
    for index in ([0, 0, 0], [7, 0, 0], [0, 11, 0], [0, 0, 5], [3, 9, 21]):
        there = bridge_volumes.affine_of(node) @ [*index, 1]
        assert np.allclose(there, image.affine @ [*index, 1], atol=1e-4)
    assert node.GetImageData().GetSpacing() == (1, 1, 1)
    assert node.GetAttribute(bridge_volumes.VALUE_UNIT) == "1/mm"


def test_sequence_has_the_engines_times_and_values(loaded: bridge_case.Loaded, dsa_run: Path) -> None:
    values, times, grid = read_volume_4d(dsa_run / "volumes" / "volume_4d.seq.nrrd")
    sequence = loaded.nodes["volume_4d"]
    assert np.allclose(times_of(sequence), times, rtol=1e-6)
    for number in (0, len(times) // 2, len(times) - 1):
        node = sequence.GetNthDataNode(number)
        assert np.array_equal(bridge_volumes.values_of(node), values[number].T)
        ras = np.diag([*LPS_TO_RAS, 1.0]) @ grid.affine_mm
        assert np.allclose(bridge_volumes.affine_of(node), ras, atol=1e-5)


def test_the_browser_moves_the_shown_volume(scene: Any, loaded: bridge_case.Loaded) -> None:
    browser, shown = loaded.nodes["browser_4d"], loaded.nodes["volume_now"]
    for number in (3, 12):
        browser.SetSelectedItemNumber(number)
        from SplatomyLib.bridge_frames import refresh

        refresh(scene, browser)
        item = loaded.nodes["volume_4d"].GetNthDataNode(number)
        assert np.array_equal(bridge_volumes.values_of(shown), bridge_volumes.values_of(item))


def test_time_maps_keep_times_and_hide_what_has_none(
    loaded: bridge_case.Loaded, dsa_run: Path, tmp_path: Path
) -> None:
    truth = read_volume(dsa_run / "volumes" / "peak_s.nii.gz").values.T
    node = loaded.nodes["peak"]
    assert np.isfinite(bridge_volumes.values_of(node)).all()
    assert np.array_equal(bridge_volumes.time_map_values(node), truth, equal_nan=True)
    display = node.GetDisplayNode()
    empty = float(node.GetAttribute(bridge_volumes.EMPTY_VALUE))
    assert display.GetApplyThreshold()
    assert empty < display.GetLowerThreshold() <= np.nanmin(truth)
    assert display.GetUpperThreshold() >= np.nanmax(truth)
    bridge_volumes.save_volume(node, tmp_path / "peak_s.nii.gz")
    again = read_volume(tmp_path / "peak_s.nii.gz")
    assert np.array_equal(again.values.T, truth, equal_nan=True)


def test_vessel_label_becomes_the_same_segment(loaded: bridge_case.Loaded, dsa_run: Path) -> None:
    import slicer

    label = read_volume(dsa_run / "volumes" / "vessels.nii.gz").values
    node, volume = loaded.nodes["vessels"], loaded.nodes["volume"]
    content = node.GetSegmentation()
    assert content.GetNumberOfSegments() == 1
    found = slicer.util.arrayFromSegmentBinaryLabelmap(node, content.GetNthSegmentID(0), volume)
    assert np.array_equal(found > 0, label.T > 0)
    surface = content.GetNthSegment(0).GetRepresentation("Closed surface")
    assert surface.GetNumberOfPolys() > 100


def test_volumes_are_written_where_they_were(
    scene: Any, loaded: bridge_case.Loaded, dsa_run: Path, tmp_path: Path
) -> None:
    before = read_volume(dsa_run / "volumes" / "volume.nii.gz")
    for name in ("out.nii.gz", "out.nrrd", "out.mha"):
        bridge_volumes.save_volume(loaded.nodes["volume"], tmp_path / name)
        after = read_volume(tmp_path / name)
        assert np.allclose(after.affine_mm, before.affine_mm, atol=1e-4), name
        assert np.array_equal(after.values, before.values), name


def test_mesh_and_label_are_in_one_place(loaded: bridge_case.Loaded, dsa_run: Path) -> None:
    mesh = read_mesh(dsa_run / "meshes" / "mesh.ply")
    points = points_of(loaded.nodes["mesh"].GetPolyData())
    assert np.allclose(points, mesh.vertices_mm * LPS_TO_RAS, atol=1e-4)
    bounds = np.zeros(6)
    loaded.nodes["vessels"].GetRASBounds(bounds)
    # Closed surfaces are smoothed: they agree to a voxel of 1.5 mm.
    assert np.allclose(bounds.reshape(3, 2), np.stack([points.min(0), points.max(0)], 1), atol=2.0)


def test_centrelines_carry_what_vmtk_wants(loaded: bridge_case.Loaded, dsa_run: Path) -> None:
    points, arrays = read_lines_vtp(dsa_run / "volumes" / "centreline.vtp")
    data = loaded.nodes["centreline"].GetPolyData()
    assert np.allclose(points_of(data), points * LPS_TO_RAS, atol=1e-4)
    fields = data.GetPointData()
    from vtk.util.numpy_support import vtk_to_numpy

    radius = arrays["MaximumInscribedSphereRadius"]
    assert np.allclose(vtk_to_numpy(fields.GetArray("Radius")), radius)
    assert data.GetCellData().HasArray("BranchId")
    longest = loaded.nodes["branches"][0]
    lines = bridge_models.branches(loaded.nodes["centreline"])
    length = max(np.linalg.norm(np.diff(line, axis=0), axis=1).sum() for line in lines)
    value, unit = bridge_markups.value_of(longest)
    assert unit == "mm"
    # Fewer points and a spline through them: not the same length, but a like one.
    assert value == pytest.approx(length, rel=0.1)


def test_gaussians_keep_every_attribute(loaded: bridge_case.Loaded, dsa_run: Path) -> None:
    from splatomy.io.gaussians import read_gaussians

    truth = read_gaussians(dsa_run / "scene" / "gaussians.ply")
    data = loaded.nodes["gaussians"].GetPolyData()
    centres = np.stack([truth[axis] for axis in "xyz"], -1)
    assert np.allclose(points_of(data), centres * LPS_TO_RAS, atol=1e-5)
    from vtk.util.numpy_support import vtk_to_numpy

    for name in truth.keys() - {"x", "y", "z"}:
        assert np.array_equal(vtk_to_numpy(data.GetPointData().GetArray(name)), truth[name]), name


def test_figures_and_curves(scene: Any, loaded: bridge_case.Loaded, dsa_run: Path) -> None:
    figures = json.loads((dsa_run / "metrics.json").read_text())
    shown = bridge_tables.read_metrics(loaded.nodes["metrics"])
    assert shown.keys() == figures.keys() - {"contract"}
    assert float(shown["psnr"]) == pytest.approx(figures["psnr"], rel=1e-5)
    times, mean = bridge_tables.read_curve(loaded.nodes["enhancement"])
    values, truth_times, _ = read_volume_4d(dsa_run / "volumes" / "volume_4d.seq.nrrd")
    assert np.allclose(times, truth_times, rtol=1e-6)
    assert np.allclose(mean, values.mean((1, 2, 3)), rtol=1e-4, atol=1e-9)
    assert loaded.nodes["training chart"].GetNumberOfPlotSeriesNodes() == 1


def test_the_run_has_one_folder_and_says_where_it_came_from(
    scene: Any, loaded: bridge_case.Loaded, dsa_run: Path
) -> None:
    tree = hierarchy(scene)
    for key in ("volume", "vessels", "mesh", "centreline", "metrics"):
        node = loaded.nodes[key]
        assert tree.GetItemParent(tree.GetItemByDataNode(node)) == loaded.item, key
        assert node.GetAttribute(RUN) == str(dsa_run)
    # The isocentre is no patient frame: a transform says so, and does not move anything.
    assert "not registered" in loaded.transform.GetName()
    assert unit_of(loaded.nodes["mesh"]) == "mm"
    box = np.zeros(6)
    loaded.nodes["mesh"].GetRASBounds(box)
    points = points_of(loaded.nodes["mesh"].GetPolyData())
    assert np.allclose(box.reshape(3, 2), np.stack([points.min(0), points.max(0)], 1), atol=1e-4)


def test_frames_and_cameras_of_the_input(scene: Any, dsa_frames: Path) -> None:
    loaded = bridge_case.load_input(scene, dsa_frames, "run")
    integrals = np.load(dsa_frames / "line_integrals.npy")
    about = json.loads((dsa_frames / "frames.json").read_text())
    from SplatomyLib.bridge_frames import picture_of

    sequence = loaded.nodes["frames"]
    assert np.allclose(times_of(sequence), about["times_s"])
    for number in (0, 11, 23):
        assert np.array_equal(picture_of(sequence.GetNthDataNode(number)), integrals[number])
    views = json.loads((dsa_frames / "views.json").read_text())
    sources = np.linalg.inv(np.array(views["camera_from_world"]))[:, :3, 3] * LPS_TO_RAS
    for number in (0, 23):
        matrix = loaded.nodes["cameras"].GetNthDataNode(number).GetMatrixTransformToParent()
        assert np.allclose([matrix.GetElement(i, 3) for i in range(3)], sources[number], atol=1e-6)


@pytest.mark.parametrize("part", ["volumes/volume.nii.gz", "volumes/centreline.vtp", "meshes/mesh.ply"])
def test_a_damaged_part_is_named_and_the_rest_is_loaded(
    scene: Any, dsa_run: Path, tmp_path: Path, part: str
) -> None:
    import shutil

    run = tmp_path / "run"
    shutil.copytree(dsa_run, run)
    (run / part).write_bytes(b"nothing of the kind")
    loaded = bridge_case.load_run(scene, run)
    assert any(Path(part).name in problem for problem in loaded.problems)
    assert "vessels" in loaded.nodes


def test_what_is_no_run_is_refused(scene: Any, tmp_path: Path) -> None:
    with pytest.raises(UnusableFile, match=r"run\.json"):
        bridge_case.load_run(scene, tmp_path)
    (tmp_path / "run.json").write_text('{"contract": 2}')
    with pytest.raises(UnusableFile, match="contract 2"):
        bridge_case.load_run(scene, tmp_path)
