"""The box that automatic steps keep to."""

from __future__ import annotations

from PyQt6.QtCore import QRectF, Qt
from PyQt6.QtWidgets import QGraphicsRectItem

from splatomy_gui.panels.masks.automatic import AutomaticMasks
from splatomy_gui.panels.masks.work import Region
from splatomy_gui.session import Session
from splatomy_gui.theme import current_theme
from splatomy_gui.undo import ValueCommand
from splatomy_gui.views.frame_view import FrameView
from splatomy_gui.views.mask_tools import cosmetic_pen


class RegionBox:
    """Shows the box over the frame; another one is a change that can be taken back."""

    def __init__(self, session: Session, automatic: AutomaticMasks, view: FrameView) -> None:
        self._session, self._automatic = session, automatic
        self._item = QGraphicsRectItem()
        self._item.setZValue(1.8)
        self._item.hide()
        scene = view.scene()
        if scene is not None:
            scene.addItem(self._item)

    def choose(self, region: Region | None) -> None:
        """Limits automatic steps to a box, or no longer."""
        before = self._automatic.region
        if region != before:
            text = "limit to a box" if region is not None else "no box"
            self._session.push(ValueCommand(text, self.put, before, region))

    def put(self, region: Region | None) -> None:
        """Sets the box; for undo commands, which are pushed."""
        self._automatic.region = region
        self._item.setVisible(region is not None)
        if region is not None:
            left, top, right, bottom = region
            self._item.setRect(QRectF(left, top, right - left, bottom - top))
            self._item.setPen(cosmetic_pen(current_theme().colour("proposal"), 2.0, Qt.PenStyle.DashLine))
