"""Calibration files of many makers, and pictures that they do not fit."""

import json

import cv2
import numpy as np
import pytest

from splatomy.errors import InputError
from splatomy.io.calibration import Lens, read_calibration

K = [[500.0, 0, 310.0], [0, 505.0, 245.0], [0, 0, 1]]
D = [0.1, -0.05, 0.001, 0.002, 0.01]
T = [-4.2, 0.1, 0.02]


def opencv_file(path, names, size=None):
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    left_k, right_k, left_d, right_d = names
    if size is not None:
        storage.write("image_width", size[0])
        storage.write("image_height", size[1])
    storage.write(left_k, np.array(K))
    storage.write(left_d, np.array([D]))
    storage.write(right_k, np.array(K))
    storage.write(right_d, np.array([D]))
    storage.write("R", np.eye(3))
    storage.write("T", np.array([T]).T)
    storage.release()
    return path


@pytest.mark.parametrize("name", ["stereo.yml", "stereo.yaml", "stereo.xml", "stereo.json"])
@pytest.mark.parametrize(
    "names", [("M1", "M2", "D1", "D2"), ("M_l", "M_r", "D_l", "D_r"), ("K1", "K2", "D1", "D2")]
)
def test_opencv_stereo(tmp_path, name, names):
    calibration = read_calibration(opencv_file(tmp_path / name, names, (640, 480)))
    assert calibration.size_px == (640, 480)
    np.testing.assert_allclose(calibration.left.intrinsics, K)
    np.testing.assert_allclose(calibration.right.distortion, D)
    assert calibration.baseline_mm == pytest.approx(np.linalg.norm(T))
    np.testing.assert_allclose(calibration.right_from_left[:3, 3], T)


def test_ros_yaml_without_head(tmp_path):
    text = (
        "image_width: 640\nimage_height: 480\ncamera_name: scope\ncamera_matrix:\n  rows: 3\n  cols: 3\n"
        "  data: [500., 0, 310., 0, 505., 245., 0, 0, 1]\ndistortion_model: plumb_bob\n"
        "distortion_coefficients:\n  rows: 1\n  cols: 5\n  data: [0.1, -0.05, 0.001, 0.002, 0.01]\n"
    )
    (tmp_path / "left.yaml").write_text(text)
    calibration = read_calibration(tmp_path / "left.yaml")
    np.testing.assert_allclose(calibration.left.intrinsics, K)
    np.testing.assert_allclose(calibration.left.distortion, D)
    assert calibration.size_px == (640, 480) and calibration.right is None


@pytest.mark.parametrize(
    "value",
    [
        {"camera_matrix": K, "dist_coeffs": [D], "width": 640, "height": 480},
        {"fx": 500.0, "fy": 505.0, "cx": 310.0, "cy": 245.0, "image_size": [640, 480], "D": D},
        {"left": {"K": K, "D": D}, "size": [640, 480]},
    ],
)
def test_json(tmp_path, value):
    (tmp_path / "c.json").write_text(json.dumps(value))
    calibration = read_calibration(tmp_path / "c.json")
    np.testing.assert_allclose(calibration.left.intrinsics, K)
    np.testing.assert_allclose(calibration.left.distortion, D)
    assert calibration.size_px == (640, 480)


def test_plain_text(tmp_path):
    (tmp_path / "a.txt").write_text("500 0 310\n0 505 245\n0 0 1\n")
    (tmp_path / "b.txt").write_text("500\n505\n310\n245\n")
    for name in "ab":
        np.testing.assert_allclose(read_calibration(tmp_path / f"{name}.txt").left.intrinsics, K)
    assert not read_calibration(tmp_path / "a.txt").left.distorts


def test_a_transposed_matrix_is_turned(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps({"K": np.transpose(K).tolist()}))
    np.testing.assert_allclose(read_calibration(tmp_path / "c.json").left.intrinsics, K)


def test_scaling_keeps_the_rays():
    lens = Lens(np.array(K), np.zeros(5))
    small = lens.scaled(0.5).intrinsics
    # The middle of the 2x2 block (10, 20) of the large picture is pixel (5, 10) of the small one.
    ray = np.linalg.inv(lens.intrinsics) @ [10.5, 20.5, 1]
    np.testing.assert_allclose(small @ ray, [5, 10, 1])


def test_pictures_of_another_size(tmp_path):
    calibration = read_calibration(opencv_file(tmp_path / "c.yml", ("M1", "M2", "D1", "D2"), (640, 480)))
    fitted, note = calibration.fitted(1280, 960)
    assert fitted.left.intrinsics[0, 0] == 1000 and fitted.size_px == (1280, 960) and "scaled by 2" in note
    assert calibration.fitted(640, 480) == (calibration, None)
    with pytest.raises(InputError, match="made for pictures of 640x480 px but the frames are 1920x1080"):
        calibration.fitted(1920, 1080)


def test_a_file_without_size_is_judged_by_its_principal_point(tmp_path):
    calibration = read_calibration(opencv_file(tmp_path / "c.xml", ("M_l", "M_r", "D_l", "D_r")))
    assert calibration.fitted(640, 480)[1] is None
    with pytest.raises(InputError, match="about 621x491"):
        calibration.fitted(1280, 960)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("c.json", "{", "no readable calibration"),
        ("c.json", "[1, 2]", "no readable calibration"),
        ("c.json", '{"a": 1}', "holds no camera matrix"),
        ("c.yml", "[[ {", "no readable calibration"),
        ("c.xml", "<a>", "no readable calibration"),
        ("c.xml", "", "no readable calibration"),
        ("c.txt", "a b c", "no readable calibration"),
        ("c.json", '{"K": [[0, 0, 1], [0, 0, 1], [0, 0, 1]]}', "positive focal lengths"),
        ("c.ini", "[StereoLeft]\nfc_x=1\n", "no complete StereoMIS calibration"),
    ],
)
def test_unusable_files(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=says):
        read_calibration(tmp_path / name)


def test_wrong_poses_of_the_right_eye(tmp_path):
    value = {"M1": K, "M2": K, "R": np.eye(3).tolist(), "T": [-0.0042, 0, 0]}
    (tmp_path / "c.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match="looks like metres"):
        read_calibration(tmp_path / "c.json")
    (tmp_path / "c.json").write_text(json.dumps(value | {"R": np.ones((3, 3)).tolist(), "T": T}))
    with pytest.raises(InputError, match="R is no rotation"):
        read_calibration(tmp_path / "c.json")
    with pytest.raises(InputError, match="does not exist"):
        read_calibration(tmp_path / "none.yml")
