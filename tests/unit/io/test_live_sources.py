"""Live sources: one interface, bounded memory, honest counts, and no waiting for ever."""

import json
import os
import socket
import threading
import time

import cv2
import numpy as np
import pytest
from tests.unit.io.clips import panning, write_frames, write_video

from splatomy.errors import InputError
from splatomy.geometry.cameras import Cameras
from splatomy.geometry.rigid import rigid, rotation_from_vector
from splatomy.io.calibration import Calibration, Lens
from splatomy.io.endonerf import write_endonerf
from splatomy.io.live_device import StreamClock, _device_source, _open_av
from splatomy.io.live_folder import END_NAME
from splatomy.io.live_pair import eye_pair
from splatomy.io.live_poses import GrowingPoses
from splatomy.io.live_sources import open_live_source
from splatomy.io.options import InputOptions

H, W = 48, 64


def taken(source, timeout_s=120.0):
    """All frames until the source ends."""
    frames, end_s = [], time.monotonic() + timeout_s
    while not source.ended and time.monotonic() < end_s:
        frame = source.read(0.2)
        if frame is not None:
            frames.append(frame)
    source.close()
    return frames


def png(picture):
    done, data = cv2.imencode(".png", picture[..., ::-1])
    assert done
    return data.tobytes()


def test_a_recording_at_any_speed_loses_nothing_and_waits(tmp_path):
    pictures = panning(30, H, W)
    path = write_video(tmp_path / "clip.mkv", pictures, "ffv1")
    source = open_live_source(str(path), InputOptions(), "max")
    info = source.describe()
    assert (info.width_px, info.height_px, info.frames, info.live) == (W, H, 30, False)
    assert info.fps == pytest.approx(25, rel=0.01) and not info.intrinsics_known and not info.metric
    time.sleep(0.3)
    frames = taken(source)
    assert [f.index for f in frames] == list(range(30)) and source.dropped == 0
    assert all(f.received_s == f.time_s for f in frames)
    np.testing.assert_allclose([f.time_s for f in frames], np.arange(30) / 25, atol=2e-3)
    assert frames[3].image.dtype == np.float32
    np.testing.assert_array_equal(np.rint(frames[3].image * 255), pictures[3])


def test_a_recording_at_its_own_rate_keeps_its_pace_and_drops_for_a_slow_taker(tmp_path):
    path = write_video(tmp_path / "clip.mkv", panning(40, H, W), "ffv1")
    source = open_live_source(str(path), InputOptions(), "real")
    began = time.monotonic()
    assert source.read(2.0).index == 0
    time.sleep(1.2)
    frames = taken(source)
    assert time.monotonic() - began > 39 / 25 - 0.1
    assert source.dropped > 0
    assert source.dropped + len(frames) + 1 == 40
    received = np.array([f.received_s - f.time_s for f in frames])
    assert np.median(np.abs(received - np.median(received))) < 0.2


def test_a_clip_with_depth_masks_and_poses_brings_them_along(tmp_path):
    count = 5
    pictures = np.stack(panning(count, H, W)).astype(np.float32) / 255
    depth = np.full((count, H, W), 50.0) + np.arange(count)[:, None, None]
    hidden = np.zeros((count, H, W), bool)
    hidden[:, 10:20, 5:30] = True
    poses = rigid(rotation_from_vector(np.zeros((count, 3))), np.arange(count)[:, None] * [1.0, 0, 0])
    cameras = Cameras(np.tile([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]], (count, 1, 1)), poses, W, H)
    write_endonerf(tmp_path / "clip", pictures, np.arange(count) * 0.1, cameras, hidden, depth)
    source = open_live_source(str(tmp_path / "clip"), InputOptions(), "max")
    assert source.describe().metric and source.describe().intrinsics_known
    frames = taken(source)
    np.testing.assert_allclose(frames[2].depth_mm, 52.0, atol=0.01)
    np.testing.assert_array_equal(frames[4].occluded, hidden[4])
    np.testing.assert_allclose(frames[3].camera_from_world, cameras.camera_from_world[3], atol=1e-9)
    assert frames[3].time_s == pytest.approx(0.3)


def test_two_eyes_side_by_side_are_rectified(tmp_path):
    left = panning(4, H, W)
    both = [np.concatenate([a, np.roll(a, -5, 1)], 1) for a in left]
    path = write_video(tmp_path / "pair.mkv", both, "ffv1")
    calibration = tmp_path / "lens.json"
    k = [[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]]
    straight, size = [0.0] * 5, {"image_width": W, "image_height": H}
    pose = {"R": np.eye(3).tolist(), "T": [-4.5, 0, 0]}
    calibration.write_text(json.dumps({"M1": k, "M2": k, "D1": straight, "D2": straight, **pose, **size}))
    options = InputOptions(layout="sbs", calibration=calibration)
    source = open_live_source(str(path), options, "max")
    assert source.describe().baseline_mm == pytest.approx(4.5) and source.describe().metric
    frame = taken(source)[1]
    np.testing.assert_array_equal(np.rint(frame.image * 255), left[1])
    np.testing.assert_array_equal(np.rint(frame.right * 255), np.roll(left[1], -5, 1))
    alone = open_live_source(str(path), InputOptions(layout="sbs"), "max")
    assert alone.describe().baseline_mm is None and "left eye" in alone.describe().problems[-1]
    assert taken(alone)[0].right is None


