"""Clips and image sets as other programs write them: bit depths, masks in alpha, lens models, lists."""

import json

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from splatomy.errors import InputError
from splatomy.io.detect import inspect_input
from splatomy.io.frames import frame_folder_source
from splatomy.io.image_sets.colmap import colmap_source
from splatomy.io.image_sets.nerf import nerf_source
from splatomy.io.image_sets.rgbd import is_tum, tum_source
from splatomy.io.mask_folder import foreground, mask_folder
from splatomy.io.options import InputOptions

COLOURS = np.random.default_rng(2).integers(0, 256, (4, 12, 16, 3)).astype(np.uint16)
COLOURS[..., 2] = 255


def write_pictures(folder, pictures):
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(folder / f"{number:03d}.png"), picture)
    return folder


@pytest.mark.parametrize(("bits", "white"), [(8, 255), (10, 1023), (12, 4095), (16, 65535)])
def test_colours_of_any_bits_in_16_come_to_the_same_picture(tmp_path, bits, white):
    codes = np.rint(COLOURS * (white / 255)).astype(np.uint16)
    folder = write_pictures(tmp_path / "clip", codes)
    source = frame_folder_source(folder)
    ((_, frame),) = source.read(np.array([2]))
    np.testing.assert_allclose(frame / 65535, COLOURS[2, ..., ::-1] / 255, atol=0.6 / white)
    assert any(f"{bits} bits" in text for text in source.assumed) == (bits < 16)
    assert inspect_input(folder).kind == "endoscopic clip"


def test_a_grey_folder_says_how_it_becomes_a_clip(tmp_path):
    folder = write_pictures(tmp_path / "clip", COLOURS[..., 0].astype(np.uint8))
    assert any("--layout mono" in problem for problem in inspect_input(folder).problems)
    assert inspect_input(folder, InputOptions(layout="mono")).kind == "endoscopic clip"


def test_masks_may_lie_in_the_alpha_channel_alone():
    mask = np.zeros((8, 8), np.uint8)
    mask[2:4] = 255
    white = np.full((8, 8, 3), 255, np.uint8)
    np.testing.assert_array_equal(foreground(np.dstack([white, mask])), mask > 0)
    # A picture whose alpha says nothing is its colours, an empty one too.
    assert not foreground(np.dstack([0 * white, np.full_like(mask, 255)])).any()


def test_masks_that_hide_nearly_everything_or_nothing_are_told(tmp_path):
    full = write_pictures(tmp_path / "full", np.full((3, 8, 8), 255, np.uint8))
    for mean, words in (("hidden", "hide 100 % of the pixels"), ("visible", "hide nothing")):
        assert any(words in problem for problem in mask_folder(full, 3, None, mean).problems)


def write_transforms(folder, lens, name="images/{:03d}.png"):
    write_pictures(folder / "images", COLOURS.astype(np.uint8))
    frames = []
    for number in range(4):
        pose = np.eye(4)
        pose[0, 3] = number
        frames.append({"file_path": name.format(number), "transform_matrix": pose.tolist()})
    value = {"fl_x": 20.0, "w": 16, "h": 12, "k1": 0.1, **lens, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(value))
    return folder


def test_lens_models_of_transforms(tmp_path):
    for lens in ({"is_fisheye": True}, {"camera_model": "OPENCV_FISHEYE"}):
        view = nerf_source(write_transforms(tmp_path, lens), InputOptions()).views[0]
        assert view.lens == "fisheye"
        np.testing.assert_allclose(view.distortion, [0.1, 0, 0, 0])
    assert (
        nerf_source(write_transforms(tmp_path, {"is_fisheye": False}), InputOptions()).views[0].lens
        != "fisheye"
    )
    with pytest.raises(InputError, match="EQUIRECTANGULAR is not supported"):
        nerf_source(write_transforms(tmp_path, {"camera_model": "EQUIRECTANGULAR"}), InputOptions())


def test_names_with_separators_of_windows(tmp_path):
    source = nerf_source(write_transforms(tmp_path, {}, "images\\{:03d}.png"), InputOptions())
    assert len(source.views) == 4


def test_colmap_fisheye_lenses(tmp_path):
    write_pictures(tmp_path / "images", COLOURS[:1].astype(np.uint8))
    (tmp_path / "images.txt").write_text("1 1 0 0 0 0 0 0 1 000.png\n\n")
    for model, numbers, wanted in (
        ("SIMPLE_RADIAL_FISHEYE", "20 8 6 0.05", [0.05, 0, 0, 0]),
        ("RADIAL_FISHEYE", "20 8 6 0.05 -0.02", [0.05, -0.02, 0, 0]),
    ):
        (tmp_path / "cameras.txt").write_text(f"1 {model} 16 12 {numbers}\n")
        view = colmap_source(tmp_path, InputOptions()).views[0]
        assert view.lens == "fisheye"
        np.testing.assert_allclose(view.distortion, wanted)
    (tmp_path / "cameras.txt").write_text("1 FOV 16 12 20 20 8 6 0.5\n")
    with pytest.raises(InputError, match="FOV is not supported"):
        colmap_source(tmp_path, InputOptions())


@pytest.mark.parametrize("depth_first", [False, True])
def test_tum_pairs_in_one_list(tmp_path, depth_first):
    write_pictures(tmp_path / "rgb", COLOURS.astype(np.uint8))
    write_pictures(tmp_path / "depth", np.full((4, 12, 16), 5000, np.uint16))
    times = 100 + 0.1 * np.arange(4)
    rows = []
    for number, time in enumerate(times):
        pair = [f"{time:.4f} rgb/{number:03d}.png", f"{time + 0.01:.4f} depth/{number:03d}.png"]
        rows.append(" ".join(pair[::-1] if depth_first else pair))
    (tmp_path / "associations.txt").write_text("\n".join(rows))
    x, y, z, w = Rotation.identity().as_quat()
    poses = [f"{time - 0.005:.4f} {number} 0 0 {x} {y} {z} {w}" for number, time in enumerate(times)]
    (tmp_path / "groundtruth.txt").write_text("\n".join(poses))
    assert is_tum(tmp_path)
    views = tum_source(tmp_path, InputOptions()).views
    assert [v.picture.parent.name for v in views] == ["rgb"] * 4
    assert [v.depth.name for v in views] == [v.picture.name for v in views]
    (tmp_path / "groundtruth.txt").write_text("\n".join(f"9{pose}" for pose in poses))
    with pytest.raises(InputError, match="expected one clock"):
        tum_source(tmp_path, InputOptions())
