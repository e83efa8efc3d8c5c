"""A clip, its masks and its moving tissue in a scene, and masks on their way back to the case."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import slicer
import vtk

from splatomy.io.case import open_case as engine_open_case
from splatomy.io.mesh import read_mesh
from splatomy.review import ReviewState
from SplatomyLib import bridge_case, bridge_frames, bridge_masks, bridge_models, bridge_nodes
from SplatomyLib.bridge_nodes import points_of, unit_of
from SplatomyLib.casefile import held, open_case, save_masks
from SplatomyLib.files import UnusableFile, read_ply
from SplatomyLib.geometry import World, applied


@pytest.fixture
def case(clip_case: Path, clip: Path, tmp_path: Path) -> Path:
    """A case that a test may spoil, beside its clip as before."""
    shutil.copytree(clip, tmp_path / clip.name)
    return Path(shutil.copytree(clip_case, tmp_path / clip_case.name))


@pytest.fixture
def loaded(scene: Any, clip_frames: Path) -> bridge_case.Loaded:
    return bridge_case.load_input(scene, clip_frames, "clip")


@pytest.fixture
def run(scene: Any, clip_run: Path) -> bridge_case.Loaded:
    return bridge_case.load_run(scene, clip_run)


def test_frames_are_the_clips_pictures_at_their_times(loaded: bridge_case.Loaded, clip: Path) -> None:
    times = json.loads((clip / "splatomy.json").read_text())["times_s"]
    sequence = loaded.nodes["frames"]
    assert np.allclose(bridge_frames.times_of(sequence), times)
    assert (sequence.GetIndexName(), sequence.GetIndexUnit()) == ("time", "s")
    for number in (0, 5):
        picture = cv2.imread(str(clip / "images" / f"{number:06d}.png"))[..., ::-1]
        assert np.array_equal(bridge_frames.picture_of(sequence.GetNthDataNode(number)), picture)


def test_pictures_stand_upright_in_the_axial_view(loaded: bridge_case.Loaded) -> None:
    """There the screen's right is -R and its lower side is -A."""
    from SplatomyLib.bridge_volumes import affine_of

    affine = affine_of(loaded.nodes["picture"])
    right, down = affine[:3, 0], affine[:3, 1]
    assert right[0] < 0
    assert down[1] < 0
    assert np.allclose([right[1:], [down[0], down[2]]], 0)


def test_masks_become_segmentations_and_come_back(loaded: bridge_case.Loaded, clip: Path) -> None:
    masks, states = bridge_masks.read_masks(loaded.nodes["masks"], (52, 64))
    for number, mask in enumerate(masks):
        given = cv2.imread(str(clip / "masks" / f"{number:06d}.png"), cv2.IMREAD_GRAYSCALE)
        assert np.array_equal(mask, given > 0), number
    assert states == ["edited"] * 8
    frames = bridge_frames.times_of(loaded.nodes["frames"])
    assert np.array_equal(bridge_frames.times_of(loaded.nodes["masks"]), frames)


def test_what_a_person_paints_stays_in_its_frame(scene: Any, loaded: bridge_case.Loaded) -> None:
    """As the Segment Editor does it: the shown segmentation changes, then the browser moves on."""
    browser, shown, picture = (loaded.nodes[key] for key in ("browser", "mask", "picture"))
    before, _ = bridge_masks.read_masks(loaded.nodes["masks"], (52, 64))
    browser.SetSelectedItemNumber(2)
    bridge_frames.refresh(scene, browser)
    segment = shown.GetSegmentation().GetNthSegmentID(0)
    painted = np.zeros((1, 52, 64), np.uint8)
    painted[0, 10:20, 40:60] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(painted, shown, segment, picture)
    bridge_masks.set_state(shown, "confirmed")
    browser.SetSelectedItemNumber(6)
    bridge_frames.refresh(scene, browser)
    masks, states = bridge_masks.read_masks(loaded.nodes["masks"], (52, 64))
    assert np.array_equal(masks[2], painted[0] > 0)
    assert states[2] == "confirmed"
    others = [n for n in range(8) if n != 2]
    assert np.array_equal(masks[others], before[others])


