"""Mask proposals on a simulated clip with exact masks, without any model file."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from splatomy.events import Notice, Progress, finish
from splatomy.io.frame_source import LazyImages
from splatomy.phantoms.tissue import PRESETS, TissuePhantom, make_tissue
from splatomy.prepare.masks import ProposalConfig, propose
from splatomy.prepare.masks._colour import fit_chroma, highlights
from splatomy.prepare.masks._flow import background_motion
from splatomy.prepare.masks._refine import cleaned, filled, rim_of

CLIP = replace(PRESETS["demo"], frames=8, baseline_mm=0.0)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.fixture(scope="module")
def phantom() -> TissuePhantom:
    return finish(make_tissue(CLIP, seed=2))


def test_instruments_are_found(phantom: TissuePhantom) -> None:
    proposal = finish(propose(phantom.images))
    found = [overlap(a, b) for a, b in zip(proposal.occluded, phantom.occluded, strict=True)]
    assert np.mean(found) >= 0.8
    assert proposal.occluded.dtype == bool and proposal.occluded.shape == phantom.occluded.shape
    assert ((proposal.confidence > 0) & (proposal.confidence <= 1)).all()
    assert not (proposal.specular & proposal.occluded).any()
    # Highlights on tissue are told as such: they are no instruments.
    assert 0.001 < proposal.specular.mean() < 0.1


def test_the_same_from_lazy_images_and_again(phantom: TissuePhantom) -> None:
    part = phantom.images[:3]
    lazy = LazyImages(np.rint(part * 255).astype(np.uint8))
    first, second = finish(propose(part)), finish(propose(lazy))
    np.testing.assert_array_equal(first.occluded, second.occluded)
    np.testing.assert_array_equal(first.confidence, second.confidence)


def test_nothing_is_proposed_outside_of_the_picture(phantom: TissuePhantom) -> None:
    outside = np.zeros(phantom.occluded.shape[1:], bool)
    outside[:, :20] = True
    images = phantom.images[:3] * ~outside[..., None]
    proposal = finish(propose(images, outside=outside))
    assert not proposal.occluded[:, outside].any() and not proposal.specular[:, outside].any()
    inside = [
        overlap(a[:, 20:], b[:, 20:]) for a, b in zip(proposal.occluded, phantom.occluded, strict=False)
    ]
    assert np.mean(inside) >= 0.8


def test_tissue_alone_is_left_alone_and_said_to_be_unsure() -> None:
    clip = finish(make_tissue(replace(CLIP, frames=3, occlusion=0.0), seed=1))
    notices = []
    task = propose(clip.images)
    while True:
        try:
            event = next(task)
        except StopIteration as end:
            proposal = end.value
            break
        notices += [event.code] if isinstance(event, Notice) else []
    assert notices == ["no-grey-mode"]
    assert proposal.occluded.mean() < 0.02


def test_every_frame_is_reported_and_the_task_can_be_closed(phantom: TissuePhantom) -> None:
    events = list(propose(phantom.images[:4]))
    steps = [e.step for e in events if isinstance(e, Progress) and e.stage == "propose masks"]
    assert set(steps) == {0, 1, 2, 3, 4} and steps == sorted(steps)
    task = propose(phantom.images)
    next(task)
    task.close()


def test_one_frame_is_enough(phantom: TissuePhantom) -> None:
    proposal = finish(propose(phantom.images[4:5], ProposalConfig(working_px=200)))
    assert overlap(proposal.occluded[0], phantom.occluded[4]) >= 0.7


def test_two_chroma_modes_are_separated() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(6, 1.5, 2000), rng.normal(24, 4, 8000)])
    model = fit_chroma(values)
    assert model.clear
    np.testing.assert_allclose(model.means, (6, 24), atol=0.3)
    np.testing.assert_allclose(model.shares, (0.2, 0.8), atol=0.02)
    values = np.array([0.0, 6.0, 24.0, 60.0], np.float32)
    odds = model.log_odds(values, values)
    assert odds[0] > 2 and odds[1] > 2 and odds[2] < -2 and odds[3] < -2
    # As little colour in the dark is tissue all the same, if it is red for its lightness.
    assert model.log_odds(values[1:2], np.full(1, 50.0, np.float32))[0] < -2
    assert not fit_chroma(rng.normal(24, 4, 8000)).clear


def painted(colour: tuple[int, int, int], softness_px: float) -> np.ndarray:
    """Three frames (3, H, W, 3) of red tissue with a bar of a colour that enters from the left."""
    rng = np.random.default_rng(3)
    texture = cv2.GaussianBlur(rng.uniform(-1, 1, (144, 192, 3)).astype(np.float32), (0, 0), 2)
    tissue = np.array([150, 62, 55], np.float32) + 60 * texture
    bar = np.zeros((144, 192), np.float32)
    bar[50:95, :110] = 1
    if softness_px:
        bar = cv2.GaussianBlur(bar, (0, 0), softness_px)
    frame = tissue * (1 - bar[..., None]) + np.array(colour, np.float32) * bar[..., None]
    return np.repeat(frame[None].clip(0, 255) / np.float32(255), 3, axis=0).astype(np.float32)


@pytest.mark.parametrize("colour", [(120, 118, 116), (110, 130, 170), (18, 17, 17)])
def test_grey_bluish_and_black_shafts_are_found(colour: tuple[int, int, int]) -> None:
    truth = np.zeros((144, 192), bool)
    truth[50:95, :110] = True
    proposal = finish(propose(painted(colour, 0.0)))
    assert min(overlap(mask, truth) for mask in proposal.occluded) >= 0.85


def test_pale_tissue_under_a_strong_light_is_no_instrument() -> None:
    proposal = finish(propose(painted((252, 248, 246), 14.0)))
    assert not proposal.occluded.any()


def test_a_round_pictures_glaring_rim_is_no_instrument() -> None:
    rows, columns = np.mgrid[0:144, 0:192]
    radius = np.hypot(rows - 71.5, columns - 95.5)
    images = painted((150, 62, 55), 0.0)
    images[:, (radius > 67) & (columns < 60)] = 1.0
    images[:, radius > 70] = 0
    proposal = finish(propose(images, outside=radius > 70))
    assert not proposal.occluded.any()


def test_highlights_are_small_white_spots() -> None:
    picture = np.full((120, 160, 3), (150, 60, 55), np.uint8)
    cv2.circle(picture, (40, 60), 4, (255, 250, 245), -1)
    found = highlights(picture)
    assert found[60, 40] and found.sum() < 250 and not found[:, 80:].any()


def test_the_background_of_a_moving_camera_is_its_affine_motion() -> None:
    rows, columns = np.mgrid[0:96, 0:128].astype(np.float32)
    truth = np.stack([1.5 + 0.02 * columns, -0.7 + 0.01 * rows], -1)
    flow = truth.copy()
    flow[20:60, 30:70] += 9.0
    np.testing.assert_allclose(background_motion(flow, np.ones((96, 128), np.float32)), truth, atol=0.15)


def test_only_what_enters_from_the_border_stays() -> None:
    mask = np.zeros((100, 100), bool)
    mask[40:60, :50] = True
    mask[48:51, 20:23] = False
    mask[80:90, 80:90] = True
    none = np.zeros_like(mask)
    out = cleaned(mask, none, 0.0015, 0.003)
    assert out[49, 21] and not out[80:90, 80:90].any() and out[40:60, :50].all()
    assert rim_of(none).sum() == 4 * 99
    assert not filled(mask, rim_of(none), 0.0001)[49, 21]
