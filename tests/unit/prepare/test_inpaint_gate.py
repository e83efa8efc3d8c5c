"""The forecast of the hole error from transplanted holes, and the choice between two inpainters."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.events import Task, finish
from splatomy.metrics.image import psnr
from splatomy.prepare.inpaint import Inpainting, inpaint_frames
from splatomy.prepare.inpaint.completion import complete
from splatomy.prepare.inpaint.fields import Bool, Float32
from splatomy.prepare.inpaint.gate import better_inpainter, score, transplants


def _clip(frames: int = 10) -> tuple[Float32, Bool, Float32]:
    rng = np.random.default_rng(5)
    texture = cv2.GaussianBlur(rng.uniform(0, 1, (80, 140, 3)).astype(np.float32), (0, 0), 1.6)
    texture = np.clip((texture - 0.5) * 2.5 + 0.5, 0.05, 0.9)
    truth = np.stack([texture[8:72, 8 + t : 104 + t] for t in range(frames)]).astype(np.float32)
    occluded = np.zeros(truth.shape[:3], bool)
    for t in range(frames):
        occluded[t, :, 6 + 8 * t : 20 + 8 * t] = True
    return np.where(occluded[..., None], np.float32(0.5), truth), occluded, truth


def _smooth(images: Float32, occluded: Bool, frames: NDArray[np.integer] | None) -> Task[Inpainting]:
    """Every frame on its own, smoothly."""
    yield from ()
    grey = np.full(3, 0.5, np.float32)
    filled = [complete(image, hidden, grey)[0] for image, hidden in zip(images, occluded, strict=True)]
    return Inpainting(np.stack(filled), np.where(occluded, -1, 0), (~occluded).astype(np.float32))


def test_transplants_cover_visible_tissue_in_a_few_frames_only() -> None:
    images, occluded, _ = _clip()
    trials = transplants(images, occluded, num_scored=4)
    assert sum(len(trial.scored) for trial in trials) == 4
    for trial, again in zip(trials, transplants(images, occluded, num_scored=4), strict=True):
        assert np.all(np.diff(trial.frames) == 1)
        assert trial.extra[trial.scored].any((1, 2)).all()
        assert not (trial.extra & occluded[trial.frames]).any()
        assert np.array_equal(trial.extra, again.extra)
        assert np.array_equal(trial.scored, again.scored)


def test_transplanted_holes_move_along_time_and_keep_out_of_what_is_outside() -> None:
    images, occluded, _ = _clip()
    outside = np.zeros(occluded.shape[1:], bool)
    outside[:, 80:] = True
    (trial,) = transplants(images, occluded, outside=outside)
    assert not trial.extra[:, outside].any()
    covered = trial.extra.any(1)
    centres = [np.flatnonzero(columns).mean() for columns in covered if columns.any()]
    assert len(centres) > 5
    # The bar moves by 8 px a frame; where the real one of 14 px cuts into it the centre jumps by half of it.
    assert np.all(np.abs(np.diff(centres)) < 8 + 14)


def test_the_forecast_is_near_the_error_of_the_real_holes() -> None:
    images, occluded, truth = _clip()
    trials = transplants(images, occluded)
    forecast = finish(score(inpaint_frames, images, occluded, trials))
    found = finish(inpaint_frames(images, occluded))
    assert forecast.num_pixels > 1000
    assert len(forecast.frames) == len(forecast.psnr_per_frame_db)
    assert abs(forecast.psnr_db - psnr(found.images, truth, occluded, data_range=1.0)) < 6


def test_the_better_inpainter_is_chosen_whatever_the_order() -> None:
    images, occluded, _ = _clip()
    assert finish(better_inpainter(images, occluded, _smooth, inpaint_frames)).chosen == 1
    verdict = finish(better_inpainter(images, occluded, inpaint_frames, _smooth))
    assert verdict.chosen == 0
    assert verdict.errors[0].psnr_db > verdict.errors[1].psnr_db
    assert "first kept" in verdict.text


def test_nothing_is_forecast_without_masks_and_the_first_inpainter_is_kept() -> None:
    images, occluded, _ = _clip()
    nothing = np.zeros_like(occluded)
    assert transplants(images, nothing) == []
    assert np.isnan(finish(score(inpaint_frames, images, nothing, [])).psnr_db)
    assert finish(better_inpainter(images, nothing, inpaint_frames, _smooth)).chosen == 0