def test_a_stack_of_all_frames_gives_the_same_masks(scene: Any, loaded: bridge_case.Loaded) -> None:
    masks, _ = bridge_masks.read_masks(loaded.nodes["masks"], (52, 64))
    volume, segmentation = bridge_masks.stack_masks(scene, loaded.nodes["browser"], masks, "clip")
    assert volume.GetImageData().GetDimensions() == (64, 52, 8)
    assert np.array_equal(bridge_masks.read_stack(segmentation, masks.shape), masks)
    segment = segmentation.GetSegmentation().GetNthSegmentID(0)
    wider = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment, volume)
    wider[3] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(wider, segmentation, segment, volume)
    assert bridge_masks.read_stack(segmentation, masks.shape)[3].all()


SURFACE, LABELMAP = "Closed surface", "Binary labelmap"


def only_surface(segmentation: Any) -> None:
    """As the Segmentations module does when the closed surface is made the source and the rest removed."""
    content = segmentation.GetSegmentation()
    # Slicer's smoothing takes the corners of masks away; without it the surface is the mask's outline.
    content.SetConversionParameter("Smoothing factor", "0.0")
    assert content.CreateRepresentation(SURFACE)
    content.SetSourceRepresentationName(SURFACE)
    content.RemoveRepresentation(LABELMAP)


def with_part(segmentation: Any, kind: str, data: Any) -> None:
    """The segmentation's only segment has only those data."""
    content = segmentation.GetSegmentation()
    content.RemoveAllSegments()
    content.SetSourceRepresentationName(kind)
    segment = slicer.vtkSegment()
    segment.SetName("forceps")
    segment.AddRepresentation(kind, data)
    content.AddSegment(segment, "forceps")


def ball(centre: tuple[float, float, float], radius: float) -> Any:
    """A closed surface in RAS."""
    source = vtk.vtkSphereSource()
    source.SetCenter(*centre)
    source.SetRadius(radius)
    source.SetThetaResolution(64)
    source.SetPhiResolution(64)
    source.Update()
    return source.GetOutput()


def test_masks_that_are_closed_surfaces_only_are_read_as_their_pixels(
    scene: Any, loaded: bridge_case.Loaded
) -> None:
    sequence = loaded.nodes["masks"]
    before, _ = bridge_masks.read_masks(sequence, (52, 64))
    assert before[2].any()
    only_surface(sequence.GetNthDataNode(2))
    segment = sequence.GetNthDataNode(2).GetSegmentation().GetNthSegment(0)
    found, _ = bridge_masks.read_masks(sequence, (52, 64))
    assert np.array_equal(found, before)
    assert segment.GetRepresentation(LABELMAP) is None, "reading changed the scene"
    # A moving disc: where pixels of different frames touch at corners only, surfaces are ambiguous.
    rows, columns = np.mgrid[:52, :64]
    discs = np.stack([np.hypot(rows - 20 - 2 * t, columns - 30) < 12 for t in range(8)])
    _, stack = bridge_masks.stack_masks(scene, loaded.nodes["browser"], discs, "clip")
    only_surface(stack)
    assert np.array_equal(bridge_masks.read_stack(stack, discs.shape), discs)


@pytest.mark.parametrize("radius", [10.0, 4000.0])
def test_a_surface_larger_than_the_pictures_is_cropped_to_them(
    loaded: bridge_case.Loaded, radius: float
) -> None:
    """Pixel (x, y) lies at RAS (-x, -y, 0)."""
    sequence = loaded.nodes["masks"]
    with_part(sequence.GetNthDataNode(5), SURFACE, ball((-60.0, -26.0, 0.0), radius))
    found, _ = bridge_masks.read_masks(sequence, (52, 64))
    rows, columns = np.mgrid[:52, :64]
    inside = (columns - 60) ** 2 + (rows - 26) ** 2
    assert found[5][inside < (radius - 0.5) ** 2].all()
    assert not found[5][inside > (radius + 0.5) ** 2].any()


