"""Proposals, propagation and interpolation: previews that change nothing until they are accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from driving import LONG_MS
from masking import CONTROL, SHIFT, drag, open_masks, reject_all, wait_for
from PyQt6.QtCore import Qt

from splatomy.prepare.masks import interpolate
from splatomy.review import ReviewState


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


def test_proposals_wait_to_be_accepted(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    page = open_masks(window, qtbot, tiny_clip)
    session, table = page.session, window.actions_table
    assert "worked on every frame" in table["mask_propose"].toolTip()
    session.clock.show(3)
    qtbot.keyClick(window, Qt.Key.Key_Return)
    confirmed = session.review.frames[3]
    for frame in (0, 1, 2, 4, 5, 6, 7):
        session.clock.show(frame)
        qtbot.keyClick(window, Qt.Key.Key_Backspace)
    before = session.review
    qtbot.keyClick(window, Qt.Key.Key_P, CONTROL)
    qtbot.waitUntil(lambda: page.automatic.preview is not None, timeout=LONG_MS)
    # It is seen, it cannot be drawn on, and nothing is changed.
    assert session.review is before and page.banner.isVisible() and page.shown_mask().any()
    assert not table["mask_brush"].isEnabled() and "preview" in table["mask_brush"].toolTip()
    drag(page, qtbot, [(10, 10), (20, 20)])
    assert session.review is before
    qtbot.keyClick(window, Qt.Key.Key_Escape)
    assert page.automatic.preview is None and session.review is before and not page.banner.isVisible()
    qtbot.keyClick(window, Qt.Key.Key_P, CONTROL)
    qtbot.waitUntil(lambda: page.automatic.preview is not None, timeout=LONG_MS)
    preview = page.automatic.preview.frames
    qtbot.mouseClick(page.banner.accept, Qt.MouseButton.LeftButton)
    assert set(preview) == {0, 1, 2, 4, 5, 6, 7} and session.review.frames[3] is confirmed
    assert all(session.review.frames[n] is frame for n, frame in preview.items())
    assert session.review.frames[0].state is ReviewState.PROPOSED
    qtbot.keyClick(window, Qt.Key.Key_Z, CONTROL)
    assert session.review is before


def test_a_proposal_of_one_frame_in_a_box(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    page = open_masks(window, qtbot, tiny_clip)
    session = page.session
    session.clock.show(4)
    qtbot.keyClick(window, Qt.Key.Key_Backspace)
    qtbot.keyClick(window, Qt.Key.Key_R)
    drag(page, qtbot, [(0, 0), (63, 20)])
    _, _, right, bottom = page.automatic.region
    assert abs(right - 63) <= 1 and abs(bottom - 20) <= 1
    qtbot.keyClick(window, Qt.Key.Key_S, SHIFT)
    qtbot.waitUntil(lambda: page.automatic.preview is not None, timeout=LONG_MS)
    assert set(page.automatic.preview.frames) == {4}
    qtbot.keyClick(window, Qt.Key.Key_Return, CONTROL)
    mask = session.review.hidden(4)
    assert mask[:bottom].any() and not mask[bottom:].any()
    # The box is a change like any other.
    qtbot.keyClick(window, Qt.Key.Key_Z, CONTROL)
    qtbot.keyClick(window, Qt.Key.Key_Z, CONTROL)
    assert page.automatic.region is None


def test_propagation_stops_at_a_persons_frames(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    page = open_masks(window, qtbot, tiny_clip)
    session, table = page.session, window.actions_table
    truth = session.review.occluded()
    for frame in (1, 2, 3, 5, 6, 7):
        session.clock.show(frame)
        qtbot.keyClick(window, Qt.Key.Key_Backspace)
    assert not table["mask_propagate"].isEnabled() and "last frame" in table["mask_propagate"].toolTip()
    kept = session.review.frames[0], session.review.frames[4]
    qtbot.keyClick(window, Qt.Key.Key_Home)
    qtbot.keyClick(window, Qt.Key.Key_T)
    qtbot.waitUntil(lambda: page.automatic.preview is not None, timeout=LONG_MS)
    assert set(page.automatic.preview.frames) == {1, 2, 3}
    qtbot.keyClick(window, Qt.Key.Key_Return, CONTROL)
    assert session.review.frames[1].state is ReviewState.PROPAGATED
    assert overlap(session.review.hidden(2), truth[2]) > 0.6
    # To all: the frames at the end are reached from frame 4.
    qtbot.keyClick(window, Qt.Key.Key_G, CONTROL)
    qtbot.waitUntil(lambda: page.automatic.preview is not None, timeout=LONG_MS)
    assert set(page.automatic.preview.frames) == {1, 2, 3, 5, 6, 7}
    qtbot.keyClick(window, Qt.Key.Key_Return, CONTROL)
    assert (session.review.frames[0], session.review.frames[4]) == kept


def test_interpolation_needs_no_pictures(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    page = open_masks(window, qtbot, tiny_clip)
    session = page.session
    for frame in (3, 4):
        session.clock.show(frame)
        qtbot.keyClick(window, Qt.Key.Key_Backspace)
    qtbot.keyClick(window, Qt.Key.Key_I)
    qtbot.waitUntil(lambda: page.automatic.preview is not None, timeout=LONG_MS)
    qtbot.keyClick(window, Qt.Key.Key_Return, CONTROL)
    ends = session.review.hidden(2), session.review.hidden(5)
    for frame in (3, 4):
        expected = interpolate(np.zeros((52, 64), bool), *ends, (frame - 2) / 3).mask
        assert np.array_equal(session.review.hidden(frame), expected)


def test_work_can_be_stopped(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    page = open_masks(window, qtbot, tiny_clip)
    reject_all(window, page, qtbot)
    before = page.session.review
    qtbot.keyClick(window, Qt.Key.Key_P, CONTROL)
    assert page.automatic.busy and page.banner.isVisible()
    qtbot.mouseClick(page.banner.discard, Qt.MouseButton.LeftButton)
    assert not page.automatic.busy and not page.banner.isVisible()
    wait_for(page, qtbot, "Proposed")
    assert page.automatic.preview is None and page.session.review is before


def test_masks_of_a_dsa_run_are_held(window: Any, qtbot: Any, tiny_case: Path) -> None:
    page = open_masks(window, qtbot, tiny_case)
    session, table = page.session, window.actions_table
    assert not table["mask_propose"].isEnabled() and "DSA" in table["mask_propose"].toolTip()
    drag(page, qtbot, [(20, 20), (30, 20)])
    drawn = session.review.hidden(0)
    assert drawn.any()
    qtbot.keyClick(window, Qt.Key.Key_T)
    qtbot.waitUntil(lambda: page.automatic.preview is not None, timeout=LONG_MS)
    qtbot.keyClick(window, Qt.Key.Key_Return, CONTROL)
    assert all(np.array_equal(session.review.hidden(n), drawn) for n in range(len(session.review)))
    assert session.review.frames[1].confidence > session.review.frames[20].confidence
