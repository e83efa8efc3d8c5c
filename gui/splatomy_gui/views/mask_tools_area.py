"""Tools that mark an area or a place: lasso, polygon, box, and the point of a fill or a smart click."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from PyQt6.QtCore import QEvent, QPointF, QRectF, Qt
from PyQt6.QtGui import QColor, QMouseEvent, QPainter, QPolygonF, QTabletEvent

from splatomy_gui.views.mask_tools import cosmetic_pen, takes_away

if TYPE_CHECKING:
    from splatomy_gui.views.frame_view import FrameView

Corners = list[tuple[float, float]]
_CLOSE_PX = 9.0
_LEAST_BOX_PX = 4.0
_MARK_PX = 7.0


def _draw_line(painter: QPainter, points: list[QPointF], closed: bool) -> None:
    """A line that is seen on any tissue, through pixel centres."""
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    line = QPolygonF([point + QPointF(0.5, 0.5) for point in points])
    for colour, width in ((QColor(0, 0, 0, 190), 3.4), (QColor("white"), 1.6)):
        painter.setPen(cosmetic_pen(colour, width))
        painter.drawPolygon(line) if closed else painter.drawPolyline(line)


class LassoTool:
    """A free line around an area. ended: gets its corners and whether it hides."""

    def __init__(
        self, view: FrameView, allowed: Callable[[], bool], ended: Callable[[Corners, bool], None]
    ) -> None:
        self._view, self._allowed, self._ended = view, allowed, ended
        self.hides = True
        self._points: list[QPointF] = []
        self._stroke_hides = True

    def press(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> bool:
        """Begins the line."""
        if not self._allowed():
            return False
        self._stroke_hides = self.hides != takes_away(event)
        self._points = [point]
        return True

    def move(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> None:
        """Goes on with it."""
        if self._points:
            self._points.append(point)
            self._view.update_tool()

    def release(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> None:
        """Closes it."""
        points, self._points = self._points, []
        self._view.update_tool()
        if len(points) > 2:
            self._ended([(p.x(), p.y()) for p in points], self._stroke_hides)

    def cancel(self) -> bool:
        """Drops the line; False if there is none."""
        had, self._points = bool(self._points), []
        self._view.update_tool()
        return had

    def finish(self) -> bool:
        """Nothing to close by a key."""
        return False

    def hover(self, point: QPointF) -> None:
        """Nothing to show."""

    def leave(self) -> None:
        """Nothing to hide."""

    def paint(self, painter: QPainter) -> None:
        """The line so far."""
        if len(self._points) > 1:
            _draw_line(painter, self._points, closed=True)


class PolygonTool:
    """Corners by clicks; a double click, Enter or a click on the first one closes, a right click takes the
    last one back. ended: gets the corners and whether they hide.
    """

    def __init__(
        self, view: FrameView, allowed: Callable[[], bool], ended: Callable[[Corners, bool], None]
    ) -> None:
        self._view, self._allowed, self._ended = view, allowed, ended
        self.hides = True
        self._corners: list[QPointF] = []
        self._pointer: QPointF | None = None
        self._stroke_hides = True

    def press(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> bool:
        """Sets a corner, takes one back, or closes."""
        if not self._allowed():
            return False
        if event.button() is Qt.MouseButton.RightButton:
            del self._corners[-1:]
            self._view.update_tool()
        elif self._corners and (event.type() == QEvent.Type.MouseButtonDblClick or self._on_first(point)):
            self.finish()
        else:
            if not self._corners:
                alt = bool(event.modifiers() & Qt.KeyboardModifier.AltModifier)
                self._stroke_hides = self.hides != alt
            self._corners.append(point)
            self._view.update_tool()
        return True

    def _on_first(self, point: QPointF) -> bool:
        gap = point - self._corners[0]
        near = gap.manhattanLength() * self._view.zoom < _CLOSE_PX
        return len(self._corners) > 2 and near

    def move(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> None:
        """The line follows the pointer."""
        self.hover(point)

    def release(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> None:
        """Nothing: the next click goes on."""

    def finish(self) -> bool:
        """Closes the area; False if none was begun."""
        corners, self._corners = self._corners, []
        self._view.update_tool()
        if len(corners) > 2:
            self._ended([(p.x(), p.y()) for p in corners], self._stroke_hides)
        return bool(corners)

    def cancel(self) -> bool:
        """Drops the corners; False if there are none."""
        had, self._corners = bool(self._corners), []
        self._view.update_tool()
        return had

    def hover(self, point: QPointF) -> None:
        """The line follows the pointer."""
        self._pointer = point
        if self._corners:
            self._view.update_tool()

    def leave(self) -> None:
        """The line ends at the last corner."""
        self._pointer = None
        self._view.update_tool()

    def paint(self, painter: QPainter) -> None:
        """Corners and edges so far."""
        if not self._corners:
            return
        points = [*self._corners, *([self._pointer] if self._pointer is not None else [])]
        _draw_line(painter, points, closed=False)
        painter.setBrush(QColor("white"))
        painter.setPen(cosmetic_pen(QColor("black"), 1.0))
        size = 3.5 / max(self._view.zoom, 1e-3)
        for corner in self._corners:
            painter.drawEllipse(corner + QPointF(0.5, 0.5), size, size)


class PointTool:
    """One place by a click. ended: gets its pixel and True for the opposite (Shift or the right button)."""

    def __init__(
        self, view: FrameView, allowed: Callable[[], bool], ended: Callable[[tuple[int, int], bool], None]
    ) -> None:
        self._view, self._allowed, self._ended = view, allowed, ended

    def press(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> bool:
        """Takes the place, if it lies in the frame."""
        pixel = round(point.x()), round(point.y())
        box = self._view.frame_box
        inside = 0 <= pixel[0] < box.width() and 0 <= pixel[1] < box.height()
        if inside and self._allowed():
            shift = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
            self._ended(pixel, shift or takes_away(event))
        return False

    def move(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> None:
        """Nothing."""

    def release(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> None:
        """Nothing."""

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
        """Nothing to draw."""


class ClickTool(PointTool):
    """Places by clicks, which stay to be seen. marks: x, y of each, and True where it is on the object."""

    def __init__(
        self,
        view: FrameView,
        allowed: Callable[[], bool],
        ended: Callable[[tuple[int, int], bool], None],
        marks: Callable[[], Iterable[tuple[int, int, bool]]],
    ) -> None:
        super().__init__(view, allowed, ended)
        self._marks = marks

    def paint(self, painter: QPainter) -> None:
        """A plus on the object, a minus beside it."""
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        size = _MARK_PX / max(self._view.zoom, 1e-3)
        for x, y, on_object in self._marks():
            middle = QPointF(x + 0.5, y + 0.5)
            painter.setPen(cosmetic_pen(QColor("black"), 1.4))
            painter.setBrush(QColor("white") if on_object else QColor("#fda4af"))
            painter.drawEllipse(middle, size, size)
            painter.setPen(cosmetic_pen(QColor("black"), 2.0))
            painter.drawLine(middle - QPointF(0.6 * size, 0), middle + QPointF(0.6 * size, 0))
            if on_object:
                painter.drawLine(middle - QPointF(0, 0.6 * size), middle + QPointF(0, 0.6 * size))


class BoxTool:
    """A box by dragging; a mere click means none. ended: gets (left, top, right, bottom) px, or None."""

    def __init__(
        self,
        view: FrameView,
        allowed: Callable[[], bool],
        ended: Callable[[tuple[int, int, int, int] | None], None],
    ) -> None:
        self._view, self._allowed, self._ended = view, allowed, ended
        self._from: QPointF | None = None
        self._to = QPointF()

    def press(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> bool:
        """One corner."""
        if not self._allowed():
            return False
        self._from = self._to = point
        return True

    def move(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> None:
        """The opposite corner so far."""
        self._to = point
        self._view.update_tool()

    def release(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> None:
        """The opposite corner."""
        if self._from is None:
            return
        box = QRectF(self._from, point).normalized().intersected(self._view.frame_box)
        self._from = None
        self._view.update_tool()
        if min(box.width(), box.height()) < _LEAST_BOX_PX:
            self._ended(None)
        else:
            self._ended((round(box.left()), round(box.top()), round(box.right()), round(box.bottom())))

    def cancel(self) -> bool:
        """Drops the box; False if none was begun."""
        had, self._from = self._from is not None, None
        self._view.update_tool()
        return had

    def finish(self) -> bool:
        """Nothing to close by a key."""
        return False

    def hover(self, point: QPointF) -> None:
        """Nothing to show."""

    def leave(self) -> None:
        """Nothing to hide."""

    def paint(self, painter: QPainter) -> None:
        """The box so far."""
        if self._from is not None:
            a, b = self._from, self._to
            corners = [a, QPointF(b.x(), a.y()), b, QPointF(a.x(), b.y())]
            _draw_line(painter, corners, closed=True)
