"""Measurements, and a whole case as one .mrb file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrml_scene import SlicerScene
from SplatomyLib import (
    bridge_case,
    bridge_frames,
    bridge_markups,
    bridge_masks,
    bridge_tables,
    bridge_volumes,
)
from SplatomyLib.bridge_nodes import ROLE, hierarchy, nodes_with, points_of, unit_of
from SplatomyLib.geometry import World

LPS = World("LPS")


def test_measurements_are_kept_in_the_frame_of_the_files(scene: Any, tmp_path: Path) -> None:
    points = np.array([[1.0, 2.0, 3.0], [4.0, 6.0, 3.0]])
    ras = points * [-1, -1, 1]
    bridge_markups.add_measurement(scene, "line", ras, "neck width")
    bridge_markups.add_measurement(scene, "angle", [[1, 0, 0], [0, 0, 0], [0, 1, 0]], "take-off")
    bridge_markups.add_measurement(scene, "curve", [[0, 0, 0], [0, 0, 5], [0, 0, 9]], "branch")
    bridge_markups.add_measurement(scene, "points", [[1, 1, 1]], "landmark")
    path = tmp_path / "measurements.json"
    assert bridge_markups.save_measurements(scene, path, LPS, "run 1") == 4
    record = json.loads(path.read_text())
    entries = {entry["kind"]: entry for entry in record["measurements"]}
    assert np.allclose(entries["distance"]["points"], points)
    assert (entries["distance"]["value"], entries["distance"]["unit"]) == (pytest.approx(5.0), "mm")
    assert (entries["angle"]["value"], entries["angle"]["unit"]) == (pytest.approx(90.0), "deg")
    assert entries["polyline"]["value"] == pytest.approx(9.0, rel=1e-3)
    scene.Clear(False)
    again = bridge_markups.load_measurements(scene, path, LPS, "run 1")
    assert sorted(node.GetName() for node in again) == ["branch", "landmark", "neck width", "take-off"]
    line = next(node for node in again if node.GetName() == "neck width")
    assert np.allclose(bridge_markups.world_points(line), ras)
    assert bridge_markups.text_of(line) == "5 mm"
    assert bridge_markups.load_measurements(scene, path, LPS, "run 1") == []
    assert bridge_markups.load_measurements(scene, path, LPS, "run 2") == []
    # Saved again nothing has changed, and nothing is there twice.
    bridge_markups.save_measurements(scene, path, LPS, "run 1")
    assert json.loads(path.read_text()) == record


def test_measurements_of_the_desktop_app_are_shown_and_kept(scene: Any, tmp_path: Path) -> None:
    (tmp_path / "case.json").write_text("{}")
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    path = bridge_markups.measurements_file(run)
    assert path == tmp_path / "measurements.json"
    common = {"subject": "a", "unit": "mm", "time_s": 0.5, "anchors": [[3, 0.2, 0.3, 0.5]] * 2}
    common |= {"evidence": 0.9, "reading": ""}
    distance = {"id": 1, "kind": "distance", "name": "d", "points": [[0, 0, 0], [3, 4, 0]], "value": 5.0}
    area = {"id": 2, "kind": "area", "name": "A", "points": [[0, 0, 0], [1, 0, 0], [0, 1, 0]], "value": 0.5}
    other = {"id": 3, "kind": "distance", "name": "o", "points": [[0, 0, 0], [1, 0, 0]], "value": 1.0}
    entries = [distance | common, area | common | {"unit": "mm\u00b2"}, other | common | {"subject": "b"}]
    path.write_text(json.dumps({"contract": 1, "measurements": entries}))
    line, outline = bridge_markups.load_measurements(scene, path, LPS, "a")
    assert bridge_markups.text_of(line) == "5 mm" and outline.GetLocked()
    bridge_markups.save_measurements(scene, path, LPS, "a")
    assert json.loads(path.read_text())["measurements"] == entries
    # A point that is moved is measured anew and follows no surface any more.
    line.SetNthControlPointPosition(1, 0.0, -8.0, 0.0)
    bridge_markups.save_measurements(scene, path, LPS, "a")
    moved = json.loads(path.read_text())["measurements"][0]
    assert (moved["value"], moved["anchors"], moved["id"]) == (pytest.approx(8.0), None, 1)
    assert json.loads(path.read_text())["measurements"][1:] == entries[1:]


def test_a_whole_case_survives_as_one_file(
    slicer_scene: SlicerScene, clip_frames: Path, clip_run: Path, tmp_path: Path
) -> None:
    scene = slicer_scene.scene
    clip = bridge_case.load_input(scene, clip_frames, "clip")
    run = bridge_case.load_run(scene, clip_run, "clip run")
    bridge_markups.add_measurement(scene, "line", [[0, 0, 1], [0, 2, 1]], "width", run.transform)
    masks, _ = bridge_masks.read_masks(clip.nodes["masks"], (52, 64))
    meshes = run.nodes["meshes"]
    points = points_of(meshes.GetNthDataNode(5).GetPolyData())
    box = np.zeros(6)
    run.nodes["mesh"].GetRASBounds(box)
    bridge_case.save_bundle(scene, tmp_path / "case.mrb")
    scene.Clear(True)
    assert scene.GetNumberOfNodesByClass("vtkMRMLModelNode") == 0

    assert scene.ReadFromMRB(str(tmp_path / "case.mrb"))
    again = nodes_with(scene, "vtkMRMLSequenceNode", ROLE, "masks")[0]
    found, states = bridge_masks.read_masks(again, (52, 64))
    assert np.array_equal(found, masks)
    assert states == ["edited"] * 8
    moving = nodes_with(scene, "vtkMRMLSequenceNode", ROLE, "moving mesh")[0]
    assert np.allclose(points_of(moving.GetNthDataNode(5).GetPolyData()), points, atol=1e-3)
    assert moving.GetNthDataNode(5).GetPolyData().GetPointData().HasArray("evidence")
    frames = nodes_with(scene, "vtkMRMLSequenceNode", ROLE, "frames")[0]
    picture = bridge_frames.picture_of(frames.GetNthDataNode(3))
    assert np.array_equal(picture, bridge_frames.read_picture(clip_frames / "pictures" / "000003.png"))
    line = nodes_with(scene, "vtkMRMLMarkupsLineNode", ROLE, "measurement")[0]
    assert unit_of(line) == "mm"
    shown = nodes_with(scene, "vtkMRMLModelNode", ROLE, "moving mesh")[0]
    again_box = np.zeros(6)
    shown.GetRASBounds(again_box)
    assert np.allclose(again_box, box, atol=1e-3)
    names = [node.GetName() for node in nodes_with(scene, "vtkMRMLTableNode", ROLE, "metrics")]
    assert names == ["clip run figures"]
    tree = hierarchy(scene)
    assert tree.GetItemByName("clip run") != 0


def test_an_angiogram_survives_as_one_file(slicer_scene: SlicerScene, dsa_run: Path, tmp_path: Path) -> None:
    scene = slicer_scene.scene
    run = bridge_case.load_run(scene, dsa_run, "dsa")
    volume = bridge_volumes.values_of(run.nodes["volume"]).copy()
    affine = bridge_volumes.affine_of(run.nodes["volume"])
    peak = bridge_volumes.time_map_values(run.nodes["peak"])
    times = bridge_frames.times_of(run.nodes["volume_4d"])
    fourth = bridge_volumes.values_of(run.nodes["volume_4d"].GetNthDataNode(4)).copy()
    table = bridge_tables.read_metrics(run.nodes["metrics"])
    bridge_case.save_bundle(scene, tmp_path / "dsa.mrb")
    scene.Clear(True)

    assert scene.ReadFromMRB(str(tmp_path / "dsa.mrb"))
    node = scene.GetFirstNodeByName("dsa volume")
    assert np.array_equal(bridge_volumes.values_of(node), volume)
    assert np.allclose(bridge_volumes.affine_of(node), affine, atol=1e-5)
    again = bridge_volumes.time_map_values(scene.GetFirstNodeByName("dsa peak time"))
    assert np.array_equal(again, peak, equal_nan=True)
    sequence = nodes_with(scene, "vtkMRMLSequenceNode", ROLE, "attenuation over time")[0]
    assert np.allclose(bridge_frames.times_of(sequence), times)
    assert np.array_equal(bridge_volumes.values_of(sequence.GetNthDataNode(4)), fourth)
    assert bridge_tables.read_metrics(scene.GetFirstNodeByName("dsa figures")) == table
    segments = scene.GetFirstNodeByName("dsa vessels").GetSegmentation()
    assert segments.GetNthSegment(0).GetName() == "Vessels"
    lines = scene.GetFirstNodeByName("dsa centrelines").GetPolyData()
    assert lines.GetPointData().HasArray("Radius")
    assert scene.GetFirstNodeByName("dsa volume rendering") is not None


def test_only_what_was_measured_is_kept(scene: Any, tmp_path: Path) -> None:
    """Slicer gives a half placed line the distance of its point from the origin."""
    path, world = tmp_path / "measurements.json", World("LPS")
    broken_off = (("line", []), ("line", [[1, 2, 3]]), ("angle", [[1, 2, 3], [2, 2, 2]]), ("points", []))
    for kind, points in broken_off:
        markup = bridge_markups.add_measurement(scene, kind, np.array(points), "Broken off")
        assert bridge_markups.text_of(markup) == ""
    assert bridge_markups.save_measurements(scene, path, world, "run") == 0
    assert json.loads(path.read_text())["measurements"] == []


def test_values_of_the_desktop_app_survive_unlocking(scene: Any, tmp_path: Path) -> None:
    path, world = tmp_path / "measurements.json", World("LPS")
    common = {"subject": "run", "time_s": None, "anchors": None, "evidence": None, "reading": ""}
    area = {
        "id": 1,
        "kind": "area",
        "name": "Neck",
        "points": [[0, 0, 0], [1, 0, 0], [1, 1, 0]],
        "value": 0.5,
    }
    width = {"id": 2, "kind": "diameter", "name": "Trunk", "points": [[0, 0, 0], [3, 0, 0]], "value": 3.0}
    entries = [area | {"unit": "mm²"} | common, width | {"unit": "mm"} | common]
    path.write_text(json.dumps({"contract": 1, "measurements": entries}))
    for markup in bridge_markups.load_measurements(scene, path, world, "run"):
        markup.SetLocked(False)
    assert bridge_markups.save_measurements(scene, path, world, "run") == 0
    assert json.loads(path.read_text())["measurements"] == entries
