"""Endoscopy metrics against closed forms."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from splatomy.metrics.endoscopy import (
    depth_metrics,
    flicker,
    hidden_metrics,
    psnr_zero_filled,
    ssim_zero_filled,
    transplanted_masks,
    transplanted_psnr,
    unsteadiness,
    visible_metrics,
)


@pytest.fixture
def clip() -> np.ndarray:
    rng = np.random.default_rng(0)
    small = rng.random((14, 18, 3)).astype(np.float32)
    frame = np.clip(cv2.resize(small, (72, 56), interpolation=cv2.INTER_CUBIC), 0, 1)
    return np.stack([np.roll(frame, t, axis=1) for t in range(5)])


@pytest.fixture
def occluded() -> np.ndarray:
    mask = np.zeros((5, 56, 72), bool)
    for t in range(5):
        mask[t, 14:42, 10 + 8 * t : 24 + 8 * t] = True
    return mask


def test_zero_filling_flatters_by_the_tissue_share(clip: np.ndarray, occluded: np.ndarray) -> None:
    wrong = np.where(occluded[..., None], 0.0, clip + 0.01)
    found = visible_metrics(wrong, clip, occluded)
    assert found["psnr_masked"] == pytest.approx(40, abs=1e-3)
    share = 1 - occluded[0].mean()
    assert found["psnr_zero_filled"] == pytest.approx(40 - 10 * np.log10(share), abs=1e-3)
    assert psnr_zero_filled(clip, clip, occluded) == float("inf")


def test_zero_filled_ssim_ignores_the_hole(clip: np.ndarray, occluded: np.ndarray) -> None:
    wrong = np.where(occluded[..., None], 1.0 - clip, clip)
    assert ssim_zero_filled(wrong, clip, occluded) == pytest.approx(1)
    assert ssim_zero_filled(1.0 - clip, clip, occluded) < 0.6


def test_each_hidden_figure_sees_its_own_pixels(clip: np.ndarray, occluded: np.ndarray) -> None:
    never = np.zeros_like(occluded)
    never[:, 14:20] = occluded[:, 14:20]
    wrong = clip + np.where(occluded & never, 0.1, np.where(occluded, 0.01, 0.001))[..., None]
    found = hidden_metrics(wrong, clip, occluded, never)
    assert found["psnr_masked"] == pytest.approx(60, abs=0.01)
    assert found["psnr_never_seen"] == pytest.approx(20, abs=0.01)
    assert found["psnr_hidden_seen"] == pytest.approx(40, abs=0.01)
    assert found["psnr_never_seen"] < found["psnr_hidden"] < found["psnr_ever_hidden"] < found["psnr"]
    nothing = hidden_metrics(clip, clip, np.zeros_like(occluded))
    assert np.isnan(nothing["psnr_hidden"]) and "psnr_never_seen" not in nothing


def test_depth_figures_are_raw_first_and_count_what_is_missing() -> None:
    truth = np.full((2, 10, 10), 50.0)
    truth[0, 0, 0] = np.nan
    depth = truth + 1.0
    depth[1, 0, 0] = 50.0 + 6800.0
    depth[1, 1, 1] = np.nan
    found = depth_metrics(depth, truth)
    assert found["depth_missing"] == pytest.approx(1 / 199)
    assert found["depth_worst_mm"] == pytest.approx(6800)
    assert found["depth_rmse_mm"] == pytest.approx(np.sqrt((197 + 6800**2) / 198))
    assert found["depth_rmse_clipped_mm"] == pytest.approx(np.sqrt((197 + 400) / 198))
    where = np.ones(truth.shape, bool)
    where[1, 0, 0] = False
    clean = depth_metrics(depth, truth, where)
    assert clean["depth_mae_mm"] == clean["depth_rmse_mm"] == pytest.approx(1)
    assert clean["depth_abs_rel"] == pytest.approx(0.02)
    nothing = depth_metrics(np.full_like(truth, np.nan), truth)
    assert nothing["depth_missing"] == 1 and np.isnan(nothing["depth_mae_mm"])


def test_transplanted_holes_lie_on_real_tissue(clip: np.ndarray, occluded: np.ndarray) -> None:
    foreign = transplanted_masks(occluded, shift=2, margin_px=2)
    assert foreign.any() and not (foreign & occluded).any()
    assert not (foreign & ~np.roll(occluded, -2, axis=0)).any()
    # Two pixels off the real hole's rim.
    rim = np.stack([cv2.dilate(m.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0 for m in occluded])
    assert not (foreign & rim).any()
    wrong = np.where(foreign[..., None], clip + 0.1, clip + 5)
    assert transplanted_psnr(wrong, clip, foreign) == pytest.approx(20, abs=1e-3)


def test_a_hole_that_moves_with_the_tissue_does_not_flicker(clip: np.ndarray, occluded: np.ndarray) -> None:
    noise = np.random.default_rng(1).choice([-0.1, 0.1], size=(5, 1, 1, 1))
    unsteady = np.where(
        occluded[..., None], clip + noise * np.array([1, -1, 1, -1, 1])[:, None, None, None], clip
    )
    assert abs(flicker(clip, occluded)) < 0.02
    assert flicker(unsteady, occluded) > abs(flicker(clip, occluded)) + 0.03
    assert np.isnan(flicker(clip[:1], occluded[:1]))


def test_a_constant_error_is_steady(clip: np.ndarray, occluded: np.ndarray) -> None:
    assert unsteadiness(clip + 0.2, clip, occluded) == pytest.approx(0, abs=1e-6)
    sign = np.array([1, -1, 1, -1, 1])[:, None, None, None]
    assert unsteadiness(clip + 0.1 * sign, clip, occluded) == pytest.approx(0.2, abs=1e-6)
    assert np.isnan(unsteadiness(clip, clip, np.zeros_like(occluded)))


def test_shapes_must_agree(clip: np.ndarray, occluded: np.ndarray) -> None:
    with pytest.raises(ValueError, match="shape"):
        psnr_zero_filled(clip, clip, occluded[:2])
