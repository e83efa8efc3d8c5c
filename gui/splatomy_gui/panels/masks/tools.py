"""The tools of the mask page: which one is in hand, and what its strokes become."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from splatomy.review import Mask
from splatomy_gui.panels.masks.side import TOOLS
from splatomy_gui.views.inpaint_item import WipeTool
from splatomy_gui.views.mask_tools import BrushTool
from splatomy_gui.views.mask_tools_area import BoxTool, ClickTool, LassoTool, PointTool, PolygonTool

if TYPE_CHECKING:
    from splatomy_gui.panels.masks.page import MaskPage

AnyTool = BrushTool | LassoTool | PolygonTool | PointTool | BoxTool | WipeTool
_START = "mask_brush"


class ToolBox:
    """Brush and eraser are one tool that hides or shows; lasso and polygon follow the last of the two."""

    def __init__(self, page: MaskPage) -> None:
        self._page = page
        view, editor = page.view, page.editor
        self.brush = BrushTool(view, self._begin, editor.stroke)
        self._lasso = LassoTool(view, self._allowed, editor.area)
        self._polygon = PolygonTool(view, self._allowed, editor.area)
        self._fill = PointTool(view, self._allowed, lambda pixel, _: editor.fill(pixel))
        self._click = ClickTool(view, self._allowed, page.clicks.click, lambda: page.clicks.clicks.marks())
        self._box = BoxTool(view, self._allowed, page.region.choose)
        self._tools: dict[str, AnyTool] = {
            "mask_brush": self.brush,
            "mask_eraser": self.brush,
            "mask_lasso": self._lasso,
            "mask_polygon": self._polygon,
            "mask_fill": self._fill,
            "mask_click": self._click,
            "mask_region": self._box,
        }
        self.name: str | None = _START
        """Action of the tool in hand."""
        view.left.connect(lambda: self._now.leave() if self._now is not None else None)

    def bind(self) -> None:
        """Binds the tools' actions; the page is on show."""
        for name in TOOLS:
            self._page.actions_table.bind(name, partial(self._toggled, name))
        self.choose(self.name)

    @property
    def _now(self) -> AnyTool | None:
        if self._page.inpainting.on:
            return self._page.inpainting.tool
        return None if self.name is None else self._tools[self.name]

    def choose(self, name: str | None) -> None:
        """Takes another tool in hand, or none."""
        self.cancel()
        self._page.clicks.accept()
        self.name = name
        if name in ("mask_brush", "mask_eraser"):
            for tool in (self.brush, self._lasso, self._polygon):
                tool.hides = name == "mask_brush"
        for each in TOOLS:
            action = self._page.actions_table[each]
            action.blockSignals(True)
            action.setChecked(each == name)
            action.blockSignals(False)
        for each, button in self._page.strip.buttons.items():
            if each in TOOLS:
                button.setChecked(each == name)
        self.show_tool()
        self._page.show_banner()

    def show_tool(self) -> None:
        """Gives the view the tool in hand."""
        self._page.view.set_tool(self._now)

    def _toggled(self, name: str, on: bool) -> None:
        if on:
            self.choose(name)
        elif name == self.name:
            self.choose(None)

    def swap(self) -> None:
        """From painting to erasing and back."""
        self.choose("mask_eraser" if self.brush.hides else "mask_brush")

    def set_size(self, size_px: int) -> None:
        """Another diameter of the brush."""
        self.brush.set_size(size_px)

    def set_pressure(self, on: bool) -> None:
        """Whether a pen's pressure changes the size."""
        self.brush.uses_pressure = on

    def cancel(self) -> bool:
        """Drops what was begun and not ended; False if nothing was."""
        return self._now is not None and self._now.cancel()

    def finish(self) -> bool:
        """Closes a polygon that was begun; False if none was."""
        return self._now is not None and self._now.finish()

    def _allowed(self) -> bool:
        """Whether a stroke may begin; if not, the reason is told."""
        name = self.name or _START
        reason = self._page.reason(name)
        if reason is not None:
            self._page.told.emit(reason)
            return False
        self._page.session.clock.pause()
        self._page.show_mask()
        return True

    def _begin(self) -> Mask | None:
        return self._page.shown_mask() if self._allowed() else None
