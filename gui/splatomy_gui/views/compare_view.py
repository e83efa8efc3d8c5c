"""Two pictures of the same place compared: wipe, side by side, difference, and blinking while a key is held.

    view = CompareView()
    view.set_pictures(recorded, rendered, "frame 4   1.80 s")     uint8 (H, W) or (H, W, 3), of one size
    view.set_mode(CompareMode.WIPE)                               drag the line, or Shift + wheel
    view.hold(True)                                               the recorded picture as long as it is held
    CompareChooser(view)                                          buttons for the modes
    HoldKey(actions["compare_hold"], Qt.Key.Key_C, view.hold)     widgets/hold.py
    view.set_hatch(mask)                                        (H, W) bool: not observed, hatched

Either picture may be None: the other is shown alone. It is a FrameView: zoom, pan and ``scrolled`` work.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import QPointF, QRectF, Qt, pyqtSignal
from PyQt6.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen, QTabletEvent
from PyQt6.QtWidgets import QWidget

from splatomy.review import Mask
from splatomy_gui.frames import Picture
from splatomy_gui.theme import current_theme
from splatomy_gui.views.frame_view import FrameView
from splatomy_gui.widgets.fields import ChoiceField

_GAP_PX = 4
_GRAB_PX = 12
_HATCH_PX = 8
_LEAST_PX = 400


class CompareMode(StrEnum):
    """How two pictures are shown."""

    RENDERED = "rendered"
    RECORDED = "recorded"
    WIPE = "wipe"
    SIDE = "side"
    DIFFERENCE = "difference"


MODE_TITLES = {
    CompareMode.RENDERED: "Without instruments",
    CompareMode.RECORDED: "As recorded",
    CompareMode.WIPE: "Wipe: recorded | rendered",
    CompareMode.SIDE: "Side by side",
    CompareMode.DIFFERENCE: "Difference",
}


def hatched(picture: Picture, mask: Mask | None) -> Picture:
    """The picture with grey diagonal lines at the masked places, (H, W, 3); made up, not observed."""
    if mask is None or not mask.any():
        return picture
    out = as_colour(picture).copy()
    height, width = picture.shape[:2]
    if mask.shape != (height, width):
        mask = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST).astype(
            np.bool_
        )
    period = max(_HATCH_PX, round(min(height, width) / 60))
    rows, columns = np.indices((height, width), sparse=True)
    line = ((rows + columns) % period < max(1, period // 4)) & mask
    out[line] = (214, 214, 214)
    return out


def as_colour(picture: Picture) -> Picture:
    """A picture as (H, W, 3)."""
    return picture[..., :3] if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)


def _enlarged(picture: Picture | None, factor: int) -> Picture | None:
    if picture is None or factor <= 1:
        return picture
    height, width = picture.shape[:2]
    size = (factor * width, factor * height)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def difference(one: Picture, other: Picture) -> Picture:
    """Mean absolute difference of two pictures as colours, black = equal, bright = 64 grey levels or more."""
    apart = cv2.absdiff(as_colour(one), as_colour(other)).astype(np.float32).mean(2)
    codes = np.clip(apart * (255 / 64), 0, 255).astype(np.uint8)
    return np.asarray(
        cv2.cvtColor(cv2.applyColorMap(codes, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB), np.uint8
    )


class _WipeTool:
    """Draws the line between the pictures, and takes it along with the pointer."""

    def __init__(self, view: CompareView) -> None:
        self._view = view

    def press(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> bool:
        place = self._view.wipe * self._view.frame_box.width()
        if abs(point.x() - place) * self._view.zoom > _GRAB_PX:
            return False
        self.move(point, event, pressure)
        return True

    def move(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> None:
        self._view.set_wipe(point.x() / max(1.0, self._view.frame_box.width()))

    def release(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> None:
        self.move(point, event, pressure)

    def hover(self, point: QPointF) -> None:
        place = self._view.wipe * self._view.frame_box.width()
        near = abs(point.x() - place) * self._view.zoom <= _GRAB_PX
        shape = Qt.CursorShape.SplitHCursor if near else Qt.CursorShape.ArrowCursor
        viewport = self._view.viewport()
        if viewport is not None:
            viewport.setCursor(shape)

    def paint(self, painter: QPainter) -> None:
        box = self._view.frame_box
        x = self._view.wipe * box.width()
        pen = QPen(QColor(Qt.GlobalColor.white), 2)
        pen.setCosmetic(True)
        painter.setPen(pen)
        painter.drawLine(QPointF(x, box.top()), QPointF(x, box.bottom()))
        radius = 7 / self._view.zoom
        painter.setBrush(current_theme().colour("accent"))
        painter.drawEllipse(QRectF(x - radius, box.center().y() - radius, 2 * radius, 2 * radius))


class CompareView(FrameView):
    """The recorded and the rendered picture of one moment; see the top of this file."""

    mode_changed = pyqtSignal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.mode = CompareMode.RENDERED
        self.wipe = 0.5
        self.difference_of = difference
        self._recorded: Picture | None = None
        self._rendered: Picture | None = None
        self._hatch: Mask | None = None
        self._text = ""
        self._is_held = False
        self._wipe_tool = _WipeTool(self)
        self.painters: list[Callable[[QPainter], None]] = []
        """They paint over the picture, in pixels of the view's viewport."""
        self.resized.connect(lambda steps: self.set_wipe(self.wipe + 0.02 * steps))

    def set_pictures(self, recorded: Picture | None, rendered: Picture | None, caption: str = "") -> None:
        """Other pictures; a rendered one of another size is brought to the recorded one's.

        Small ones are enlarged, so that hatching and lines stay fine on them.
        """
        known = recorded if recorded is not None else rendered
        if known is not None:
            factor = -(-_LEAST_PX // min(known.shape[:2]))
            recorded, rendered = _enlarged(recorded, factor), _enlarged(rendered, factor)
        if recorded is not None and rendered is not None and recorded.shape[:2] != rendered.shape[:2]:
            height, width = recorded.shape[:2]
            rendered = np.asarray(
                cv2.resize(rendered, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8
            )
        self._recorded, self._rendered, self._text = recorded, rendered, caption
        self._refresh()

    def set_hatch(self, mask: Mask | None) -> None:
        """Places of the rendered picture that nobody observed, (H, W); they are hatched."""
        self._hatch = mask
        self._refresh()

    def set_mode(self, mode: CompareMode) -> None:
        """Another way to show them."""
        self.mode = mode
        self._refresh()
        self.mode_changed.emit(mode.value)

    def set_wipe(self, share: float) -> None:
        """Where the line of the wipe is, 0 = left, all rendered, to 1 = all recorded."""
        self.wipe = float(np.clip(share, 0, 1))
        if self.mode is CompareMode.WIPE:
            self._refresh()

    def hold(self, on: bool) -> None:
        """Shows the recorded picture as long as it is on; where that is on show, the rendered one."""
        self._is_held = on
        self._refresh()

    @property
    def shown(self) -> CompareMode:
        """What is on show now: the mode, or what there is a picture for."""
        if self._recorded is None:
            return CompareMode.RENDERED
        if self._rendered is None:
            return CompareMode.RECORDED
        if self._is_held:
            return CompareMode.RENDERED if self.mode is CompareMode.RECORDED else CompareMode.RECORDED
        return self.mode

    def composed(self) -> Picture | None:
        """The picture on show."""
        recorded, rendered, shown = self._recorded, self._rendered, self.shown
        if recorded is None or shown is CompareMode.RENDERED:
            return None if rendered is None else hatched(rendered, self._hatch)
        if rendered is None or shown is CompareMode.RECORDED:
            return recorded
        if shown is CompareMode.DIFFERENCE:
            return self.difference_of(recorded, rendered)
        marked = as_colour(hatched(rendered, self._hatch))
        if shown is CompareMode.SIDE:
            gap = np.zeros((recorded.shape[0], _GAP_PX, 3), np.uint8)
            return np.concatenate([as_colour(recorded), gap, marked], axis=1)
        split = round(self.wipe * recorded.shape[1])
        out: NDArray[np.uint8] = marked.copy()
        out[:, :split] = as_colour(recorded)[:, :split]
        return out

    def pixel_of(self, point: QPointF) -> QPointF:
        """The pixel of either picture that a point of the view shows; side by side there are two."""
        recorded = self._recorded
        if self.shown is CompareMode.SIDE and recorded is not None and point.x() >= recorded.shape[1]:
            return QPointF(point.x() - recorded.shape[1] - _GAP_PX, point.y())
        return point

    @property
    def picture_size_px(self) -> tuple[int, int]:
        """Width and height of one of the pictures; (1, 1) without any."""
        picture = self._rendered if self._recorded is None else self._recorded
        return (1, 1) if picture is None else (picture.shape[1], picture.shape[0])

    def place_of(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where pixels (N, 2) of the recorded picture lie in the viewport, (N, 2) px."""
        places = [self.mapFromScene(QPointF(x + 0.5, y + 0.5)) for x, y in np.nan_to_num(pixels, nan=-1e6)]
        return np.array([[p.x(), p.y()] for p in places], np.float64).reshape(-1, 2)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Paints the picture, then what others want over it."""
        super().paintEvent(event)
        if self.painters:
            painter = QPainter(self.viewport())
            for paint in self.painters:
                paint(painter)
            painter.end()

    def _refresh(self) -> None:
        names = {
            CompareMode.RENDERED: "rendered",
            CompareMode.RECORDED: "recorded",
            CompareMode.WIPE: "recorded | rendered",
            CompareMode.SIDE: "recorded, rendered",
            CompareMode.DIFFERENCE: "difference",
        }
        composed = self.composed()
        text = f"{names[self.shown]}   {self._text}".rstrip() if composed is not None else self._text
        self.set_picture(composed, text)
        wanted = self._wipe_tool if self.shown is CompareMode.WIPE else None
        if self.tool is not wanted and (self.tool is None or self.tool is self._wipe_tool):
            self.set_tool(wanted)
        self.update_tool()


class CompareChooser(ChoiceField):
    """Chooses how a compare view shows its pictures."""

    def __init__(self, view: CompareView, titles: dict[CompareMode, str] | None = None) -> None:
        shown = MODE_TITLES if titles is None else titles
        super().__init__(
            [(mode, text) for mode, text in shown.items()],
            "How the recorded and the rendered picture are compared; hold C to see the recorded one",
        )
        self.set_value(view.mode)
        self.currentIndexChanged.connect(lambda _: view.set_mode(CompareMode(str(self.value()))))
        view.mode_changed.connect(lambda mode: self.set_value(CompareMode(mode)))
