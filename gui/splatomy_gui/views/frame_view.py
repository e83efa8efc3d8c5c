"""A recorded frame with its mask: zoom, pan, and tools that draw on it."""

from __future__ import annotations

from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import QEvent, QPoint, QPointF, QRect, QRectF, Qt, pyqtSignal
from PyQt6.QtGui import (
    QColor,
    QImage,
    QMouseEvent,
    QPainter,
    QPixmap,
    QResizeEvent,
    QTabletEvent,
    QWheelEvent,
)
from PyQt6.QtWidgets import (
    QGraphicsItem,
    QGraphicsPixmapItem,
    QGraphicsScene,
    QGraphicsView,
    QLabel,
    QStyleOptionGraphicsItem,
    QWidget,
)

from splatomy.review import Mask
from splatomy_gui.frames import Picture

_ZOOM = 1.2
_MOST_ZOOM = 40.0


class Tool(Protocol):
    """Draws on a frame; points are x, y in pixels of the frame, pressure is 0 to 1.

    press returns True if the tool takes the stroke; move and release follow only then.
    """

    def press(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> bool: ...

    def move(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> None: ...

    def release(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> None: ...

    def hover(self, point: QPointF) -> None: ...

    def paint(self, painter: QPainter) -> None:
        """Draws what is not in the mask yet, such as the brush, in pixels of the frame."""


def image_of(picture: Picture) -> QImage:
    """A picture (H, W), (H, W, 3) or (H, W, 4) as an image of its own."""
    plain = np.ascontiguousarray(picture)
    height, width = plain.shape[:2]
    channels = 1 if plain.ndim == 2 else plain.shape[2]
    if channels == 3:
        # The screen's own format: Qt would convert any other on threads of its own, and wait for them.
        import cv2

        plain = np.asarray(cv2.cvtColor(plain, cv2.COLOR_RGB2BGRA))
    formats = {
        1: QImage.Format.Format_Grayscale8,
        3: QImage.Format.Format_RGB32,
        4: QImage.Format.Format_RGBA8888,
    }
    image = QImage(cast(Any, plain.data), width, height, plain.strides[0], formats[channels])
    # The image only borrows the array's memory.
    return image.copy()


class MaskItem(QGraphicsItem):
    """A mask in one colour over the frame; only the rectangle that changed is painted again."""

    def __init__(self) -> None:
        super().__init__()
        self._pixels: NDArray[np.uint32] = np.zeros((1, 1), np.uint32)
        self._image = QImage()
        self._code = np.uint32(0)
        self._tints: list[tuple[Mask, np.uint32]] = []
        self.setZValue(1)
        # Without it the exposed part is the whole frame, whatever has changed.
        self.setFlag(QGraphicsItem.GraphicsItemFlag.ItemUsesExtendedStyleOption)

    def boundingRect(self) -> QRectF:
        """The frame."""
        return QRectF(0, 0, self._pixels.shape[1], self._pixels.shape[0])

    def paint(
        self, painter: QPainter | None, option: QStyleOptionGraphicsItem | None, widget: QWidget | None = None
    ) -> None:
        """Paints the exposed part."""
        if painter is not None and not self._image.isNull():
            part = self.boundingRect() if option is None else option.exposedRect
            painter.drawImage(part, self._image, part)

    def set_colour(self, colour: QColor) -> None:
        """Another colour; masks set from now on have it."""
        self._code = _code_of(colour)

    def set_tints(self, tints: list[tuple[Mask, QColor]]) -> None:
        """Parts (H, W) of masks set from now on that have a colour of their own."""
        self._tints = [(mask, _code_of(colour)) for mask, colour in tints]

    def set_mask(self, mask: Mask | None, box: QRect | None = None) -> None:
        """mask: (H, W), True = coloured; None = nothing. box: the only part that changed."""
        if mask is None:
            self.setVisible(False)
            return
        if self._pixels.shape != mask.shape:
            self.prepareGeometryChange()
            self._pixels = np.zeros(mask.shape, np.uint32)
            height, width = mask.shape
            form = QImage.Format.Format_ARGB32_Premultiplied
            self._image = QImage(cast(Any, self._pixels.data), width, height, 4 * width, form)
            box = None
        if box is None:
            self._fill(mask, (slice(None), slice(None)))
            self.update()
        else:
            box = box.intersected(QRect(0, 0, mask.shape[1], mask.shape[0]))
            part = (slice(box.top(), box.bottom() + 1), slice(box.left(), box.right() + 1))
            self._fill(mask, part)
            self.update(QRectF(box))
        self.setVisible(True)

    def _fill(self, mask: Mask, part: tuple[slice, slice]) -> None:
        pixels = self._pixels[part]
        np.multiply(mask[part], self._code, out=pixels, casting="unsafe")
        for tinted, code in self._tints:
            if tinted.shape == mask.shape:
                pixels[tinted[part] & mask[part]] = code


def _code_of(colour: QColor) -> np.uint32:
    return np.uint32(0xFF000000 | (colour.rgb() & 0xFFFFFF))


class _ToolItem(QGraphicsItem):
    """What the tool shows of itself."""

    def __init__(self, view: FrameView) -> None:
        super().__init__()
        self._view = view
        self.setZValue(2)

    def boundingRect(self) -> QRectF:
        """The frame and a wide border, since a brush may reach beyond it."""
        box = self._view.frame_box
        return box.adjusted(-box.width(), -box.height(), box.width(), box.height())

    def paint(
        self, painter: QPainter | None, option: QStyleOptionGraphicsItem | None, widget: QWidget | None = None
    ) -> None:
        """Lets the tool paint."""
        if painter is not None and self._view.tool is not None:
            self._view.tool.paint(painter)


class FrameView(QGraphicsView):
    """A frame, fitted to the window until it is zoomed.

    Wheel: frames. Ctrl + wheel: zoom about the pointer. Shift + wheel: ``resized`` (brush size). Middle drag,
    or left drag with Ctrl held: pan. Double click: fit.
    """

    hovered = pyqtSignal(QPointF)
    left = pyqtSignal()
    """The pointer is no longer over it."""
    clicked = pyqtSignal(QPointF)
    scrolled = pyqtSignal(int)
    """Frames to go on by."""
    resized = pyqtSignal(int)
    """Steps by which the tool becomes larger."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("canvas")
        self.setMouseTracking(True)
        self.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        self.setTransformationAnchor(QGraphicsView.ViewportAnchor.AnchorUnderMouse)
        self.setViewportUpdateMode(QGraphicsView.ViewportUpdateMode.MinimalViewportUpdate)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumSize(160, 120)
        scene = QGraphicsScene(self)
        self.setScene(scene)
        self.frame_box = QRectF(0, 0, 1, 1)
        """The frame in pixels."""
        self.setSceneRect(self.frame_box)
        self.pixmap_item = QGraphicsPixmapItem()
        self.pixmap_item.setTransformationMode(Qt.TransformationMode.SmoothTransformation)
        self.mask_item = MaskItem()
        scene.addItem(self.pixmap_item)
        scene.addItem(self.mask_item)
        self._tool_item = _ToolItem(self)
        scene.addItem(self._tool_item)
        self.tool: Tool | None = None
        self._fitted = True
        self._panned_from: QPoint | None = None
        self._in_stroke = False
        self._pressed_at: QPoint | None = None
        self.caption = QLabel(self)
        self.caption.setStyleSheet("color: white; background: rgba(0, 0, 0, 150); padding: 3px 6px;")
        self.caption.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.caption.move(8, 8)
        self.caption.hide()

    # -- content ---------------------------------------------------------------------------------

    def set_picture(self, picture: Picture | None, caption: str = "") -> None:
        """Shows a picture (H, W), (H, W, 3) or (H, W, 4), or nothing."""
        before = self.pixmap_item.pixmap().size()
        self.pixmap_item.setPixmap(QPixmap() if picture is None else QPixmap.fromImage(image_of(picture)))
        size = self.pixmap_item.pixmap().size()
        if size != before:
            self._tool_item.prepareGeometryChange()
            self.frame_box = QRectF(0, 0, max(1, size.width()), max(1, size.height()))
            self.setSceneRect(self.frame_box)
            self.fit()
        self.caption.setText(caption)
        self.caption.adjustSize()
        self.caption.setVisible(bool(caption))

    def set_mask(self, mask: Mask | None, box: QRect | None = None) -> None:
        """Shows a mask over it; see ``MaskItem.set_mask``."""
        self.mask_item.set_mask(mask, box)

    def set_tool(self, tool: Tool | None) -> None:
        """What draws on the frame."""
        self.tool = tool
        self._in_stroke = False
        self.viewport().setCursor(  # type: ignore[union-attr]
            Qt.CursorShape.ArrowCursor if tool is None else Qt.CursorShape.CrossCursor
        )
        self.update_tool()

    def update_tool(self, box: QRectF | None = None) -> None:
        """Paints the tool again, everywhere or in a box of the frame."""
        self._tool_item.update(QRectF() if box is None else box)

    def point_at(self, place: QPoint) -> QPointF:
        """The point of the frame under a place of the view, in pixels; pixel centres are whole numbers."""
        point = self.mapToScene(place)
        return QPointF(point.x() - 0.5, point.y() - 0.5)

    # -- zoom and pan ----------------------------------------------------------------------------

    @property
    def zoom(self) -> float:
        """Screen pixels for each pixel of the frame."""
        return abs(self.transform().m11())

    def set_mirrored(self, on: bool) -> None:
        """Turns the view over, left to right; points and masks stay in the pixels of the frame."""
        if on != (self.transform().m11() < 0):
            self.scale(-1.0, 1.0)
            self.fit()

    def fit(self) -> None:
        """Shows the whole frame."""
        self._fitted = True
        self.fitInView(self.frame_box, Qt.AspectRatioMode.KeepAspectRatio)

    def zoom_by(self, factor: float) -> None:
        """Enlarges about the pointer."""
        factor = min(factor, _MOST_ZOOM / max(self.zoom, 1e-9))
        if self.zoom * factor > 0.02:
            self._fitted = False
            self.scale(factor, factor)

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Keeps a fitted frame fitted."""
        super().resizeEvent(event)
        if self._fitted:
            self.fit()

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        """Frames, zoom, or the tool's size."""
        if event is None:
            return
        angle = event.angleDelta().y() or event.angleDelta().x()
        steps = 1 if angle > 0 else -1
        if event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self.zoom_by(_ZOOM**steps)
        elif event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            self.resized.emit(steps)
        else:
            self.scrolled.emit(-steps)
        event.accept()

    # -- pointer ---------------------------------------------------------------------------------

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Pans, or begins a stroke."""
        if event is None:
            return
        place = event.position().toPoint()
        with_control = bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier)
        if event.button() is Qt.MouseButton.MiddleButton or (
            event.button() is Qt.MouseButton.LeftButton and with_control
        ):
            self._panned_from = place
            return
        self._pressed_at = place
        if self.tool is not None:
            self._in_stroke = self.tool.press(self.point_at(place), event, 1.0)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Goes on panning or drawing; tells where the pointer is."""
        if event is None:
            return
        place = event.position().toPoint()
        if self._panned_from is not None:
            shift = place - self._panned_from
            self._panned_from = place
            self._fitted = False
            horizontal, vertical = self.horizontalScrollBar(), self.verticalScrollBar()
            if horizontal is not None and vertical is not None:
                horizontal.setValue(horizontal.value() - shift.x())
                vertical.setValue(vertical.value() - shift.y())
            return
        point = self.point_at(place)
        if self._in_stroke and self.tool is not None:
            self.tool.move(point, event, 1.0)
        elif self.tool is not None:
            self.tool.hover(point)
        self.hovered.emit(point)

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:
        """Ends panning or the stroke; a click without one is told."""
        if event is None:
            return
        if self._panned_from is not None:
            self._panned_from = None
            return
        place = event.position().toPoint()
        if self._in_stroke and self.tool is not None:
            self._in_stroke = False
            self.tool.release(self.point_at(place), event, 1.0)
        elif self._pressed_at is not None and (place - self._pressed_at).manhattanLength() < 4:
            self.clicked.emit(self.point_at(place))

    def leaveEvent(self, event: QEvent | None) -> None:
        """Tells it."""
        super().leaveEvent(event)
        self.left.emit()

    def mouseDoubleClickEvent(self, event: QMouseEvent | None) -> None:
        """Fits the frame; a tool takes it as another press."""
        if self.tool is None:
            self.fit()
        else:
            self.mousePressEvent(event)

    def tabletEvent(self, event: QTabletEvent | None) -> None:
        """A pen draws with its pressure."""
        if event is None or self.tool is None:
            return
        point = self.point_at(event.position().toPoint())
        pressure = max(0.05, event.pressure())
        kind = event.type()
        if kind == QTabletEvent.Type.TabletPress:
            self._in_stroke = self.tool.press(point, event, pressure)
        elif kind == QTabletEvent.Type.TabletMove:
            self.tool.move(point, event, pressure) if self._in_stroke else self.tool.hover(point)
        elif kind == QTabletEvent.Type.TabletRelease and self._in_stroke:
            self._in_stroke = False
            self.tool.release(point, event, pressure)
        event.accept()
