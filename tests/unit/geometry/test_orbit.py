"""Cameras about a thing stand upright, look at it, and show all of it."""

from __future__ import annotations

import numpy as np

from splatomy.geometry.orbit import ball_about, front_and_up, orbit


def test_an_orbit_shows_the_whole_ball_upright() -> None:
    middle, up, front = np.array([3.0, -2, 7]), np.array([0, 0, 1.0]), np.array([1.0, 0, 0])
    cameras = orbit(front, up, middle, 5.0, np.radians([0, 90.0, 200]), np.radians([20.0, 0, -40]), 200)
    pixels, depth = cameras.project(np.stack([middle, middle + 5 * up * 0.9]))
    assert np.allclose(pixels[:, 0], 99.5) and (depth > 0).all()
    assert (pixels[:, 1, 1] < pixels[:, 0, 1]).all()
    rng = np.random.default_rng(0).normal(size=(500, 3))
    ball = middle + 5 * rng / np.linalg.norm(rng, axis=1, keepdims=True)
    seen, _ = cameras.project(ball)
    assert (seen > 0).all() and (seen < 199).all() and np.ptp(seen[0, :, 0]) > 170
    # A turn goes to the viewer's right.
    assert np.allclose(cameras.centres_mm[1] - middle, np.array([0, 1, 0]) * np.linalg.norm(
        cameras.centres_mm[1] - middle))  # fmt: skip


def test_front_and_up_come_from_the_pictures() -> None:
    up, front = np.array([0, 0, 1.0]), np.array([0, 1.0, 0])
    few = orbit(front, up, np.zeros(3), 5.0, np.radians([-30.0, 0, 30]), np.radians([10.0, 20, 10]), 64)
    found, above = front_and_up(few, np.zeros(3))
    assert np.allclose(above, up, atol=1e-6) and np.allclose(found, front, atol=1e-6)
    around = orbit(front, up, np.zeros(3), 5.0, np.arange(8) * np.pi / 4, np.full(8, 0.3), 64)
    found, above = front_and_up(around, np.zeros(3))
    assert np.allclose(above, up, atol=1e-6) and abs(found @ above) < 1e-9
    middle, radius = ball_about(np.random.default_rng(1).normal(size=(5000, 3)).clip(-2, 2))
    assert np.linalg.norm(middle) < 0.2 and 2.0 < radius < 3.5
