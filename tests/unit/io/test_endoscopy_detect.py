"""What an endoscopic input is recognised as, what is told about it, and what is refused."""

import json

import numpy as np
import pytest
from clips import panning, tissue, tool_masks, write_frames, write_video

from splatomy.capture import Modality
from splatomy.engine.opening import open_capture
from splatomy.errors import InputError
from splatomy.events import Notice, finish
from splatomy.io.detect import inspect_input, is_endoscopy, open_input
from splatomy.io.endoscopy_detect import open_endoscopy
from splatomy.io.options import InputOptions

H, W, T = 64, 80, 6


def opened(path, **options):
    return finish(open_endoscopy(path, InputOptions(**options)))


@pytest.fixture
def frames(tmp_path):
    return write_frames(tmp_path / "frames_of_a_clip", panning(T, H, W))


def test_colour_frames_are_endoscopy_and_grey_ones_angiography(tmp_path, frames):
    assert is_endoscopy(frames)
    grey = write_frames(tmp_path / "grey", [f.mean(-1).astype(np.uint8) for f in panning(T, H, W)])
    assert not is_endoscopy(grey)
    assert open_input(grey).layout == "frame folder"
    assert is_endoscopy(grey, InputOptions(layout="mono"))
    # Two runs of one patient, and a run beside its mask, are angiography as well.
    for name in ("left", "right", "fill", "mask"):
        part = tmp_path / ("sides" if name in ("left", "right") else "runs") / name
        write_frames(part, [f.mean(-1).astype(np.uint8) for f in panning(T, H, W)])
    assert not is_endoscopy(tmp_path / "sides") and not is_endoscopy(tmp_path / "runs")
    (frames / "geometry.json").write_text("{}")
    assert not is_endoscopy(frames)


def test_report_of_a_plain_video(tmp_path):
    path = write_video(tmp_path / "a.mp4", panning(T, H, W))
    report = inspect_input(path)
    value = json.loads(json.dumps(report.as_json()))
    assert value["contract"] == 1 and value["usable"] and value["kind"] == "endoscopic clip"
    assert value["layout"] == "video" and value["frames"] == T and value["width_px"] == W
    assert not value["metric"] and not value["lens_known"] and value["poses"] is None
    assert len(value["quality"]["sharpness"]) == T
    text = "\n".join(report.lines())
    for word in ("usable: yes", "80 x 64 pixels", "stands still", "field of view", "scale: unknown"):
        assert word in text


def test_report_of_an_unusable_input(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"")
    report = inspect_input(tmp_path / "a.mp4")
    assert not report.usable and len(report.problems) == 1 and "is empty" in report.problems[0]
    assert not report.as_json()["usable"]


def test_long_clips_are_examined_in_part(tmp_path):
    path = write_video(tmp_path / "a.mp4", panning(300, 32, 48, 1), "libx264", crf="20", g="25")
    report = inspect_input(path)
    strip = report.as_json()["quality"]
    assert report.facts["frames"] == 300 and 64 <= len(strip["frames"]) <= 96
    assert strip["frames"][0] == 0 and strip["frames"][-1] == 299


def test_capture_of_the_engine(tmp_path):
    task = open_capture(write_video(tmp_path / "a.mp4", panning(T, H, W)), InputOptions())
    events = []
    while True:
        try:
            events.append(next(task))
        except StopIteration as stop:
            capture = stop.value
            break
    assert capture.modality is Modality.COLOUR and capture.images.shape == (T, H, W, 3)
    told = [e.text for e in events if isinstance(e, Notice)]
    assert any("stands still" in t for t in told) and any("field of view" in t for t in told)


def test_two_eyes_in_folders_of_their_own(tmp_path):
    wide = panning(T, H, W + 20)
    write_frames(tmp_path / "left", [f[:, 10 : 10 + W] for f in wide])
    write_frames(tmp_path / "right", [f[:, 14 : 14 + W] for f in wide])
    clip = opened(tmp_path)
    assert clip.stereo == "two files" and clip.right_images.shape == (T, H, W, 3)
    np.testing.assert_allclose(clip.right_images[2], wide[2][:, 14 : 14 + W] / 255, atol=1e-6)
    (tmp_path / "right" / "000003.png").unlink()
    with pytest.raises(InputError, match="left has 6 frames but right 5"):
        opened(tmp_path)


