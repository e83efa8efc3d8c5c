"""Video files: codecs, times, eyes, fields, borders, rotation, damage and memory."""

from pathlib import Path

import numpy as np
import pytest
from clips import interlaced, panning, tissue, write_frames, write_sound, write_video

from splatomy.errors import InputError
from splatomy.events import finish
from splatomy.io.endoscopy_detect import endoscopy_source, open_endoscopy
from splatomy.io.frame_source import LazyImages
from splatomy.io.frames import frame_folder_source, natural_key
from splatomy.io.options import InputOptions
from splatomy.io.picture_analysis import combed_share, deinterlaced, is_combed, stereo_layout
from splatomy.io.quality import frame_quality
from splatomy.io.video import is_video, video_source

ALL = np.arange


def opened(path: Path, **options):
    return finish(open_endoscopy(path, InputOptions(**options)))


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "mpeg4"),
        ("a.avi", "mpeg4"),
        ("a.mkv", "libx264"),
        ("a.mov", "libx264"),
        ("a.mpg", "mpeg2video"),
        ("a.h264", "libx264"),
        ("a.mkv", "ffv1"),
        ("a.ts", "libx264"),
    ],
)
def test_codecs(tmp_path, name, codec):
    frames = panning(40, 96, 128)
    source = video_source(write_video(tmp_path / name, frames, codec))
    assert (source.count, source.width_px, source.height_px) == (40, 128, 96)
    np.testing.assert_allclose(np.diff(source.times_s), 0.04, atol=1e-3)
    wanted = np.array([0, 3, 17, 38, 39])
    got = dict(source.read(wanted))
    assert sorted(got) == wanted.tolist()
    for number, picture in got.items():
        errors = [np.abs(picture.astype(float) - f).mean() for f in frames]
        assert int(np.argmin(errors)) == number


def test_chosen_frames_of_a_clip_with_many_key_frames(tmp_path):
    frames = panning(120, 64, 96, 1)
    source = video_source(write_video(tmp_path / "a.mp4", frames, "libx264", crf="10", g="10"))
    for wanted in ([0, 119], [5, 6, 90, 91], [11, 12, 13], [119]):
        assert [n for n, _ in source.read(np.array(wanted))] == wanted


def test_variable_frame_rate_in_seconds(tmp_path):
    times = np.cumsum([0.5, *np.tile([0.02, 0.08], 6)]).tolist()
    source = video_source(write_video(tmp_path / "a.mkv", panning(13, 64, 96), "libx264", times))
    np.testing.assert_allclose(source.times_s, np.array(times) - 0.5, atol=2e-3)
    assert source.times_known and any("variable" in f for f in source.found)


def test_rotation(tmp_path):
    path = write_video(tmp_path / "a.mp4", [tissue(64, 96)] * 3)
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40
    # A display matrix of a quarter turn clockwise, 16.16 fixed point and 2.30 for the last column.
    matrix = [0, 65536, 0, -65536, 0, 0, 64 * 65536, 0, 1 << 30]
    data[start : start + 36] = np.array(matrix, dtype=">i4").tobytes()
    path.write_bytes(bytes(data))
    source = video_source(path)
    assert (source.width_px, source.height_px) == (64, 96)
    turned = next(source.read(ALL(1)))[1]
    assert np.abs(turned.astype(float) - np.rot90(tissue(64, 96), -1)).mean() < 12


def stereo_pair(count: int = 6) -> tuple[list[np.ndarray], list[np.ndarray]]:
    wide = tissue(96, 260, 4)
    left = [wide[:, 20 + 3 * i : 148 + 3 * i] for i in range(count)]
    right = [wide[:, 26 + 3 * i : 154 + 3 * i] for i in range(count)]
    return left, right


@pytest.mark.parametrize(("layout", "join"), [("sbs", np.hstack), ("tb", np.vstack)])
def test_stereo_layouts(tmp_path, layout, join):
    left, right = stereo_pair()
    path = write_video(tmp_path / "a.mp4", [join(pair) for pair in zip(left, right, strict=True)])
    clip = opened(path)
    assert clip.stereo == layout and clip.images.shape == (6, 96, 128, 3)
    assert np.abs(clip.images[2] * 255 - left[2]).mean() < 12
    assert np.abs(clip.right_images[2] * 255 - right[2]).mean() < 12
    assert any("left eye" in text for text in clip.assumed)
    mono = opened(path, layout="mono")
    assert mono.right_images is None and mono.images.shape[1:3] == join([left[0], right[0]]).shape[:2]


