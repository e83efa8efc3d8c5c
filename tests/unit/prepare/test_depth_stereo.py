"""Depth of a stereo pair: accuracy in millimetres, other cameras, missing or wrong calibration."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from splatomy.capture import Capture, Modality
from splatomy.errors import InputError
from splatomy.events import Notice, finish
from splatomy.geometry.rigid import rigid, rotation_from_vector
from splatomy.phantoms.tissue import PRESETS, TissuePhantom, make_tissue
from splatomy.prepare.depth import DepthConfig, StereoPair, StereoRig, estimate_depth


@pytest.fixture(scope="module")
def phantom() -> TissuePhantom:
    preset = replace(
        PRESETS["hard"], frames=2, width_px=320, height_px=256, focal_px=285.0, node_mm=1.0, texels_per_mm=5.0
    )
    return finish(make_tissue(preset, 3))


def capture_of(phantom: TissuePhantom) -> Capture:
    return Capture(
        Modality.COLOUR, phantom.images, phantom.times_s, cameras=phantom.cameras, occluded=phantom.occluded
    )


def rig_of(phantom: TissuePhantom) -> StereoRig:
    k = phantom.cameras.intrinsics[0]
    shift = rigid(np.eye(3), np.array([-phantom.baseline_mm, 0.0, 0.0]))
    return StereoRig(k, k, shift, np.zeros(5), np.zeros(5))


def errors(phantom: TissuePhantom, depth: np.ndarray, scale: bool = False) -> tuple[float, float]:
    """Mean absolute error, mm, on visible tissue, and the share of it that has depth."""
    found = np.isfinite(depth) & ~phantom.occluded
    factor = np.median(phantom.depth_mm[found] / depth[found]) if scale else 1.0
    error = np.abs(factor * depth - phantom.depth_mm)[found]
    return float(error.mean()), float(found.sum() / (~phantom.occluded).sum())


def test_calibrated_depth_is_right_to_a_millimetre_and_never_of_an_instrument(phantom: TissuePhantom) -> None:
    out = finish(estimate_depth(capture_of(phantom), StereoPair(phantom.images_right, rig_of(phantom))))
    error, share = errors(phantom, out.depth_mm)
    assert error < 1.0
    # The left strip of the picture lies outside the right one.
    assert share > 0.75
    assert out.metric
    assert np.isnan(out.depth_mm[phantom.occluded]).all()
    assert not out.depth_confidence[np.isnan(out.depth_mm)].any()
    good = np.isfinite(out.depth_mm) & (out.depth_confidence > 0.7)
    poor = np.isfinite(out.depth_mm) & (out.depth_confidence < 0.3)
    away = np.abs(out.depth_mm - phantom.depth_mm)
    assert away[good].mean() < away[poor].mean()


def test_other_exposure_of_one_eye_changes_little(phantom: TissuePhantom) -> None:
    brighter = np.clip(phantom.images_right * 1.25, 0, 1).astype(np.float32)
    out = finish(estimate_depth(capture_of(phantom), StereoPair(brighter, rig_of(phantom))))
    error, share = errors(phantom, out.depth_mm)
    assert error < 1.0
    assert share > 0.7


def test_a_turned_distorting_right_eye_is_rectified(phantom: TissuePhantom) -> None:
    k = phantom.cameras.intrinsics[0]
    turn = rotation_from_vector(np.array([0.015, -0.02, 0.025]))
    bend = np.array([-0.12, 0.03, 0.0, 0.0, 0.0])
    height, width = phantom.images.shape[1:3]
    # Where the straight picture shows what the turned eye sees at every one of its pixels.
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).reshape(-1, 1, 2).astype(np.float64)
    rays = cv2.convertPointsToHomogeneous(cv2.undistortPoints(grid, k, bend))[:, 0] @ turn
    at = (rays @ k.T)[:, :2] / rays[:, 2:]
    at = at.reshape(height, width, 2).astype(np.float32)
    right = np.stack(
        [
            cv2.remap(p, at[..., 0], at[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
            for p in phantom.images_right
        ]
    )
    straight = rig_of(phantom)
    pose = rigid(turn, turn @ straight.right_from_left[:3, 3])
    rig = StereoRig(k, k, pose, np.zeros(5), bend)
    out = finish(estimate_depth(capture_of(phantom), StereoPair(np.clip(right, 0, 1), rig)))
    error, share = errors(phantom, out.depth_mm)
    assert error < 1.0
    assert share > 0.6


def test_a_wrong_calibration_is_refused(phantom: TissuePhantom) -> None:
    rig = rig_of(phantom)
    turned = rigid(rotation_from_vector(np.array([0.02, 0.0, 0.0])), rig.right_from_left[:3, 3])
    wrong = replace(rig, right_from_left=turned)
    with pytest.raises(InputError, match="calibration does not fit"):
        finish(estimate_depth(capture_of(phantom), StereoPair(phantom.images_right, wrong)))


def test_without_calibration_depth_is_relative_and_says_so(phantom: TissuePhantom) -> None:
    task = estimate_depth(capture_of(phantom), StereoPair(phantom.images_right))
    notices: list[str] = []
    while True:
        try:
            event = next(task)
        except StopIteration as stop:
            out = stop.value
            break
        if isinstance(event, Notice):
            notices.append(event.code)
    assert not out.metric
    assert "self-rectified" in notices
    error, _ = errors(phantom, out.depth_mm, scale=True)
    assert error < 1.5


def test_eyes_shifted_against_each_other_by_the_recorder(phantom: TissuePhantom) -> None:
    """Parallax then has both signs; one frame of the pool has no right eye of its own."""
    shift_px = round(0.08 * phantom.images.shape[2])
    right = np.pad(phantom.images_right, ((0, 0), (0, 0), (shift_px, 0), (0, 0)), "edge")[:, :, :-shift_px]
    right[1] = right[1, ::-1]
    out = finish(estimate_depth(capture_of(phantom), StereoPair(right)))
    assert not out.metric
    # How far the pictures were shifted cannot be known, so only the order of depths is.
    true, found = phantom.depth_mm[0], out.depth_mm[0]
    known = np.isfinite(true) & np.isfinite(found)
    assert known.mean() > 0.4
    assert np.corrcoef(1 / true[known], 1 / found[known])[0, 1] > 0.9


def test_unrelated_eyes_are_refused(phantom: TissuePhantom) -> None:
    noise = np.random.default_rng(0).random(phantom.images.shape, dtype=np.float32)
    with pytest.raises(InputError, match="cannot be laid over"):
        finish(estimate_depth(capture_of(phantom), StereoPair(noise)))


def test_eyes_of_different_size_are_refused(phantom: TissuePhantom) -> None:
    with pytest.raises(InputError, match="expected equal frames"):
        finish(estimate_depth(capture_of(phantom), StereoPair(phantom.images_right[:, ::2])))
    with pytest.raises(InputError, match="no right eye"):
        finish(estimate_depth(capture_of(phantom), None, DepthConfig(source="stereo")))


def test_the_depth_does_not_depend_on_the_number_of_threads(
    phantom: TissuePhantom, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = StereoPair(phantom.images_right, rig_of(phantom))
    found = []
    for cores in (1, 4):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        found.append(finish(estimate_depth(capture_of(phantom), pair)))
    assert np.array_equal(found[0].depth_mm, found[1].depth_mm, equal_nan=True)
    assert np.array_equal(found[0].depth_confidence, found[1].depth_confidence)
