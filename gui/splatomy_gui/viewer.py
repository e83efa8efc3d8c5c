"""Pictures of a scene from any camera, made by an engine process: the newest request wins."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from typing import Any

from PyQt6.QtCore import QObject, pyqtSignal

from splatomy_gui.engine_process import EngineLink

_LOG = logging.getLogger(__name__)


class Viewer(QObject):
    """Asks an engine for pictures by tickets; ``link`` is None while no engine can answer."""

    rendered = pyqtSignal(int, str)
    """Ticket and file of a picture; never one older than those that came before."""
    ready = pyqtSignal()
    """The scene is loaded."""
    failed = pyqtSignal(str)
    left = pyqtSignal()
    """The job that answered has ended: what was asked for and has not come never comes from here."""

    def __init__(self, link: EngineLink | None, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.link = link
        self.newest = 0
        self._tickets = itertools.count(1)
        self._delivered = 0

    @property
    def alive(self) -> bool:
        """True while an engine can answer."""
        return self.link is not None

    def start(self) -> None:
        """Starts a process of its own; a job's pictures come through the job instead."""
        if self.link is not None:
            self.link.news.connect(self._hear)
            self.link.gone.connect(self._gone)
            self.link.start()

    def render(self, camera: Mapping[str, Any], size_px: tuple[int, int], time_s: float | None = None) -> int:
        """Asks for a picture; returns the ticket that ``rendered`` will carry.

        camera: {"intrinsics", "camera_from_world"} in px and mm, OpenCV axes, or {"primary_deg",
        "secondary_deg"}. time_s: None = the middle of the recording.
        """
        self.newest = next(self._tickets)
        if self.link is not None:
            request = {"id": self.newest, "camera": dict(camera), "time_s": time_s, "size": list(size_px)}
            self.link.send({"command": "render", **request})
        return self.newest

    def take(self, event: Mapping[str, Any]) -> None:
        """A render event of the engine; late pictures are dropped."""
        ticket = int(event["id"])
        if ticket > self._delivered:
            self._delivered = ticket
            self.rendered.emit(ticket, str(event["file"]))

    def close(self) -> None:
        """Lets the process end."""
        link, self.link = self.link, None
        if link is not None:
            link.news.disconnect()
            link.gone.disconnect()
            link.leave()

    def _hear(self) -> None:
        for event in [] if self.link is None else self.link.take():
            kind = event["event"]
            if kind == "render":
                self.take(event)
            elif kind == "snapshot":
                self.ready.emit()
            elif kind in ("error", "notice"):
                _LOG.warning("%s", event.get("text"))
                self.failed.emit(str(event.get("text")))

    def _gone(self, code: object) -> None:
        self._hear()
        self.link = None
        if code != 0:
            self.failed.emit("The engine that renders the run ended.")
