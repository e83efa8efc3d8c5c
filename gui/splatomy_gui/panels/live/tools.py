"""What the surgeon draws on the live picture becomes a command of the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PyQt6.QtCore import QObject, QPointF, pyqtSignal
from PyQt6.QtGui import QColor, QMouseEvent, QPainter, QTabletEvent

from splatomy_gui.views.frame_view import FrameView
from splatomy_gui.views.mask_tools import cosmetic_pen
from splatomy_gui.views.mask_tools_area import Corners, LassoTool

AREAS: dict[str, tuple[str, dict[str, Any]]] = {
    "live_mask": ("Mask", {"command": "mask", "what": "add"}),
    "live_unmask": ("Unmask", {"command": "mask", "what": "erase"}),
    "live_keep": ("Keep region", {"command": "region", "what": "keep"}),
    "live_ignore": ("Ignore region", {"command": "region", "what": "ignore"}),
}
"""Text and protocol fields of the tools that draw around an area."""
TOOLS = (*AREAS, "live_mark", "live_scale")
_CROSS_PX = 7.0


class PlacesTool:
    """Clicks on places; ``began`` is told of the first, ``ended`` gets all ``wanted`` of them."""

    def __init__(
        self, view: FrameView, wanted: int, began: Callable[[], object], ended: Callable[[Corners], None]
    ) -> None:
        self._view, self._wanted, self._began, self._ended = view, wanted, began, ended
        self.points: list[QPointF] = []

    def press(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> bool:
        """Takes a place."""
        if not self.points:
            self._began()
        self.points.append(point)
        self._view.update_tool()
        return True

    def move(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> None:
        """The place may still be corrected."""
        self.points[-1] = point
        self._view.update_tool()

    def release(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> None:
        """The last place ends it."""
        if len(self.points) >= self._wanted:
            points, self.points = self.points, []
            self._view.update_tool()
            self._ended([(p.x(), p.y()) for p in points])

    def hover(self, point: QPointF) -> None:
        """Nothing to show."""

    def cancel(self) -> bool:
        """Drops the places; False if there are none."""
        had, self.points = bool(self.points), []
        self._view.update_tool()
        return had

    def paint(self, painter: QPainter) -> None:
        """A cross at every place so far."""
        arm = _CROSS_PX / max(self._view.zoom, 1e-6)
        for colour, width in ((QColor(0, 0, 0, 190), 3.4), (QColor("white"), 1.6)):
            painter.setPen(cosmetic_pen(colour, width))
            for point in self.points:
                middle = point + QPointF(0.5, 0.5)
                painter.drawLine(middle - QPointF(arm, 0), middle + QPointF(arm, 0))
                painter.drawLine(middle - QPointF(0, arm), middle + QPointF(0, arm))


class LiveTools(QObject):
    """The tool in hand. The picture is held only while something is being drawn on it."""

    drawn = pyqtSignal(str, object)
    """Text and protocol fields of a command, without frame and id."""
    held = pyqtSignal(bool)
    """A stroke begins: the picture must stand still; or it has ended."""

    def __init__(self, view: FrameView, distance_mm: Callable[[], float]) -> None:
        super().__init__(view)
        self._view, self._distance_mm = view, distance_mm
        self.name = ""
        self._tool: LassoTool | PlacesTool | None = None

    def take(self, name: str) -> None:
        """Takes a tool, or none ("")."""
        self.cancel()
        self.name = name
        if name in AREAS:
            self._tool = LassoTool(self._view, self._begin, self._area_ended)
        elif name == "live_mark":
            self._tool = PlacesTool(self._view, 1, self._begin, self._mark_ended)
        elif name == "live_scale":
            self._tool = PlacesTool(self._view, 2, self._begin, self._scale_ended)
        else:
            self._tool = None
        self._view.set_tool(self._tool)

    def cancel(self) -> bool:
        """Drops what is being drawn; False if nothing is."""
        had = self._tool is not None and self._tool.cancel()
        self.held.emit(False)
        return had

    def _begin(self) -> bool:
        self.held.emit(True)
        return True

    def _area_ended(self, corners: Corners, hides: bool) -> None:
        text, fields = AREAS[self.name]
        if not hides:
            # The right button or Alt: the opposite of the tool in hand.
            other = {"add": "erase", "erase": "add", "keep": "ignore", "ignore": "keep"}[fields["what"]]
            fields = {**fields, "what": other}
            text = next(t for t, f in AREAS.values() if f == fields)
        self.drawn.emit(text, {**fields, "polygon": [[round(x, 2), round(y, 2)] for x, y in corners]})
        self.held.emit(False)

    def _mark_ended(self, corners: Corners) -> None:
        self.drawn.emit("Mark", {"command": "mark", "pixel": [round(v, 2) for v in corners[0]]})
        self.held.emit(False)

    def _scale_ended(self, corners: Corners) -> None:
        distance = self._distance_mm()
        pixels = [[round(v, 2) for v in corner] for corner in corners]
        fields = {"command": "scale", "pixels": pixels, "distance_mm": distance}
        self.drawn.emit(f"Scale {distance:g} mm", fields)
        self.held.emit(False)
