"""Edits of masks and of frames under review: what they do, and that each can be undone bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from splatomy.prepare.masks import (
    Edit,
    copy_from,
    edited,
    erase,
    fill,
    grow,
    interpolate,
    invert,
    mask_warnings,
    paint,
    polygon,
    shrink,
)
from splatomy.review import FrameReview, MaskReview, ReviewState

EMPTY = np.zeros((40, 60), bool)
ROWS, COLUMNS = np.mgrid[0:40, 0:60]


def disc(x: float, y: float, radius: float) -> np.ndarray:
    return (COLUMNS - x) ** 2 + (ROWS - y) ** 2 <= radius**2


def test_a_dot_of_the_brush_is_a_disc() -> None:
    edit = paint(EMPTY, [(20, 15)], 6)
    np.testing.assert_array_equal(edit.mask, disc(20, 15, 6))
    np.testing.assert_array_equal(edit.touched, edit.mask)
    assert not EMPTY.any() and not edit.mask.flags.writeable
    assert paint(EMPTY, [(20, 15)], 0).mask.sum() == 1


def test_a_stroke_is_what_lies_near_its_line_and_may_leave_the_picture() -> None:
    edit = paint(EMPTY, [(-10, 5), (70, 5), (70, 30)], 2)
    np.testing.assert_array_equal(edit.mask, np.abs(ROWS - 5) <= 2)
    assert paint(EMPTY, [(500, 500)], 3).patch.is_empty


def test_erasing_takes_away_only_the_stroke() -> None:
    full = disc(30, 20, 15)
    np.testing.assert_array_equal(erase(full, [(30, 20)], 5).mask, full & ~disc(30, 20, 5))


def test_a_polygon_has_its_corners_and_its_inside() -> None:
    edit = polygon(EMPTY, [(10, 5), (50, 5), (50, 30), (10, 30)])
    np.testing.assert_array_equal(edit.mask, (COLUMNS >= 10) & (COLUMNS <= 50) & (ROWS >= 5) & (ROWS <= 30))
    hole = polygon(edit.mask, [(20, 10), (30, 10), (30, 20), (20, 20)], hide=False)
    assert hole.mask.sum() == edit.mask.sum() - 11 * 11


def test_fill_closes_a_hole_and_removes_a_patch() -> None:
    ring = disc(20, 20, 12) & ~disc(20, 20, 8)
    np.testing.assert_array_equal(fill(ring, (20, 20)).mask, disc(20, 20, 12))
    assert not fill(ring, (20, 9)).mask.any()
    outline = np.zeros((40, 60), bool)
    for i in range(10):
        # A diamond whose outline touches at corners alone.
        outline[10 + i, 30 + i] = outline[10 + i, 30 - i] = True
        outline[28 - i, 30 + i] = outline[28 - i, 30 - i] = True
    filled = fill(outline, (30, 19)).mask
    assert filled[19, 30] and not filled[0, 0]


def test_grow_and_shrink_by_a_distance() -> None:
    np.testing.assert_array_equal(grow(disc(30, 20, 0), 7).mask, disc(30, 20, 7))
    square = (np.abs(ROWS - 20) <= 10) & (np.abs(COLUMNS - 30) <= 10)
    np.testing.assert_array_equal(
        shrink(square, 4).mask, (np.abs(ROWS - 20) <= 6) & (np.abs(COLUMNS - 30) <= 6)
    )
    assert not grow(EMPTY, 5).mask.any() and shrink(~EMPTY, 5).mask.all()


def test_invert_and_copy() -> None:
    mask, other = disc(20, 20, 5), disc(40, 20, 5)
    np.testing.assert_array_equal(invert(mask).mask, ~mask)
    np.testing.assert_array_equal(copy_from(mask, other).mask, other)


def test_between_two_discs_lies_a_disc_of_the_size_between() -> None:
    middle = interpolate(EMPTY, disc(30, 20, 6), disc(30, 20, 14), 0.5).mask
    assert (middle ^ disc(30, 20, 10)).sum() < 0.06 * disc(30, 20, 10).sum()
    np.testing.assert_array_equal(
        interpolate(EMPTY, disc(30, 20, 6), disc(30, 20, 14), 0.0).mask, disc(30, 20, 6)
    )


def some_edit(mask: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> Edit:
    """One of the operations with arguments drawn at random."""
    points = rng.uniform(-5, 60, (3, 2))
    choices = [
        lambda: paint(mask, points, rng.uniform(0, 6)),
        lambda: erase(mask, points, rng.uniform(0, 6)),
        lambda: polygon(mask, points, hide=bool(rng.integers(2))),
        lambda: fill(mask, (int(rng.integers(60)), int(rng.integers(40)))),
        lambda: grow(mask, rng.uniform(0, 3)),
        lambda: shrink(mask, rng.uniform(0, 3)),
        lambda: invert(mask),
        lambda: copy_from(mask, other),
        lambda: interpolate(mask, mask, other, rng.uniform(0, 1)),
    ]
    return choices[rng.integers(len(choices))]()


def test_a_thousand_edits_are_undone_and_done_again_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    auto, other = disc(20, 20, 9), disc(35, 18, 11)
    frame = FrameReview(auto=auto, state=ReviewState.PROPOSED, confidence=0.5)
    history, records = [frame], []
    for _ in range(1000):
        edit = some_edit(frame.hidden(40, 60), other, rng)
        frame, record = edited(frame, edit)
        np.testing.assert_array_equal(frame.hidden(40, 60), edit.mask)
        np.testing.assert_array_equal(edit.patch.undone(edit.mask), history[-1].hidden(40, 60))
        history.append(frame)
        records.append(record)

    def same(a: FrameReview, b: FrameReview) -> bool:
        layers = all(
            (x is None and y is None) or (x is not None and y is not None and (x == y).all())
            for x, y in ((a.auto, b.auto), (a.add, b.add), (a.erase, b.erase))
        )
        return layers and a.state == b.state and a.confidence == b.confidence

    for number in reversed(range(1000)):
        frame = records[number].undone(frame)
        assert same(frame, history[number])
    for number in range(1000):
        frame = records[number].redone(frame)
        assert same(frame, history[number + 1])


def test_a_record_meets_no_other_mask() -> None:
    edit = paint(EMPTY, [(20, 15)], 6)
    with pytest.raises(ValueError, match="not the one"):
        edit.patch.undone(EMPTY)
    with pytest.raises(ValueError, match="not the one"):
        edit.patch.redone(edit.mask)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: paint(EMPTY, [], 3),
        lambda: paint(EMPTY, [(1, 1)], -1),
        lambda: polygon(EMPTY, [(np.nan, 1)]),
        lambda: fill(EMPTY, (60, 0)),
        lambda: grow(EMPTY, -1),
        lambda: copy_from(EMPTY, EMPTY[:-1]),
        lambda: interpolate(EMPTY, EMPTY, EMPTY, 1.5),
    ],
)
def test_wrong_arguments_are_programming_errors(wrong) -> None:
    with pytest.raises(ValueError):
        wrong()


def test_a_persons_layers_outlive_a_new_automatic_layer() -> None:
    frame = FrameReview(auto=disc(20, 20, 9), state=ReviewState.PROPOSED, confidence=0.5)
    frame, _ = edited(frame, paint(frame.hidden(40, 60), [(20, 20)], 4))
    # The stroke lay on hidden pixels: it changed nothing, but it is the person's word.
    assert frame.state == ReviewState.EDITED and frame.add.sum() == disc(20, 20, 4).sum()
    again = FrameReview(frame.auto, frame.add, frame.erase).with_auto(EMPTY, ReviewState.PROPOSED, 0.9)
    np.testing.assert_array_equal(again.hidden(40, 60), disc(20, 20, 4))
    assert frame.with_auto(EMPTY, ReviewState.PROPOSED, 0.9) is frame
    assert frame.confirmed().with_auto(EMPTY, ReviewState.PROPAGATED, 0.9).state == ReviewState.CONFIRMED
    fresh = frame.reset()
    assert fresh.state == ReviewState.PROPOSED and fresh.add is None
    np.testing.assert_array_equal(fresh.hidden(40, 60), disc(20, 20, 9))


def test_a_review_composes_and_counts() -> None:
    review = MaskReview.untouched(4, 40, 60)
    assert not review.occluded().any() and review.counts()["untouched"] == 4
    masks = np.stack([disc(10 + 5 * i, 20, 8) for i in range(4)])
    review = review.with_auto(masks, ReviewState.PROPOSED, np.full(4, 0.7))
    np.testing.assert_array_equal(review.occluded(), masks)
    frame, _ = edited(review.frames[1], erase(review.hidden(1), [(15, 20)], 3))
    review = review.replaced(1, frame).replaced(2, review.frames[2].confirmed())
    assert sorted(review.by_a_person()) == [1, 2]
    assert review.counts() == {"untouched": 0, "proposed": 2, "propagated": 0, "edited": 1, "confirmed": 1}
    with pytest.raises(ValueError, match="auto of frame 0"):
        MaskReview(40, 60, (FrameReview(auto=EMPTY[:-1]),))


def test_warnings_name_the_frame() -> None:
    usual = [disc(30, 20, 8 + 0.1 * i) for i in range(8)]
    assert mask_warnings(usual) == ()
    odd = list(usual)
    odd[2], odd[4], odd[6] = EMPTY, ~disc(30, 20, 8), disc(30, 20, 14)
    found = {(w.frame, w.code) for w in mask_warnings(odd)}
    assert (2, "empty-among-full") in found and (4, "over-half") in found and (4, "sudden-change") in found
    assert {f for f, _ in found} <= {2, 4, 6}
    assert mask_warnings([EMPTY] * 5) == () and mask_warnings([]) == ()


def test_labels_follow_edits_and_are_undone() -> None:
    blank = FrameReview()
    shining, first = edited(blank, paint(blank.hidden(40, 60), [(20, 20)], 4), "specular")
    assert shining.specular is not None and (shining.specular == shining.hidden(40, 60)).all()
    # An instrument painted over a part of it takes that part over; what is erased is nothing any more.
    over, second = edited(shining, paint(shining.hidden(40, 60), [(18, 20)], 2))
    assert over.specular is not None and not over.specular[20, 18] and over.specular[20, 23]
    bare, third = edited(over, erase(over.hidden(40, 60), [(20, 20)], 9))
    assert bare.specular is not None and not bare.specular.any()
    for record, after, before in ((third, bare, over), (second, over, shining), (first, shining, blank)):
        for name in ("add", "erase", "specular", "outside"):
            for made, wanted in ((record.undone(after), before), (record.redone(before), after)):
                one, other = getattr(made, name), getattr(wanted, name)
                assert (one is None) == (other is None)
                assert one is None or (one == other).all()
