"""Masks carried between confirmed frames."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from splatomy.errors import InputError
from splatomy.events import Progress, finish
from splatomy.phantoms.tissue import PRESETS, TissuePhantom, make_tissue
from splatomy.prepare.masks import PropagationConfig, propagate, signed_distance
from splatomy.prepare.masks._flow import FlowMeter, consistent, fetched


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def sliding(count: int, step: int, size: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """A textured square that slides over another texture, (T, H, W, 3) in [0, 1], and where it is."""
    rng = np.random.default_rng(5)
    below, above = (
        cv2.GaussianBlur(rng.uniform(0, 1, (size, size, 3)).astype(np.float32), (0, 0), 2) for _ in range(2)
    )
    below, above = ((x - x.min()) / np.ptp(x) for x in (below, above))
    images, masks = [], []
    for frame in range(count):
        mask = np.zeros((size, size), bool)
        mask[60:110, 10 + step * frame : 60 + step * frame] = True
        moved = np.roll(above, step * frame, axis=1)
        images.append(np.where(mask[..., None], moved, below))
        masks.append(mask)
    return np.stack(images), np.stack(masks)


@pytest.fixture(scope="module")
def phantom() -> TissuePhantom:
    return finish(make_tissue(replace(PRESETS["demo"], baseline_mm=0.0), seed=0))


def test_every_eighth_confirmed_frame_carries_the_others(phantom: TissuePhantom) -> None:
    given = {frame: phantom.occluded[frame] for frame in range(0, 24, 8)}
    product = finish(propagate(phantom.images, given))
    between = [
        overlap(product.occluded[i], phantom.occluded[i]) for i in np.flatnonzero(product.spread).tolist()
    ]
    assert len(between) == 21 and np.mean(between) >= 0.9
    for frame, mask in given.items():
        np.testing.assert_array_equal(product.occluded[frame], mask)
        assert product.confidence[frame] == 1 and not product.spread[frame]


def test_a_known_motion_is_followed_with_and_without_colours() -> None:
    images, masks = sliding(9, 4)
    for weight in (0.0, 1.0):
        config = PropagationConfig(colour_weight=weight)
        product = finish(propagate(images, {0: masks[0], 8: masks[8]}, config))
        assert min(overlap(a, b) for a, b in zip(product.occluded, masks, strict=True)) >= 0.85
        assert ((product.confidence > 0) & (product.confidence <= 1)).all()
        nearer = finish(propagate(images, {0: masks[0], 4: masks[4], 8: masks[8]}, config))
        assert nearer.confidence.mean() > product.confidence.mean()


def test_before_the_first_and_after_the_last_confirmed_frame() -> None:
    images, masks = sliding(7, 3)
    product = finish(propagate(images, {3: masks[3]}))
    assert min(overlap(a, b) for a, b in zip(product.occluded, masks, strict=True)) >= 0.8
    assert product.spread.tolist() == [True] * 3 + [False] + [True] * 3


def test_empty_and_full_masks_stay_so() -> None:
    images, masks = sliding(4, 3)
    for value in (False, True):
        given = np.full_like(masks[0], value)
        product = finish(propagate(images, {0: given, 3: given}))
        assert (product.occluded == value).all()


def test_neighbours_and_a_clip_of_one_frame() -> None:
    images, masks = sliding(2, 3)
    product = finish(propagate(images, {0: masks[0], 1: masks[1]}))
    np.testing.assert_array_equal(product.occluded, masks)
    product = finish(propagate(images[:1], {0: masks[0]}))
    np.testing.assert_array_equal(product.occluded, masks[:1])


def test_wrong_anchors_are_refused() -> None:
    images, masks = sliding(3, 3)
    with pytest.raises(InputError, match="No frame is confirmed"):
        finish(propagate(images, {}))
    for wrong in ({5: masks[0]}, {0: masks[0][:, :-1]}):
        with pytest.raises(ValueError, match="mask of frame"):
            finish(propagate(images, wrong))


def test_progress_never_goes_back() -> None:
    images, masks = sliding(6, 3)
    events = list(propagate(images, {0: masks[0], 5: masks[5]}))
    steps = [e.step for e in events if isinstance(e, Progress)]
    assert steps == sorted(steps) and steps[-1] == 6


def test_hidden_places_are_not_consistent() -> None:
    _, masks = sliding(2, 12)
    forth, back = np.zeros((2, 160, 160, 2), np.float32)
    forth[masks[0], 0], back[masks[1], 0] = 12, -12
    seen = consistent(forth, back)
    assert not seen[masks[1] & ~masks[0]].any()
    assert seen[masks[0]].mean() > 0.97 and seen[~(masks[0] | masks[1])].mean() > 0.97
    np.testing.assert_array_equal(fetched(masks[1].astype(np.float32), forth)[masks[0]], 1)


def test_the_flow_of_a_shifted_picture_is_its_shift() -> None:
    codes = np.rint(sliding(1, 0)[0][0] * 255).astype(np.uint8)
    forth, back = FlowMeter().both(codes, np.roll(codes, (-2, 3), axis=(0, 1)))
    inner = (slice(16, -16), slice(16, -16))
    np.testing.assert_allclose(np.median(forth[inner], axis=(0, 1)), [3, -2], atol=0.3)
    np.testing.assert_allclose(np.median(back[inner], axis=(0, 1)), [-3, 2], atol=0.3)


def test_signed_distance_of_a_half_plane() -> None:
    mask = np.zeros((20, 30), bool)
    mask[:, :12] = True
    np.testing.assert_allclose(signed_distance(mask)[5], np.arange(30) - 11.5, atol=0.05)