def test_a_segment_that_gives_no_pixels_is_said_and_is_no_empty_mask(loaded: bridge_case.Loaded) -> None:
    sequence = loaded.nodes["masks"]
    beside = ball((-30.0, -26.0, 200.0), 10.0)
    just_beside = ball((-30.0, -26.0, 10.2), 10.0)
    sheet = vtk.vtkPlaneSource()
    sheet.SetOrigin(-10.0, -10.0, 0.0)
    sheet.SetPoint1(-40.0, -10.0, 0.0)
    sheet.SetPoint2(-10.0, -40.0, 0.0)
    sheet.Update()
    # Slicer has no rule that makes anything of contours; those come with an extension.
    for kind, data in (
        (SURFACE, beside),
        (SURFACE, just_beside),
        (SURFACE, sheet.GetOutput()),
        ("Planar contour", ball((-30.0, -26.0, 0.0), 10.0)),
    ):
        with_part(sequence.GetNthDataNode(5), kind, data)
        with pytest.raises(UnusableFile, match=f'"forceps" at time .* s cannot .* its {kind.lower()}'):
            bridge_masks.read_masks(sequence, (52, 64))
    with_part(sequence.GetNthDataNode(5), SURFACE, vtk.vtkPolyData())
    assert not bridge_masks.read_masks(sequence, (52, 64))[0][5].any(), "nothing was drawn there"


def test_masks_go_back_into_the_case_that_the_engine_reads(case: Path) -> None:
    before = engine_open_case(case)
    masks, states = open_case(case).masks.copy(), list(open_case(case).states)
    assert np.array_equal(masks, before.review.occluded())
    masks[1, :10, :10] = True
    masks[4] = False
    states[0] = "confirmed"
    assert save_masks(case, masks, states) == 3
    after = engine_open_case(case)
    assert np.array_equal(after.review.occluded(), masks)
    found = [frame.state for frame in after.review.frames]
    assert found[0] is ReviewState.CONFIRMED
    assert found[1] is found[4] is ReviewState.EDITED
    # What the software found is never changed: it can be gone back to.
    for old, new in zip(before.review.frames, after.review.frames):
        assert (old.auto is None) == (new.auto is None)
    assert save_masks(case, masks, [frame.state.value for frame in after.review.frames]) == 0


def test_a_case_in_use_or_of_another_clip_is_refused(case: Path) -> None:
    from splatomy.io.case import locked

    masks, states = open_case(case).masks, open_case(case).states
    with locked(case), pytest.raises(UnusableFile, match="open in another program"):
        save_masks(case, ~masks, states)
    with held(case), pytest.raises(Exception, match="open in another program"), locked(case):
        pass
    with pytest.raises(UnusableFile, match="8 frames of 64x52, the masks 7"):
        save_masks(case, masks[:7], states[:7])


def test_a_case_opens_with_its_frames(scene: Any, clip_frames: Path, case: Path) -> None:
    masks = open_case(case).masks.copy()
    masks[3] = True
    save_masks(case, masks, ["confirmed"] * 8)
    loaded = bridge_case.load_input(scene, clip_frames, "case", case)
    found, states = bridge_masks.read_masks(loaded.nodes["masks"], (52, 64))
    assert np.array_equal(found, masks)
    assert states == ["confirmed"] * 8


