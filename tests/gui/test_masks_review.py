"""Reviewing masks: the queue, warnings, comparing, layers, and what a run rebuilt behind instruments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from driving import LONG_MS
from masking import CONTROL, LEFT, SHIFT, drag, open_masks, place
from PyQt6.QtCore import Qt

from splatomy.events import finish
from splatomy.geometry.cameras import Cameras
from splatomy.io.atomic import write_json
from splatomy.io.prepared import PreparedParts, write_prepared
from splatomy.review import ReviewState


def test_the_queue_of_frames(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    page = open_masks(window, qtbot, tiny_clip)
    session = page.session
    assert page.side.count.text() == "0 of 8 confirmed"
    qtbot.mouseClick(page.side.confirm, LEFT)
    assert session.clock.frame == 1 and page.side.count.text() == "1 of 8 confirmed"
    qtbot.keyClick(window, Qt.Key.Key_Return)
    qtbot.keyClick(window, Qt.Key.Key_D)
    qtbot.keyClick(window, Qt.Key.Key_C, SHIFT)
    assert session.clock.frame == 2
    qtbot.keyClick(window, Qt.Key.Key_Backspace)
    assert session.review.frames[2].state is ReviewState.UNTOUCHED and not session.review.hidden(2).any()
    qtbot.keyClick(window, Qt.Key.Key_Home)
    qtbot.keyClick(window, Qt.Key.Key_N)
    assert session.clock.frame == 2
    qtbot.keyClick(window, Qt.Key.Key_Z, CONTROL)
    for _ in range(6):
        qtbot.keyClick(window, Qt.Key.Key_Return)
    assert session.review.counts()["confirmed"] == 8
    assert window.toast.isVisible()


def test_warnings_lead_to_their_frames(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    page = open_masks(window, qtbot, tiny_clip)
    session = page.session
    session.clock.show(5)
    qtbot.keyClick(window, Qt.Key.Key_I, CONTROL | SHIFT)
    qtbot.waitUntil(lambda: 5 in page.checks.by_frame, timeout=LONG_MS)
    assert "right way round" in page.warning.text() and page.warning.isVisible()
    assert 5 in window.timeline.strip._problems
    session.clock.show(1)
    rows = [page.side.warnings.item(n) for n in range(page.side.warnings.count())]
    row = next(r for r in rows if r.text().startswith("Frame 5"))
    spot = page.side.warnings.visualItemRect(row).center()
    qtbot.mouseClick(page.side.warnings.viewport(), LEFT, pos=spot)
    assert session.clock.frame == 5
    qtbot.keyClick(window, Qt.Key.Key_Z, CONTROL)
    qtbot.waitUntil(lambda: 5 not in page.checks.by_frame, timeout=LONG_MS)
    assert not page.warning.isVisible()


def test_comparing_and_showing(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    page = open_masks(window, qtbot, tiny_clip)
    item = page.view.mask_item
    assert item.isVisible()
    qtbot.keyPress(window, Qt.Key.Key_O)
    assert not item.isVisible()
    qtbot.keyRelease(window, Qt.Key.Key_O)
    assert item.isVisible()
    qtbot.mousePress(page.compare, LEFT)
    assert not item.isVisible()
    qtbot.mouseRelease(page.compare, LEFT)
    assert item.isVisible()
    qtbot.keyClick(window, Qt.Key.Key_V)
    assert not item.isVisible() and not page.session.layers["mask"].visible
    # Whoever draws sees the mask.
    drag(page, qtbot, [(20, 20), (24, 20)])
    assert item.isVisible() and window.actions_table["mask_show"].isChecked()
    qtbot.keyClick(window, Qt.Key.Key_G)
    assert item.opacity() == 0
    qtbot.keyClick(window, Qt.Key.Key_G)
    assert item.opacity() == 0.35
    page.options.opacity.setValue(80)
    assert item.opacity() == 0.8 and page.session.layers["mask"].opacity == 0.8


def finished_run(folder: Path, clip: Any) -> None:
    """A run of the case that took the instruments out; frame 3 was kept back."""
    count, height, width, _ = clip.images.shape
    hidden = np.zeros((count, height, width), bool)
    hidden[:, 10:30, 20:50] = True
    train = np.array([n for n in range(count) if n != 3])
    inpainted = np.full((len(train), height, width, 3), 90, np.uint8)
    provenance = np.zeros((len(train), height, width), np.int32)
    provenance[:, 10:30, 20:50] = 2
    provenance[:, 10:20, 20:50] = -1
    cameras: Cameras = clip.cameras
    parts = PreparedParts(
        cameras, np.asarray(clip.times_s), hidden, np.ones(hidden.shape, np.float32),
        np.ones(hidden.shape, np.uint16), train, {"key": "k", "metric": True}, None, inpainted, provenance,
    )  # fmt: skip
    finish(write_prepared(folder / "prepared", parts))
    write_json(folder / "run.json", {"state": "done", "method": "dynamic_tissue"})


def test_what_a_run_rebuilt_is_marked(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    page = open_masks(window, qtbot, tiny_clip)
    session, action = page.session, window.actions_table["mask_inpainted"]
    assert not action.isEnabled() and "Reconstruct" in action.toolTip()
    finished_run(session.folder / "runs" / "one", session.frames.clip)
    session.refresh_runs()
    qtbot.waitUntil(action.isEnabled, timeout=LONG_MS)
    qtbot.keyClick(window, Qt.Key.Key_W)
    item = page.inpainting.item
    qtbot.waitUntil(item.isVisible, timeout=LONG_MS)
    assert "made up (9.0% of the picture)" in page.inpaint_text.text()
    hatch = item._shown.hatch
    marked = np.array([[hatch.pixelColor(x, y).alpha() > 0 for x in range(64)] for y in range(52)])
    assert marked[10:20, 20:50].mean() > 0.2 and not marked[35:].any()
    # Every synthetic place has a mark near it.
    assert all(marked[y : y + 5, x : x + 5].any() for y in range(10, 16) for x in range(20, 46))
    viewport, start = page.view.viewport(), place(page, 32, 26)
    qtbot.mousePress(viewport, LEFT, pos=start)
    qtbot.mouseMove(viewport, place(page, 16, 26))
    qtbot.mouseRelease(viewport, LEFT, pos=place(page, 16, 26))
    assert abs(item.share - 16.5 / 64) < 0.02
    session.clock.show(3)
    qtbot.waitUntil(lambda: not item.isVisible(), timeout=LONG_MS)
    assert "kept back" in page.inpaint_text.text()
    qtbot.keyClick(window, Qt.Key.Key_Escape)
    assert not action.isChecked() and not page.inpaint_text.isVisible()