def test_two_videos_of_the_eyes(tmp_path):
    wide = panning(T, H, W + 20)
    write_video(tmp_path / "case_left.mp4", [np.ascontiguousarray(f[:, 10 : 10 + W]) for f in wide])
    write_video(tmp_path / "case_right.mp4", [np.ascontiguousarray(f[:, 14 : 14 + W]) for f in wide])
    clip = opened(tmp_path)
    assert clip.layout == "stereo videos" and len(clip.right_images) == T
    write_video(tmp_path / "case_right.mp4", panning(T, H, W + 16))
    with pytest.raises(InputError, match="two eyes of one size"):
        opened(tmp_path)
    (tmp_path / "case_right.mp4").rename(tmp_path / "other.mp4")
    with pytest.raises(InputError, match="holds 2 videos"):
        opened(tmp_path)


def test_a_calibration_beside_the_clip(tmp_path, frames):
    k = [[90, 0, 40.0], [0, 90, 31.0], [0, 0, 1]]
    (frames / "calibration.json").write_text(json.dumps({"K": k, "size": [W, H]}))
    clip = opened(frames)
    assert clip.intrinsics_known and clip.cameras.intrinsics[0, 0, 0] == 90
    (frames / "calibration.json").write_text(json.dumps({"K": k, "size": [1920, 1080]}))
    clip = opened(frames)
    assert not clip.intrinsics_known and any(
        p.startswith("Not used: calibration.json") for p in clip.problems
    )
    with pytest.raises(InputError, match="go without --calibration"):
        opened(frames, calibration=frames / "calibration.json")


def test_distortion_is_taken_out_of_one_eye(tmp_path, frames):
    k = [[90, 0, 39.5], [0, 90, 31.5], [0, 0, 1]]
    (tmp_path / "c.json").write_text(json.dumps({"K": k, "D": [0.3, 0, 0, 0, 0], "size": [W, H]}))
    masks = write_frames(tmp_path / "tool", tool_masks(T, H, W))
    clip = opened(frames, calibration=tmp_path / "c.json", masks=masks)
    plain = opened(frames, masks=masks)
    assert clip.undistorted and not plain.undistorted
    # A pixel at x = 0.4 is seen at 0.4 (1 + 0.3 * 0.16) of the axis; the middle stays.
    np.testing.assert_allclose(clip.images[0][31, 39], plain.images[0][31, 39], atol=0.02)
    bent = 39.5 + 90 * 0.4 * (1 + 0.3 * 0.16)
    row = plain.images[0][31:33].mean(0)
    expected = row[int(bent)] + (bent - int(bent)) * (row[int(bent) + 1] - row[int(bent)])
    np.testing.assert_allclose(clip.images[0][31:33, 75].mean(0), expected, atol=0.06)
    assert (clip.occluded != plain.occluded).any()


def test_given_poses(tmp_path, frames):
    matrices = np.tile(np.eye(4), (T, 1, 1))
    matrices[:, 0, 3] = np.arange(T)
    np.save(tmp_path / "poses.npy", matrices)
    clip = opened(frames, poses=tmp_path / "poses.npy")
    np.testing.assert_allclose(clip.cameras.centres_mm[:, 0], np.arange(T))
    assert clip.poses_known and not clip.metric
    nerf = {"frames": [{"transform_matrix": m.tolist()} for m in matrices]}
    nerf["frames"][2]["transform_matrix"][1][3] = 5.0
    (tmp_path / "poses.json").write_text(json.dumps(nerf))
    # y points up in OpenGL axes and down in ours.
    np.testing.assert_allclose(
        opened(frames, poses=tmp_path / "poses.json").cameras.centres_mm[2], [2, -5, 0]
    )
    rows = np.c_[np.arange(T), matrices[:, :3, 3], np.zeros((T, 3)), np.ones(T)]
    np.savetxt(tmp_path / "poses.txt", rows, header="frame tx ty tz qx qy qz qw")
    np.testing.assert_allclose(opened(frames, poses=tmp_path / "poses.txt").cameras.centres_mm[3], [3, 0, 0])
    np.save(tmp_path / "poses.npy", matrices[:4])
    with pytest.raises(InputError, match="holds 4 poses for 6 frames"):
        opened(frames, poses=tmp_path / "poses.npy")
    np.save(tmp_path / "poses.npy", 2 * matrices)
    with pytest.raises(InputError, match="pose 0 is no rotation"):
        opened(frames, poses=tmp_path / "poses.npy")


