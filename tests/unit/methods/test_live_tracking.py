"""Finding the camera against the map, and knowing when it cannot be found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from live_streams import CALM, fingerprint, observation, online_for, path_error, played

from splatomy.geometry.rigid import inverse, rigid, rotation_from_vector
from splatomy.methods.live_scene.health import State
from splatomy.methods.live_scene.online import Online
from splatomy.phantoms.stream import StreamFrame, StreamPhantom


@pytest.fixture(scope="module")
def phantom() -> StreamPhantom:
    return StreamPhantom(CALM, 0)


@pytest.fixture(scope="module")
def frames(phantom: StreamPhantom) -> list[StreamFrame]:
    return list(phantom.frames(0, 40))


@pytest.fixture(scope="module")
def mapped(phantom: StreamPhantom, frames: list[StreamFrame]) -> Online:
    online = online_for(phantom)
    outcomes = played(online, [observation(f) for f in frames])
    error, length = path_error(outcomes, phantom)
    assert all(o.state is State.OK for o in outcomes)
    # The sheet's limit for the synthetic stream.
    assert error < 0.01 * length
    return online


def copied(online: Online, phantom: StreamPhantom) -> Online:
    arrays, values = online.state()
    other = online_for(phantom)
    other.restore(arrays, values)
    return other


def test_a_pose_is_found_from_a_wrong_start(
    mapped: Online, phantom: StreamPhantom, frames: list[StreamFrame]
) -> None:
    levels, _ = mapped._levels(observation(frames[38]))
    true = frames[38].camera_from_world
    start = rigid(rotation_from_vector(np.array([0.02, -0.03, 0.02])), np.array([1.5, -1.0, 1.0])) @ true
    view = mapped.part.surfels.view(start, levels[-1], None)
    found = mapped.tracker.track(view, start, levels, [start])
    miss = np.linalg.norm(inverse(found.camera_from_world)[:3, 3] - inverse(true)[:3, 3])
    began = np.linalg.norm(inverse(start)[:3, 3] - inverse(true)[:3, 3])
    assert miss < 0.25 * began and found.inliers > 0.9


def test_exposure_is_told_apart_from_motion(
    mapped: Online, phantom: StreamPhantom, frames: list[StreamFrame]
) -> None:
    dimmed = replace(observation(frames[38]), image=0.8 * frames[38].image)
    online = copied(mapped, phantom)
    bright = copied(mapped, phantom).observe(observation(frames[38], 40, 4.0))
    dark = online.observe(replace(dimmed, index=40, time_s=4.0))
    assert bright.found is not None and dark.found is not None
    assert dark.found.gain / bright.found.gain == pytest.approx(0.8, abs=0.05)
    apart = inverse(bright.camera_from_world)[:3, 3] - inverse(dark.camera_from_world)[:3, 3]
    assert np.linalg.norm(apart) < 0.5


def test_hidden_pixels_do_not_move_the_camera(
    mapped: Online, phantom: StreamPhantom, frames: list[StreamFrame]
) -> None:
    hidden = frames[38].occluded.copy()
    hidden[10:30, 15:40] = True
    poses = []
    for value in (0.0, 1.0):
        image, depth = frames[38].image.copy(), frames[38].depth_mm.copy()
        image[hidden], depth[hidden] = value, 10 + 50 * value
        one = replace(observation(frames[38], 40, 4.0), image=image, depth_mm=depth, occluded=hidden)
        poses.append(copied(mapped, phantom).observe(one).camera_from_world)
    assert np.array_equal(poses[0], poses[1])


def test_darkness_pauses_and_an_old_view_is_found_again(
    mapped: Online, phantom: StreamPhantom, frames: list[StreamFrame]
) -> None:
    online = copied(mapped, phantom)
    before = fingerprint(online)
    black = replace(observation(frames[0]), image=np.zeros_like(frames[0].image))
    outcomes = played(online, [replace(black, index=40 + n, time_s=4 + 0.1 * n) for n in range(60)])
    assert {o.state for o in outcomes} == {State.PAUSED}
    # Nothing is learnt of the dark.
    assert fingerprint(online) == before
    back = [observation(frames[10 + n], 100 + n, 10 + 0.1 * n) for n in range(10)]
    outcomes = played(online, back)
    states = [o.state for o in outcomes]
    assert State.RELOCALISED in states and states[-1] is State.OK
    miss = inverse(outcomes[-1].camera_from_world)[:3, 3] - inverse(frames[19].camera_from_world)[:3, 3]
    assert np.linalg.norm(miss) < 1.0


def test_foreign_pictures_degrade_then_lose_and_teach_nothing(mapped: Online, phantom: StreamPhantom) -> None:
    online = copied(mapped, phantom)
    other = StreamPhantom(replace(CALM, distance_mm=90.0), 5)
    before = fingerprint(online)
    outcomes = played(online, [observation(other.frame(n), 40 + n, 4 + 0.1 * n) for n in range(14)])
    states = [o.state for o in outcomes]
    assert states[0] is State.DEGRADED and states[-1] is State.LOST
    assert fingerprint(online) == before


def test_a_new_map_begins_when_nothing_is_found_and_the_old_one_comes_back(
    mapped: Online, phantom: StreamPhantom, frames: list[StreamFrame]
) -> None:
    online = copied(mapped, phantom)
    other = StreamPhantom(replace(CALM, distance_mm=90.0), 5)
    away = [observation(other.frame(n), 40 + n, 4 + 0.5 * n) for n in range(32)]
    states = [o.state for o in played(online, away)]
    assert State.LOST in states and states[-1] is State.OK
    assert len(online.resting) == 1 and online.part.number == 1
    # The mean of two unrelated places is no place: the first map is found by its own keyframes.
    back = [observation(frames[5 + n], 80 + n, 25 + 0.2 * n) for n in range(20)]
    states = [o.state for o in played(online, back)]
    assert states[-1] is State.OK and online.part.number == 0
