"""One axis-aligned slice of a volume with crosshair, window and slab projection; plain Qt, no VTK."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import QPointF, QRectF, Qt, pyqtSignal
from PyQt6.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF, QWheelEvent
from PyQt6.QtWidgets import QWidget

from splatomy.scene import Volume
from splatomy_gui.theme import current_theme
from splatomy_gui.views.frame_view import image_of

Plane = Literal["axial", "coronal", "sagittal"]
Colours = Callable[[NDArray[np.floating]], NDArray[np.uint8]]
_NORMAL = {"axial": 2, "coronal": 1, "sagittal": 0}
_SIDES = {"axial": "RLAP", "coronal": "RLHF", "sagittal": "APHF"}
"""What lies left, right, at the top and at the bottom of the picture."""
_ZOOM, _MOST_ZOOM = 1.2, 40.0
_WHITE, _SHADE = QColor(255, 255, 255, 220), QColor(0, 0, 0, 140)


@dataclass(frozen=True)
class Mark:
    """Points and a line through them, drawn on slices that they touch. points_mm: (N, 3) world."""

    points_mm: NDArray[np.float64]
    colour: str
    text: str = ""


class SliceView(QWidget):
    """A slice through the crosshair, seen as radiologists do: patient's right on the left, head up.

    The volume's axes must run nearly left, back and up (``content.canonical``). Left drag moves the
    crosshair, the wheel goes through the slices, right drag changes the window, Ctrl and wheel enlarge, the
    middle button shifts, a double click fits.
    """

    crosshair_moved = pyqtSignal(object)
    """World point (3,) mm as a tuple of floats."""
    picked = pyqtSignal(object)
    """World point (3,) mm that was clicked while picking is on."""
    window_changed = pyqtSignal(float, float)
    window_set = pyqtSignal(object, object)
    """Windows (low, high) before and after a drag."""

    def __init__(self, plane: Plane) -> None:
        super().__init__()
        self.plane = plane
        self.picking = False
        self.crosshair_shown = True
        self.unit = "mm"
        self.annotator: Callable[[QPainter], None] | None = None
        """Paints more over the slice, such as measurements; ``places_of`` says where."""
        self._volume: Volume | None = None
        self._overlay: tuple[Volume, Colours] | None = None
        self._marks: tuple[Mark, ...] = ()
        self._cross = np.zeros(3)
        self._window = (0.0, 1.0)
        self._slab_mm = 0.0
        self._zoom, self._shift = 1.0, QPointF()
        self._dragged_from: tuple[QPointF, tuple[float, float]] | None = None
        self._panned_from: QPointF | None = None
        self._pressed_at: QPointF | None = None
        self.setMinimumSize(120, 110)
        self.setMouseTracking(True)
        self.setToolTip(
            f"{plane.capitalize()} slice: drag moves the crosshair, the wheel goes through the slices, right "
            "drag changes brightness and contrast, Ctrl+wheel enlarges, double-click fits"
        )

    # -- content ---------------------------------------------------------------------------------

    def set_volume(self, volume: Volume | None) -> None:
        """Shows another volume; crosshair and window stay."""
        self._volume = volume
        if volume is None:
            self._overlay, self._marks = None, ()
        self.update()

    def set_overlay(self, volume: Volume | None, colours: Colours | None = None) -> None:
        """Colours over the slice where a volume is known (not NaN). colours: values to RGBA uint8."""
        self._overlay = None if volume is None or colours is None else (volume, colours)
        self.update()

    def set_marks(self, marks: Sequence[Mark]) -> None:
        """Picked points and measurements."""
        self._marks = tuple(marks)
        self.update()

    def set_crosshair(self, point_mm: NDArray[np.float64] | tuple[float, ...]) -> None:
        """Moves the crosshair to a world point."""
        self._cross = np.asarray(point_mm, dtype=np.float64)
        self.update()

    def set_window(self, low: float, high: float) -> None:
        """The values that are black and white."""
        self._window = (low, max(high, low + 1e-9))
        self.update()

    @property
    def window(self) -> tuple[float, float]:  # type: ignore[override]
        """The values that are black and white."""
        return self._window

    def set_slab(self, thickness_mm: float) -> None:
        """Projects the largest value of a slab; 0 = one slice."""
        self._slab_mm = thickness_mm
        self.update()

    # -- geometry --------------------------------------------------------------------------------

    @property
    def axes(self) -> tuple[int, int, int]:
        """Voxel axes across, down and through."""
        through = _NORMAL[self.plane]
        return (1 if self.plane == "sagittal" else 0), (1 if self.plane == "axial" else 2), through

    def _index(self, point_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        assert self._volume is not None
        return np.asarray(np.linalg.solve(self._volume.affine_mm, [*point_mm, 1.0])[:3])

    def _world(self, index: NDArray[np.float64]) -> NDArray[np.float64]:
        assert self._volume is not None
        return np.asarray(self._volume.affine_mm @ [*index, 1.0])[:3]

    def _scale(self) -> float:
        """Pixels of the widget for a millimetre."""
        if self._volume is None:
            return 1.0
        across, down, _ = self.axes
        size = np.array(self._volume.values.shape) * self._volume.grid.spacing_mm
        return float(min(self.width() / size[across], self.height() / size[down])) * self._zoom

    def _box(self) -> QRectF:
        """Where the slice lies in the widget."""
        if self._volume is None:
            return QRectF()
        across, down, _ = self.axes
        size = np.array(self._volume.values.shape) * self._volume.grid.spacing_mm * self._scale()
        left = (self.width() - size[across]) / 2 + self._shift.x()
        top = (self.height() - size[down]) / 2 + self._shift.y()
        return QRectF(left, top, size[across], size[down])

    def place_of(self, point_mm: NDArray[np.float64] | tuple[float, ...]) -> QPointF:
        """Where a world point lies in the widget."""
        if self._volume is None:
            return QPointF()
        return self._place_of_index(self._index(np.asarray(point_mm, np.float64)))

    def places_of(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Places (N, 2) px of world points (N, 3); all NaN where none of them is near the slice."""
        if self._volume is None or not len(points_mm) or not self._is_near(points_mm):
            return np.full((len(points_mm), 2), np.nan)
        places = [self.place_of(point) for point in points_mm]
        return np.array([[place.x(), place.y()] for place in places])

    def _is_near(self, points_mm: NDArray[np.float64]) -> bool:
        """True if any of the points lies in the slab, or within a voxel of the slice."""
        assert self._volume is not None
        through = self.axes[2]
        at = self._index(self._cross)[through]
        reach = max(1.0, self._slab_mm / float(self._volume.grid.spacing_mm[through]) / 2)
        return bool(min(abs(self._index(point)[through] - at) for point in points_mm) <= reach)

    def _place_of_index(self, index: NDArray[np.float64]) -> QPointF:
        assert self._volume is not None
        across, down, _ = self.axes
        shape, box = self._volume.values.shape, self._box()
        a, d = (index[across] + 0.5) / shape[across], (index[down] + 0.5) / shape[down]
        # Voxels grow towards the head, the picture's rows towards the feet.
        d = 1 - d if down == 2 else d
        return QPointF(box.left() + a * box.width(), box.top() + d * box.height())

    def point_at(self, place: QPointF) -> NDArray[np.float64]:
        """The world point (3,) under a place of the widget, on the slice and within the volume."""
        volume = self._volume
        if volume is None:
            return self._cross
        across, down, _ = self.axes
        shape, box = volume.values.shape, self._box()
        a = (place.x() - box.left()) / box.width()
        d = (place.y() - box.top()) / box.height()
        d = 1 - d if down == 2 else d
        index = self._index(self._cross)
        index[across] = np.clip(a * shape[across] - 0.5, 0, shape[across] - 1)
        index[down] = np.clip(d * shape[down] - 0.5, 0, shape[down] - 1)
        return self._world(index)

    def _slab(self, volume: Volume) -> tuple[int, int]:
        """First and last slice of a volume that are shown."""
        through = self.axes[2]
        at = float(np.linalg.solve(volume.affine_mm, [*self._cross, 1.0])[through])
        top = volume.values.shape[through] - 1
        half = self._slab_mm / float(volume.grid.spacing_mm[through]) / 2
        first, last = round(at - half), round(at + half)
        return int(np.clip(first, 0, top)), int(np.clip(last, 0, top))

    # -- painting --------------------------------------------------------------------------------

    def picture(self) -> NDArray[np.uint8] | None:
        """The slice in grey, (rows, columns)."""
        if self._volume is None:
            return None
        low, high = self._window
        image = np.nan_to_num(self._plane_of(self._volume))
        return np.asarray(np.clip((image - low) * (255 / (high - low)), 0, 255), np.uint8)

    def _plane_of(self, volume: Volume) -> NDArray[np.float32]:
        """The slice, or the largest of the slab (NaN only where nothing is known)."""
        _, down, through = self.axes
        first, last = self._slab(volume)
        part = np.moveaxis(volume.values, through, 0)[first : last + 1]
        plane = part[0] if len(part) == 1 else np.fmax.reduce(part, 0)
        return np.asarray(plane.T[:: -1 if down == 2 else 1])

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Paints the slice, what is marked on it, and where it is."""
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor(0, 0, 0))
        picture = self.picture()
        if picture is not None:
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
            painter.drawImage(self._box(), image_of(picture))
            self._paint_overlay(painter)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            if self.crosshair_shown:
                self._paint_crosshair(painter)
            self._paint_marks(painter)
            if self.annotator is not None:
                self.annotator(painter)
            self._paint_words(painter)
        painter.end()

    def _paint_overlay(self, painter: QPainter) -> None:
        if self._overlay is None or self._volume is None:
            return
        volume, colours = self._overlay
        low = self._index((volume.affine_mm @ [-0.5, -0.5, -0.5, 1])[:3])
        high = self._index((volume.affine_mm @ [*(np.array(volume.values.shape) - 0.5), 1])[:3])
        box = QRectF(self._place_of_index(low), self._place_of_index(high)).normalized()
        painter.drawImage(box, image_of(colours(self._plane_of(volume))))

    def _paint_crosshair(self, painter: QPainter) -> None:
        cross, box = self.place_of(self._cross), self._box()
        colour = current_theme().colour("mask")
        colour.setAlpha(190)
        painter.setPen(QPen(colour, 1))
        gap = 7
        painter.drawLine(QPointF(cross.x(), box.top()), QPointF(cross.x(), cross.y() - gap))
        painter.drawLine(QPointF(cross.x(), cross.y() + gap), QPointF(cross.x(), box.bottom()))
        painter.drawLine(QPointF(box.left(), cross.y()), QPointF(cross.x() - gap, cross.y()))
        painter.drawLine(QPointF(cross.x() + gap, cross.y()), QPointF(box.right(), cross.y()))

    def _paint_marks(self, painter: QPainter) -> None:
        for mark in self._marks:
            if not len(mark.points_mm) or not self._is_near(mark.points_mm):
                continue
            places = [self.place_of(point) for point in mark.points_mm]
            painter.setPen(QPen(QColor(mark.colour), 2))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawPolyline(QPolygonF(places))
            painter.setBrush(QColor(mark.colour))
            for place in places:
                painter.drawEllipse(place, 3.5, 3.5)
            if mark.text:
                self._write(painter, places[-1] + QPointF(7, -6), mark.text)

    def _paint_words(self, painter: QPainter) -> None:
        left, right, top, bottom = tuple(_SIDES[self.plane])
        middle_x, middle_y = self.width() / 2, self.height() / 2
        self._write(painter, QPointF(5, middle_y + 5), left)
        self._write(painter, QPointF(self.width() - 15, middle_y + 5), right)
        self._write(painter, QPointF(middle_x - 4, 15), top)
        self._write(painter, QPointF(middle_x - 4, self.height() - 6), bottom)
        through = self.axes[2]
        where = f"{self.plane} {self._cross[through]:+.1f} {self.unit}"
        self._write(painter, QPointF(7, 16), where)
        if self._slab_mm > 0:
            self._write(painter, QPointF(7, 32), f"MIP {self._slab_mm:g} {self.unit}")
        low, high = self._window
        words = f"W {high - low:.3g}  L {(high + low) / 2:.3g}"
        width = painter.fontMetrics().horizontalAdvance(words)
        # In the first line it would run into the letter of the side.
        self._write(painter, QPointF(self.width() - width - 7, 32), words)
        self._paint_scale(painter)

    def _paint_scale(self, painter: QPainter) -> None:
        """A round length at the lower left."""
        scale = self._scale()
        longest = 90 / scale
        power = 10.0 ** np.floor(np.log10(longest))
        length = max(n * power for n in (1, 2, 5) if n * power <= longest)
        y = self.height() - 9.0
        for colour, width in ((_SHADE, 4), (_WHITE, 2)):
            painter.setPen(QPen(colour, width))
            painter.drawLine(QPointF(8, y), QPointF(8 + length * scale, y))
        self._write(painter, QPointF(8, y - 5), f"{length:g} {self.unit}")

    @staticmethod
    def _write(painter: QPainter, place: QPointF, text: str) -> None:
        """White on a shadow, so that it is read on bright slices too."""
        for colour, shift in ((_SHADE, 1), (_WHITE, 0)):
            painter.setPen(colour)
            painter.drawText(place + QPointF(shift, shift), text)

    # -- pointer ---------------------------------------------------------------------------------

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Moves the crosshair, or begins to change the window or to shift."""
        if event is None:
            return
        if event.button() is Qt.MouseButton.RightButton:
            self._dragged_from = (event.position(), self._window)
        elif event.button() is Qt.MouseButton.MiddleButton:
            self._panned_from = event.position() - self._shift
        elif event.button() is Qt.MouseButton.LeftButton:
            self._pressed_at = event.position()
            if not self.picking:
                self.mouseMoveEvent(event)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Goes on with it."""
        if event is None or self._volume is None:
            return
        if event.buttons() & Qt.MouseButton.LeftButton and not self.picking:
            self._tell(self.point_at(event.position()))
        elif self._panned_from is not None:
            self._shift = event.position() - self._panned_from
            self.update()
        elif self._dragged_from is not None:
            start, (low, high) = self._dragged_from
            shift = event.position() - start
            width = (high - low) * float(np.exp(shift.x() / 200))
            centre = (low + high) / 2 + (high - low) * shift.y() / 200
            self.set_window(centre - width / 2, centre + width / 2)
            self.window_changed.emit(*self._window)

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:
        """Ends it; a click while picking is told."""
        if event is None:
            return
        if self._dragged_from is not None and self._dragged_from[1] != self._window:
            self.window_set.emit(self._dragged_from[1], self._window)
        pressed, self._pressed_at = self._pressed_at, None
        self._dragged_from = self._panned_from = None
        near = pressed is not None and (event.position() - pressed).manhattanLength() < 5
        if self.picking and near and self._volume is not None:
            self.picked.emit(tuple(self.point_at(event.position()).tolist()))

    def mouseDoubleClickEvent(self, event: QMouseEvent | None) -> None:
        """Fits the slice."""
        self._zoom, self._shift = 1.0, QPointF()
        self.update()

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        """Goes through the slices, or enlarges about the pointer."""
        if event is None or self._volume is None:
            return
        step = 1 if event.angleDelta().y() > 0 else -1
        if event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            zoom = float(np.clip(self._zoom * _ZOOM**step, 1.0, _MOST_ZOOM))
            from_middle = event.position() - QPointF(self.width() / 2, self.height() / 2) - self._shift
            self._shift -= from_middle * (zoom / self._zoom - 1)
            self._zoom = zoom
            self.update()
        else:
            through = self.axes[2]
            index = self._index(self._cross)
            index[through] = np.clip(index[through] + step, 0, self._volume.values.shape[through] - 1)
            self._tell(self._world(index))
        event.accept()

    def _tell(self, point_mm: NDArray[np.float64]) -> None:
        self.set_crosshair(point_mm)
        self.crosshair_moved.emit(tuple(point_mm.tolist()))
