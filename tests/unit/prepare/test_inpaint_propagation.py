"""Hidden tissue carried over from other frames, against the exact truth of small phantoms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from splatomy.capture import Capture, Modality
from splatomy.errors import InputError
from splatomy.events import Progress, finish
from splatomy.metrics.image import psnr
from splatomy.phantoms.tissue import PRESETS, TissuePhantom, make_tissue
from splatomy.prepare.inpaint import OBSERVED, SYNTHESISED, Inpainting, inpaint, inpaint_frames


@pytest.fixture(scope="module")
def phantom() -> TissuePhantom:
    preset = replace(PRESETS["demo"], frames=14, duration_s=2.1, baseline_mm=0.0)
    return finish(make_tissue(preset, seed=21))


@pytest.fixture(scope="module")
def found(phantom: TissuePhantom) -> Inpainting:
    return finish(inpaint_frames(phantom.images, phantom.occluded))


def _drifting(frames: int = 12, shift_px: float = 1.5) -> tuple[Any, Any, Any]:
    """A clip of a moving texture behind a moving bar: images, occluded, truth."""
    rng = np.random.default_rng(3)
    texture = cv2.GaussianBlur(rng.uniform(0, 1, (96, 176, 3)).astype(np.float32), (0, 0), 1.6)
    texture = np.clip((texture - 0.5) * 2.5 + 0.5, 0.05, 0.9)
    truth = np.empty((frames, 80, 112, 3), np.float32)
    occluded = np.zeros((frames, 80, 112), bool)
    for t in range(frames):
        move = np.array([[1, 0, -(8 + shift_px * t)], [0, 1, -8]], np.float64)
        truth[t] = cv2.warpAffine(texture, move, (112, 80), flags=cv2.INTER_CUBIC)
        occluded[t, :, 8 + 7 * t : 24 + 7 * t] = True
    images = truth.copy()
    images[occluded] = 0.5
    return images, occluded, truth


def test_hidden_tissue_of_a_phantom_reaches_thirty_decibels(
    phantom: TissuePhantom, found: Inpainting
) -> None:
    carried = found.provenance > 0
    assert carried.sum() > 0.85 * phantom.occluded.sum()
    assert psnr(found.images, phantom.rgb, carried, data_range=1.0) >= 30


def test_visible_pixels_are_untouched_and_every_pixel_says_where_it_came_from(
    phantom: TissuePhantom, found: Inpainting
) -> None:
    hidden = phantom.occluded
    assert np.array_equal(found.images[~hidden], phantom.images[~hidden])
    assert np.all(found.provenance[~hidden] == OBSERVED)
    assert np.all(found.provenance[hidden] != OBSERVED)
    own_frame = np.arange(1, len(hidden) + 1)[:, None, None]
    assert not np.any(found.provenance == own_frame)
    assert found.provenance.max() <= len(hidden)
    assert np.array_equal(found.synthetic, found.provenance == SYNTHESISED)
    assert np.all(found.confidence[~hidden] == 1)
    assert np.all((found.confidence >= 0) & (found.confidence <= 1))
    assert found.confidence[found.synthetic].max(initial=0) <= 0.1
    assert sum(found.shares.values()) == pytest.approx(1)


def test_low_confidence_means_larger_errors(phantom: TissuePhantom, found: Inpainting) -> None:
    carried = found.provenance > 0
    middle = np.median(found.confidence[carried])
    sure, unsure = carried & (found.confidence > middle), carried & (found.confidence <= middle)
    assert psnr(found.images, phantom.rgb, sure, data_range=1.0) > psnr(
        found.images, phantom.rgb, unsure, data_range=1.0
    )


def test_a_drifting_texture_is_recovered_behind_a_bar() -> None:
    images, occluded, truth = _drifting()
    found = finish(inpaint_frames(images, occluded))
    assert psnr(found.images, truth, found.provenance > 0, data_range=1.0) >= 30


def test_brightness_that_changes_from_frame_to_frame_is_matched() -> None:
    images, occluded, truth = _drifting()
    gains = (0.8 + 0.15 * np.cos(np.arange(len(images))))[:, None, None, None].astype(np.float32)
    found = finish(inpaint_frames(images * gains, occluded))
    assert psnr(found.images, truth * gains, found.provenance > 0, data_range=1.0) >= 30


def test_the_same_clip_gives_the_same_result() -> None:
    images, occluded, _ = _drifting(frames=5)
    first, second = (finish(inpaint_frames(images, occluded)) for _ in range(2))
    assert np.array_equal(first.images, second.images)
    assert np.array_equal(first.provenance, second.provenance)


def test_the_result_does_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    images, occluded, _ = _drifting(frames=5)
    found = []
    for cores in (1, 4):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        found.append(finish(inpaint_frames(images, occluded)))
    assert np.array_equal(found[0].images, found[1].images)
    assert np.array_equal(found[0].provenance, found[1].provenance)


def test_what_no_frame_shows_is_neither_filled_nor_a_source() -> None:
    images, occluded, truth = _drifting()
    outside = np.zeros(occluded.shape[1:], bool)
    outside[:, :20] = True
    images[:, outside] = 0
    for masks in (occluded, occluded | outside):
        found = finish(inpaint_frames(images, masks, outside=outside))
        assert not found.images[:, outside].any()
        assert np.all(found.provenance[:, outside] == OBSERVED)
        carried = found.provenance > 0
        assert psnr(found.images, truth, carried, data_range=1.0) >= 30
        # Black would show as an error of the smooth fill beside the border of the picture.
        assert found.images[found.synthetic].min(initial=1) > 0.05


def test_content_under_the_mask_is_never_used() -> None:
    images, occluded, _ = _drifting(frames=5)
    other = images.copy()
    other[occluded] = np.random.default_rng(0).uniform(0, 1, (int(occluded.sum()), 3))
    # The two pixels beside a hole take part in cubic interpolation, but never as the value itself.
    first, second = finish(inpaint_frames(images, occluded)), finish(inpaint_frames(other, occluded))
    assert np.abs(first.images - second.images)[occluded].mean() < 0.01


def test_tissue_that_no_frame_shows_is_marked_synthesised() -> None:
    images, occluded, _ = _drifting(frames=4, shift_px=0.0)
    occluded[:, 30:50, 60:90] = True
    found = finish(inpaint_frames(images, occluded))
    assert np.all(found.synthetic[:, 35:45, 65:85])
    assert np.isfinite(found.images).all()


def test_one_frame_and_an_entirely_hidden_frame_are_filled() -> None:
    images, occluded, _ = _drifting(frames=4)
    alone = finish(inpaint_frames(images[:1], occluded[:1]))
    assert np.array_equal(alone.synthetic, occluded[:1])
    occluded[1] = True
    found = finish(inpaint_frames(images, occluded))
    assert np.isfinite(found.images).all()
    assert np.mean(found.provenance[1] > 0) > 0.5


def test_masks_that_hide_everything_are_refused() -> None:
    images, occluded, _ = _drifting(frames=3)
    with pytest.raises(InputError, match="hide every pixel of every frame"):
        finish(inpaint_frames(images, np.ones_like(occluded)))


def test_progress_is_told_and_closing_stops_with_the_finished_frames_kept() -> None:
    images, occluded, _ = _drifting(frames=6)
    out = np.zeros_like(images)
    task = inpaint_frames(images, occluded, out=out)
    while True:
        event = next(task)
        if isinstance(event, Progress) and event.step == 2:
            break
    task.close()
    assert np.array_equal(out[0][~occluded[0]], images[0][~occluded[0]])
    assert not out[4].any()


def test_frames_that_are_not_wanted_stay_as_they_are() -> None:
    images, occluded, _ = _drifting(frames=5)
    found = finish(inpaint_frames(images, occluded, frames=np.array([2])))
    assert np.array_equal(found.images[[0, 1, 3, 4]], images[[0, 1, 3, 4]])
    assert np.any(found.provenance[2] > 0)
    assert np.all(found.synthetic[0] == occluded[0])


def test_a_capture_gets_images_synthetic_and_a_note() -> None:
    images, occluded, _ = _drifting(frames=4)
    capture = Capture(Modality.COLOUR, images, np.arange(4) / 10, occluded=occluded)
    filled = finish(inpaint(capture))
    assert filled.synthetic is not None and not filled.synthetic[~occluded].any()
    assert filled.occluded is occluded
    assert "inpainted" in filled.provenance[-1]
    assert "inpainting" in filled.details and "inpainting" not in capture.details


def test_a_capture_without_masks_is_returned_as_it_is() -> None:
    images, _, _ = _drifting(frames=2)
    capture = Capture(Modality.COLOUR, images, np.arange(2) / 10)
    assert finish(inpaint(capture)) is capture
