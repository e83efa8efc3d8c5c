"""Volume metrics against closed forms and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from splatomy.metrics.volume import (
    cldice,
    dice,
    dice_best,
    recall_by_radius,
    time_error_s,
    volume_metrics,
    volume_rmse,
)


def test_dice() -> None:
    a, b = np.zeros((4, 4, 4), bool), np.zeros((4, 4, 4), bool)
    assert dice(a, b) == 1
    a[:2], b[1:3] = True, True
    assert dice(a, b) == pytest.approx(0.5)
    assert dice(a.astype(np.uint8), ~a) == 0


def test_best_dice_is_that_of_brute_force() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random((12, 12, 12)) < 0.1
    values = np.round(truth * 0.5 + rng.normal(size=truth.shape) * 0.3, 2)
    best, level = dice_best(values, truth)
    brute = max(dice(values >= v, truth) for v in np.unique(values[values > 0]))
    assert best == pytest.approx(brute)
    assert dice(values >= level, truth) == pytest.approx(best)
    assert dice_best(np.zeros((3, 3, 3)), np.ones((3, 3, 3)))[0] == 0


def test_cldice_sees_a_gap_that_dice_forgives() -> None:
    line = np.zeros((40, 21, 21), bool)
    line[2:38, 10, 10] = True
    tube = binary_dilation(line, iterations=3)
    cut = tube.copy()
    cut[15:25] = False
    assert cldice(tube, tube) == 1
    assert cldice(cut, tube) < 0.9
    assert cldice(np.zeros_like(tube), tube) == 0


def test_recall_counts_thin_points_alone() -> None:
    label = np.zeros((20, 20, 20))
    label[:10, 10, 10] = 1
    affine = np.diag([0.5, 0.5, 0.5, 1])
    points = np.stack([np.arange(20) * 0.5, np.full(20, 5.0), np.full(20, 5.0)], -1)
    radius = np.full(20, 0.3)
    # One voxel beyond the end is still within a voxel's edge.
    assert recall_by_radius(label, affine, points, radius) == pytest.approx(11 / 20)
    assert np.isnan(recall_by_radius(label, affine, points, radius + 1))
    assert recall_by_radius(0 * label, affine, points, radius) == 0


def test_time_error_ignores_the_unknown() -> None:
    a = np.array([1.0, 2, np.nan, 4])
    b = np.array([1.1, 2.1, 3, np.nan])
    assert time_error_s(a, b) == pytest.approx(0.1)
    assert np.isnan(time_error_s(a, b, np.zeros(4, bool)))


def test_volume_metrics_have_the_contract_s_names() -> None:
    truth = np.zeros((9, 9, 9))
    truth[:, 3:6, 3:6] = 1
    found = volume_metrics(0.01 * truth, truth, truth)
    assert found["dice_own"] == found["dice_best"] == found["cldice"] == 1
    assert volume_rmse(truth + 0.5, truth) == pytest.approx(0.5)
