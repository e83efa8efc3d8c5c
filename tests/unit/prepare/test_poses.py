"""Camera poses: at rest or moving by measurement, accuracy with depth, scale from an instrument."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from splatomy.capture import Capture, Modality
from splatomy.events import Notice, finish
from splatomy.geometry.cameras import Cameras
from splatomy.geometry.rigid import inverse, rigid, rotation_from_vector, transform_points
from splatomy.phantoms.tissue import PRESETS, TissuePhantom, make_tissue
from splatomy.prepare import poses as poses_module
from splatomy.prepare._bundle import Observations, Structure, adjust
from splatomy.prepare._instrument_width import shaft_depth
from splatomy.prepare.depth import StereoPair, StereoRig, estimate_depth
from splatomy.prepare.pose_scale import scale_by_instruments
from splatomy.prepare.poses import PoseConfig, estimate_poses

SMALL = replace(
    PRESETS["hard"], frames=12, duration_s=3.6, width_px=256, height_px=208, focal_px=228.0, node_mm=1.2,
    texels_per_mm=4.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def moving() -> TissuePhantom:
    # Breathing moves all tissue alike, which no picture can tell from a camera that moves: none here.
    return finish(make_tissue(replace(SMALL, camera_motion_mm=5.0, breath_mm=0.0), 5))


@pytest.fixture(scope="module")
def resting() -> TissuePhantom:
    return finish(make_tissue(replace(SMALL, baseline_mm=0.0), 6))


def capture_of(phantom: TissuePhantom, **fields: object) -> Capture:
    at_rest = np.tile(np.eye(4), (len(phantom.images), 1, 1))
    cameras = replace(phantom.cameras, camera_from_world=at_rest)
    capture = Capture(
        Modality.COLOUR, phantom.images, phantom.times_s, cameras=cameras, occluded=phantom.occluded
    )
    return replace(capture, **fields)


def watched(task: object) -> tuple[Capture, dict[str, str]]:
    told: dict[str, str] = {}
    while True:
        try:
            event = next(task)
        except StopIteration as stop:
            return stop.value, told
        if isinstance(event, Notice):
            told[event.code] = event.text


def path_error_mm(found: np.ndarray, truth: np.ndarray) -> float:
    """RMS distance of two paths (T, 3) after the best rigid alignment: the absolute trajectory error."""
    a, b = found - found.mean(0), truth - truth.mean(0)
    u, _, v = np.linalg.svd(b.T @ a)
    turn = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ v))]) @ v
    return float(np.sqrt(((a @ turn.T - b) ** 2).sum(1).mean()))


def test_moving_camera_with_stereo_depth_is_found_to_a_millimetre(moving: TissuePhantom) -> None:
    k = moving.cameras.intrinsics[0]
    shift = rigid(np.eye(3), np.array([-moving.baseline_mm, 0.0, 0.0]))
    rig = StereoRig(k, k, shift, np.zeros(5), np.zeros(5))
    capture = finish(estimate_depth(capture_of(moving), StereoPair(moving.images_right, rig)))
    out, told = watched(estimate_poses(capture))
    assert "rigid motion" in told["camera-moves"]
    assert "odometry" in told["poses-found"]
    assert out.metric
    assert path_error_mm(out.cameras.centres_mm, moving.cameras.centres_mm) < 1.0
    turn = out.cameras.camera_from_world[:, :3, :3] @ np.swapaxes(
        moving.cameras.camera_from_world[:, :3, :3], 1, 2
    )
    angles = np.degrees(np.arccos(np.clip((np.trace(turn, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    assert angles.mean() < 1.5


def test_breathing_tissue_before_a_camera_at_rest(resting: TissuePhantom) -> None:
    capture = capture_of(resting, depth_mm=np.where(resting.occluded, np.nan, resting.depth_mm))
    out, told = watched(estimate_poses(capture))
    assert "at rest" in told["camera-fixed"]
    assert np.array_equal(out.cameras.camera_from_world, capture.cameras.camera_from_world)
    assert out.metric


def test_a_still_picture_has_no_moving_camera(resting: TissuePhantom) -> None:
    still = np.repeat(resting.images[:1], 4, axis=0)
    capture = capture_of(resting).frames(slice(0, 4))
    out, told = watched(estimate_poses(replace(capture, images=still)))
    assert "at rest" in told["camera-fixed"]
    assert not out.metric


def test_without_texture_nothing_is_invented() -> None:
    cameras = Cameras(
        np.tile(np.array([[100.0, 0, 31.5], [0, 100, 31.5], [0, 0, 1]]), (3, 1, 1)),
        np.tile(np.eye(4), (3, 1, 1)), 64, 64,
    )  # fmt: skip
    capture = Capture(
        Modality.COLOUR, np.full((3, 64, 64, 3), 0.5, np.float32), np.arange(3.0), cameras=cameras
    )
    out, told = watched(estimate_poses(capture))
    assert "too few points" in told["camera-fixed"]
    forced, told = watched(estimate_poses(capture, PoseConfig(camera="moving", solver="own")))
    assert "poses-failed" in told
    assert np.array_equal(forced.cameras.camera_from_world, out.cameras.camera_from_world)


def test_scale_from_the_shafts(resting: TissuePhantom) -> None:
    relative = np.where(resting.occluded, np.nan, resting.depth_mm / 1.7).astype(np.float32)
    capture = capture_of(resting, depth_mm=relative, metric=False)
    factor = shaft_depth(capture, resting.instrument_diameter_mm)
    # The tips hover some millimetres over the tissue.
    assert factor == pytest.approx(1.7, rel=0.25)
    moved = rigid(np.eye(3), np.array([0.0, 0.0, 10.0]))
    path = np.concatenate([np.eye(4)[None], np.tile(moved, (len(capture) - 1, 1, 1))])
    capture = replace(capture, cameras=replace(capture.cameras, camera_from_world=path))
    out, told = watched(scale_by_instruments(capture, resting.instrument_diameter_mm))
    assert "scale-from-instrument" in told
    assert out.metric
    np.testing.assert_allclose(out.depth_mm, factor * relative, rtol=1e-5)
    assert out.cameras.camera_from_world[1, 2, 3] == pytest.approx(10 * factor)
    for part, diameter in ((replace(capture, occluded=None), 8.0), (capture, None)):
        out, told = watched(scale_by_instruments(part, diameter))
        assert not out.metric
        assert "scale-unknown" in told
    out, told = watched(scale_by_instruments(replace(capture, metric=True), 8.0))
    assert out.depth_mm is capture.depth_mm and not told


def test_adjustment_finds_poses_despite_outliers() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform([-30, -30, 50], [30, 30, 90], (120, 3))
    poses = rigid(rotation_from_vector(rng.normal(0, 0.03, (6, 3))), rng.normal(0, 4, (6, 3)))
    poses[0] = np.eye(4)
    intrinsics = np.tile(np.array([[500.0, 0, 320], [0, 500, 256], [0, 0, 1]]), (6, 1, 1))
    frame, point = (a.ravel() for a in np.meshgrid(np.arange(6), np.arange(120), indexing="ij"))
    local = np.stack([transform_points(poses[f], points[p]) for f, p in zip(frame, point, strict=True)])
    pixels = 500 * local[:, :2] / local[:, 2:] + [320, 256] + rng.normal(0, 0.3, (len(frame), 2))
    pixels[::10] += rng.normal(0, 40, (72, 2))
    depths = local[:, 2] * np.exp(rng.normal(0, 0.005, len(frame)))
    start = Structure(
        rigid(rotation_from_vector(rng.normal(0, 0.02, (6, 3))), rng.normal(0, 2, (6, 3))) @ poses,
        points + rng.normal(0, 2, points.shape),
    )
    start.poses[0] = np.eye(4)
    held = np.arange(6) == 0
    found = finish(adjust(Observations(point, frame, pixels, depths), intrinsics, start, held))
    away = inverse(found.poses)[:, :3, 3] - inverse(poses)[:, :3, 3]
    assert np.linalg.norm(away, axis=1).max() < 0.5
    assert np.array_equal(found.poses[0], np.eye(4))


def test_gaps_are_filled_between_neighbours() -> None:
    centres = np.zeros((4, 3))
    centres[:, 0] = np.arange(4)
    poses = rigid(np.tile(np.eye(3), (4, 1, 1)), -centres)
    broken = poses.copy()
    broken[1] = np.nan
    assert np.allclose(poses_module._filled(broken), poses)
