"""Labels: what hides the tissue, painted, kept in the case, taken back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from driving import LONG_MS
from masking import drag, open_masks
from PyQt6.QtCore import Qt

from splatomy.io.case import open_case


def test_highlights_and_the_rim_are_marked_kept_and_taken_back(
    window: Any, qtbot: Any, tiny_clip: Path
) -> None:
    page = open_masks(window, qtbot, tiny_clip)
    session = page.session
    before = session.review
    page.options.brush_size.setValue(4)
    qtbot.keyClick(window, Qt.Key.Key_M)
    assert page.options.label.currentText() == "Highlight"
    drag(page, qtbot, [(10, 10), (20, 10)])
    frame = session.review.frames[0]
    assert frame.specular is not None and frame.specular[10, 15] and frame.hidden(52, 64)[10, 15]
    assert frame.outside is None and session.review.frames[1] is before.frames[1]
    # The label has a colour of its own over the frame.
    colours = {page.view.mask_item._pixels[10, 15], page.view.mask_item._code}
    assert len(colours) == 2
    qtbot.keyClick(window, Qt.Key.Key_M)
    states = [f.state for f in session.review.frames]
    drag(page, qtbot, [(2, 50), (60, 50)])
    qtbot.waitUntil(lambda: session.review.never_seen() is not None, timeout=LONG_MS)
    rim = session.review.never_seen()
    assert rim is not None and rim[50, 30] and not rim[10, 15]
    assert [f.state for f in session.review.frames] == states
    qtbot.keyClick(window, Qt.Key.Key_S, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: not session.dirty, timeout=LONG_MS)
    codes = cv2.imread(str(session.folder / "labels/000000.png"), cv2.IMREAD_UNCHANGED)
    assert codes[10, 15] == 2 and codes[50, 30] == 3 and 255 not in codes
    kept = open_case(session.folder).review.frames[0]
    now = session.review.frames[0]
    np.testing.assert_array_equal(kept.specular, now.specular)
    np.testing.assert_array_equal(kept.outside, now.outside)
    for _ in range(2):
        qtbot.keyClick(window, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    for number in range(len(before)):
        np.testing.assert_array_equal(session.review.hidden(number), before.hidden(number))
    assert session.review.frames[0].specular is None and session.review.never_seen() is None


def test_no_mark_is_lost_while_an_earlier_one_is_put_into_all_frames(
    window: Any, qtbot: Any, tiny_clip: Path
) -> None:
    page = open_masks(window, qtbot, tiny_clip)
    session, editor = page.session, page.editor
    before = session.review
    editor.label = "outside"
    # The rim goes into every frame on another thread; who is quicker has drawn twice more by then.
    editor.area([(0, 0), (8, 0), (8, 8), (0, 8)], hides=True)
    editor.area([(50, 40), (60, 40), (60, 48), (50, 48)], hides=True)
    editor.label = "occluder"
    editor.area([(20, 20), (30, 20), (30, 30), (20, 30)], hides=True)
    qtbot.waitUntil(lambda: not session.tasks.running, timeout=LONG_MS)
    rim = session.review.never_seen()
    assert rim is not None and rim[4, 4] and rim[44, 55] and not rim[25, 25]
    assert session.review.hidden(0)[25, 25]
    for _ in range(3):
        qtbot.keyClick(window, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    for number in range(len(before)):
        np.testing.assert_array_equal(session.review.hidden(number), before.hidden(number))
    assert session.review.never_seen() is None
