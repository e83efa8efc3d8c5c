"""The tissue behind instruments as a run rebuilt it, beside the recorded frame: a line to drag wipes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import QPointF, QRectF, Qt
from PyQt6.QtGui import QColor, QImage, QMouseEvent, QPainter, QTabletEvent
from PyQt6.QtWidgets import QGraphicsItem, QStyleOptionGraphicsItem, QWidget

from splatomy.review import Mask
from splatomy_gui.frames import Picture
from splatomy_gui.views.frame_view import FrameView, image_of
from splatomy_gui.views.mask_tools import cosmetic_pen

_STRIPE_PX, _PERIOD_PX = 2, 9


@dataclass(frozen=True)
class InpaintedFrame:
    """One frame without instruments. picture, hatch: same size; hatch is clear but on synthetic areas."""

    picture: QImage
    hatch: QImage
    share_synthetic: float
    share_borrowed: float


def inpainted_frame(
    picture: Picture, made_up: Mask, borrowed: Mask, colours: tuple[QColor, QColor]
) -> InpaintedFrame:
    """The picture (H, W, 3) with stripes where it is made up and dots where other frames lent it.

    made_up, borrowed: (H, W). colours: of the two. Safe on any thread.
    """
    hatch = np.zeros((*made_up.shape, 4), np.uint8)
    height, width = made_up.shape
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    stripes = made_up & ((rows + columns) % _PERIOD_PX < _STRIPE_PX)
    dots = borrowed & (rows % _PERIOD_PX == 0) & (columns % _PERIOD_PX == 0)
    made, lent = colours
    for area, colour in ((stripes | _rim(made_up), made), (dots | _rim(borrowed), lent)):
        hatch[area] = (colour.red(), colour.green(), colour.blue(), 235)
    share = float(made_up.mean()), float(borrowed.mean())
    return InpaintedFrame(image_of(picture), image_of(hatch), *share)


def _rim(area: Mask) -> NDArray[np.bool_]:
    """The pixels of an area that touch what is not part of it."""
    padded = np.pad(area, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return area & ~inner


class InpaintItem(QGraphicsItem):
    """Covers the frame right of the line."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: InpaintedFrame | None = None
        self._box = QRectF(0, 0, 1, 1)
        self.share = 0.5
        """Where the line is, 0 = left."""
        self.setZValue(1.5)
        self.hide()

    def show_frame(self, shown: InpaintedFrame | None) -> None:
        """Another frame, or nothing."""
        self.prepareGeometryChange()
        self._shown = shown
        if shown is not None:
            self._box = QRectF(0, 0, shown.picture.width(), shown.picture.height())
        self.setVisible(shown is not None)
        self.update()

    def set_share(self, share: float) -> None:
        """Moves the line."""
        self.share = float(np.clip(share, 0, 1))
        self.update()

    def boundingRect(self) -> QRectF:
        """The frame."""
        return self._box

    def paint(
        self, painter: QPainter | None, option: QStyleOptionGraphicsItem | None, widget: QWidget | None = None
    ) -> None:
        """Paints what lies right of the line, then the line with its handle."""
        if painter is None or self._shown is None:
            return
        x = self._box.width() * self.share
        part = QRectF(x, 0, self._box.width() - x, self._box.height())
        painter.drawImage(part, self._shown.picture, part)
        painter.drawImage(part, self._shown.hatch, part)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for colour, width in ((QColor(0, 0, 0, 190), 4.0), (QColor("white"), 2.0)):
            painter.setPen(cosmetic_pen(colour, width))
            painter.drawLine(QPointF(x, 0), QPointF(x, self._box.height()))
        size = 7 / max(painter.worldTransform().m11(), 1e-3)
        painter.setBrush(QColor("white"))
        painter.setPen(cosmetic_pen(QColor(0, 0, 0, 190), 1.5))
        painter.drawEllipse(QPointF(x, self._box.height() / 2), size, size)


class WipeTool:
    """Drags the line of an InpaintItem. moved: is told its new share."""

    def __init__(self, view: FrameView, item: InpaintItem, moved: Callable[[float], None]) -> None:
        self._view, self._item, self._moved = view, item, moved

    def press(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> bool:
        """Takes the line."""
        if event.button() is not Qt.MouseButton.LeftButton:
            return False
        self.move(point, event, pressure)
        return True

    def move(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> None:
        """Moves it."""
        share = (point.x() + 0.5) / max(1.0, self._view.frame_box.width())
        self._item.set_share(share)
        self._moved(self._item.share)

    def release(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> None:
        """Leaves it where it is."""

    def finish(self) -> bool:
        """Nothing to close."""
        return False

    def cancel(self) -> bool:
        """Nothing to drop."""
        return False

    def hover(self, point: QPointF) -> None:
        """Nothing to show."""

    def leave(self) -> None:
        """Nothing to hide."""

    def paint(self, painter: QPainter) -> None:
        """The item paints."""