def test_a_turned_pair_has_matching_rows_after_rectification():
    k = np.array([[300.0, 0, 159.5], [0, 300.0, 127.5], [0, 0, 1]])
    pose = rigid(rotation_from_vector(np.array([[0.01, -0.03, 0.008]])), np.array([[-4.4, 0.2, 0.1]]))[0]
    pair = eye_pair(Calibration(Lens(k, np.zeros(5)), Lens(k, np.zeros(5)), pose, (320, 256)), 320, 256)
    points = np.random.default_rng(0).uniform([-20, -15, 60], [20, 15, 90], (40, 3))
    seen = []
    rows, columns = np.indices((256, 320))
    for camera, side in ((np.eye(4), pair.left), (pose, pair.right)):
        local = points @ camera[:3, :3].T + camera[:3, 3]
        pixels = (local @ k.T)[:, :2] / local[:, 2:]
        dots = [
            np.exp(-((columns - u) ** 2 + (rows - v) ** 2) / (2 * 3.0**2)).astype(np.float32)
            for u, v in pixels
        ]
        moved = [side(dot) for dot in dots]
        seen.append([[(m * columns).sum() / m.sum(), (m * rows).sum() / m.sum()] for m in moved])
    left, right = np.array(seen)
    assert np.abs(left[:, 1] - right[:, 1]).max() < 0.1
    rectified = points @ pair.rectified_from_left[:3, :3].T
    np.testing.assert_allclose(
        left[:, 0] - right[:, 0], pair.intrinsics[0, 0] * pair.baseline_mm / rectified[:, 2], atol=0.1
    )


def test_a_growing_folder_gives_whole_files_in_order_and_counts_the_rest(tmp_path):
    pictures = panning(12, H, W)
    folder = write_frames(tmp_path / "in", pictures[:1])
    source = open_live_source(f"folder:{folder}", InputOptions(), "real")
    assert source.read(5.0).index == 0

    def write(number, share=1.0):
        data = png(pictures[number])
        (folder / f"{number:06d}.png").write_bytes(data[: int(share * len(data))])

    for number in (1, 2, 3, 4):
        write(number)
        assert source.read(5.0).index == number
    write(5, share=0.5)
    assert source.read(0.4) is None
    write(5)
    frame = source.read(5.0)
    np.testing.assert_array_equal(np.rint(frame.image * 255), pictures[5])
    write(7)
    assert source.read(5.0).index == 7
    write(6)
    (folder / "notes.txt").write_text("no frame")
    for number in (8, 9, 10, 11):
        write(number)
    (folder / END_NAME).write_text("")
    frames = taken(source)
    assert [f.index for f in frames] == [8, 9, 10, 11]
    assert frames[-1].time_s == pytest.approx(11 / 25)
    assert source.dropped == 1 and any("out of order" in p for p in source.problems)


@pytest.mark.parametrize("clock_s", [0, 4e9], ids=["clock behind", "clock ahead"])
def test_a_folder_grows_by_what_happens_to_it_not_by_the_clock(tmp_path, clock_s):
    """The machine that writes it may have another time, and a clock may be set."""

    def write(number):
        # Put in its place at once, with the time of a clock that is wrong by decades.
        partial = tmp_path / f"{number}.part"
        partial.write_bytes(png(pictures[number]))
        os.utime(partial, (clock_s, clock_s))
        partial.rename(tmp_path / "in" / f"{number:06d}.png")

    (tmp_path / "in").mkdir()
    pictures = panning(3, H, W)
    write(0)
    write(1)
    finished = open_live_source(str(tmp_path / "in"), InputOptions(), "max")
    assert finished.describe().frames == 2 and len(taken(finished)) == 2
    later = threading.Timer(0.5, write, [2])
    later.start()
    growing = open_live_source(str(tmp_path / "in"), InputOptions(), "max")
    later.join()
    assert growing.describe().frames is None
    assert [frame.index for frame in taken(growing)] == [0, 1, 2]


