"""Kept cameras, a film through them and pictures of the view, of a volume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from driving import LONG_MS
from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import QFileDialog
from test_undone import page  # noqa: F401  (the fixture)

from splatomy_gui.views.scene_view import CameraPose

LEFT, CONTROL = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.ControlModifier


def test_film_through_kept_cameras(page: Any, window: Any, qtbot: Any, tmp_path: Path) -> None:  # noqa: F811
    view, session = page.scene_view, window.session
    assert "two cameras" in window.actions_table["view_film"].toolTip()
    qtbot.keyClick(window, Qt.Key.Key_B, CONTROL)
    first = view.pose
    # The second camera looks from the other side, from farther away.
    away = tuple(-1.5 * v for v in first.position)
    view.set_pose(CameraPose(away, first.focal_point, first.view_up, first.view_angle_deg))
    qtbot.keyClick(window, Qt.Key.Key_B, CONTROL)
    assert page.tabs.currentWidget() is page.cameras.list and page.cameras.list.list.count() == 2
    qtbot.mouseClick(page.cameras.list.film_button, LEFT)
    dialog = page.cameras.dialog
    qtbot.waitUntil(dialog.isVisible, timeout=LONG_MS)
    dialog.duration.setValue(0.5)
    dialog.rate.setValue(8)
    qtbot.mouseClick(dialog.ok_button, LEFT)
    folder = session.result.path.parent / "exports"
    qtbot.waitUntil(lambda: any(folder.glob("*.mp4")), timeout=LONG_MS)
    qtbot.waitUntil(lambda: not session.tasks.running, timeout=LONG_MS)
    with av.open(str(next(folder.glob("*.mp4")))) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) == 4
    # The ball is seen from everywhere, and smaller from farther away.
    area = [int((frame[..., 0].astype(int) - frame[..., 2] > 60).sum()) for frame in frames]
    assert area[0] > 100 and area[-1] < 0.8 * area[0]
    assert np.allclose(view.pose.position, away)


def test_a_film_that_cannot_be_written_ends(page: Any, window: Any, qtbot: Any) -> None:  # noqa: F811
    view, session = page.scene_view, window.session
    qtbot.keyClick(window, Qt.Key.Key_B, CONTROL)
    first = view.pose
    away = tuple(-1.5 * v for v in first.position)
    view.set_pose(CameraPose(away, first.focal_point, first.view_up, first.view_angle_deg))
    qtbot.keyClick(window, Qt.Key.Key_B, CONTROL)
    exports = session.result.path.parent / "exports"
    exports.write_text("a file where the folder should be")
    qtbot.mouseClick(page.cameras.list.film_button, LEFT)
    dialog = page.cameras.dialog
    qtbot.waitUntil(dialog.isVisible, timeout=LONG_MS)
    dialog.duration.setValue(5)
    qtbot.mouseClick(dialog.ok_button, LEFT)
    qtbot.waitUntil(lambda: bool(window.dialogs), timeout=LONG_MS)
    window.dialogs[-1].close()
    qtbot.waitUntil(lambda: np.allclose(view.pose.position, away), timeout=LONG_MS)
    # Nothing goes on moving the camera.
    view.set_pose(first)
    qtbot.wait(100)
    assert np.allclose(view.pose.position, first.position)


def test_pictures_of_view_and_window_are_saved(
    page: Any,  # noqa: F811
    window: Any,
    qtbot: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for keys, name in ((Qt.Key.Key_V, "view.png"), (Qt.Key.Key_S, "window.png")):
        path = tmp_path / name
        # The system's own dialog cannot be driven; what it returns is what a person would have chosen.
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, p=path: (str(p), ""))
        qtbot.keyClick(window, keys, CONTROL | Qt.KeyboardModifier.ShiftModifier)
        qtbot.waitUntil(path.is_file, timeout=LONG_MS)
        qtbot.waitUntil(lambda: not window.session.tasks.running, timeout=LONG_MS)
        picture = cv2.imread(str(path))
        ratio = window.devicePixelRatioF()
        size = page.scene_view.size() if keys is Qt.Key.Key_V else window.size()
        assert picture.shape[:2] == (round(size.height() * ratio), round(size.width() * ratio))
        red = picture[..., 2].astype(int) - picture[..., 0] > 60
        assert red.sum() > 100
