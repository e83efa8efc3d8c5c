"""Which part of a clip is used: two handles over a strip that shows how good every frame is."""

from __future__ import annotations

from typing import Any

from PyQt6.QtCore import QPointF, QRectF, QSize, Qt, pyqtSignal
from PyQt6.QtGui import QColor, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF
from PyQt6.QtWidgets import QSizePolicy, QWidget

from splatomy_gui.theme import current_theme

FLAWS = {
    "dark": ("no light", "none"),
    "blurred": ("blurred", "caution"),
    "smoky": ("smoke", "link"),
    "burnt": ("over-exposed", "bad"),
    "duplicate": ("repeats the frame before", "none"),
    "jump": ("the picture jumps", "bad"),
}
"""Flaws of the quality report: words for them, and a colour of the theme."""
_EDGE, _STRIP, _HANDLE = 9, 26, 7


class TrimSlider(QWidget):
    """First and last frame of the part that is used, and the frame on show.

    Drag a handle, or click to show a frame. Keys: arrows show frames, I and O set first and last.
    The bars' heights are the sharpness of the examined frames; flaws are coloured, each on its own row.
    """

    trimmed = pyqtSignal(int, int)
    """First and last frame, both included."""
    shown = pyqtSignal(int)

    def __init__(self) -> None:
        super().__init__()
        self.count, self.first, self.last, self.frame = 0, 0, 0, 0
        self._quality: dict[str, Any] = {}
        self._dragged = ""
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMouseTracking(True)
        self.setToolTip("Drag the ends to choose which part of the clip is used; click to see a frame")

    def sizeHint(self) -> QSize:
        """As wide as there is room."""
        return QSize(300, _STRIP + 26)

    def set_clip(self, count: int, quality: dict[str, Any]) -> None:
        """Another clip of so many frames; quality: of its report, may be empty."""
        self.count, self._quality = count, quality
        self.first, self.last, self.frame = 0, max(0, count - 1), 0
        self.update()

    def set_trim(self, first: int, last: int) -> None:
        """Another part, without telling."""
        top = max(0, self.count - 1)
        self.first = max(0, min(first, top))
        self.last = max(self.first, min(last, top))
        self.update()

    def show_frame(self, frame: int) -> None:
        """Shows a frame and tells it."""
        frame = max(0, min(frame, self.count - 1))
        if frame != self.frame:
            self.frame = frame
            self.shown.emit(frame)
            self.update()

    def flaws_at(self, frame: int) -> list[str]:
        """What is wrong with a frame, in words."""
        return [words for key, (words, _) in FLAWS.items() if frame in self._quality.get(key, ())]

    # -- geometry --------------------------------------------------------------------------------

    def _x(self, frame: float) -> float:
        width = max(1, self.width() - 2 * _EDGE)
        return _EDGE + width * frame / max(1, self.count - 1)

    def _frame_at(self, x: float) -> int:
        width = max(1, self.width() - 2 * _EDGE)
        return round(min(max((x - _EDGE) / width, 0), 1) * max(0, self.count - 1))

    # -- painting --------------------------------------------------------------------------------

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Paints the strip, the part that is used, and the handles."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        theme = current_theme()
        strip = QRectF(_EDGE, 2, max(1, self.width() - 2 * _EDGE), _STRIP)
        painter.fillRect(strip, theme.colour("base"))
        self._paint_quality(painter, strip)
        shade = QColor(theme.colour("window"))
        shade.setAlpha(190)
        painter.fillRect(QRectF(strip.left(), 2, self._x(self.first) - strip.left(), _STRIP), shade)
        painter.fillRect(QRectF(self._x(self.last), 2, strip.right() - self._x(self.last), _STRIP), shade)
        painter.setPen(QPen(theme.colour("accent"), 2))
        painter.drawRect(QRectF(self._x(self.first), 2, self._x(self.last) - self._x(self.first), _STRIP))
        painter.setPen(QPen(theme.colour("text"), 1.5))
        painter.drawLine(QPointF(self._x(self.frame), 0), QPointF(self._x(self.frame), _STRIP + 4))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(theme.colour("accent"))
        for frame in (self.first, self.last):
            x = self._x(frame)
            corners = ((x, _STRIP + 3), (x - _HANDLE, _STRIP + 16), (x + _HANDLE, _STRIP + 16))
            painter.drawPolygon(QPolygonF(QPointF(*corner) for corner in corners))
        painter.setPen(theme.colour("text"))
        used = self.last - self.first + 1 if self.count else 0
        text = f"{self.first} to {self.last}: {used} of {self.count} frames"
        below = QRectF(0, _STRIP + 8, self.width(), 18)
        painter.drawText(below, Qt.AlignmentFlag.AlignHCenter, text)
        painter.end()

    def _paint_quality(self, painter: QPainter, strip: QRectF) -> None:
        frames, sharpness = self._quality.get("frames", ()), self._quality.get("sharpness", ())
        best = max((v for v in sharpness if v is not None), default=0)
        wide = max(1.0, strip.width() / max(1, len(frames)))
        theme = current_theme()
        for frame, value in zip(frames, sharpness, strict=False):
            if value is not None and best > 0:
                tall = (strip.height() - 2) * value / best
                bar = QRectF(self._x(frame) - wide / 2, strip.bottom() - tall, wide, tall).intersected(strip)
                painter.fillRect(bar, theme.colour("border"))
        for row, (key, (_, colour)) in enumerate(FLAWS.items()):
            for frame in self._quality.get(key, ()):
                mark = QRectF(self._x(frame) - max(wide, 3) / 2, strip.top() + 4 * row, max(wide, 3), 4)
                painter.fillRect(mark.intersected(strip), theme.colour(colour))

    # -- pointer and keys ------------------------------------------------------------------------

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Takes the nearer handle, or shows a frame."""
        if event is None or not self.count:
            return
        x = event.position().x()
        away = {"first": abs(x - self._x(self.first)), "last": abs(x - self._x(self.last))}
        nearer = min(away, key=lambda name: away[name])
        self._dragged = nearer if away[nearer] <= _HANDLE + 2 else "frame"
        self.mouseMoveEvent(event)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Moves what was taken; else tells what is wrong with the frame under the pointer."""
        if event is None or not self.count:
            return
        frame = self._frame_at(event.position().x())
        if not self._dragged:
            flaws = self.flaws_at(frame)
            self.setToolTip(f"Frame {frame}" + (f": {', '.join(flaws)}" if flaws else ""))
            return
        if self._dragged == "first":
            self._trim(min(frame, self.last), self.last)
        elif self._dragged == "last":
            self._trim(self.first, max(frame, self.first))
        self.show_frame(frame)

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:
        """Lets go."""
        self._dragged = ""

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Arrows show frames; I and O set first and last."""
        if event is None:
            return
        steps = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}
        if event.key() in steps:
            self.show_frame(self.frame + steps[Qt.Key(event.key())])
        elif event.key() == Qt.Key.Key_I:
            self._trim(self.frame, max(self.frame, self.last))
        elif event.key() == Qt.Key.Key_O:
            self._trim(min(self.first, self.frame), self.frame)
        else:
            super().keyPressEvent(event)

    def _trim(self, first: int, last: int) -> None:
        if (first, last) != (self.first, self.last):
            self.set_trim(first, last)
            self.trimmed.emit(self.first, self.last)
