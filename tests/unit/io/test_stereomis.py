"""StereoMIS folders: round trip, stacked eyes, metres, polarity and the right frame for every mask."""

from pathlib import Path

import numpy as np
import pytest
from clips import tissue, tool_masks, write_frames

from splatomy.errors import InputError
from splatomy.events import finish
from splatomy.geometry.cameras import Cameras
from splatomy.geometry.rigid import inverse, rigid, rotation_from_vector
from splatomy.io.calibration import Calibration, Lens
from splatomy.io.endoscopy_detect import open_endoscopy
from splatomy.io.options import InputOptions
from splatomy.io.stereomis import write_stereomis

H, W, T = 64, 80, 10
POINTS = np.random.default_rng(2).uniform([-20, -15, 40], [20, 15, 90], (30, 3))


def opened(path: Path, **options):
    return finish(open_endoscopy(path, InputOptions(**options)))


def calibration() -> Calibration:
    left = Lens(
        np.array([[95.0, 0, 40.5], [0, 96.0, 31.0], [0, 0, 1]]), np.array([0.1, -0.2, 1e-3, 2e-3, 0.05])
    )
    right = Lens(
        np.array([[94.0, 0, 42.5], [0, 95.0, 32.0], [0, 0, 1]]), np.array([0.2, -0.1, 3e-3, 1e-3, 0.01])
    )
    pose = rigid(rotation_from_vector(np.array([0.001, 0.02, -0.003])), np.array([-4.3, 0.02, 0.1]))
    return Calibration(left, right, pose, (W, H), "made")


def cameras() -> Cameras:
    rng = np.random.default_rng(7)
    steps = rigid(rotation_from_vector(rng.normal(0, 0.01, (T, 3))), rng.normal(0, 1, (T, 3)))
    steps[0] = np.eye(4)
    return Cameras(np.tile(calibration().left.intrinsics, (T, 1, 1)), steps, W, H)


@pytest.fixture
def folder(tmp_path):
    wide = tissue(H, W + 40, 3)
    left = np.stack([wide[:, 10 + i : 10 + i + W] for i in range(T)]).astype(np.float32) / 255
    right = np.stack([wide[:, 14 + i : 14 + i + W] for i in range(T)]).astype(np.float32) / 255
    times = np.arange(T) / 30
    hidden = np.stack(tool_masks(T, H, W)) > 0
    write_stereomis(tmp_path / "P1", left, right, times, cameras(), calibration(), hidden)
    return tmp_path / "P1", left, right, times, hidden


def test_round_trip(folder):
    path, left, right, times, hidden = folder
    clip = opened(path)
    assert clip.layout == "StereoMIS folder" and clip.stereo == "tb"
    np.testing.assert_allclose(np.asarray(clip.images), left, atol=1e-6)
    np.testing.assert_allclose(np.asarray(clip.right_images), right, atol=1e-6)
    np.testing.assert_allclose(clip.times_s, times, atol=2e-5)
    np.testing.assert_array_equal(clip.occluded, hidden)
    np.testing.assert_allclose(clip.cameras.project(POINTS)[0], cameras().project(POINTS)[0], atol=1e-6)
    np.testing.assert_allclose(clip.calibration.right_from_left, calibration().right_from_left, atol=1e-9)
    np.testing.assert_allclose(clip.calibration.right.distortion, calibration().right.distortion)
    assert clip.metric and clip.baseline_mm == pytest.approx(np.linalg.norm([4.3, 0.02, 0.1]))
    assert not clip.undistorted


def test_masks_are_tissue_in_the_files(folder):
    path, _, _, _, hidden = folder
    clip = opened(path)
    assert any("non-zero = visible, by the StereoMIS layout" in f for f in clip.found)
    files = sorted((path / "masks").iterdir())
    assert files[0].name == "000000l.png" and len(files) == T
    # Instruments in white contradict the layout and are asked about.
    write_frames(path / "masks", tool_masks(T, H, W), "{:06d}l.png")
    with pytest.raises(InputError, match="--masks-mean visible"):
        opened(path)
    np.testing.assert_array_equal(opened(path, masks_mean="hidden").occluded, hidden)


def test_masks_of_some_frames_at_half_size(folder):
    path, _, _, _, hidden = folder
    for file in (path / "masks").iterdir():
        file.unlink()
    small = [255 * (1 - hidden[i, ::2, ::2].astype(np.uint8)) for i in range(T)]
    write_frames(path / "masks", [small[3]], "000003l.png")
    write_frames(path / "masks", [small[7]], "000007l.png")
    write_frames(path / "masks", [small[7]], "000007r.png")
    clip = opened(path)
    assert np.flatnonzero(clip.mask_known).tolist() == [3, 7]
    assert (clip.occluded[3] == hidden[3]).mean() > 0.95 and not clip.occluded[4].any()
    assert any("masks for 2 of 10" in p for p in clip.problems)
    part = opened(path, frames=(7, 9, None))
    assert part.mask_known.tolist() == [True, False] and part.occluded[0].any()


def test_poses_are_metres_camera_to_world(folder):
    path = folder[0]
    rows = np.loadtxt(path / "groundtruth.txt")
    assert rows.shape == (T, 8) and np.abs(rows[:, 1:4]).max() < 0.01
    np.testing.assert_allclose(rows[4, 1:4] * 1000, inverse(cameras().camera_from_world)[4, :3, 3], atol=1e-9)
    rows[6, 1] += 0.02
    np.savetxt(path / "groundtruth.txt", rows)
    assert any("break at" in p for p in opened(path).problems)
    np.savetxt(path / "groundtruth.txt", rows[:5])
    with pytest.raises(InputError, match="holds 5 poses for 10 frames"):
        opened(path)


def test_splits_are_named(folder):
    (folder[0] / "train_split.csv").write_text("start,end\n2,7\n9,9\n")
    assert any("2 to 7, 9 to 9" in f for f in opened(folder[0]).found)


def test_crop_and_bin_keep_both_eyes_calibrated(folder):
    clip = opened(folder[0], crop=(10, 8, 60, 40), bin=2)
    left, right = clip.calibration.left.intrinsics, clip.calibration.right.intrinsics
    assert left[0, 0] == 47.5 and left[0, 2] == (40.5 - 10 - 0.5) / 2
    assert right[1, 2] == (32 - 8 - 0.5) / 2 and clip.calibration.size_px == (30, 20)
    np.testing.assert_allclose(clip.cameras.intrinsics[0], left)
    assert clip.right_images.shape == (T, 20, 30, 3)


def test_missing_and_broken_files(folder):
    path = folder[0]
    text = (path / "StereoCalibration.ini").read_text()
    (path / "StereoCalibration.ini").write_text(text.replace("T_0", "X_0"))
    with pytest.raises(InputError, match="no complete StereoMIS calibration"):
        opened(path)
    (path / "StereoCalibration.ini").write_text(text.replace("res_y = 64", "res_y = 50"))
    with pytest.raises(InputError, match="was made for pictures of 80x50"):
        opened(path)
    (path / "StereoCalibration.ini").write_text(text)
    with pytest.raises(InputError, match="expected no --layout"):
        opened(path, layout="sbs")
    (path / "stereo.mp4").unlink()
    with pytest.raises(InputError, match="holds 0 videos"):
        opened(path)
