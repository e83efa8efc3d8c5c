"""Telling what all tissue does together from what the camera does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from live_streams import CALM, QUICK, fingerprint, observation, online_for, played

from splatomy.capture import Capture, Modality
from splatomy.events import Notice, Progress
from splatomy.geometry.rigid import inverse, rigid, rotation_from_vector
from splatomy.methods.live_scene.breathing import Breathing, breath_period
from splatomy.methods.live_scene.config import Config
from splatomy.methods.live_scene.frames import Float
from splatomy.methods.live_scene.method import reconstruct
from splatomy.methods.live_scene.telling import BreathTeller
from splatomy.phantoms.stream import StreamPhantom

TYPICAL_MM = 66.0
PIVOT_MM = np.array([0.0, 0.0, TYPICAL_MM])


def camera_at(time_s: float) -> Float:
    """A scope that pans on a figure of eight, camera from world."""
    turn = 2 * np.pi * time_s / 16
    centre = np.array([20 * np.sin(turn), 10 * np.sin(2 * turn), 3 * np.cos(turn) - 3])
    rotation = rotation_from_vector(np.array([0.02, -0.03, 0.08]) * np.sin(turn))
    return rigid(rotation, -(rotation @ centre))


def common_at(time_s: float, period_s: float) -> Float:
    """What all tissue does: it begins at rest."""
    share = np.sin(np.pi * time_s / period_s) ** 2
    turn = rotation_from_vector(share * np.array([0.02, 0.01, 0.0]))
    return rigid(turn, PIVOT_MM + share * np.array([1.0, 2.5, -2.0]) - turn @ PIVOT_MM)


def fed(period_s: float, seconds: float, bend_mm: float = 1.0, noise_mm: float = 0.05) -> Breathing:
    """Takes frames of tissue that breathes and bends; ``period_s`` 0 = it does not breathe."""
    rng = np.random.default_rng(0)
    pattern = rng.standard_normal((40, 3))
    breathing = Breathing(0.0, TYPICAL_MM, PIVOT_MM)
    for time_s in np.arange(0.0, seconds, 0.2):
        pose, shifts = camera_at(time_s), noise_mm * rng.standard_normal((40, 3))
        if period_s:
            pose = pose @ common_at(time_s, period_s)
            shifts += bend_mm * np.sin(np.pi * time_s / period_s) ** 2 * pattern
        pose[:3, 3] += noise_mm * rng.standard_normal(3)
        breathing.take(float(time_s), pose, shifts.astype(np.float32), rng.uniform(size=40) > 0.2)
    return breathing


def off_mm(breathing: Breathing, period_s: float, time_s: float) -> float:
    """How far the camera is from its true place at a time, when the common motion is taken out."""
    pose = camera_at(time_s) @ common_at(time_s, period_s) @ inverse(breathing.motion(time_s))
    return float(np.linalg.norm(inverse(pose)[:3, 3] - inverse(camera_at(time_s))[:3, 3]))


@pytest.mark.parametrize("period_s", [2.6, 3.6, 5.2])
def test_a_breath_is_told_from_the_camera(period_s: float) -> None:
    breathing = fed(period_s, 16.0)
    assert breathing.common is not None
    assert breathing.common.period_s == pytest.approx(period_s, rel=0.03)
    times = np.arange(8.0, 16.0, 0.2)
    error = np.sqrt(np.mean([off_mm(breathing, period_s, t) ** 2 for t in times]))
    before = [centre_miss(camera_at(t) @ common_at(t, period_s), camera_at(t)) for t in times]
    # A quarter of what is taken for the camera's without it.
    assert error < 0.25 * np.sqrt(np.mean(np.square(before)))
    np.testing.assert_allclose(breathing.motion(0.0), np.eye(4), atol=0.02)


def centre_miss(pose: Float, other: Float) -> float:
    return float(np.linalg.norm(inverse(pose)[:3, 3] - inverse(other)[:3, 3]))


def test_tissue_that_does_not_bend_does_not_breathe() -> None:
    breathing = fed(0.0, 12.0)
    assert breathing.common is None
    assert np.array_equal(breathing.motion(11.0), np.eye(4))


def test_a_held_breath_leaves_the_tissue_where_it_is() -> None:
    breathing = fed(3.6, 12.0)
    still, shifts = camera_at(12.0), np.zeros((40, 3), np.float32)
    for time_s in np.arange(12.0, 56.0, 0.4):
        breathing.take(float(time_s), still, shifts, np.ones(40, bool))
    np.testing.assert_array_equal(breathing.motion(56.0), breathing.motion(57.3))


def test_a_held_breath_leaves_the_past_as_it_was() -> None:
    breathing = fed(3.6, 12.0)
    assert breathing.common is not None
    held = breathing.common.held(11.0)
    for time_s in (5.0, 8.4, 11.0):
        np.testing.assert_array_equal(held.at(time_s), breathing.motion(time_s))
    np.testing.assert_array_equal(held.at(13.0), breathing.motion(11.0))


@pytest.mark.parametrize("fps", [5.0, 7.5, 15.0])
def test_the_start_stays_at_rest_however_late_the_first_sample_is(fps: float) -> None:
    """The first frame is the world, at the last estimate as at the first one."""
    breathing = Breathing(0.0, TYPICAL_MM, PIVOT_MM)
    pattern = np.random.default_rng(0).standard_normal((40, 3))
    for time_s in np.arange(1, 12 * fps) / fps:
        if breathing.is_due(float(time_s)):
            shifts = np.sin(np.pi * time_s / 3.6) ** 2 * pattern
            pose = camera_at(time_s) @ common_at(time_s, 3.6)
            breathing.take(float(time_s), pose, shifts.astype(np.float32), np.ones(40, bool))
    np.testing.assert_allclose(breathing.motion(0.0), np.eye(4), atol=1e-6)


def test_noise_has_no_period() -> None:
    rng = np.random.default_rng(1)
    times = np.arange(0.0, 20.0, 0.2)
    assert breath_period(times, rng.standard_normal((100, 30, 3)).astype(np.float32), 0.1) is None


def codes_told(teller: BreathTeller, breathing: Breathing, time_s: float) -> list[str]:
    return [notice.code for notice in teller.news(breathing.period_s, time_s)]


def test_a_breath_is_told_when_it_is_found_lost_and_found_again() -> None:
    teller, breathing = BreathTeller(), fed(3.6, 12.0)
    found = teller.news(breathing.period_s, 12.0)
    assert [notice.code for notice in found] == ["breath-found"]
    assert "3.6 s" in found[0].text and "camera path and map" in found[0].text
    assert "uncertain" in found[0].text
    assert codes_told(teller, breathing, 12.4) == []
    still, shifts = camera_at(12.0), np.zeros((40, 3), np.float32)
    codes = []
    for time_s in np.arange(12.0, 56.0, 0.4):
        breathing.take(float(time_s), still, shifts, np.ones(40, bool))
        codes += codes_told(teller, breathing, float(time_s))
    assert breathing.period_s is None and codes == ["breath-lost"]
    # The path was moved by it all the same.
    assert teller.figures()["breath_period_s"] == pytest.approx(3.6, rel=0.05)
    assert [notice.code for notice in teller.news(3.6, 57.0)] == ["breath-found"]


def test_a_gap_and_a_small_change_of_the_breath_are_not_told() -> None:
    teller = BreathTeller()
    assert teller.news(None, 0.0) == [] and teller.figures() == {}
    told = []
    for time_s, period_s in enumerate((3.6, 3.8, None, None, 3.5, 2.6, 2.7)):
        told += [notice.text for notice in teller.news(period_s, float(time_s))]
    assert len(told) == 2 and "2.6 s (told before: 3.6 s)" in told[1]


def test_its_state_goes_on() -> None:
    one = fed(3.6, 10.0)
    other = Breathing.restored(*one.state())
    for time_s in np.arange(10.0, 12.0, 0.2):
        for breathing in (one, other):
            breathing.take(float(time_s), camera_at(time_s), np.ones((40, 3), np.float32), np.ones(40, bool))
        assert np.array_equal(one.motion(time_s), other.motion(time_s))


def test_lengths_scale_with_the_session() -> None:
    breathing = fed(3.6, 10.0)
    before = breathing.motion(9.0)
    breathing.scale(2.0)
    after = breathing.motion(9.0)
    np.testing.assert_allclose(after[:3, 3], 2 * before[:3, 3], atol=1e-9)
    np.testing.assert_allclose(after[:3, :3], before[:3, :3])


def test_a_capture_that_breathes_says_so() -> None:
    phantom = StreamPhantom(replace(CALM, breath_mm=4.0, breath_period_s=2.5), 0)
    frames = list(phantom.frames(0, 20))
    capture = Capture(
        Modality.COLOUR,
        np.stack([f.image for f in frames]),
        np.array([f.time_s for f in frames]),
        occluded=np.stack([f.occluded for f in frames]),
        depth_mm=np.stack([f.depth_mm for f in frames]),
    )
    config = Config(profile="deforming", steps_per_frame=1, refine_passes=0)
    events = list(reconstruct([capture], config, torch.device("cpu")))
    codes = [e.code for e in events if isinstance(e, Notice)]
    assert codes[:2] == ["assumed-camera", "breath-found"]
    metrics = [e.metrics for e in events if isinstance(e, Progress) and e.stage == "live"]
    assert 2.0 < metrics[-1]["breath_period_s"] < 7.0


def test_a_bending_session_goes_on_from_its_state() -> None:
    """Nodes and map: the same from a checkpoint on, bit for bit."""
    phantom = StreamPhantom(replace(CALM, breath_mm=3.0), 0)
    frames = [observation(frame) for frame in phantom.frames(0, 9)]
    config = replace(QUICK, profile="deforming")
    one, other = online_for(phantom, config), online_for(phantom, config)
    played(one, frames[:6])
    other.restore(*one.state())
    assert one.part.breathing is not None and other.part.breathing is not None
    for online in (one, other):
        played(online, frames[6:])
    assert np.array_equal(one.place(), other.place()) and fingerprint(one) == fingerprint(other)