def test_mono_stays_mono(tmp_path):
    assert stereo_layout([tissue(128, 256, s) for s in range(4)])[0] == "mono"
    forced = opened(write_video(tmp_path / "a.mp4", panning(4, 96, 256)), layout="sbs")
    assert forced.images.shape == (4, 96, 128, 3) and forced.right_images is not None


def test_interlaced_fields(tmp_path):
    frames = panning(8, 128, 160, 6)
    woven = interlaced(frames)
    assert is_combed(combed_share(woven)) and not is_combed(combed_share(frames))
    for combed, upper in zip(woven, frames, strict=False):
        before = np.abs(combed.astype(float) - upper).mean()
        assert np.abs(deinterlaced(combed).astype(float) - upper).mean() < 0.35 * before
    np.testing.assert_array_equal(deinterlaced(woven[0])[::2], frames[0][::2])
    clip = opened(write_video(tmp_path / "a.mkv", woven, "ffv1"))
    assert any("interlaced" in text for text in clip.found)
    assert np.abs(clip.images[3] * 255 - frames[3]).mean() < 2


def test_black_border_is_cut_and_said(tmp_path):
    bordered = []
    for frame in panning(6, 100, 140):
        whole = np.zeros((160, 256, 3), np.uint8)
        whole[20:120, 60:200] = np.maximum(frame, 40)
        bordered.append(whole)
    path = write_video(tmp_path / "a.mp4", bordered)
    clip = opened(path)
    x, y, w, h = clip.crop
    assert max(abs(x - 60), abs(y - 20), abs(w - 140), abs(h - 100)) <= 3
    assert any("black border" in text for text in clip.assumed)
    kept = opened(path, crop=(0, 0, 256, 160))
    assert kept.images.shape == (6, 160, 256, 3)


def test_round_picture_hides_its_outside(tmp_path):
    rows, columns = np.mgrid[:160, :200]
    inside = (columns - 100) ** 2 + (rows - 80) ** 2 < 70**2
    frames = [np.where(inside[..., None], np.maximum(f, 40), 0) for f in panning(5, 160, 200)]
    clip = opened(write_video(tmp_path / "a.mp4", [f.astype(np.uint8) for f in frames]))
    x, y, w, h = clip.crop
    truth = ~inside[y : y + h, x : x + w]
    assert (clip.occluded[0] == truth).mean() > 0.97 and clip.occluded.shape == clip.images.shape[:3]
    assert any("circle" in text for text in clip.found)


def test_one_command_for_a_plain_video(tmp_path):
    capture = opened(write_video(tmp_path / "my clip.mp4", panning(5, 96, 128))).capture()
    assert capture.images.dtype == np.float32 and 0 <= capture.images.min() <= capture.images.max() <= 1
    assert not capture.metric and capture.world == "first camera"
    np.testing.assert_array_equal(capture.cameras.camera_from_world, np.tile(np.eye(4), (5, 1, 1)))
    assert capture.cameras.intrinsics[0, 0, 2] == 63.5 and not capture.details["intrinsics_known"]
    # 70 degrees across the 128 columns.
    assert capture.cameras.intrinsics[0, 0, 0] == pytest.approx(64 / np.tan(np.radians(35)))
    assert any("70 degrees" in text for text in capture.details["assumed"])


def test_crop_frames_and_bin(tmp_path):
    path = write_video(tmp_path / "a.mkv", panning(12, 96, 128), "ffv1")
    full = opened(path)
    part = opened(path, crop=(10, 4, 60, 40), frames=(2, 11, 3), bin=2)
    assert part.images.shape == (3, 20, 30, 3) and part.frames.tolist() == [2, 5, 8]
    expected = full.images[5][4:44, 10:70].reshape(20, 2, 30, 2, 3).mean((1, 3))
    np.testing.assert_allclose(part.images[1], expected, atol=0.6 / 255)
    np.testing.assert_allclose(part.times_s, [0, 0.12, 0.24], atol=1e-3)
    with pytest.raises(InputError, match="does not fit"):
        opened(path, crop=(100, 0, 60, 40))
    with pytest.raises(InputError, match="choose none of the 12 frames"):
        opened(path, frames=(50, None, None))


