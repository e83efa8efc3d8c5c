"""Image sets of every layout, written here from known cameras, are read back with those cameras."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from splatomy.errors import InputError
from splatomy.geometry.cameras import Cameras
from splatomy.geometry.rigid import inverse, rotation_from_vector
from splatomy.io.image_sets import image_set_reader, image_set_source, load_image_set
from splatomy.io.image_sets.write import write_object_folder
from splatomy.io.options import InputOptions

VIEWS, HEIGHT, WIDTH = 4, 24, 32
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


def _quat(rotation: np.ndarray) -> np.ndarray:
    w = np.sqrt(max(0.0, 1 + np.trace(rotation))) / 2
    m = rotation
    return np.array([w, *(np.array([m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]]) / (4 * w))])


@pytest.fixture
def cameras() -> Cameras:
    """A few cameras with a principal point off the middle."""
    k = np.array([[40.0, 0, 14.0], [0, 42.0, 11.0], [0, 0, 1]])
    poses = np.tile(np.eye(4), (VIEWS, 1, 1))
    for i in range(VIEWS):
        poses[i, :3, :3] = rotation_from_vector(np.array([0.1, 0.2 * i, 0.05]))
        poses[i, :3, 3] = [0.1 * i, -0.2, 3.0 + 0.1 * i]
    return Cameras(np.repeat(k[None], VIEWS, 0), poses, WIDTH, HEIGHT)


@pytest.fixture
def images() -> np.ndarray:
    """Random pictures, 8 bit RGB."""
    return np.random.default_rng(0).integers(0, 256, (VIEWS, HEIGHT, WIDTH, 3), dtype=np.uint8)


def _write_pictures(folder: Path, images: np.ndarray, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in zip(names, images, strict=True):
        cv2.imwrite(str(folder / name), image[..., ::-1])


def _names() -> list[str]:
    return [f"view_{i}.png" for i in range(VIEWS)]


def _loaded(folder: Path, options: InputOptions | None = None):
    options = options or InputOptions()
    source = image_set_source(folder, options)
    task = load_image_set(source, options)
    while True:
        try:
            next(task)
        except StopIteration as stop:
            return stop.value


def _write_colmap_text(folder: Path, cameras: Cameras, images: np.ndarray) -> None:
    _write_pictures(folder / "images", images, _names())
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    k = cameras.intrinsics[0]
    (model / "cameras.txt").write_text(
        f"# comment\n7 PINHOLE {WIDTH} {HEIGHT} {k[0, 0]} {k[1, 1]} {k[0, 2] + 0.5} {k[1, 2] + 0.5}\n"
    )
    rows = []
    for i, name in enumerate(_names()):
        pose = cameras.camera_from_world[i]
        numbers = " ".join(map(repr, map(float, (*_quat(pose[:3, :3]), *pose[:3, 3]))))
        # The second line, of image points, may be empty.
        rows += [f"{i + 1} {numbers} 7 {name}", "1.5 2.5 -1" if i % 2 else ""]
    (model / "images.txt").write_text("# comment\n" + "\n".join(rows) + "\n")
    (model / "points3D.txt").write_text("3 0.5 0.25 1 255 0 51 0.3 1 0 2 1\n")


def _write_colmap_binary(folder: Path, cameras: Cameras, images: np.ndarray) -> None:
    _write_pictures(folder / "images", images, _names())
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    k = cameras.intrinsics[0]
    lens = struct.pack("<Q", 1) + struct.pack("<iiQQ", 7, 1, WIDTH, HEIGHT)
    lens += struct.pack("<4d", k[0, 0], k[1, 1], k[0, 2] + 0.5, k[1, 2] + 0.5)
    (model / "cameras.bin").write_bytes(lens)
    data = struct.pack("<Q", VIEWS)
    for i, name in enumerate(_names()):
        pose = cameras.camera_from_world[i]
        data += struct.pack("<i7di", i + 1, *_quat(pose[:3, :3]), *pose[:3, 3], 7) + name.encode() + b"\0"
        data += struct.pack("<Q", 1) + struct.pack("<ddq", 1.0, 2.0, -1)
    (model / "images.bin").write_bytes(data)
    points = struct.pack("<Q", 1) + struct.pack("<Q3d3Bd", 3, 0.5, 0.25, 1, 255, 0, 51, 0.3)
    points += struct.pack("<Q", 1) + struct.pack("<ii", 1, 0)
    (model / "points3D.bin").write_bytes(points)


def _write_neus(folder: Path, cameras: Cameras, images: np.ndarray) -> None:
    _write_pictures(folder / "image", images, [f"{i:06d}.png" for i in range(VIEWS)])
    arrays = {}
    for i in range(VIEWS):
        matrix = np.eye(4)
        matrix[:3] = cameras.world_to_pixel[i]
        arrays[f"world_mat_{i}"] = 2.5 * matrix
        arrays[f"scale_mat_{i}"] = np.diag([2.0, 2.0, 2.0, 1.0])
        arrays[f"world_mat_inv_{i}"] = np.linalg.inv(matrix)
    np.savez(folder / "cameras_sphere.npz", **arrays)


def _write_nerf(folder: Path, cameras: Cameras, images: np.ndarray) -> None:
    _write_pictures(folder / "images", images, _names())
    k = cameras.intrinsics[0]
    frames = [
        {
            "file_path": f"images/{name}",
            "transform_matrix": (inverse(cameras.camera_from_world[i]) @ FLIP).tolist(),
        }
        for i, name in enumerate(_names())
    ]
    frames.append({"file_path": "images/absent", "transform_matrix": np.eye(4).tolist()})
    lens = {"fl_x": k[0, 0], "fl_y": k[1, 1], "cx": k[0, 2] + 0.5, "cy": k[1, 2] + 0.5}
    record = {**lens, "w": WIDTH, "h": HEIGHT, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(record))


def _write_middlebury(folder: Path, cameras: Cameras, images: np.ndarray) -> None:
    _write_pictures(folder, images, _names())
    rows = [str(VIEWS)]
    for i, name in enumerate(_names()):
        pose = cameras.camera_from_world[i]
        numbers = (*cameras.intrinsics[i].ravel(), *pose[:3, :3].ravel(), *pose[:3, 3])
        rows.append(f"{name} " + " ".join(f"{x:.12f}" for x in numbers))
    (folder / "things_par.txt").write_text("\n".join(rows))
    (folder / "README.txt").write_text("The box is\n(-1 0.5 2)\n(1.0 -0.5 4)\n")


WRITERS = {
    "colmap text": _write_colmap_text,
    "colmap binary": _write_colmap_binary,
    "neus": _write_neus,
    "nerf": _write_nerf,
    "middlebury": _write_middlebury,
}


@pytest.mark.parametrize("layout", WRITERS)
def test_cameras_and_pictures_come_back(layout, tmp_path, cameras, images):
    folder = tmp_path / "set"
    folder.mkdir()
    WRITERS[layout](folder, cameras, images)
    assert image_set_reader(folder) is not None
    opened = _loaded(folder)
    unit = 1000.0 if opened.metric else 1.0
    np.testing.assert_allclose(opened.cameras.intrinsics, cameras.intrinsics, atol=1e-5)
    expected = cameras.camera_from_world.copy()
    expected[:, :3, 3] *= unit
    np.testing.assert_allclose(opened.cameras.camera_from_world, expected, atol=1e-5 * unit)
    np.testing.assert_array_equal(np.rint(np.asarray(opened.images) * 255), images)
    assert opened.metric == (layout == "middlebury")


@pytest.mark.parametrize("layout", ["colmap text", "colmap binary"])
def test_sparse_points_of_colmap(layout, tmp_path, cameras, images):
    WRITERS[layout](tmp_path, cameras, images)
    opened = _loaded(tmp_path)
    np.testing.assert_allclose(opened.points_mm, [[0.5, 0.25, 1]])
    np.testing.assert_allclose(opened.point_colours, [[1, 0, 0.2]])


def test_box_of_middlebury_is_sorted_and_in_mm(tmp_path, cameras, images):
    _write_middlebury(tmp_path, cameras, images)
    np.testing.assert_allclose(_loaded(tmp_path).bounds_mm, [[-1000, -500, 2000], [1000, 500, 4000]])


@pytest.mark.parametrize("size", [0, 5, 40, 90, 200])
def test_truncated_binary_model_is_one_sentence(size, tmp_path, cameras, images):
    _write_colmap_binary(tmp_path, cameras, images)
    for name in ("cameras.bin", "images.bin"):
        file = tmp_path / "sparse" / "0" / name
        whole = file.read_bytes()
        file.write_bytes(whole[: min(size, len(whole) - 1)])
        with pytest.raises(InputError, match=r"export the model again|lists no pictures"):
            image_set_source(tmp_path, InputOptions())
        file.write_bytes(whole)


def test_absurd_count_needs_no_memory(tmp_path, cameras, images):
    _write_colmap_binary(tmp_path, cameras, images)
    file = tmp_path / "sparse" / "0" / "images.bin"
    file.write_bytes(struct.pack("<Q", 2**62) + file.read_bytes()[8:])
    with pytest.raises(InputError, match="more than it can hold"):
        image_set_source(tmp_path, InputOptions())


@pytest.mark.parametrize("name", ["../outside.png", "/etc/passwd"])
def test_names_do_not_leave_the_folder(name, tmp_path, cameras, images):
    folder = tmp_path / "set"
    _write_colmap_text(folder, cameras, images)
    _write_pictures(tmp_path, images[:1], ["outside.png"])
    listed = folder / "sparse" / "0" / "images.txt"
    listed.write_text(listed.read_text().replace("view_0.png", name))
    with pytest.raises(InputError, match="outside of its folder"):
        image_set_source(folder, InputOptions())


def test_nerf_pictures_outside_are_not_read(tmp_path, cameras, images):
    folder = tmp_path / "set"
    folder.mkdir()
    _write_nerf(folder, cameras, images)
    _write_pictures(tmp_path, images[:1], ["outside.png"])
    file = folder / "transforms.json"
    file.write_text(file.read_text().replace("images/view_0.png", "../outside.png"))
    assert len(image_set_source(folder, InputOptions()).views) == VIEWS - 1


def test_smaller_copies_scale_the_lens(tmp_path, cameras, images):
    large = np.repeat(np.repeat(images, 2, 1), 2, 2)
    _write_colmap_text(tmp_path, cameras, images)
    _write_pictures(tmp_path / "images", large, _names())
    k = _loaded(tmp_path).cameras.intrinsics[0]
    # A pixel centre at 0 lies at 0.5 in the larger picture.
    np.testing.assert_allclose(k[:2, 2], 2 * (cameras.intrinsics[0, :2, 2] + 0.5) - 0.5)
    np.testing.assert_allclose(k[0, 0], 2 * cameras.intrinsics[0, 0, 0])


def test_distortion_is_taken_out(tmp_path, cameras):
    """A straight line, bent by a known lens, is straight again."""
    size = (240, 320)
    k = np.array([[200.0, 0, 159.5], [0, 200.0, 119.5], [0, 0, 1]])
    bend = np.array([-0.25, 0.05, 0.0, 0.0])
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
    straight = cv2.undistortPoints(np.stack([x, y], -1).reshape(-1, 1, 2), k, bend, P=k).reshape(*size, 2)
    line = 40 + 0.3 * straight[..., 0]
    picture = np.where(np.abs(straight[..., 1] - line) < 3, 255, 0).astype(np.uint8)
    pictures = np.repeat(np.repeat(picture[None, ..., None], 3, -1), 2, 0)
    _write_pictures(tmp_path / "images", pictures, _names()[:2])
    frames = [
        {"file_path": f"images/{name}", "transform_matrix": np.eye(4).tolist()} for name in _names()[:2]
    ]
    lens = {"fl_x": 200.0, "cx": 160.0, "cy": 120.0, "w": 320, "h": 240, "k1": bend[0], "k2": bend[1]}
    (tmp_path / "transforms.json").write_text(json.dumps({**lens, "frames": frames}))
    opened = _loaded(tmp_path)
    shown = np.asarray(opened.images)[0, ..., 0]
    columns = np.arange(60, 260, 20)
    rows = [np.average(np.arange(size[0]), weights=shown[:, c] + 1e-9) for c in columns]
    np.testing.assert_allclose(rows, 40 + 0.3 * columns, atol=0.5)
    assert "lens distortion removed" in opened.capture().provenance


def test_masks_with_alpha_are_the_target(tmp_path, cameras, images):
    _write_nerf(tmp_path, cameras, images)
    alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
    alpha[5:15, 8:20] = 255
    for name, image in zip(_names(), images, strict=True):
        cv2.imwrite(str(tmp_path / "images" / name), np.dstack([image[..., ::-1], alpha]))
    opened = _loaded(tmp_path)
    np.testing.assert_array_equal(opened.target[0], alpha > 0)
    assert not np.asarray(opened.images)[0][alpha == 0].any()


def test_given_masks_mark_what_hides_also_in_a_nerf_set(tmp_path, cameras, images):
    """A set's own mask_path marks what is to be used; masks that a person gives mark what is left out."""
    (tmp_path / "set").mkdir()
    _write_nerf(tmp_path / "set", cameras, images)
    hidden = np.zeros((VIEWS, HEIGHT, WIDTH), np.bool_)
    hidden[:, 4:8, 10:20] = True
    pictures = np.repeat(hidden[..., None], 3, -1).astype(np.uint8) * 255
    _write_pictures(tmp_path / "hidden", pictures, _names())
    options = InputOptions(masks=tmp_path / "hidden", masks_mean="hidden")
    opened = _loaded(tmp_path / "set", options)
    np.testing.assert_array_equal(opened.occluded, hidden)
    record = json.loads((tmp_path / "set" / "transforms.json").read_text())
    for frame, name in zip(record["frames"], _names(), strict=False):
        frame["mask_path"] = f"masks/{name}"
    (tmp_path / "set" / "transforms.json").write_text(json.dumps(record))
    _write_pictures(tmp_path / "set" / "masks", 255 - pictures, _names())
    np.testing.assert_array_equal(_loaded(tmp_path / "set").occluded, hidden)


