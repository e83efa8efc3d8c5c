"""EndoNeRF folders: round trip, polarity, axes and depth units."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import panning, tool_masks, write_frames

from splatomy.errors import InputError
from splatomy.events import finish
from splatomy.geometry.cameras import Cameras
from splatomy.geometry.rigid import rigid, rotation_from_vector
from splatomy.io.endonerf import write_endonerf
from splatomy.io.endoscopy_detect import endoscopy_source, open_endoscopy
from splatomy.io.options import InputOptions

H, W, T = 64, 80, 9
POINTS = np.random.default_rng(2).uniform([-20, -15, 40], [20, 15, 90], (30, 3))


def opened(path: Path, **options):
    return finish(open_endoscopy(path, InputOptions(**options)))


def moving_cameras(count: int = T) -> Cameras:
    rng = np.random.default_rng(5)
    poses = rigid(rotation_from_vector(rng.normal(0, 0.05, (count, 3))), rng.normal(0, 4, (count, 3)))
    poses[0] = np.eye(4)
    k = np.array([[90.0, 0, 41.0], [0, 90.0, 30.5], [0, 0, 1]])
    return Cameras(np.tile(k, (count, 1, 1)), poses, W, H)


def published(
    folder: Path, masks=None, second_rows=None, name: str = "{:06d}.png", depth: bool = True
) -> Path:
    """A folder as the authors publish it, with identity poses."""
    write_frames(folder / "images", panning(T, H, W), name)
    if depth:
        write_frames(folder / "depth", [np.full((H, W), 50 + i, np.uint8) for i in range(T)], name)
    write_frames(folder / "masks", tool_masks(T, H, W) if masks is None else masks, name)
    rows = np.zeros((T, 3, 5))
    rows[:, :3, :3] = np.eye(3)
    rows[:, :, 4] = [H, W, 100.0] if second_rows is None else second_rows
    np.save(folder / "poses_bounds.npy", np.c_[rows.reshape(T, 15), np.tile([0.0, 100.0], (T, 1))])
    return folder


@pytest.fixture
def written(tmp_path):
    rng = np.random.default_rng(0)
    images = np.stack(panning(T, H, W)).astype(np.float32) / 255
    depth = rng.uniform(30, 120, (T, H, W)).astype(np.float32)
    depth[:, :4, :4] = np.nan
    hidden = np.stack(tool_masks(T, H, W)) > 0
    times = np.cumsum(rng.uniform(0.02, 0.06, T))
    folder = tmp_path / "clip"
    write_endonerf(folder, images, times - times[0], moving_cameras(), hidden, depth)
    return folder, images, times - times[0], hidden, depth


def test_round_trip(written):
    folder, images, times, hidden, depth = written
    capture = opened(folder).capture()
    np.testing.assert_allclose(capture.images, images, atol=1e-6)
    np.testing.assert_allclose(capture.times_s, times)
    np.testing.assert_array_equal(capture.occluded, hidden)
    np.testing.assert_allclose(capture.depth_mm, depth, atol=0.0051)
    assert capture.metric and np.isnan(capture.depth_mm[:, :4, :4]).all()
    np.testing.assert_allclose(
        capture.cameras.project(POINTS)[0], moving_cameras().project(POINTS)[0], atol=1e-9
    )
    assert not list(folder.rglob(".*"))


def test_round_trip_of_a_part(written):
    folder, _, _, hidden, depth = written
    clip = opened(folder, crop=(8, 6, 60, 50), frames=(2, 9, 3), bin=2)
    moved = moving_cameras()
    # The first chosen camera is the world.
    seen = moved.camera_from_world[[2, 5, 8]] @ np.linalg.inv(moved.camera_from_world[2])
    np.testing.assert_allclose(clip.cameras.camera_from_world, seen, atol=1e-9)
    pixels = moved[[2, 5, 8]].project(POINTS)[0]
    world = (moved.camera_from_world[2] @ np.c_[POINTS, np.ones(len(POINTS))].T).T[:, :3]
    np.testing.assert_allclose(clip.cameras.project(world)[0], (pixels - [8, 6] - 0.5) / 2, atol=1e-9)
    block = hidden[5, 6:56, 8:68].reshape(25, 2, 30, 2)
    np.testing.assert_array_equal(clip.occluded[1], block.any((1, 3)))
    expected = depth[5, 6:56, 8:68].reshape(25, 2, 30, 2).mean((1, 3))
    np.testing.assert_allclose(clip.depth_mm[1], expected, atol=0.006)


def test_a_still_camera_is_written_as_identity(tmp_path):
    still = Cameras(moving_cameras().intrinsics, np.tile(np.eye(4), (T, 1, 1)), W, H)
    write_endonerf(tmp_path, np.stack(panning(T, H, W)) / 255, np.arange(T) / 25, still)
    rows = np.load(tmp_path / "poses_bounds.npy")
    assert rows.shape == (T, 17)
    np.testing.assert_array_equal(rows[:, :15].reshape(T, 3, 5)[:, :, :4], np.tile(np.eye(3, 4), (T, 1, 1)))
    np.testing.assert_array_equal(rows[:, :15].reshape(T, 3, 5)[0, :, 4], [H, W, 90])


def test_a_published_folder(tmp_path):
    clip = opened(published(tmp_path))
    np.testing.assert_array_equal(clip.occluded, np.stack(tool_masks(T, H, W)) > 0)
    np.testing.assert_array_equal(clip.cameras.camera_from_world, np.tile(np.eye(4), (T, 1, 1)))
    k = clip.cameras.intrinsics[0]
    assert k[0, 0] == 100 and k[0, 2] == (W - 1) / 2 and k[1, 2] == (H - 1) / 2
    # The unit of depth is not stated, so there are no millimetres.
    assert not clip.metric and clip.depth_mm[3, 0, 0] == 53
    assert any("--depth-scale-mm" in p for p in clip.problems)
    scaled = opened(tmp_path, depth_scale_mm=0.5)
    assert scaled.metric and scaled.depth_mm[3, 0, 0] == 26.5


def test_polarity_is_never_turned_silently(tmp_path):
    tissue_masks = [255 - m for m in tool_masks(T, H, W)]
    folder = published(tmp_path, tissue_masks)
    with pytest.raises(InputError, match="--masks-mean hidden"):
        opened(folder)
    clip = opened(folder, masks_mean="visible")
    np.testing.assert_array_equal(clip.occluded, np.stack(tool_masks(T, H, W)) > 0)
    assert any("as --masks-mean says" in f for f in clip.found)


def test_everything_hidden(tmp_path):
    folder = published(tmp_path, [np.full((H, W), 255, np.uint8)] * T)
    with pytest.raises(InputError, match="hide every pixel"):
        opened(folder, masks_mean="hidden")


def test_empty_masks_hide_nothing(tmp_path):
    clip = opened(published(tmp_path, [np.zeros((H, W), np.uint8)] * T))
    assert not clip.occluded.any() and clip.mask_known.all()


def test_opengl_and_opencv_axes(tmp_path):
    folder = published(tmp_path)
    rows = np.load(folder / "poses_bounds.npy")
    # The camera goes 2 units to its right and 1 up in OpenGL axes.
    rows[4, [3, 8]] = [2.0, 1.0]
    np.save(folder / "poses_bounds.npy", rows)
    gl = opened(folder).cameras.centres_mm[4]
    np.testing.assert_allclose(gl, [2, -1, 0], atol=1e-12)
    np.testing.assert_allclose(opened(folder, poses_convention="opencv").cameras.centres_mm[4], [2, 1, 0])


def test_files_converted_from_stereomis(tmp_path):
    clip = opened(published(tmp_path, second_rows=[H / 2, W / 2, 88.0], name="frame-{:06d}.png"))
    k = clip.cameras.intrinsics[0]
    assert k[0, 2] == W / 2 and k[1, 2] == H / 2 and k[0, 0] == 88
    source = endoscopy_source(tmp_path, InputOptions())
    assert "opencv" in source.poses.source


def test_gt_masks_and_missing_parts(tmp_path):
    folder = published(tmp_path)
    (folder / "masks").rename(folder / "gt_masks")
    assert opened(folder).occluded.any()
    (folder / "poses_bounds.npy").unlink()
    clip = opened(folder)
    assert not clip.poses_known and not clip.intrinsics_known
    assert any("stands still" in a for a in clip.assumed)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("pose rows", r"holds 8 poses for 9 frames"),
        ("pose size", "is for pictures of"),
        ("pose text", "no readable array"),
        ("a mask less", "holds 8 files for 9 frames|masks for 8 of 9"),
        ("mask size", "expected masks of the frames' size"),
        ("depth size", "expected depth maps of the frames' size"),
        ("depth colour", "false colours"),
    ],
)
def test_parts_that_do_not_fit(tmp_path, change, says):
    folder = published(tmp_path)
    rows = np.load(folder / "poses_bounds.npy")
    if change == "pose rows":
        np.save(folder / "poses_bounds.npy", rows[:-1])
    elif change == "pose size":
        rows[:, [4, 9]] = [300, 200]
        np.save(folder / "poses_bounds.npy", rows)
    elif change == "pose text":
        (folder / "poses_bounds.npy").write_text("1 2 3")
    elif change == "a mask less":
        (folder / "masks" / "000003.png").unlink()
        clip = opened(folder)
        assert not clip.mask_known[3] and any("masks for 8 of 9" in p for p in clip.problems)
        return
    elif change == "mask size":
        write_frames(folder / "masks", tool_masks(T, H // 2, W // 2))
    elif change == "depth size":
        write_frames(folder / "depth", [np.full((H, W + 2), 9, np.uint8)] * T)
    else:
        false = cv2.applyColorMap(np.arange(H * W).reshape(H, W).astype(np.uint8), cv2.COLORMAP_JET)
        write_frames(folder / "depth", [false] * T)
    with pytest.raises(InputError, match=says):
        opened(folder)


def test_masks_may_have_the_size_of_the_crop(tmp_path):
    folder = published(tmp_path, tool_masks(T, 50, 60), depth=False)
    clip = opened(folder, crop=(8, 6, 60, 50))
    np.testing.assert_array_equal(clip.occluded, np.stack(tool_masks(T, 50, 60)) > 0)


def test_a_still_tool_bar_of_the_da_vinci_clips(tmp_path):
    frames = panning(6, 512, 640, 3)
    for frame in frames:
        frame[-12:] = 30
    write_frames(tmp_path / "images", frames)
    write_frames(tmp_path / "masks", tool_masks(6, 512, 640))
    clip = opened(tmp_path)
    assert clip.occluded[:, -12:].all() and any("tool bar" in a for a in clip.assumed)
