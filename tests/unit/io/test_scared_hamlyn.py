"""SCARED, Hamlyn and structure-from-motion folders."""

import io
import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from clips import panning, tissue, tool_masks, write_frames, write_video

from splatomy.errors import InputError
from splatomy.events import finish
from splatomy.geometry.rigid import inverse, rigid, rotation_from_vector
from splatomy.io.detect import inspect_input
from splatomy.io.endoscopy_detect import open_endoscopy
from splatomy.io.options import InputOptions

H, W, T = 64, 80, 5
K = np.array([[90.0, 0, 40.0], [0, 91.0, 32.0], [0, 0, 1]])


def opened(path: Path, **options):
    return finish(open_endoscopy(path, InputOptions(**options)))


def world_to_camera() -> np.ndarray:
    rng = np.random.default_rng(1)
    return rigid(rotation_from_vector(rng.normal(0, 0.05, (T, 3))), rng.normal(0, 5, (T, 3)))


def frame_table(i: int) -> dict:
    return {"camera-calibration": {"KL": K.tolist()}, "camera-pose": world_to_camera()[i].tolist()}


@pytest.fixture
def scared(tmp_path):
    data = tmp_path / "keyframe_1" / "data"
    write_frames(data / "left_finalpass", panning(T, H, W), "frame_data{:06d}.png")
    q = np.zeros((4, 4))
    q[2, 3], q[3, 2] = 90.0, 1 / 4.2
    for name in ("frame_data", "disparity", "reprojection_data"):
        (data / name).mkdir()
    for i in range(T):
        stem = f"frame_data{i:06d}"
        (data / "frame_data" / f"{stem}.json").write_text(json.dumps(frame_table(i)))
        (data / "reprojection_data" / f"{stem}.json").write_text(
            json.dumps({"reprojection-matrix": q.tolist()})
        )
        disparity = np.full((H, W), 5.0 + i, np.float32)
        disparity[0] = 0
        disparity[1] = 1.0
        assert cv2.imwrite(str(data / "disparity" / f"{stem}.tiff"), disparity)
    return tmp_path / "keyframe_1"


def test_scared_depth_and_poses(scared):
    clip = opened(scared)
    assert clip.layout == "SCARED folder" and clip.metric and clip.occluded is None
    np.testing.assert_allclose(clip.depth_mm[2, 5, 5], 90 * 4.2 / 7, rtol=1e-6)
    # Zero disparity is unknown, and so is a depth beyond 300 mm.
    assert np.isnan(clip.depth_mm[:, :2]).all()
    expected = world_to_camera() @ inverse(world_to_camera()[0])
    np.testing.assert_allclose(clip.cameras.camera_from_world, expected, atol=1e-9)
    np.testing.assert_allclose(clip.cameras.intrinsics[0], K)
    assert opened(scared / "data").metric


def test_scared_with_broken_parts(scared):
    (scared / "data/disparity/frame_data000002.tiff").unlink()
    assert np.isnan(opened(scared).depth_mm[2]).all()
    path = scared / "data/frame_data/frame_data000003.json"
    path.write_text(json.dumps({"camera-pose": [[1]]}))
    with pytest.raises(InputError, match=r"frame_data000003\.json lacks camera-pose"):
        opened(scared)


def test_raw_scared(tmp_path):
    wide = tissue(H, W + 40, 3)
    both = [np.vstack([wide[:, 9 + i : 9 + i + W], wide[:, 13 + i : 13 + i + W]]) for i in range(T)]
    (tmp_path / "data").mkdir()
    write_video(tmp_path / "data" / "rgb.mp4", both)
    storage = cv2.FileStorage(str(tmp_path / "endoscope_calibration.yaml"), cv2.FILE_STORAGE_WRITE)
    for name in ("M1", "M2"):
        storage.write(name, K)
    for name in ("D1", "D2"):
        storage.write(name, np.array([[0.1, 0.02, 0, 0, 0]]))
    storage.write("R", np.eye(3))
    storage.write("T", np.array([[-4.1], [0.0], [0.0]]))
    storage.release()
    with tarfile.open(tmp_path / "data" / "frame_data.tar.gz", "w:gz") as tar:
        for i in range(T):
            text = json.dumps(frame_table(i)).encode()
            member = tarfile.TarInfo(f"frame_data{i:06d}.json")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    clip = opened(tmp_path)
    assert clip.layout == "SCARED folder, raw" and clip.stereo == "tb" and clip.baseline_mm == 4.1
    assert clip.images.shape == clip.right_images.shape == (T, H, W, 3)
    expected = world_to_camera() @ inverse(world_to_camera()[0])
    np.testing.assert_allclose(clip.cameras.camera_from_world, expected, atol=1e-9)
    raw_points(tmp_path)


