"""The parts of a live session by themselves: mailboxes, front, ladder, monitor, depth scale, masks."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from splatomy.engine.live.frame_preparing import Prepared, Preparer
from splatomy.engine.live.front import ThreadedFront
from splatomy.engine.live.keeping import CameraPath
from splatomy.engine.live.mailbox import Latest
from splatomy.engine.live.monitor import Monitor
from splatomy.engine.live.phantom_source import PhantomSource
from splatomy.engine.live.publishing import blocks_of
from splatomy.engine.live.shedding import Ladder
from splatomy.io.live_sources import LiveFrame
from splatomy.io.options import InputOptions
from splatomy.io.run import RunFolder
from splatomy.methods.live_scene.breathing import Breathing, Common
from splatomy.methods.live_scene.config import Config
from splatomy.methods.live_scene.keyframes import Keyframes
from splatomy.methods.live_scene.mapping import SurfelMap
from splatomy.methods.live_scene.parts import Part
from splatomy.phantoms.stream import PRESETS, StreamPhantom
from splatomy.prepare.masks.stream import StreamMasks
from splatomy.prepare.stream_depth import PairDepth, ScaleKeeper

TINY = replace(PRESETS["tiny"], disturbances=())


def test_the_newest_wins_in_a_mailbox() -> None:
    box: Latest[int] = Latest()
    assert [box.put(n) for n in (1, 2, 3)] == [False, True, True]
    assert box.take() == 3
    box.put(4)
    box.close()
    assert box.take() == 4 and box.take() is None


def test_whoever_hands_over_never_waits_for_a_stalled_reader() -> None:
    box: Latest[int] = Latest()
    taken: list[int] = []

    def stalled() -> None:
        while (item := box.take()) is not None:
            taken.append(item)
            time.sleep(0.2)

    thread = threading.Thread(target=stalled)
    thread.start()
    began = time.monotonic()
    for n in range(1, 1000):
        box.put(n)
    assert time.monotonic() - began < 0.2
    box.close()
    thread.join(5)
    assert taken[-1] == 999 and len(taken) < 10


class _SlowPreparer(Preparer):
    """Takes its time with every frame."""

    def prepare(self, frame: LiveFrame, received_s: float, skipped: int) -> Prepared:
        time.sleep(0.15)
        return super().prepare(frame, received_s, skipped)


def test_a_slow_machine_gets_the_newest_frames_and_counts_the_others() -> None:
    source = PhantomSource(StreamPhantom(replace(TINY, fps=25.0), 0), "real", 30)
    info = source.describe()
    front = ThreadedFront(source, _SlowPreparer(info, InputOptions(), "cpu"), info)
    taken: list[int] = []
    while not front.ended:
        prepared = front.next(0.2)
        if prepared is not None:
            taken.append(prepared.frame.index)
    front.close()
    assert taken == sorted(set(taken)) and len(taken) + front.dropped == 30 and front.dropped > 5


def test_a_frame_of_a_gap_can_still_be_had() -> None:
    source = PhantomSource(StreamPhantom(TINY, 0), "real", 8)
    info = source.describe()
    front = ThreadedFront(source, Preparer(info, InputOptions(), "cpu"), info)
    deadline = time.monotonic() + 10
    while not front.ended and time.monotonic() < deadline:
        front.next(0.1)
    middle = front.between(0, 7)
    assert middle is not None and 0 < middle.frame.index < 7
    assert front.between(3, 4) is None
    front.close()


def test_the_ladder_goes_down_and_recovers() -> None:
    ladder = Ladder(0.5)
    for n in range(4):
        assert not ladder.took(2.0, n)
    assert ladder.took(2.0, 4) and ladder.rung == 1 and not ladder.has_mesh
    for n in range(100):
        ladder.took(2.0, 5 + n)
    assert ladder.rung == 7 and ladder.frame_stride == 2 and ladder.steps(4) == 2 and ladder.model_stride == 6
    now_s = 200.0
    while ladder.rung:
        ladder.took(0.1, now_s)
        now_s += 0.25
    # Two seconds for each of the seven steps.
    assert now_s - 200.0 < 16.0


def test_one_late_frame_sheds_nothing() -> None:
    ladder = Ladder(0.5)
    for n in range(50):
        assert not ladder.took(2.0 if n % 4 == 0 else 0.1, 0.1 * n)
    assert ladder.rung == 0


def a_map(breathing: Breathing | None) -> Part:
    config = Config()
    return Part(0, SurfelMap(config, torch.device("cpu")), Keyframes(config), None, breathing)


def sway(shift_mm: float) -> Common:
    """Tissue that goes to and fro along x, once in 4 s."""
    twists = np.zeros((3, 6))
    twists[1, 0] = shift_mm
    return Common(4.0, 0.0, np.zeros(3), twists)


def places_written(path: CameraPath, folder: Path, scale: float = 1.0) -> np.ndarray:
    path.write(RunFolder(folder), scale)
    return np.loadtxt(folder / "trajectory.txt", ndmin=2)[:, 1:4]


def test_the_path_takes_what_later_breaths_tell(tmp_path: Path) -> None:
    """Rows that the breath was told from are corrected, older ones and another map's stay as they were."""
    breathing = Breathing(0.0, 60.0, np.array([0.0, 0.0, 60.0]))
    part, path = a_map(breathing), CameraPath()
    shifts, seen = np.zeros((1, 3), np.float32), np.ones(1, bool)
    for time_s in (0.0, 4.0, 8.0):
        breathing.take(time_s, np.eye(4), shifts, seen)
        path.add(time_s, np.eye(4), part)
    np.testing.assert_allclose(places_written(path, tmp_path)[:, 0], 0)
    breathing.common = sway(2.0)
    breathing.take(44.0, np.eye(4), shifts, seen)
    path.add(44.0, np.eye(4), part)
    # What was 40 s ago has left the breath's samples.
    breathing.common = sway(3.0)
    np.testing.assert_allclose(places_written(path, tmp_path)[:, 0], [2, 3, 3, 3])
    again = CameraPath()
    again.restore(path.state(), part)
    breathing.common = sway(1.0)
    for one in (path, again):
        np.testing.assert_allclose(places_written(one, tmp_path)[:, 0], [2, 1, 1, 1])
    path.add(48.0, np.eye(4), a_map(None))
    breathing.common = sway(5.0)
    np.testing.assert_allclose(places_written(path, tmp_path)[:, 0], [2, 1, 1, 1, 0])