def test_a_growing_folder_with_depth_and_poses_that_grow_too(tmp_path):
    pictures = panning(4, H, W)
    for name in ("rgb", "depth"):
        (tmp_path / name).mkdir()
    poses = tmp_path / "poses.txt"
    poses.write_text("# time tx ty tz qx qy qz qw\n")
    for i, picture in enumerate(pictures):
        cv2.imwrite(str(tmp_path / "rgb" / f"{i:04d}.png"), picture[..., ::-1])
        cv2.imwrite(str(tmp_path / "depth" / f"{i:04d}.png"), np.full((H, W), 600 + i, np.uint16))
        with poses.open("a") as file:
            file.write(f"{i / 25:.3f} {i} 0 0 0 0 0 1\n")
    options = InputOptions(depth_scale_mm=0.1, poses=poses)
    source = open_live_source(f"folder:{tmp_path}", options, "max")
    assert source.describe().metric
    frames = taken(source)
    assert len(frames) == 4
    np.testing.assert_allclose(frames[3].depth_mm, 60.3, atol=1e-4)
    np.testing.assert_allclose(frames[3].camera_from_world[:3, 3], [-3, 0, 0])
    np.testing.assert_allclose(frames[0].camera_from_world, np.eye(4))


def test_damaged_and_odd_frames_are_left_out_with_a_sentence(tmp_path):
    pictures = panning(4, H, W)
    write_frames(tmp_path, pictures)
    data = png(pictures[1])
    (tmp_path / "000001.png").write_bytes(data[:200])
    cv2.imwrite(str(tmp_path / "000002.png"), np.zeros((H // 2, W, 3), np.uint8))
    source = open_live_source(f"folder:{tmp_path}", InputOptions(), "max")
    frames = taken(source)
    assert [f.index for f in frames] == [0, 3] and source.dropped == 2
    assert len(source.problems) == 3 and any("another size" in p for p in source.problems)


def test_a_row_that_is_still_written_is_left_for_later(tmp_path):
    path = tmp_path / "poses.txt"
    path.write_text("0.0 0 0 0 0 0 0 1\n0.04 1 0 0 0 0 ")
    poses = GrowingPoses(path, None, 0.04)
    assert poses.of(0, 0.0) is not None and poses.of(1, 0.04) is None
    with path.open("a") as file:
        file.write("0 1\n")
    assert poses.of(1, 0.04)[0, 3] == pytest.approx(-1)
    with path.open("a") as file:
        file.write("1 2 3\n")
    with pytest.raises(InputError, match="3 numbers"):
        poses.of(2, 0.08)


def test_a_device_that_dies_comes_back_with_times_that_go_on(tmp_path):
    path = write_video(tmp_path / "feed.mkv", panning(6, H, W), "ffv1")
    source = _device_source("camera test", lambda: _open_av(str(path), None, {}), InputOptions(), False)
    assert source.describe().live
    frames, end_s = [], time.monotonic() + 6
    while len(frames) < 10 and time.monotonic() < end_s:
        frame = source.read(0.2)
        frames += [] if frame is None else [frame]
    times = np.array([f.time_s for f in frames])
    began = time.monotonic()
    source.close()
    assert time.monotonic() - began < 2.5 and source.ended
    assert len(frames) == 10 and (np.diff(times) > 0).all() and times[-1] > 0.9
    assert any("interrupted" in p for p in source.problems)


def test_stamps_that_repeat_run_backwards_or_restart():
    clock = StreamClock()
    assert clock.time_s(100.0, 0.0) == 0.0
    assert clock.time_s(100.04, 0.04) == pytest.approx(0.04)
    assert clock.time_s(100.04, 0.05) is None
    assert clock.time_s(100.02, 0.06) is None
    assert clock.time_s(3.0, 0.5) == pytest.approx(0.5)
    assert clock.time_s(3.04, 0.54) == pytest.approx(0.54)
    clock.restarted()
    assert clock.time_s(3.08, 5.0) == pytest.approx(5.0)
    assert clock.time_s(None, 6.0) == pytest.approx(6.0)


def test_network_video_is_refused_or_fails_in_time_with_one_sentence():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(InputError) as refused:
        open_live_source(f"rtsp://user:secret@127.0.0.1:{port}/stream", InputOptions())
    assert time.monotonic() - began < 3
    assert "secret" not in str(refused.value) and "\n" not in str(refused.value)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        with pytest.raises(InputError, match="gives no picture"):
            open_live_source(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/stream", InputOptions())
        assert time.monotonic() - began < 8
    with pytest.raises(InputError, match="rtsp://host"):
        open_live_source("http://127.0.0.1/stream", InputOptions())


@pytest.mark.parametrize(
    ("text", "says"),
    [("camera:", "camera:0"), ("camera:99", "gives no picture"), ("missing.mp4", "does not exist")],
)
def test_what_names_nothing_is_one_sentence(text, says):
    with pytest.raises(InputError, match=says):
        open_live_source(text, InputOptions())


def test_closing_a_source_that_nobody_reads(tmp_path):
    path = write_video(tmp_path / "clip.mkv", panning(200, H, W), "ffv1")
    source = open_live_source(str(path), InputOptions(), "max")
    began = time.monotonic()
    source.close()
    assert time.monotonic() - began < 2 and source.ended and source.read(0.01) is None
