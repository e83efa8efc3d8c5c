"""A module's settings: in the scene, connected to its panel while that is shown. Inside Slicer only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
import vtk


class Settings:
    """Connects the parameter node of a module with its widgets, and lets go when the scene is closed.

    widget: the module's, whose logic makes the node; it observes. changed: called when anything is new.
    """

    def __init__(self, widget: Any, changed: Callable[[], None]) -> None:
        self._widget, self._changed = widget, changed
        self._connected: Any = None
        self._tag: Any = None
        scene = slicer.mrmlScene
        widget.addObserver(scene, scene.StartCloseEvent, lambda *_: self.let_go())
        widget.addObserver(scene, scene.EndCloseEvent, lambda *_: self.start())

    @property
    def connected(self) -> Any:
        """The settings while the panel is shown, else None."""
        return self._connected

    @property
    def now(self) -> Any:
        """The settings in the scene; there also while another module is shown."""
        return self._connected or self._widget.logic.getParameterNode()

    def start(self) -> None:
        """The panel is shown, or there is a new scene."""
        if self._connected is not None:
            return
        found = self.now
        if str(found.outputFolder) in ("", "."):
            found.outputFolder = Path.home() / "Splatomy"
        self._connected = found
        self._tag = found.connectGui(self._widget.ui)
        self._widget.addObserver(found.parameterNode, vtk.vtkCommand.ModifiedEvent, self._told)
        self._changed()

    def let_go(self) -> None:
        """Another module is shown, or the scene is closed."""
        found, self._connected = self._connected, None
        if found is not None:
            found.disconnectGui(self._tag)
            self._widget.removeObserver(found.parameterNode, vtk.vtkCommand.ModifiedEvent, self._told)

    def _told(self, *_args: Any) -> None:
        if self._connected is not None:
            self._changed()