@pytest.mark.parametrize(
    ("name", "turn", "mean"),
    [
        ("masks", False, "hidden"),
        ("masks", True, "visible"),
        ("tool_masks", False, "hidden"),
        ("tissue", True, "visible"),
        ("tissue", False, None),
        ("instruments", True, None),
    ],
)
def test_polarity_by_evidence(tmp_path, frames, name, turn, mean):
    tools = tool_masks(T, H, W)
    folder = write_frames(tmp_path / name, [255 - m for m in tools] if turn else tools)
    if mean is None:
        with pytest.raises(InputError, match="give --masks-mean hidden"):
            opened(frames, masks=folder)
        assert not inspect_input(frames, InputOptions(masks=folder)).usable
        return
    clip = opened(frames, masks=folder)
    np.testing.assert_array_equal(clip.occluded, np.stack(tools) > 0)
    assert any(f"non-zero = {mean}" in f for f in clip.found)


def test_masks_that_cover_half_are_asked_about(tmp_path, frames):
    half = np.zeros((H, W), np.uint8)
    half[:, : W // 2] = 255
    folder = write_frames(tmp_path / "masks", [half] * T)
    with pytest.raises(InputError, match="50 % of the pixels are non-zero"):
        opened(frames, masks=folder)
    assert opened(frames, masks=folder, masks_mean="hidden").occluded[0, :, 0].all()
    assert opened(frames, masks=folder, masks_mean="visible").occluded[0, :, -1].all()


@pytest.mark.parametrize(("value", "name"), [(1, "{:06d}.png"), (255, "{:06d}.jpg"), (20, "{:06d}.png")])
def test_masks_of_ones_of_labels_and_of_jpeg(tmp_path, frames, value, name):
    folder = write_frames(tmp_path / "masks", tool_masks(T, H, W, value), name)
    clip = opened(frames, masks=folder)
    assert (clip.occluded == (np.stack(tool_masks(T, H, W)) > 0)).mean() > 0.99


def test_masks_and_depth_that_do_not_fit(tmp_path, frames):
    small = write_frames(tmp_path / "masks", tool_masks(T, H // 2, W // 2))
    with pytest.raises(
        InputError, match=r"is 40x32 but its frame is 80x64; expected masks of the frames' size"
    ):
        opened(frames, masks=small)
    many = write_frames(tmp_path / "many", tool_masks(T + 3, H, W), "m{}x.png")
    with pytest.raises(InputError, match="holds 9 files for 6 frames"):
        opened(frames, masks=many)
    with pytest.raises(InputError, match="has no masks"):
        opened(frames, masks_mean="hidden")
    with pytest.raises(InputError, match="has no depth maps"):
        opened(frames, depth_scale_mm=1.0)
    with pytest.raises(InputError, match="is no folder"):
        opened(frames, depth=tmp_path / "none")


def test_masks_of_some_frames_by_name(tmp_path, frames):
    write_frames(tmp_path / "masks", tool_masks(1, H, W), "000004.png")
    clip = opened(frames, masks=tmp_path / "masks", frames=(2, 6, None))
    assert clip.mask_known.tolist() == [False, False, True, False]
    assert clip.occluded[2].any() and not clip.occluded[[0, 1, 3]].any()


def test_a_tool_that_covers_everything(tmp_path, frames):
    folder = write_frames(tmp_path / "tool", [np.full((H, W), 255, np.uint8)] * T)
    with pytest.raises(InputError, match="hide every pixel of every frame"):
        opened(frames, masks=folder, masks_mean="hidden")


@pytest.mark.parametrize("kind", ["npy", "png", "tiff"])
def test_given_depth(tmp_path, frames, kind):
    depth = np.random.default_rng(0).uniform(40, 90, (T, H, W)).astype(np.float32)
    depth[:, 0] = 0
    folder = tmp_path / "depth"
    folder.mkdir()
    for i in range(T):
        if kind == "npy":
            np.save(folder / f"{i:03d}.npy", depth[i] / 1000)
        else:
            stored = (depth[i] * 100).round().astype(np.uint16) if kind == "png" else depth[i] / 1000
            write_frames(folder, [stored], f"{i:03d}.{kind}")
    scale = 0.01 if kind == "png" else 1000.0
    clip = opened(frames, depth=folder, depth_scale_mm=scale)
    assert clip.metric and np.isnan(clip.depth_mm[:, 0]).all()
    np.testing.assert_allclose(clip.depth_mm[:, 1:], depth[:, 1:], atol=0.006)
    unknown = opened(frames, depth=folder)
    assert not unknown.metric and any("unit of the depth maps is not known" in p for p in unknown.problems)


def test_many_frames_in_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("splatomy.io.frame_source.MEMORY_BYTES", 2**20)
    path = write_video(tmp_path / "a.mp4", [tissue(32, 48)] * 1500, "mpeg4", qscale="8")
    clip = opened(path)
    assert len(clip) == 1500 and isinstance(clip.images._codes, np.memmap)
    assert clip.images[1499].shape == (32, 48, 3)
