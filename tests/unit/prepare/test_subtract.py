"""Subtraction: offsets, motion, noise and unusable pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from splatomy.events import finish
from splatomy.prepare.subtract import SubtractConfig, background_offset, estimate_shift, subtract


def textured(seed: int, size: int = 128) -> np.ndarray:
    """The logarithm of a mask run's frame: smooth anatomy with edges."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(size=(size, size)).astype(np.float32), (0, 0), 5)
    image = 0.5 * noise / noise.std()
    image[30:60, 20:100] += 0.8
    return cv2.GaussianBlur(image, (0, 0), 1.2)


def vessels(size: int = 128) -> np.ndarray:
    image = np.zeros((size, size), np.float32)
    for x in (30, 64, 95):
        cv2.line(image, (x, 0), (size - x, size), 0.3, 3)
    return cv2.GaussianBlur(image, (0, 0), 1.0)


def counts(log_image: np.ndarray, rng: np.random.Generator, level: float = 2e4) -> np.ndarray:
    return rng.poisson(level * np.exp(-log_image)).astype(np.float32)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (1.4, -0.7), (-3.2, 2.1)])
def test_sub_pixel_motion_is_undone(shift: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    anatomy = textured(1)
    moved = cv2.warpAffine(
        anatomy, np.array([[1, 0, shift[0]], [0, 1, shift[1]]], float), (128, 128),
        flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    mask, fill = counts(anatomy, rng), counts(moved + vessels(), rng)
    product = finish(subtract(mask[None], fill[None], SubtractConfig()))
    assert np.allclose(product.shifts_px[0], shift, atol=0.12)
    inner = (0, slice(8, -8), slice(8, -8))
    error = product.line_integrals[inner] - vessels()[8:-8, 8:-8]
    assert float(np.sqrt(np.mean(error**2))) < 0.03


def test_a_gain_between_the_runs_is_removed() -> None:
    rng = np.random.default_rng(0)
    anatomy = textured(2)
    mask, fill = counts(anatomy, rng), 1.3 * counts(anatomy + vessels(), rng)
    product = finish(subtract(mask[None], fill[None], SubtractConfig()))
    assert abs(background_offset(product.line_integrals[0])) < 0.005


def test_the_noise_is_that_of_the_counts() -> None:
    rng = np.random.default_rng(0)
    flat = np.zeros((128, 128))
    product = finish(subtract(counts(flat, rng)[None], counts(flat, rng)[None], SubtractConfig()))
    assert float(np.median(product.noise_std)) == pytest.approx(np.sqrt(2 / 2e4), rel=0.05)


def test_zero_and_nan_counts_are_hidden_not_infinite() -> None:
    rng = np.random.default_rng(0)
    mask, fill = counts(textured(3), rng), counts(textured(3), rng)
    fill[5, 5], mask[7, 7] = 0.0, np.nan
    product = finish(subtract(mask[None], fill[None], SubtractConfig()))
    assert np.isfinite(product.line_integrals).all()
    assert product.occluded[0, 5, 5] and product.occluded[0, 7, 7] and product.occluded.sum() == 2


def test_a_featureless_mask_is_not_shifted() -> None:
    flat = np.zeros((64, 64), np.float32)
    assert not estimate_shift(flat, flat, 8.0).any()