def test_the_path_is_in_one_unit_when_the_scale_is_told(tmp_path: Path) -> None:
    path, part = CameraPath(), a_map(None)
    pose = np.eye(4)
    pose[:3, 3] = [-1.0, 0.0, 0.0]
    path.add(0.0, pose, part)
    pose[:3, 3] *= 2.0
    path.add(0.1, pose, part, 2.0)
    np.testing.assert_allclose(places_written(path, tmp_path, 2.0)[:, 0], [2, 2])


def test_falling_quality_is_told_once() -> None:
    monitor = Monitor()
    notices = []
    for n in range(40):
        notices += monitor.scored({"psnr": 30.0 if n < 30 else 24.0, "ssim": 0.9}, float(n))
    assert [n.code for n in notices] == ["quality-falls"]
    assert monitor.trend()["psnr_trend_db"] < 0 and 24 < monitor.means()["psnr"] < 30


def test_scale_and_offset_of_every_frame_are_undone() -> None:
    """The sheet's test: perfect inverse depth under a random factor and offset comes back within 2 %."""
    rng = np.random.default_rng(0)
    keeper = ScaleKeeper(60.0)
    y, x = np.mgrid[0:48, 0:64]
    true = (60 + 10 * np.sin(x / 9) + 6 * np.cos(y / 7)).astype(np.float32)
    reference: np.ndarray | None = None
    hidden = np.zeros(true.shape, bool)
    for n in range(12):
        slope, offset = float(np.exp(rng.normal(0, 1))), float(rng.normal(0, 0.3))
        shape = ((1 / true - offset) / slope).astype(np.float32)
        found = keeper.depth_mm(shape, reference, hidden)
        if n:
            assert np.nanmedian(np.abs(found - true) / true) < 0.02
        reference = np.where(rng.random(true.shape) < 0.3, np.nan, true).astype(np.float32)
        # A tool in front of a fifth of the map that the shape does not know.
        reference[:, :12] *= 0.7


def test_grey_instruments_are_found_frame_by_frame() -> None:
    phantom = StreamPhantom(replace(PRESETS["small"], disturbances=()), 0)
    masks = StreamMasks()
    outside = np.zeros((128, 160), bool)
    overlaps = []
    for frame in phantom.frames(30, 44):
        found = masks.mask(frame.image, outside)
        if frame.occluded.mean() > 0.02:
            overlaps.append((found & frame.occluded).sum() / frame.occluded.sum())
    assert overlaps and float(np.mean(overlaps)) > 0.8


def test_two_eyes_give_depth() -> None:
    phantom = StreamPhantom(replace(PRESETS["small"], disturbances=(), instrument_mm=0.0), 0)
    frame = phantom.frame(5, right=True)
    assert frame.right is not None
    p = phantom.preset
    pair = PairDepth(phantom.intrinsics, p.baseline_mm, p.width_px, p.height_px, 15.0, 250.0)
    depth = pair.depth_mm(frame.image, frame.right, frame.occluded)
    known = np.isfinite(depth)
    error = np.abs(depth - frame.tissue_depth_mm)[known] / frame.tissue_depth_mm[known]
    assert known.mean() > 0.4 and float(np.median(error)) < 0.03


def test_blocks_hold_every_point_once() -> None:
    xyz = np.random.default_rng(0).normal(0, 10, (500, 3)).astype(np.float32)
    blocks = blocks_of(xyz, 8.0)
    rows = np.concatenate(list(blocks.values()))
    assert len(blocks) > 3 and np.array_equal(np.sort(rows), np.arange(500))


@pytest.mark.parametrize("bad", ["nan", "raises"])
def test_a_model_that_returns_garbage_is_left_out(bad: str) -> None:
    phantom = StreamPhantom(TINY, 0)
    info = PhantomSource(phantom, "max").describe()
    preparer = Preparer(info, InputOptions(), "cpu")
    preparer._shape = _Garbage(bad)
    for number in range(5):
        frame = phantom.frame(number)
        one = LiveFrame(number, frame.time_s, 0.0, frame.image, occluded=frame.occluded)
        prepared = preparer.prepare(one, 0.0, 0)
    assert [n.code for n in preparer.notices] == ["depth-model"]
    assert prepared.shape is not None and np.isfinite(prepared.shape).all()


class _Garbage:
    """A depth model that has gone wrong."""

    def __init__(self, how: str) -> None:
        self.how = how

    def inverse_depth(self, image: np.ndarray, hidden: np.ndarray) -> np.ndarray:
        if self.how == "raises":
            raise RuntimeError("the graph cannot be run")
        return np.full(hidden.shape, np.nan, np.float32)
