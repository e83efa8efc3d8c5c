"""Views of projections: the recorded frame with wipe and window, and the C-arm that is turned by dragging."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import QPointF, QRectF, Qt, pyqtSignal
from PyQt6.QtGui import QImage, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QWheelEvent
from PyQt6.QtWidgets import QSizePolicy, QWidget

from splatomy_gui.panels.angiography.projecting import angle_words
from splatomy_gui.theme import current_theme
from splatomy_gui.views.frame_view import image_of

_DEGREES_PER_PX = 0.4
_MOST_CRANIAL = 85.0


class ProjectionView(QWidget):
    """One picture, or two with a line between them that is dragged; captions in the corners."""

    window_dragged = pyqtSignal(float, float)
    """Right drag since its start, px right and down."""
    window_begun = pyqtSignal()
    window_ended = pyqtSignal()
    scrolled = pyqtSignal(int)
    """Frames to go on."""

    def __init__(self, tip: str) -> None:
        super().__init__()
        self._images: list[QImage] = []
        self._words: tuple[str, ...] = ()
        self.wipe = 0.5
        self.note = ""
        self._window_from: QPointF | None = None
        self._wiping = False
        self.setMinimumSize(160, 160)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setToolTip(tip)

    def show_pictures(self, pictures: list[NDArray[np.uint8]], words: tuple[str, ...] = ()) -> None:
        """One picture, or two to wipe between. words: caption of each."""
        self._images = [image_of(picture) for picture in pictures]
        self._words = words
        self.update()

    def say(self, note: str) -> None:
        """A note in the middle, such as what is being waited for."""
        if note != self.note:
            self.note = note
            self.update()

    @property
    def has_picture(self) -> bool:
        """True if there is something to see."""
        return bool(self._images)

    def _box(self) -> QRectF:
        image = self._images[0]
        scale = min(self.width() / image.width(), self.height() / image.height())
        width, height = image.width() * scale, image.height() * scale
        return QRectF((self.width() - width) / 2, (self.height() - height) / 2, width, height)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Paints pictures, wipe line and captions."""
        painter = QPainter(self)
        theme = current_theme()
        painter.fillRect(self.rect(), theme.colour("canvas"))
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        if self._images:
            box = self._box()
            painter.drawImage(box, self._images[0])
            if len(self._images) > 1:
                x = box.left() + self.wipe * box.width()
                painter.save()
                painter.setClipRect(QRectF(x, box.top(), box.right() - x, box.height()))
                painter.drawImage(box, self._images[1])
                painter.restore()
                painter.setPen(QPen(theme.colour("accent"), 2))
                painter.drawLine(QPointF(x, box.top()), QPointF(x, box.bottom()))
            for number, words in enumerate(self._words):
                self._caption(painter, words, number == 1)
        if self.note:
            painter.setPen(theme.colour("caution" if self._images else "muted"))
            area = self.rect().adjusted(20, 0, -20, -10)
            side = Qt.AlignmentFlag.AlignBottom if self._images else Qt.AlignmentFlag.AlignVCenter
            painter.drawText(area, Qt.AlignmentFlag.AlignHCenter | side | Qt.TextFlag.TextWordWrap, self.note)
        painter.end()

    def _caption(self, painter: QPainter, words: str, right: bool) -> None:
        metrics = painter.fontMetrics()
        width = metrics.horizontalAdvance(words) + 12
        x = self.width() - width - 6 if right else 6
        box = QRectF(x, 6, width, metrics.height() + 6)
        painter.fillRect(box, Qt.GlobalColor.black)
        painter.setPen(Qt.GlobalColor.white)
        painter.drawText(box, Qt.AlignmentFlag.AlignCenter, words)

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Takes the wipe line, or begins to change the window."""
        if event is None or not self._images:
            return
        if event.button() is Qt.MouseButton.RightButton:
            self._window_from = event.position()
            self.window_begun.emit()
        elif event.button() is Qt.MouseButton.LeftButton and len(self._images) > 1:
            self._wiping = True
            self._move_wipe(event.position().x())

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Goes on with it."""
        if event is None:
            return
        if self._wiping:
            self._move_wipe(event.position().x())
        elif self._window_from is not None:
            shift = event.position() - self._window_from
            self.window_dragged.emit(shift.x(), shift.y())

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:
        """Ends it."""
        if self._window_from is not None:
            self.window_ended.emit()
        self._window_from, self._wiping = None, False

    def _move_wipe(self, x: float) -> None:
        box = self._box()
        self.wipe = float(np.clip((x - box.left()) / box.width(), 0, 1))
        self.update()

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        """Goes through the frames."""
        if event is not None:
            self.scrolled.emit(-1 if event.angleDelta().y() > 0 else 1)
            event.accept()


class CArmView(ProjectionView):
    """Synthetic DSA; dragging turns the C-arm: across changes LAO/RAO, up and down cranial/caudal."""

    turning = pyqtSignal(float, float)
    """LAO and cranial angle in degrees while it is dragged."""
    turned = pyqtSignal(object, object)
    """Angles (LAO, cranial) before and after."""

    def __init__(self, may_turn: Callable[[], bool]) -> None:
        super().__init__("Drag to turn the C-arm: across for LAO/RAO, up and down for cranial/caudal")
        self.angles = (0.0, 0.0)
        self._may_turn = may_turn
        self._turned_from: tuple[QPointF, tuple[float, float]] | None = None
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def set_angles(self, angles: tuple[float, float]) -> None:
        """Other angles; the page asks for the picture."""
        self.angles = angles
        self.update()

    @property
    def words(self) -> str:
        """The angles as on a C-arm."""
        return angle_words(*self.angles)

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Begins to turn."""
        if event is not None and event.button() is Qt.MouseButton.LeftButton and self._may_turn():
            self._turned_from = (event.position(), self.angles)
        else:
            super().mousePressEvent(event)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Turns."""
        if event is None or self._turned_from is None:
            super().mouseMoveEvent(event)
            return
        start, (lao, cranial) = self._turned_from
        shift = (event.position() - start) * _DEGREES_PER_PX
        self._turn(lao + shift.x(), cranial + shift.y())

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:
        """The C-arm rests."""
        if self._turned_from is None:
            super().mouseReleaseEvent(event)
            return
        before, self._turned_from = self._turned_from[1], None
        if before != self.angles:
            self.turned.emit(before, self.angles)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Ctrl and an arrow turn by 5 degrees."""
        steps = {
            Qt.Key.Key_Left: (-5.0, 0.0),
            Qt.Key.Key_Right: (5.0, 0.0),
            Qt.Key.Key_Up: (0.0, 5.0),
            Qt.Key.Key_Down: (0.0, -5.0),
        }
        if event is None:
            return
        step = steps.get(Qt.Key(event.key()))
        if (
            step is None
            or not event.modifiers() & Qt.KeyboardModifier.ControlModifier
            or not self._may_turn()
        ):
            super().keyPressEvent(event)
            return
        before = self.angles
        self._turn(before[0] + step[0], before[1] + step[1])
        self.turned.emit(before, self.angles)

    def _turn(self, lao: float, cranial: float) -> None:
        lao = (lao + 180) % 360 - 180
        self.angles = (lao, float(np.clip(cranial, -_MOST_CRANIAL, _MOST_CRANIAL)))
        self.turning.emit(*self.angles)
        self.update()