def test_meshes_move_as_the_engines_files_do(scene: Any, run: bridge_case.Loaded, clip_run: Path) -> None:
    assert run.problems == []
    sequence, shown = run.nodes["meshes"], run.nodes["mesh"]
    times = json.loads((clip_run / "meshes" / "meshes.json").read_text())["times_s"]
    assert np.allclose(bridge_frames.times_of(sequence), times)
    for number in (0, 4, 7):
        run.nodes["browser"].SetSelectedItemNumber(number)
        bridge_frames.refresh(scene, run.nodes["browser"])
        truth = read_mesh(clip_run / "meshes" / f"frame_{number:04d}.ply")
        data = shown.GetPolyData()
        assert np.array_equal(points_of(data).astype(np.float32), truth.vertices_mm)
        evidence = slicer.util.arrayFromModelPointData(shown, "evidence")
        assert np.array_equal(evidence, truth.evidence)
    # OpenCV: y down and z forward; RAS: up and backward.
    box = np.zeros(6)
    shown.GetRASBounds(box)
    moved = truth.vertices_mm * [1, -1, -1]
    assert np.allclose(box.reshape(3, 2), np.stack([moved.min(0), moved.max(0)], 1), atol=1e-4)


def test_evidence_decides_the_colour(run: bridge_case.Loaded) -> None:
    display = run.nodes["mesh"].GetDisplayNode()
    assert display.GetActiveScalarName() == "evidence"
    assert display.GetScalarRange() == (0.0, 1.0)
    colours = display.GetColorNode().GetLookupTable()
    assert np.allclose(colours.GetTableValue(0)[:3], [0.9, 0.0, 0.9], atol=0.01)
    bridge_models.show_own_colours(run.nodes["mesh"])
    assert display.GetActiveScalarName() == "RGB"


def test_the_first_camera_looks_at_the_tissue(scene: Any, clip_frames: Path, clip_run: Path) -> None:
    """A point of the mesh is projected by the engine's camera and seen there by Slicer's."""
    loaded = bridge_case.load_input(scene, clip_frames, "clip")
    views = json.loads((clip_frames / "views.json").read_text())
    camera = bridge_nodes.add_node(scene, "vtkMRMLCameraNode", "camera")
    proxy = loaded.nodes["browser"].GetProxyNode(loaded.nodes["cameras"])
    intrinsics = np.array(views["intrinsics"][0])
    bridge_frames.look_through(camera, proxy, intrinsics[1, 1], views["height_px"])
    point = read_ply(clip_run / "meshes" / "frame_0000.ply").points.mean(0)
    seen = applied(np.array(views["camera_from_world"][0]), point[None])[0]
    expected_up = -(intrinsics[1, 1] * seen[1] / seen[2]) / (views["height_px"] / 2)
    in_scene = applied(loaded.world.scene_from_nodes(), point[None])[0]
    matrix = camera.GetCamera().GetProjectionTransformMatrix(1.0, 0.0, 1.0)
    view = camera.GetCamera().GetModelViewTransformMatrix()
    clipped = matrix.MultiplyPoint(view.MultiplyPoint([*in_scene, 1.0]))
    assert clipped[1] / clipped[3] == pytest.approx(expected_up, abs=1e-3)


def test_scenes_without_scale_never_say_mm(scene: Any) -> None:
    from SplatomyLib import bridge_markups

    world = World("first camera", metric=False)
    transform = bridge_nodes.world_transform(scene, world, "clip")
    assert "no unit" in transform.GetName()
    assert unit_of(transform) == "relative"
    line = bridge_markups.add_measurement(
        scene, "line", [[0, 0, 1], [0, 2, 1]], "width", transform, world.unit
    )
    assert bridge_markups.text_of(line) == "2 (no unit)"
    assert not line.GetDisplayNode().GetPropertiesLabelVisibility()
    assert "no unit" in line.GetName()
    # A person who knows a length gives the scale; then lengths are mm.
    scaled = World("first camera", metric=False, mm_per_unit=7.5)
    known = bridge_nodes.world_transform(scene, scaled, "clip")
    line = bridge_markups.add_measurement(scene, "line", [[0, 0, 1], [0, 2, 1]], "width", known, scaled.unit)
    assert bridge_markups.text_of(line) == "15 mm"
