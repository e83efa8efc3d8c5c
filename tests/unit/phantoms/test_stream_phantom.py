"""The simulated live endoscope: exact, endless, and readable as a source."""

import json
from dataclasses import replace

import numpy as np
import pytest

from splatomy.cli.phantom.stream import written_stream
from splatomy.errors import InputError
from splatomy.events import finish
from splatomy.geometry.rigid import inverse
from splatomy.io.live_sources import open_live_source
from splatomy.io.options import InputOptions
from splatomy.phantoms.stream import PRESETS, StreamPhantom

TINY = replace(PRESETS["tiny"], depth_noise=0.0)


@pytest.fixture(scope="module")
def stream():
    return StreamPhantom(TINY, 3)


def _at(stream, state):
    return next(n for n in range(500) if stream.state(n) == state)


def test_any_frame_at_any_time_is_the_same_frame(stream):
    late = stream.frame(36_000)
    again = StreamPhantom(TINY, 3).frame(36_000)
    np.testing.assert_array_equal(late.image, again.image)
    assert late.time_s == 3600.0
    assert not np.array_equal(StreamPhantom(TINY, 4).frame(0).image, stream.frame(0).image)


def test_depth_and_poses_agree_between_frames_of_rigid_tissue(stream):
    one, other = stream.frame(0), stream.frame(12)
    np.testing.assert_allclose(one.camera_from_world, np.eye(4), atol=1e-12)
    rows, columns = np.indices(one.tissue_depth_mm.shape)
    rays = np.stack([columns, rows, np.ones_like(rows)], -1) @ np.linalg.inv(stream.intrinsics).T
    points = (rays * one.tissue_depth_mm[..., None]).reshape(-1, 3)
    local = points @ other.camera_from_world[:3, :3].T + other.camera_from_world[:3, 3]
    pixels = local @ stream.intrinsics.T
    column, row = np.rint(pixels[:, :2] / pixels[:, 2:]).astype(int).T
    inside = (column >= 0) & (column < 64) & (row >= 0) & (row < 52)
    step = np.linalg.norm(inverse(other.camera_from_world)[:3, 3])
    assert inside.mean() > 0.4 and step > 5
    off = np.abs(other.tissue_depth_mm[row[inside], column[inside]] - local[inside, 2])
    # Half a pixel on a slope is up to a millimetre at this size.
    assert np.median(off) < 0.5


def test_instruments_are_nearer_than_the_tissue_that_they_hide():
    stream = StreamPhantom(replace(TINY, disturbances=()), 3)
    frames = [stream.frame(n) for n in range(0, 90, 9)]
    assert 0.02 < np.mean([f.occluded.mean() for f in frames]) < 0.4
    for f in frames:
        assert (f.depth_mm <= f.tissue_depth_mm + 1e-3).all()
        near = f.depth_mm < f.tissue_depth_mm - 2
        assert not (near & ~f.occluded).any()


def test_smoke_black_and_outside_look_like_it_and_hide_depth(stream):
    smoke, black, outside = (stream.frame(_at(stream, s)) for s in ("smoke", "black", "outside"))
    clear = stream.frame(0)
    assert smoke.smoke > 0.15 and smoke.image.std() < clear.image.std()
    assert black.image.mean() < 0.06 and not np.isfinite(black.depth_mm).any()
    assert outside.image[..., 2].mean() > outside.image[..., 0].mean()
    assert not np.isfinite(outside.depth_mm).any() and np.isfinite(clear.depth_mm).all()
    # Behind all of it the truth goes on.
    assert np.isfinite(black.tissue_depth_mm).all() and black.rgb.mean() > 0.1


def test_breathing_moves_the_tissue_and_a_still_preset_does_not(stream):
    still = [stream.mesh(t).vertices_mm for t in (0.0, 1.8)]
    moved = StreamPhantom(replace(TINY, breath_mm=2.9), 3)
    breath = moved.mesh(1.8).vertices_mm - moved.mesh(0.0).vertices_mm
    np.testing.assert_array_equal(*still)
    assert 0.5 < np.linalg.norm(breath, axis=1).mean() < 6


def test_the_right_eye_sees_nearer_places_shifted_further(stream):
    frame = stream.frame(0, right=True)
    assert frame.right is not None and frame.right.shape == frame.image.shape
    shift = round(stream.intrinsics[0, 0] * TINY.baseline_mm / float(np.median(frame.tissue_depth_mm)))
    errors = [np.abs(frame.image[:, 12:] - np.roll(frame.right, s, 1)[:, 12:]).mean() for s in range(9)]
    assert abs(int(np.argmin(errors)) - shift) <= 1


def test_a_written_stream_is_a_live_source_with_its_truth_apart(tmp_path):
    finish(written_stream(tmp_path / "s", "tiny", 1))
    source = open_live_source(str(tmp_path / "s"), InputOptions(), "max")
    info = source.describe()
    truth = json.loads((tmp_path / "s" / "truth" / "truth.json").read_text())
    assert info.metric and info.intrinsics_known and info.fps == pytest.approx(10) and info.frames == 60
    np.testing.assert_allclose(info.intrinsics, truth["intrinsics"])
    phantom, count = StreamPhantom("tiny", 1), 0
    while not source.ended:
        frame = source.read(1.0)
        if frame is None:
            continue
        assert frame.occluded is None and frame.camera_from_world is None
        if frame.index == 7:
            made = phantom.frame(7)
            np.testing.assert_array_equal(np.rint(frame.image * 255), np.rint(made.image * 255))
            np.testing.assert_allclose(frame.depth_mm, made.depth_mm, atol=0.006)
        count += 1
    source.close()
    assert count == 60 and set(truth["states"]) == {"tissue", "smoke", "black", "outside"}
    where = tmp_path / "s" / "truth"
    options = InputOptions(masks=where / "masks", poses=where / "poses.json")
    given = open_live_source(str(where.parent), options, "max")
    frame = given.read(5.0)
    np.testing.assert_array_equal(frame.occluded, phantom.frame(0).occluded)
    np.testing.assert_allclose(frame.camera_from_world, np.eye(4), atol=1e-9)
    given.close()


def test_no_such_preset():
    with pytest.raises(InputError, match="tiny"):
        StreamPhantom("huge")
