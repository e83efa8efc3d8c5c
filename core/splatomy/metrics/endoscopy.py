"""Figures of an instrument-free, deforming reconstruction; our honest variant first, the peers' beside it.

Images are sRGB in [0, 1]; masks are named by what True means. ``occluded``: True = hidden by an instrument.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from splatomy.checks import check_shapes
from splatomy.metrics.image import psnr, ssim

Bool = NDArray[np.bool_]
Images = NDArray[np.floating]
_SSIM_SIGMA = 1.5
_SSIM_WINDOW = 11
_CLIP_MM = 20.0
"""Depth errors beyond this are cut in the clipped figure, so that one stray pixel cannot rule it."""


def psnr_zero_filled(prediction: Images, truth: Images, occluded: Bool) -> float:
    """PSNR in dB with hidden pixels set to 0 in both images, averaged over images (T, H, W, 3).

    It counts hidden pixels as perfect, hence flatters by 10 log10(1 / tissue share) per image; report
    ``psnr`` with the tissue mask beside it.

    Source: the evaluation script of EndoNeRF and its followers (Deform3DGS, EndoGaussian, Diff2DGS).
    """
    check_shapes(prediction=(prediction, "T H W C"), truth=(truth, "T H W C"), occluded=(occluded, "T H W"))
    values = []
    for p, t, hidden in zip(prediction, truth, occluded, strict=True):
        squared = (p.astype(np.float64) - t) ** 2 * ~hidden[..., None]
        values.append(psnr_of_error(float(squared.mean())))
    return float(np.mean(values))


def psnr_of_error(mean_squared: float) -> float:
    """PSNR in dB of a mean squared error of images in [0, 1]; infinite for 0."""
    return float(-10 * np.log10(mean_squared)) if mean_squared > 0 else float("inf")


def ssim_zero_filled(prediction: Images, truth: Images, occluded: Bool) -> float:
    """Mean structural similarity of images (T, H, W, 3) with hidden pixels set to 0 in both.

    Gaussian window 11x11 of sigma 1.5, mean over all pixels.

    Source: Wang et al. 2004, as EndoNeRF's followers compute it.
    """
    check_shapes(prediction=(prediction, "T H W C"), truth=(truth, "T H W C"), occluded=(occluded, "T H W"))
    values = []
    for p, t, hidden in zip(prediction, truth, occluded, strict=True):
        tissue = ~hidden[..., None]
        _, picture = structural_similarity(
            t.astype(np.float64) * tissue,
            p.astype(np.float64) * tissue,
            win_size=_SSIM_WINDOW,
            gaussian_weights=True,
            sigma=_SSIM_SIGMA,
            use_sample_covariance=False,
            data_range=1.0,
            channel_axis=-1,
            full=True,
        )
        values.append(picture.mean())
    return float(np.mean(values))


def visible_metrics(prediction: Images, observed: Images, occluded: Bool) -> dict[str, float]:
    """psnr_masked, psnr_zero_filled and ssim_zero_filled against the untouched input, where it shows tissue.

    prediction, observed: (T, H, W, 3). occluded: (T, H, W). Needs no truth. psnr_masked pools the squared
    error of all tissue pixels of the clip.
    """
    return {
        "psnr_masked": psnr(prediction, observed, ~occluded, data_range=1.0),
        "psnr_zero_filled": psnr_zero_filled(prediction, observed, occluded),
        "ssim_zero_filled": ssim_zero_filled(prediction, observed, occluded),
    }


def published_metrics(
    prediction: Images,
    observed: Images,
    occluded: Bool,
    depth: NDArray[np.floating] | None = None,
    observed_depth: NDArray[np.floating] | None = None,
) -> dict[str, float]:
    """psnr, psnr_masked, ssim and depth_rmse as the papers on EndoNeRF's and StereoMIS's clips print them.

    prediction, observed: (T, H, W, 3), rounded to 8 bits here as their files are. psnr: zero-filled, which
    flatters; psnr_masked: over tissue, mean over images ("PSNR*"). depth, observed_depth: (T, H, W); both
    are cut to whole numbers from 0 to 255, then compared where both are known and tissue is seen.

    Source: evaluation of Deform3DGS and Diff2DGS; PSNR* of EndoGaussian.
    """
    mine, theirs = (np.rint(images.clip(0, 1) * 255) / 255 for images in (prediction, observed))
    single = [psnr(p[None], o[None], ~h[None], data_range=1.0) for p, o, h in zip(mine, theirs, occluded)]
    found = {
        "psnr": psnr_zero_filled(mine, theirs, occluded),
        "psnr_masked": float(np.nanmean(single)) if np.isfinite(single).any() else float("nan"),
        "ssim": ssim_zero_filled(mine, theirs, occluded),
    }
    if depth is not None and observed_depth is not None:
        both = ~occluded & np.isfinite(depth) & np.isfinite(observed_depth)
        a, b = (np.trunc(d[both].clip(0, 255)) for d in (depth, observed_depth))
        found["depth_rmse"] = float(np.sqrt(np.mean((a - b) ** 2))) if both.any() else float("nan")
    return found


def hidden_metrics(
    prediction: Images, truth: Images, occluded: Bool, never_seen: Bool | None = None
) -> dict[str, float]:
    """psnr, ssim, psnr_masked, psnr_hidden, psnr_ever_hidden and psnr_never_seen against the bare tissue.

    truth: (T, H, W, 3) un-occluded. psnr_hidden: over the pixels hidden in their own frame.
    psnr_ever_hidden: over all frames of the image positions that any frame hides. never_seen: (T, H, W),
    True = no frame shows this piece of tissue; psnr_hidden_seen is over the rest of the hidden pixels.
    NaN when no pixel belongs to a figure.
    """
    ever = np.broadcast_to(occluded.any(0), occluded.shape)
    found = {
        "psnr": psnr(prediction, truth, data_range=1.0),
        "ssim": ssim(prediction, truth, data_range=1.0),
        "psnr_masked": psnr(prediction, truth, ~occluded, data_range=1.0),
        "psnr_hidden": psnr(prediction, truth, occluded, data_range=1.0),
        "psnr_ever_hidden": psnr(prediction, truth, ever, data_range=1.0),
    }
    if never_seen is not None:
        found["psnr_never_seen"] = psnr(prediction, truth, occluded & never_seen, data_range=1.0)
        found["psnr_hidden_seen"] = psnr(prediction, truth, occluded & ~never_seen, data_range=1.0)
    return found


def depth_metrics(
    depth_mm: NDArray[np.floating], truth_mm: NDArray[np.floating], where: Bool | None = None
) -> dict[str, float]:
    """Depth errors over the pixels with known truth, (T, H, W) mm, inside ``where`` (None = everywhere).

    depth_mae_mm, depth_rmse_mm (raw), depth_rmse_clipped_mm (errors cut at 20 mm), depth_abs_rel (mean of
    |error| / truth), depth_worst_mm, and depth_missing, the share of these pixels without a finite
    prediction, which the other figures leave out.
    """
    check_shapes(depth_mm=(depth_mm, "T H W"), truth_mm=(truth_mm, "T H W"))
    wanted = np.isfinite(truth_mm) & (truth_mm > 0)
    if where is not None:
        wanted &= where
    given = wanted & np.isfinite(depth_mm)
    truth = truth_mm[given].astype(np.float64)
    error = np.abs(depth_mm[given] - truth)
    if not error.size:
        names = ("mae_mm", "rmse_mm", "rmse_clipped_mm", "abs_rel", "worst_mm")
        return {f"depth_{name}": float("nan") for name in names} | {"depth_missing": 1.0}
    return {
        "depth_mae_mm": float(error.mean()),
        "depth_rmse_mm": float(np.sqrt((error**2).mean())),
        "depth_rmse_clipped_mm": float(np.sqrt((np.minimum(error, _CLIP_MM) ** 2).mean())),
        "depth_abs_rel": float((error / truth).mean()),
        "depth_worst_mm": float(error.max()),
        "depth_missing": float(1 - given.sum() / wanted.sum()),
    }


def transplanted_masks(occluded: Bool, shift: int | None = None, margin_px: int = 3) -> Bool:
    """Holes (T, H, W) for a test: the masks of frames ``shift`` later, where the input shows tissue.

    shift: None = half of the clip. margin_px: kept away from the real holes, whose rims are not pure
    tissue. Inpaint ``occluded | transplanted`` and score the transplanted pixels with
    ``transplanted_psnr``: the reference there is real.

    Source: our form of the held-out test that video inpainting papers run with foreign masks.
    """
    check_shapes(occluded=(occluded, "T H W"))
    moved = np.roll(occluded, -(len(occluded) // 2 if shift is None else shift), axis=0)
    size = 2 * margin_px + 1
    kernel = np.ones((size, size), np.uint8)
    rims = np.stack([cv2.dilate(mask.astype(np.uint8), kernel) > 0 for mask in occluded])
    return np.asarray(moved & ~rims, np.bool_)


def transplanted_psnr(prediction: Images, observed: Images, transplanted: Bool) -> float:
    """PSNR in dB of an inpainted clip (T, H, W, 3) against the input in transplanted holes (T, H, W)."""
    return psnr(prediction, observed, transplanted, data_range=1.0)


def flicker(images: Images, occluded: Bool, outside: Bool | None = None) -> float:
    """Change along the motion inside the hole beyond that of the observed tissue, in [0, 1]; needs no truth.

    Mean |I_t - warp(I_{t-1})| over hidden pixels minus the same over visible ones, with dense optical flow
    between the given images (T, H, W, 3); 0 = the hole is as steady as what was seen. NaN for less than two
    frames or without hidden or visible pixels. outside: (H, W), True = no part of the picture.

    Source: the temporal warping error of Lai et al. (ECCV 2018); flow: DIS (Kroeger et al., ECCV 2016).
    """
    check_shapes(images=(images, "T H W C"), occluded=(occluded, "T H W"))
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    rows, columns = np.indices(occluded.shape[1:], dtype=np.float32)
    sums, counts = np.zeros(2), np.zeros(2)
    bytes_ = [np.clip(np.rint(image * 255), 0, 255).astype(np.uint8) for image in images]
    grey = [np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)) for image in bytes_]
    for t in range(1, len(images)):
        still = np.zeros((*occluded.shape[1:], 2), np.float32)
        flow = np.asarray(finder.calc(grey[t], grey[t - 1], still), np.float32)
        there = (columns + flow[..., 0], rows + flow[..., 1])
        inside = (there[0] >= 0) & (there[0] <= occluded.shape[2] - 1)
        inside &= (there[1] >= 0) & (there[1] <= occluded.shape[1] - 1)
        if outside is not None:
            inside &= ~outside
        before = cv2.remap(images[t - 1].astype(np.float32), *there, cv2.INTER_LINEAR)
        change = np.abs(images[t] - before).mean(-1)
        was = cv2.remap(occluded[t - 1].astype(np.float32), *there, cv2.INTER_LINEAR)
        for k, pixels in enumerate((occluded[t] & inside, ~occluded[t] & (was == 0) & inside)):
            sums[k] += change[pixels].sum()
            counts[k] += pixels.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums / counts
    return float(means[0] - means[1])


def unsteadiness(prediction: Images, truth: Images, occluded: Bool) -> float:
    """Mean |change of the error from one frame to the next| in hidden pixels, in [0, 1]; NaN if none.

    prediction, truth: (T, H, W, 3). A constant error does not flicker and counts nothing.
    """
    check_shapes(prediction=(prediction, "T H W C"), truth=(truth, "T H W C"), occluded=(occluded, "T H W"))
    total, count = 0.0, 0
    for t in range(1, len(truth)):
        both = occluded[t] & occluded[t - 1]
        change = (prediction[t] - truth[t]) - (prediction[t - 1] - truth[t - 1])
        total += float(np.abs(change[both]).mean(-1).sum())
        count += int(both.sum())
    return total / count if count else float("nan")
