"""Objects from clicks by their colours: on a simulated clip with exact masks, and on plain pictures."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from splatomy.events import finish
from splatomy.phantoms.tissue import PRESETS, make_tissue
from splatomy.prepare.masks import clicked_object

GREY, RED, BLUE = (140, 140, 150), (190, 70, 60), (60, 70, 170)
OVERLAP_OF_STROKES = 0.81
"""What GrabCut with simulated strokes reached on a real frame (masks-and-depth A8)."""


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def deepest(where: np.ndarray) -> tuple[int, int, float]:
    """The pixel x, y farthest from where it is not, and how far."""
    depth = cv2.distanceTransform(np.pad(where, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return int(x), int(y), float(depth.max())


def clicked(picture: np.ndarray, truth: np.ndarray, count: int) -> list[float]:
    """Overlaps after each click of somebody who clicks the middle of the largest error."""
    inside, outside = [], []
    found = np.zeros_like(truth)
    overlaps = []
    for _ in range(count):
        missing, wrong = deepest(truth & ~found), deepest(found & ~truth)
        (inside if missing[2] >= wrong[2] else outside).append(max(missing, wrong, key=lambda e: e[2])[:2])
        found = clicked_object(picture, inside, outside)
        overlaps.append(overlap(found, truth))
    return overlaps


def plate(size: tuple[int, int] = (120, 160)) -> tuple[np.ndarray, np.ndarray]:
    """A grey bar on red with noise, and where the bar is."""
    rng = np.random.default_rng(3)
    bar = np.zeros(size, bool)
    bar[20:50, 30:140] = True
    picture = np.where(bar[..., None], GREY, RED) + rng.normal(0, 6, (*size, 3))
    return np.clip(picture, 0, 255).astype(np.uint8), bar


def test_few_clicks_select_an_instrument() -> None:
    clip = finish(make_tissue(replace(PRESETS["demo"], frames=3, baseline_mm=0.0), seed=2))
    reached = []
    for image, occluded in zip(clip.images, clip.occluded, strict=True):
        picture = np.rint(np.asarray(image) * 255).astype(np.uint8)
        count, parts, stats, _ = cv2.connectedComponentsWithStats(occluded.astype(np.uint8))
        reached += [
            max(clicked(picture, parts == n, 3)) for n in range(1, count) if stats[n, cv2.CC_STAT_AREA] > 600
        ]
    assert len(reached) >= 3 and min(reached) >= OVERLAP_OF_STROKES


def test_a_click_selects_one_object_and_its_edge() -> None:
    picture, bar = plate()
    picture[80:110, 30:140] = GREY
    found = clicked_object(picture, [(60, 35)])
    # The other bar has the same colour, and was not clicked.
    assert overlap(found, bar) > 0.95 and not found[70:].any()
    both = clicked_object(picture, [(60, 35), (60, 95)])
    assert both[95, 60] and both[35, 60] and not both[65].any()


def test_a_click_outside_takes_away() -> None:
    picture, bar = plate()
    # Half of the bar is of a similar colour and belongs to something else.
    picture[20:50, 90:140] = np.clip(picture[20:50, 90:140].astype(int) + (18, 18, 24), 0, 255)
    one = clicked_object(picture, [(50, 35)])
    two = clicked_object(picture, [(50, 35)], [(120, 35)])
    assert two[35, 50] and not two[35, 120] and two[:, :85].sum() > 0.9 * bar[:, :85].sum()
    assert two[:, 95:].sum() < 0.1 * bar[:, 95:].sum() and two.sum() <= one.sum()


def test_what_was_clicked_is_kept_also_against_the_colours() -> None:
    picture, _ = plate()
    found = clicked_object(picture, [(60, 35), (10, 110)], [(100, 35)])
    assert found[35, 60] and found[110, 10] and not found[35, 100] and not found.flags.writeable


def test_the_same_clicks_give_the_same_object_also_in_a_large_picture() -> None:
    picture, bar = plate()
    large = cv2.resize(picture, (1920, 1440), interpolation=cv2.INTER_LINEAR)
    first = clicked_object(large, [(600, 420)])
    np.testing.assert_array_equal(first, clicked_object(large, [(600, 420)]))
    truth = cv2.resize(bar.astype(np.uint8), (1920, 1440), interpolation=cv2.INTER_NEAREST) > 0
    assert overlap(first, truth) > 0.9


def test_pictures_without_any_difference_and_of_one_pixel() -> None:
    assert clicked_object(np.full((30, 40, 3), BLUE, np.uint8), [(3, 3)]).all()
    assert clicked_object(np.full((1, 1, 3), BLUE, np.uint8), [(0, 0)]).all()
    assert not clicked_object(np.full((8, 8, 3), BLUE, np.uint8), [(1, 1)], [(6, 6)])[6, 6]


def test_clicks_that_make_no_sense_are_refused() -> None:
    picture, _ = plate()
    for inside, outside in (([], []), ([(160, 0)], []), ([(0, 0)], [(-1, 0)])):
        with pytest.raises(ValueError, match="click"):
            clicked_object(picture, inside, outside)
    with pytest.raises(ValueError, match="uint8"):
        clicked_object(picture.astype(np.float32), [(0, 0)])
