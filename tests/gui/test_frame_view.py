"""The view of frames: what is turned over for readers is still drawn in the pixels of the frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PyQt6.QtCore import QPointF, QRect

from splatomy_gui.views.frame_view import FrameView


@pytest.fixture
def view(qtbot: Any) -> FrameView:
    """A frame of 40 x 20 px with a bright left half."""
    made = FrameView()
    qtbot.addWidget(made)
    made.resize(420, 240)
    picture = np.zeros((20, 40), np.uint8)
    picture[:, :20] = 200
    made.set_picture(picture)
    made.show()
    qtbot.waitExposed(made)
    return made


def test_mirrored_view_maps_points_back_exactly(view: FrameView) -> None:
    plain = view.mapFromScene(QPointF(3.5, 10.5))
    view.set_mirrored(True)
    turned = view.mapFromScene(QPointF(3.5, 10.5))
    middle = view.viewport().width() / 2
    assert plain.x() < middle < turned.x() and abs((turned.x() - middle) - (middle - plain.x())) <= 2
    point = view.point_at(turned)
    assert abs(point.x() - 3) < 0.2 and abs(point.y() - 10) < 0.2
    assert view.zoom > 1
    view.set_mirrored(True)
    assert view.mapFromScene(QPointF(3.5, 10.5)) == turned
    view.set_mirrored(False)
    assert view.mapFromScene(QPointF(3.5, 10.5)) == plain


def test_mirrored_view_shows_picture_and_mask_turned_over(view: FrameView) -> None:
    mask = np.zeros((20, 40), bool)
    view.mask_item.set_colour(view.palette().highlight().color())
    view.set_mirrored(True)
    view.set_mask(mask)
    mask[8:12, 2:6] = True
    view.set_mask(mask, QRect(2, 8, 4, 4))
    image = view.grab().toImage()

    def shown(x: float, y: float) -> Any:
        return image.pixelColor(view.viewport().mapTo(view, view.mapFromScene(QPointF(x, y))))

    assert shown(4, 10) == view.palette().highlight().color()
    assert shown(10, 10).value() > 150 and shown(30, 10).value() < 50
    right, left = view.mapFromScene(QPointF(10, 10)).x(), view.mapFromScene(QPointF(30, 10)).x()
    assert left < right
    # Zoomed or not, and however often the size changes, it stays turned over.
    view.resize(300, 300)
    view.zoom_by(2)
    assert view.mapFromScene(QPointF(10, 10)).x() > view.mapFromScene(QPointF(30, 10)).x()