def raw_points(folder: Path) -> None:
    """Depth of a raw keyframe by structured light: of the first frame alone, then of three frames."""

    def points(z: float) -> np.ndarray:
        out = np.full((H, W, 3), (1.0, 2.0, z), np.float32)
        out[:4] = np.nan
        return out

    tifffile.imwrite(folder / "left_depth_map.tiff", points(60.0))
    report = inspect_input(folder)
    assert any("of the first frame alone" in p for p in report.problems)
    assert report.facts["metric"] and "scale is unknown" not in " ".join(report.assumed)
    clip = opened(folder, depth_source="given")
    assert clip.metric and clip.right_images is None and clip.undistorted
    assert clip.depth_mm[0, H // 2, W // 2] == 60 and np.isnan(clip.depth_mm[1:]).all()
    (folder / "data" / "scene_points").mkdir()
    for i in range(3):
        both = np.concatenate([points(61.0 + i), points(999.0)])
        tifffile.imwrite(folder / "data" / "scene_points" / f"scene_points{i:06d}.tiff", both)
    clip = opened(folder)
    assert [float(d[H // 2, W // 2]) for d in clip.depth_mm[:3]] == [61, 62, 63]
    assert np.isnan(clip.depth_mm[3:]).all() and np.isnan(clip.depth_mm[0, 0]).all()
    assert opened(folder, depth_source="stereo").right_images is not None


@pytest.fixture
def hamlyn(tmp_path):
    write_frames(tmp_path / "images", panning(T, H, W))
    write_frames(tmp_path / "gt_masks", tool_masks(T, H, W))
    write_frames(tmp_path / "gt_depth", [np.full((H, W), 700 + i, np.uint16) for i in range(T)])
    np.savetxt(tmp_path / "intrinsics.txt", K)
    return tmp_path


def test_hamlyn(hamlyn):
    clip = opened(hamlyn)
    assert clip.layout == "Hamlyn folder" and clip.intrinsics_known and not clip.poses_known
    np.testing.assert_array_equal(clip.occluded, np.stack(tool_masks(T, H, W)) > 0)
    np.testing.assert_allclose(clip.cameras.intrinsics[0], K)
    assert not clip.metric and clip.depth_mm[3, 0, 0] == 703
    assert opened(hamlyn, depth_scale_mm=0.1).depth_mm[3, 0, 0] == pytest.approx(70.3)


def test_hamlyn_polarity_contradicts(hamlyn):
    write_frames(hamlyn / "gt_masks", [255 - m for m in tool_masks(T, H, W)])
    with pytest.raises(InputError, match="Hamlyn layout says that they are hidden"):
        opened(hamlyn)


def test_hamlyn_intrinsics_of_another_size(hamlyn):
    other = K.copy()
    other[0, 2] = 319.5
    np.savetxt(hamlyn / "intrinsics.txt", other)
    with pytest.raises(InputError, match="was made for pictures of about 640x65"):
        opened(hamlyn)


def sfm(folder: Path) -> tuple[Path, np.ndarray]:
    write_frames(folder, panning(T, H, W), "{:08d}.jpg")
    (folder / "camera_intrinsics_per_view").write_text("90.0\n91.0\n40.0\n32.0\n")
    (folder / "visible_view_indexes").write_text("\n".join(map(str, range(T))) + "\n")
    places = np.random.default_rng(3).normal(0, 1, (T, 3))
    lines = ["poses[]:"]
    for i, (x, y, z) in enumerate(places):
        lines += [
            f"  poses[{i}]: ",
            "    position: ",
            f"      x: {x!r}",
            f"      y: {y!r}",
            f"      z: {z!r}",
        ]
        lines += ["    orientation: ", "      x: 0.0", "      y: 0.0", "      z: 0.6", "      w: 0.8"]
    (folder / "motion.yaml").write_text("\n".join(lines).replace("np.float64(", "").replace(")", "") + "\n")
    return folder, places


def test_structure_from_motion_folder(tmp_path):
    folder, places = sfm(tmp_path)
    clip = opened(folder)
    assert clip.poses_known and not clip.metric and clip.intrinsics_known
    # Camera-to-world: the second camera lies at R^T (t1 - t0) of the first.
    angle = 2 * np.arctan2(0.6, 0.8)
    c, s = np.cos(angle), np.sin(angle)
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    np.testing.assert_allclose(clip.cameras.centres_mm[1], rotation.T @ (places[1] - places[0]), atol=1e-9)
    (folder / "00000002.jpg").unlink()
    with pytest.raises(InputError, match="lacks the pictures of 1 of 5"):
        opened(folder)
