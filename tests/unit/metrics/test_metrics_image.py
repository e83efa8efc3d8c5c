"""Image metrics against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from splatomy.metrics.image import image_metrics, psnr, psnr_minmax, rmse, ssim, ssim_minmax


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).random((3, 24, 32)) * np.array([1.0, 2.0, 4.0])[:, None, None]


def test_psnr_uses_the_stack_s_maximum(images: np.ndarray) -> None:
    assert psnr(images + 0.01, images) == pytest.approx(20 * np.log10(images.max() / 0.01))
    assert psnr(images + 0.01, images, data_range=1.0) == pytest.approx(40)
    assert psnr(images, images) == float("inf")
    assert np.isnan(psnr(np.ones((1, 8, 8)), np.zeros((1, 8, 8))))


def test_masked_figures_see_the_mask_alone(images: np.ndarray) -> None:
    mask = np.zeros(images.shape, bool)
    mask[:, :5] = True
    wrong = np.where(mask, images + 0.1, images + 5)
    assert rmse(wrong, images, mask) == pytest.approx(0.1)
    assert np.isnan(rmse(wrong, images, np.zeros_like(mask)))
    found = image_metrics(wrong, images, mask)
    assert found["psnr_masked"] == pytest.approx(20 * np.log10(images.max() / 0.1))
    colour = np.repeat(images[..., None], 3, -1)
    assert rmse(np.repeat(wrong[..., None], 3, -1), colour, mask) == pytest.approx(0.1)


def test_ssim_bounds(images: np.ndarray) -> None:
    assert ssim(images, images) == pytest.approx(1)
    assert ssim(images[:, ::-1], images) < 0.3
    assert ssim(np.repeat(images[..., None], 3, -1), np.repeat(images[..., None], 3, -1)) == pytest.approx(1)


def test_the_paper_s_variant_is_blind_to_scale_and_offset(images: np.ndarray) -> None:
    assert psnr_minmax(3 * images + 7, images) > 200
    assert ssim_minmax(3 * images + 7, images) == pytest.approx(1)
    assert psnr(3 * images + 7, images) < 0
    assert np.isfinite(psnr_minmax(np.ones_like(images), images))


def test_shapes_must_agree(images: np.ndarray) -> None:
    with pytest.raises(ValueError, match="shape"):
        psnr(images[:2], images)