def test_pictures_of_different_size_are_refused(tmp_path, cameras, images):
    _write_nerf(tmp_path, cameras, images)
    cv2.imwrite(str(tmp_path / "images" / "view_2.png"), np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(InputError, match=r"view_2\.png is 64x48 but the first picture is 32x24"):
        _loaded(tmp_path)


def test_rgbd_object_folder_round_trip(tmp_path, cameras, images):
    mm = Cameras(cameras.intrinsics, cameras.camera_from_world.copy(), WIDTH, HEIGHT)
    mm.camera_from_world[:, :3, 3] *= 100
    depth = np.full((VIEWS, HEIGHT, WIDTH), 512.0, np.float32)
    depth[:, :3] = np.nan
    target = np.zeros((VIEWS, HEIGHT, WIDTH), np.bool_)
    target[:, 4:10] = True
    hidden = np.zeros_like(target)
    hidden[:, 12:14] = True
    task = write_object_folder(tmp_path, images / 255, mm, target, hidden, depth, "vase")
    for _ in task:
        pass
    opened = _loaded(tmp_path)
    assert opened.metric and opened.object_name == "vase"
    np.testing.assert_allclose(opened.cameras.camera_from_world, mm.camera_from_world, atol=1e-3)
    np.testing.assert_array_equal(opened.target, target)
    np.testing.assert_array_equal(opened.occluded, hidden)
    np.testing.assert_allclose(opened.depth_mm, depth)


def test_views_that_were_lost_are_left_out(tmp_path, cameras, images):
    target = np.ones((VIEWS, HEIGHT, WIDTH), np.bool_)
    depth = np.full((VIEWS, HEIGHT, WIDTH), 512.0, np.float32)
    for _ in write_object_folder(tmp_path, images / 255, cameras, target, ~target, depth, "vase"):
        pass
    (tmp_path / "pose" / "1.txt").write_text("-inf -inf -inf -inf\n" * 4)
    source = image_set_source(tmp_path, InputOptions())
    assert len(source.views) == VIEWS - 1 and "1 pictures without a pose" in source.problems[0]


def test_crop_and_bin_move_the_principal_point(tmp_path, cameras, images):
    _write_neus(tmp_path, cameras, images)
    opened = _loaded(tmp_path, InputOptions(crop=(4, 2, 24, 20), bin=2))
    assert opened.images.shape == (VIEWS, 10, 12, 3)
    expected = (cameras.intrinsics[0, :2, 2] - (4, 2) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(opened.cameras.intrinsics[0, :2, 2], expected, atol=1e-9)


def test_plain_pictures_are_a_set_only_when_asked(tmp_path, images):
    _write_pictures(tmp_path, images, _names())
    assert image_set_reader(tmp_path) is None
    assert image_set_reader(tmp_path, photos=True) is not None
