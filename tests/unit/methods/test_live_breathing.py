"""Telling what all tissue does together from what the camera does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from live_streams import CALM, QUICK, fingerprint, observation, online_for, played

from splatomy.geometry.rigid import inverse, rigid, rotation_from_vector
from splatomy.methods.live_scene.breathing import Breathing, breath_period
from splatomy.methods.live_scene.frames import Float
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


def test_noise_has_no_period() -> None:
    rng = np.random.default_rng(1)
    times = np.arange(0.0, 20.0, 0.2)
    assert breath_period(times, rng.standard_normal((100, 30, 3)).astype(np.float32), 0.1) is None


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
