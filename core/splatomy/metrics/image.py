"""Image metrics: honest ones on raw values first, the papers' variants beside them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

_SSIM_WINDOW = 7


def rmse(
    prediction: NDArray[np.floating], truth: NDArray[np.floating], mask: NDArray[np.bool_] | None = None
) -> float:
    """Root mean square difference in the images' own unit, over the mask's True pixels (None = all).

    The arrays share one shape; a mask has that shape, or lacks the last (channel) axis. NaN when the
    mask is empty.
    """
    _same_shape(prediction, truth)
    squared = (np.asarray(prediction, dtype=np.float64) - truth) ** 2
    if mask is not None:
        squared = squared[_mask_like(mask, squared)]
    return float(np.sqrt(squared.mean())) if squared.size else float("nan")


def psnr(
    prediction: NDArray[np.floating],
    truth: NDArray[np.floating],
    mask: NDArray[np.bool_] | None = None,
    *,
    data_range: float | None = None,
) -> float:
    """Peak signal-to-noise ratio in dB over the whole stack: 20 log10(data_range / RMSE).

    data_range: None = the largest value of ``truth`` over the stack (not of each image, so that dark
    images do not flatter). Infinite for equal arrays.
    """
    error = rmse(prediction, truth, mask)
    peak = float(np.max(truth)) if data_range is None else data_range
    if error == 0:
        return float("inf")
    # No signal to compare with has no ratio.
    return float(20 * np.log10(peak / error)) if peak > 0 else float("nan")


def ssim(
    prediction: NDArray[np.floating], truth: NDArray[np.floating], *, data_range: float | None = None
) -> float:
    """Mean structural similarity of images (N, H, W) or (N, H, W, C).

    The window is 7x7 uniform, scikit-image's default. data_range: None = the largest value of
    ``truth`` over the stack.

    Source: Wang et al. 2004, scikit-image's form.
    """
    _same_shape(prediction, truth)
    peak = float(np.max(truth)) if data_range is None else data_range
    if peak <= 0:
        return float("nan")
    axis = -1 if truth.ndim == 4 else None
    values = [
        structural_similarity(
            np.asarray(t, dtype=np.float64),
            np.asarray(p, dtype=np.float64),
            win_size=_SSIM_WINDOW,
            data_range=peak,
            channel_axis=axis,
        )
        for p, t in zip(prediction, truth, strict=True)
    ]
    return float(np.mean(values))


def psnr_minmax(prediction: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    """PSNR in dB of images (N, H, W) each normalised to [0, 1] on its own, averaged over images.

    It is blind to errors of scale and offset; report ``psnr`` and ``rmse`` beside it.

    Source: 4DRGS (IPMI 2025), released evaluation.
    """
    _same_shape(prediction, truth)
    return float(
        np.mean([psnr(p, t, data_range=1.0) for p, t in zip(_unit(prediction), _unit(truth), strict=True)])
    )


def ssim_minmax(prediction: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    """SSIM of images (N, H, W) each normalised to [0, 1] on its own, averaged over images.

    Source: 4DRGS (IPMI 2025), released evaluation.
    """
    return ssim(_unit(prediction), _unit(truth), data_range=1.0)


def image_metrics(
    prediction: NDArray[np.floating],
    truth: NDArray[np.floating],
    mask: NDArray[np.bool_] | None = None,
    *,
    data_range: float | None = None,
) -> dict[str, float]:
    """psnr, ssim and rmse of images (N, H, W) or (N, H, W, C); psnr_masked with a mask (True = counted)."""
    found = {
        "psnr": psnr(prediction, truth, data_range=data_range),
        "ssim": ssim(prediction, truth, data_range=data_range),
        "rmse": rmse(prediction, truth),
    }
    if mask is not None:
        peak = float(np.max(truth)) if data_range is None else data_range
        found["psnr_masked"] = psnr(prediction, truth, mask, data_range=peak)
    return found


def _unit(images: NDArray[np.floating]) -> NDArray[np.float64]:
    """Images (N, ...) each scaled to [0, 1]; a constant image becomes 0."""
    flat = np.asarray(images, dtype=np.float64).reshape(len(images), -1)
    low, high = flat.min(1, keepdims=True), flat.max(1, keepdims=True)
    return ((flat - low) / np.where(high > low, high - low, 1)).reshape(images.shape)


def _same_shape(prediction: NDArray[np.floating], truth: NDArray[np.floating]) -> None:
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction must have the truth's shape {truth.shape}, got {prediction.shape}")


def _mask_like(mask: NDArray[np.bool_], array: NDArray[np.float64]) -> NDArray[np.bool_]:
    wide = mask[..., None] if mask.ndim == array.ndim - 1 else mask
    return np.broadcast_to(wide, array.shape)
