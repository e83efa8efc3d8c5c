"""Real rendered views: they follow the 3D camera, and a film of the engine flies through kept cameras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from driving import LONG_MS, open_by_drop
from PyQt6.QtCore import QPoint, Qt

from splatomy_gui.plans import plan_run

pytestmark = pytest.mark.verify
LEFT, NONE = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
CONTROL = Qt.KeyboardModifier.ControlModifier
RUN_MS = 300_000


def test_views_and_film_of_the_engine(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    open_by_drop(window, qtbot, tiny_clip)
    session = window.session
    plan = plan_run(session, "dynamic_tissue", "draft", {"steps": 60})
    job = session.queue.add(plan)
    qtbot.waitUntil(lambda: job.state.ended, timeout=RUN_MS)
    qtbot.waitUntil(lambda: session.result is not None, timeout=LONG_MS)
    qtbot.mouseClick(window.stepper.buttons["inspect"], LEFT)
    page = window.page
    qtbot.waitUntil(lambda: page.content is not None, timeout=LONG_MS)
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow, timeout=LONG_MS)
    qtbot.keyClick(window, Qt.Key.Key_4)
    novel = page.moment.novel_view
    qtbot.waitUntil(lambda: _picture(novel) is not None, timeout=RUN_MS)
    before, pose = _picture(novel), page.scene_view.pose
    # The camera is turned by the mouse; a new picture comes by itself.
    plotter = page.scene_view.plotter
    middle = QPoint(plotter.width() // 2, plotter.height() // 2)
    qtbot.mousePress(plotter, LEFT, NONE, middle)
    for step in range(1, 9):
        qtbot.mouseMove(plotter, middle + QPoint(8 * step, 4 * step))
    qtbot.mouseRelease(plotter, LEFT, NONE, middle + QPoint(64, 32))
    assert not np.allclose(page.scene_view.pose.position, pose.position)
    qtbot.waitUntil(lambda: not np.array_equal(_picture(novel), before), timeout=RUN_MS)
    for _ in range(2):
        qtbot.keyClick(window, Qt.Key.Key_B, CONTROL)
        page.scene_view.set_pose(pose)
    qtbot.mouseClick(page.cameras.list.film_button, LEFT)
    dialog = page.cameras.dialog
    qtbot.waitUntil(dialog.isVisible, timeout=LONG_MS)
    dialog.duration.setValue(0.5)
    dialog.rate.setValue(6)
    qtbot.mouseClick(dialog.ok_button, LEFT)
    exports = session.folder / "exports"
    qtbot.waitUntil(lambda: any(exports.glob("*film*.mp4")), timeout=RUN_MS)
    with av.open(str(next(exports.glob("*film*.mp4")))) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) == 3 and frames[0].shape == (480, 640, 3)
    assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 1


def _picture(view: Any) -> np.ndarray | None:
    """What a compare view shows as rendered."""
    return None if view._rendered is None else np.array(view._rendered)
