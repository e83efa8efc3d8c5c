"""The map while it grows: what gets in, what goes, what stays, and that its state really goes on."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from live_streams import CALM, QUICK, fingerprint, observation, online_for, path_error, played

from splatomy.capture import Capture, Modality
from splatomy.events import Snapshot, finish
from splatomy.geometry.cameras import Cameras
from splatomy.methods.live_scene.config import Config
from splatomy.methods.live_scene.method import reconstruct
from splatomy.phantoms.stream import StreamFrame, StreamPhantom

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def phantom() -> StreamPhantom:
    return StreamPhantom(CALM, 0)


@pytest.fixture(scope="module")
def frames(phantom: StreamPhantom) -> list[StreamFrame]:
    return list(phantom.frames(0, 30))


def capture_of(phantom: StreamPhantom, frames: list[StreamFrame]) -> Capture:
    p = phantom.preset
    k = np.repeat(phantom.intrinsics[None], len(frames), 0)
    poses = np.stack([f.camera_from_world for f in frames])
    return Capture(
        Modality.COLOUR,
        np.stack([f.image for f in frames]),
        np.array([f.time_s for f in frames]),
        Cameras(k, poses, p.width_px, p.height_px),
        occluded=np.stack([f.occluded for f in frames]),
        depth_mm=np.stack([f.depth_mm for f in frames]),
    )


def test_batches_go_on_where_the_last_one_ended(phantom: StreamPhantom, frames: list[StreamFrame]) -> None:
    whole = capture_of(phantom, frames[:12])
    one = finish(reconstruct([whole], QUICK, CPU))
    parts = [whole.frames(slice(0, 5)), whole.frames(slice(5, 9)), whole.frames(slice(9, 12))]
    many = finish(reconstruct(parts, QUICK, CPU))
    first, second = one.state().arrays, many.state().arrays
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_a_checkpoint_goes_on_as_if_nothing_had_happened(
    phantom: StreamPhantom, frames: list[StreamFrame]
) -> None:
    capture = capture_of(phantom, frames[:14])
    config = replace(QUICK, snapshot_every_s=0.05)
    middle = None
    task = reconstruct([capture], config, CPU)
    while True:
        try:
            event = next(task)
        except StopIteration as stop:
            whole = stop.value
            break
        if isinstance(event, Snapshot) and 3 < event.step < 12 and event.checkpoint is not None:
            middle = event.checkpoint
    assert middle is not None
    resumed = finish(reconstruct([capture], config, CPU, resume=middle))
    first, second = whole.state().arrays, resumed.state().arrays
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_instruments_do_not_get_into_the_map(phantom: StreamPhantom, frames: list[StreamFrame]) -> None:
    """What is hidden may hold any values: not a single surfel depends on them."""
    maps = []
    for value in (0.0, 1.0):
        online = online_for(phantom)
        painted = []
        for frame in frames[:8]:
            image, depth = frame.image.copy(), frame.depth_mm.copy()
            image[frame.occluded], depth[frame.occluded] = value, 20 + 10 * value
            painted.append(replace(observation(frame), image=image, depth_mm=depth))
        played(online, painted)
        maps.append(fingerprint(online))
    assert any(frame.occluded.any() for frame in frames[:8])
    assert maps[0] == maps[1]


def test_what_frames_see_through_goes(phantom: StreamPhantom, frames: list[StreamFrame]) -> None:
    online = online_for(phantom)
    played(online, [observation(f) for f in frames[:6]])
    surfels, current = online.part.surfels, online.current
    assert surfels.store is not None and current is not None
    count = len(surfels)
    # A veil of surfels halfway to the tissue, as smoke would leave it.
    chosen = torch.linspace(0, count - 1, 200).long()
    rows = {name: surfels.store[name].detach()[chosen].clone() for name in surfels.store.parameters}
    rows["means_mm"] = rows["means_mm"] * 0.5
    surfels.put_back(rows, 0.6, None)
    assert len(surfels) == count + 200
    for _ in range(3):
        surfels.compare(current.level, online.pose, 0.7, None)
    assert len(surfels) <= count + 60


def test_the_map_keeps_its_budget(phantom: StreamPhantom, frames: list[StreamFrame]) -> None:
    config = replace(QUICK, max_surfels=500, max_keyframes=4)
    online = online_for(phantom, config)
    played(online, [observation(f) for f in frames])
    assert 0 < len(online.part.surfels) <= 500 and len(online.part.keyframes) <= 4


def test_unseen_surfels_stay_bit_for_bit(phantom: StreamPhantom, frames: list[StreamFrame]) -> None:
    online = online_for(phantom)
    played(online, [observation(f) for f in frames[:6]])
    surfels, current = online.part.surfels, online.current
    assert surfels.store is not None and current is not None
    away = surfels.store["means_mm"].detach()
    behind = torch.arange(len(away)) % 2 == 0
    with torch.no_grad():
        away[behind, 2] *= -1
    before = away.clone()
    surfels.learn(current.level, online.pose, 1.0, None)
    after = surfels.store["means_mm"].detach()
    assert torch.equal(after[behind], before[behind]) and not torch.equal(after[~behind], before[~behind])


def test_with_one_step_a_frame_every_second_step_is_on_a_keyframe(
    phantom: StreamPhantom, frames: list[StreamFrame]
) -> None:
    """Keyframes are drawn at random: a step on one is seen by that."""
    online = online_for(phantom, replace(QUICK, steps_per_frame=1))
    drawn = []
    for frame in frames[:8]:
        online.observe(observation(frame))
        before = online.rng.bit_generator.state
        online.learn(1)
        drawn.append(online.rng.bit_generator.state != before)
    keyframe = drawn.index(True)
    assert keyframe <= 2
    # The steps between two keyframes alternate.
    assert sum(drawn) >= 3 and not any(a and b for a, b in pairwise(drawn))


def test_given_poses_are_believed(phantom: StreamPhantom, frames: list[StreamFrame]) -> None:
    online = online_for(phantom, Config(steps_per_frame=1, poses="given"))
    given = [replace(observation(f), camera_from_world=f.camera_from_world) for f in frames[:10]]
    outcomes = played(online, given)
    for outcome, frame in zip(outcomes, frames, strict=False):
        assert np.array_equal(outcome.camera_from_world, frame.camera_from_world)


def test_breathing_tissue_is_followed_by_the_nodes() -> None:
    """On tissue that breathes, the deforming profile foretells depth better than the rigid one."""
    phantom = StreamPhantom(replace(CALM, breath_mm=4.0, breath_period_s=2.0, pan_mm=(0.0, 0.0, 0.0)), 0)
    frames = list(phantom.frames(0, 24))
    errors = []
    for profile in ("rigid", "deforming"):
        config = Config(steps_per_frame=2, profile=profile, poses="given", node_steps=8)  # type: ignore[arg-type]
        online = online_for(phantom, config)
        given = [replace(observation(f), camera_from_world=f.camera_from_world) for f in frames]
        played(online, given)
        _, level = online._levels(given[-1])
        view = online.part.surfels.view(online.pose, level, online.part.motion)
        true = frames[-1].tissue_depth_mm
        seen = (view.alpha.numpy() > 0.5) & ~frames[-1].occluded
        errors.append(float(np.abs(view.depth.numpy() - true)[seen].mean()))
    assert errors[1] < 0.7 * errors[0]


def test_the_camera_is_tracked_over_the_whole_path(phantom: StreamPhantom, frames: list[StreamFrame]) -> None:
    online = online_for(phantom)
    error, length = path_error(played(online, [observation(f) for f in frames]), phantom)
    assert error < 0.01 * length
