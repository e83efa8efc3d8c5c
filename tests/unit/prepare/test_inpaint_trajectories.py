"""The way of tissue while it is hidden, from what it did before and after."""

from __future__ import annotations

import numpy as np

from splatomy.prepare.inpaint.fields import Float32, read_at
from splatomy.prepare.inpaint.trajectories import Trajectories, Walk, completed_in_time


def _breathing(frames: int = 40, rows: int = 18, columns: int = 24) -> Float32:
    """Displacements (F, r, c, 2) px of two patterns of different timing, each strongest somewhere else."""
    y, x = np.mgrid[0:rows, 0:columns] / np.array([rows, columns])[:, None, None]
    time = np.arange(frames) / frames
    first = np.sin(2 * np.pi * 2.3 * time)[:, None, None, None] * np.stack([x, 0.5 - y], -1) * 8
    bump = np.exp(-((x - 0.6) ** 2 + (y - 0.5) ** 2) / 0.03)
    second = (1 - np.cos(2 * np.pi * time))[:, None, None, None] * np.stack([bump, -bump], -1) * 6
    return (first + second).astype(np.float32)


def test_hidden_tissue_keeps_to_the_patterns_it_showed_before_and_after() -> None:
    truth = _breathing()
    seen = np.ones(truth.shape[:3], bool)
    # The hole lies on the bump, where the rim of the hole says nothing of the second pattern.
    seen[14:26, 4:14, 9:20] = False
    guess = truth.copy()
    guess[14:26, 4:14, 9:20] += np.float32(2.0)
    noise = np.random.default_rng(0).normal(0, 0.1, truth.shape).astype(np.float32)
    found = completed_in_time(Walk(guess, (truth + noise) * seen[..., None], seen))
    error = np.linalg.norm(found - truth, axis=-1)
    guessed = np.linalg.norm(guess - truth, axis=-1)
    assert error[~seen].mean() < guessed[~seen].mean() / 3
    assert error[seen].mean() < 0.2


def test_the_flow_back_meets_the_displacement() -> None:
    moved = _breathing(frames=3)
    columns, rows = np.meshgrid(np.arange(96), np.arange(72))
    flow = Trajectories(5, moved * np.float32(0.5)).flow_from(7, (96, 72))
    x, y = columns + flow[..., 0], rows + flow[..., 1]
    inside = (x > 2) & (y > 2) & (x < 93) & (y < 69)
    # The displacement at the place that the flow leads to, 4 pixels a node.
    there = read_at(np.float32(0.5) * moved[2], (x.ravel() + 0.5) / 4 - 0.5, (y.ravel() + 0.5) / 4 - 0.5)
    assert np.abs(flow + there.reshape(flow.shape))[inside].max() < 0.1
