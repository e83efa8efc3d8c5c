"""Mask and fill runs to line integrals of the contrast agent, with their noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.events import Notice, Progress, Task
from splatomy.method import setting

Frames = NDArray[np.float32]
_REGISTER_PX = 480


@dataclass(frozen=True)
class SubtractConfig:
    """How the mask run is taken from the fill run."""

    register: bool = setting(True, doc="Shift each mask frame by sub-pixels where that lowers the residue")
    max_shift_px: float = setting(8.0, 0.0, 64.0, "px", "Largest shift that is believed to be motion")
    background: Literal["offset", "smooth", "none"] = setting(
        "offset", doc="Remove nothing, one offset per frame, or a smooth residue"
    )
    floor_counts: float = setting(1.0, 1e-6, 1e4, "counts", "Smallest intensity trusted")


@dataclass(frozen=True)
class Subtraction:
    """line_integrals (T, H, W) dimensionless; noise_std (T, H, W); shifts_px (T, 2) x, y of the masks.

    occluded (T, H, W): True where an intensity was not usable.
    """

    line_integrals: Frames
    noise_std: Frames
    shifts_px: NDArray[np.float64]
    occluded: NDArray[np.bool_]


def background_offset(image: Frames) -> float:
    """The value of the contrast-free background: the centre of the histogram's lower, symmetric part.

    Contrast only ever adds to the line integral, so values are clipped from above until they settle.
    """
    values = image[np.isfinite(image)][::7].astype(np.float64)
    if values.size == 0:
        return 0.0
    centre = float(np.median(values))
    for _ in range(8):
        below = values[values < centre]
        if below.size < 16:
            break
        spread = 1.4826 * float(np.median(centre - below))
        kept = values[np.abs(values - centre) < 2.0 * spread + 1e-12]
        if kept.size < 16:
            break
        new = float(np.median(kept))
        if abs(new - centre) < 1e-4 * max(spread, 1e-9):
            break
        centre = new
    return centre


def _residue(image: Frames) -> float:
    """The robust spread of a subtraction: motion leaves bright and dark edges that raise it."""
    blurred = cv2.GaussianBlur(image, (0, 0), 1.5)
    return float(np.mean(np.minimum(np.abs(blurred - np.median(blurred)), 0.2)))


def _shifted(image: Frames, shift_px: NDArray[np.float64]) -> Frames:
    matrix = np.array([[1.0, 0.0, shift_px[0]], [0.0, 1.0, shift_px[1]]])
    moved = cv2.warpAffine(
        image, matrix, image.shape[::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(moved, dtype=np.float32)


def estimate_shift(mask_log: Frames, fill_log: Frames, max_shift_px: float) -> NDArray[np.float64]:
    """The shift (x, y) in px that lays the mask over the fill; zero unless it clearly lowers the residue.

    Gradient-based least squares on smoothed logarithms, where pixels that changed by contrast weigh
    little (Cauchy weights), so vessels do not pull the mask along.
    """
    factor = max(1, min(mask_log.shape) // _REGISTER_PX)
    if factor > 1:
        # Half a thousand pixels a side give hundredths of a pixel already; more only cost time.
        size = (mask_log.shape[1] // factor, mask_log.shape[0] // factor)
        small = [
            np.asarray(
                cv2.resize(im[: size[1] * factor, : size[0] * factor], size, interpolation=cv2.INTER_AREA),
                dtype=np.float32,
            )
            for im in (mask_log, fill_log)
        ]
        return factor * estimate_shift(small[0], small[1], max_shift_px / factor)
    a, b = (cv2.GaussianBlur(im, (0, 0), 2.0).astype(np.float32) for im in (mask_log, fill_log))
    gx = cv2.Sobel(a, cv2.CV_32F, 1, 0, scale=1 / 8)
    gy = cv2.Sobel(a, cv2.CV_32F, 0, 1, scale=1 / 8)
    shift = np.zeros(2)
    for _ in range(12):
        difference = b - _shifted(a, shift)
        difference -= np.median(difference)
        scale = 1.4826 * np.median(np.abs(difference)) + 1e-6
        weight = 1.0 / (1.0 + (difference / (2 * scale)) ** 2)
        wx, wy = weight * gx, weight * gy
        normal = np.array([[np.sum(wx * gx), np.sum(wx * gy)], [np.sum(wx * gy), np.sum(wy * gy)]])
        if np.linalg.det(normal) < 1e-9 * max(np.trace(normal), 1e-12) ** 2:
            return np.zeros(2)
        step = np.linalg.solve(normal, -np.array([np.sum(wx * difference), np.sum(wy * difference)]))
        shift = shift + step
        if np.abs(shift).max() > max_shift_px:
            return np.zeros(2)
        if np.abs(step).max() < 1e-3:
            break
    before, after = _residue(fill_log - mask_log), _residue(fill_log - _shifted(mask_log, shift))
    # Interpolation alone smooths noise and lowers the residue a little: ask for a clear gain.
    return shift if after < 0.95 * before else np.zeros(2)


def _smooth_background(image: Frames) -> Frames:
    """A slowly varying residue: wide median of a thumbnail, contrast clipped away from above."""
    height, width = image.shape
    small = cv2.resize(image, (max(width // 8, 8), max(height // 8, 8)), interpolation=cv2.INTER_AREA)
    spread = 1.4826 * np.median(np.abs(small - np.median(small))) + 1e-6
    clipped = np.minimum(small, np.median(small) + spread).astype(np.float32)
    wide = cv2.GaussianBlur(clipped, (0, 0), max(small.shape) / 10)
    return np.asarray(cv2.resize(wide, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def subtract(
    mask_run: Frames, fill_run: Frames, config: SubtractConfig, *, already_log: bool = False
) -> Task[Subtraction]:
    """Line integrals of the contrast, ln(mask) - ln(fill), registered and with the background at zero.

    mask_run: (T, H, W) intensities, or (1, H, W) for one mask of all frames. fill_run: (T, H, W).
    already_log: the pixels are logarithms of intensities.

    Negative residuals are kept: clipping them, as the published code does, turns noise into haze.
    The noise of a logarithm of counts I has variance g / I; the detector's gain g is read from the
    background's spread.

    Source: 4DRGS (IPMI 2025), acquisition model; registration, offset and noise are ours.
    """
    frames, height, width = fill_run.shape
    out = np.empty(fill_run.shape, np.float32)
    noise = np.empty(fill_run.shape, np.float32)
    occluded = np.zeros(fill_run.shape, bool)
    shifts = np.zeros((frames, 2))
    for t in range(frames):
        mask, fill = mask_run[t if len(mask_run) > 1 else 0], fill_run[t]
        if already_log:
            unusable = ~(np.isfinite(mask) & np.isfinite(fill))
            mask_log, fill_log = np.nan_to_num(mask), np.nan_to_num(fill)
            variance = np.ones((height, width), np.float32)
        else:
            floor = np.float32(config.floor_counts)
            usable_mask, usable_fill = mask >= floor, fill >= floor
            unusable = ~(np.isfinite(mask) & np.isfinite(fill) & usable_mask & usable_fill)
            mask_log = np.log(np.maximum(np.nan_to_num(mask, nan=1.0), floor))
            fill_log = np.log(np.maximum(np.nan_to_num(fill, nan=1.0), floor))
            smooth = [cv2.GaussianBlur(np.exp(im), (0, 0), 2.0) for im in (mask_log, fill_log)]
            variance = 1 / np.maximum(smooth[0], floor) + 1 / np.maximum(smooth[1], floor)
        if config.register:
            shifts[t] = estimate_shift(mask_log, fill_log, config.max_shift_px)
            if shifts[t].any():
                mask_log = _shifted(mask_log, shifts[t])
        image = mask_log - fill_log
        if config.background == "offset":
            image = image - np.float32(background_offset(image))
        elif config.background == "smooth":
            image = image - _smooth_background(image)
        noise[t] = _noise_of(image, variance)
        image[unusable] = 0.0
        out[t], occluded[t] = image, unusable
        yield Progress("subtract", t + 1, frames)
    moved = np.linalg.norm(shifts, axis=1)
    if (moved > 0).any():
        text = (
            f"The mask was shifted in {int((moved > 0).sum())} of {frames} frames, "
            f"by up to {moved.max():.2f} px."
        )
        yield Notice("info", "mask-shifted", text)
    return Subtraction(out, noise, shifts, occluded)


def _noise_of(image: Frames, variance: Frames) -> Frames:
    """The standard deviation (H, W) of the image's noise: ``variance`` scaled to the measured grain.

    Differences of diagonal neighbours cancel anatomy, and their median ignores the vessels' edges.
    """
    grain = (image[1:, 1:] - image[1:, :-1] - image[:-1, 1:] + image[:-1, :-1]) / 2
    expected = np.sqrt(variance[1:, 1:])
    gain = 1.4826 * float(np.median(np.abs(grain) / expected))
    return np.asarray(np.sqrt(variance) * max(gain, 1e-6), dtype=np.float32)


def noise_of_line_integrals(line_integrals: Frames) -> Frames:
    """The noise (T, H, W) of already subtracted images: one figure per frame, from its grain."""
    flat = np.ones(line_integrals.shape[1:], np.float32)
    return np.stack([_noise_of(image, flat) for image in line_integrals])