def test_unusable_files_in_one_sentence(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(InputError, match="is empty"):
        opened(tmp_path / "empty.mp4")
    with pytest.raises(InputError, match="sound only"):
        opened(write_sound(tmp_path / "sound.mp4"))
    with pytest.raises(InputError, match="sound only"):
        opened(write_sound(tmp_path / "sound.m4a"))
    (tmp_path / "noise.avi").write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(InputError, match="cannot be read as a video"):
        opened(tmp_path / "noise.avi")
    data = write_video(tmp_path / "a.mp4", panning(20, 96, 128)).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 7 // 10])
    with pytest.raises(InputError, match="cut off"):
        opened(tmp_path / "cut.mp4")
    with pytest.raises(InputError, match="for angiography"):
        opened(tmp_path / "a.mp4", geometry=tmp_path / "g.xml")


@pytest.mark.parametrize("name", ["a.mpg", "a.vob", "a.ts"])
def test_a_stream_without_a_length_is_told_as_cut(tmp_path, name):
    """Its header announces nothing, but its last packet is not whole."""
    noise = np.random.default_rng(0).integers(0, 255, (30, 96, 128, 3)).astype(np.uint8)
    codec = "mpeg1video" if name == "a.mpg" else "mpeg2video"
    path = write_video(tmp_path / name, list(noise), codec)
    data = path.read_bytes()
    whole = video_source(path)
    assert whole.count == 30 and not whole.problems
    path.write_bytes(data + data)
    assert not any("cut off" in problem for problem in video_source(path).problems)
    path.write_bytes(data + bytes(4096))
    assert not any("cut off" in problem for problem in video_source(path).problems)
    # Somewhere within a packet: none is this short.
    told = []
    for length in len(data) // 2 + np.arange(0, 60, 20):
        path.write_bytes(data[:length])
        source = video_source(path)
        assert 5 <= source.count < 25
        told.append(any("cut off" in problem for problem in source.problems))
    assert sum(told) >= 2


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_truncated_video_gives_what_is_there(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 255, (60, 96, 128, 3)).astype(np.uint8)
    first = {"movflags": "faststart"} if name == "a.mp4" else {}
    path = write_video(tmp_path / name, list(noise), "mpeg4", None, first)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    clip = opened(path, layout="mono")
    assert 20 <= len(clip) <= 35 and any("cut off" in p for p in clip.problems)
    assert np.isfinite(clip.images[len(clip) - 1]).all()


def test_damage_in_the_middle(tmp_path):
    path = write_video(tmp_path / "a.mp4", panning(60, 96, 128), "libx264", crf="10", g="10")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    path.write_bytes(bytes(data))
    clip = opened(path)
    assert 40 <= len(clip) <= 60 and clip.frames[-1] == 59


def test_one_frame(tmp_path):
    clip = opened(write_video(tmp_path / "a.mp4", [tissue(96, 128)]))
    assert len(clip) == 1 and len(clip.problems) == 1 and "one frame only" in clip.problems[0]


def test_content_decides_what_a_file_is(tmp_path):
    path = write_video(tmp_path / "a.mp4", panning(3, 64, 64))
    path.rename(tmp_path / "export")
    assert is_video(tmp_path / "export") and opened(tmp_path / "export").images.shape[0] == 3
    write_frames(tmp_path / "f", [tissue(32, 32)])
    assert not is_video(tmp_path / "f" / "000000.png")


def test_natural_order_and_times_of_frame_folders(tmp_path):
    names = ["f10.png", "f9.png", "F2.png", "f1b.png"]
    assert sorted(names, key=natural_key) == ["f1b.png", "F2.png", "f9.png", "f10.png"]
    # Digits that are no numbers, and more of them than Python reads as one.
    assert sorted(["9" * 5000, "8" + "0" * 4999, "a²", "٣"], key=natural_key)[0] == "8" + "0" * 4999
    write_frames(tmp_path / "even", panning(11, 64, 96), "frame{}.png")
    even = frame_folder_source(tmp_path / "even")
    assert [p.name for p in even.input_files][:3] == ["frame0.png", "frame1.png", "frame2.png"]
    np.testing.assert_allclose(even.times_s, np.arange(11) / 25)
    (tmp_path / "even" / "frame4.png").unlink()
    gap = frame_folder_source(tmp_path / "even", frame_time_s=0.1)
    np.testing.assert_allclose(gap.times_s, np.delete(np.arange(11), 4) * 0.1)
    assert gap.times_known and not even.times_known


def test_hostile_frame_folders(tmp_path):
    folder = write_frames(tmp_path / "f", panning(5, 64, 96))
    write_frames(folder, [tissue(32, 32)], "000009.png")
    with pytest.raises(InputError, match=r"000009\.png is 32x32 but the first frame is 96x64"):
        opened(folder)
    (folder / "000009.png").write_bytes(b"")
    with pytest.raises(InputError, match="no readable picture"):
        opened(folder)


def test_sixteen_bit_frames_keep_their_depth(tmp_path):
    frames = [(f.astype(np.uint16) << 8) + 7 for f in panning(3, 64, 96)]
    clip = opened(write_frames(tmp_path / "f", frames))
    np.testing.assert_allclose(clip.images[1], frames[1] / 65535, atol=1e-7)


def test_quality_strip():
    frames = panning(16, 120, 160, 4)
    frames[5] = frames[4]
    frames[9] = np.clip(frames[9].astype(int) + 150, 0, 255).astype(np.uint8)
    frames[11] = np.full_like(frames[11], 255)
    frames[13] = np.broadcast_to(frames[13].mean((0, 1)), frames[13].shape).astype(np.uint8)
    strip = frame_quality(enumerate(frames))
    assert np.flatnonzero(strip.duplicate).tolist() == [5]
    assert strip.smoky[9] and strip.burnt[11] and strip.blurred[13] and not strip.blurred[:4].any()
    assert strip.as_json()["change"][0] is None and len(strip.notes()) >= 4
    cut = panning(8, 120, 160, 1) + panning(8, 120, 160, 1, seed=9)
    assert np.flatnonzero(frame_quality(enumerate(cut)).jump).tolist() == [8]


def test_lazy_images():
    codes = np.random.default_rng(0).integers(0, 255, (7, 5, 6, 3)).astype(np.uint8)
    lazy, plain = LazyImages(codes), codes.astype(np.float32) / 255
    assert lazy.shape == (7, 5, 6, 3) and len(lazy) == 7 and lazy.ndim == 4
    np.testing.assert_allclose(lazy[3], plain[3], atol=1e-6)
    np.testing.assert_allclose(lazy[-1], plain[-1], atol=1e-6)
    assert isinstance(lazy[2:5], LazyImages) and isinstance(lazy[[1, 4]], LazyImages)
    np.testing.assert_allclose(lazy[2:6][[1, 0]], plain[2:6][[1, 0]], atol=1e-6)
    np.testing.assert_allclose(lazy[1:3, 2:, 0], plain[1:3, 2:, 0], atol=1e-6)
    np.testing.assert_allclose(lazy[4, :, 1], plain[4, :, 1], atol=1e-6)
    np.testing.assert_allclose(lazy[..., 0], plain[..., 0], atol=1e-6)


def test_long_clips_stay_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("splatomy.io.frame_source.MEMORY_BYTES", 1000)
    monkeypatch.setattr("splatomy.io.endoscopy.PLAIN_BYTES", 1000)
    path = write_video(tmp_path / "a.mp4", panning(30, 64, 96))
    capture = opened(path).capture()
    assert isinstance(capture.images, LazyImages) and isinstance(capture.images._codes, np.memmap)
    part = capture.frames([4, 9])
    np.testing.assert_array_equal(np.asarray(part.images), np.asarray(capture.images)[[4, 9]])


def test_opening_reports_while_it_works(tmp_path):
    task = open_endoscopy(write_video(tmp_path / "a.mp4", panning(6, 96, 128)), InputOptions())
    assert next(task).stage == "open"
    task.close()


def test_inspection_reads_few_frames(tmp_path):
    source = endoscopy_source(write_video(tmp_path / "a.mp4", panning(30, 64, 96)), InputOptions())
    assert source.left.count == 30 and source.plain and source.stereo == "mono"
