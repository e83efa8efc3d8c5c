"""Pictures of the run from any camera: one request at a time, the newest of each purpose; stale ones drop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PyQt6.QtCore import QObject, pyqtSignal

from splatomy_gui.session import Session
from splatomy_gui.viewer import Viewer


@dataclass(frozen=True)
class NovelRequest:
    """A picture that is wanted. camera: as the job protocol wants it."""

    camera: Mapping[str, Any]
    size_px: tuple[int, int]
    time_s: float


class NovelViews(QObject):
    """Asks the session's viewer; the engine gives up on a request when a newer one comes, so that several
    purposes (the view of the 3D camera, a frame that was not kept) must take turns.
    """

    arrived = pyqtSignal(str, object, object)
    """Purpose, the NovelRequest, and the Path of its picture; only if nothing newer is wanted for it."""
    busy_changed = pyqtSignal(bool)
    failed = pyqtSignal(str)

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._viewer: Viewer | None = None
        self._wanted: dict[str, NovelRequest] = {}
        self._asked: tuple[int, str, NovelRequest] | None = None

    @property
    def busy(self) -> bool:
        """True while a picture is being made."""
        return self._asked is not None

    def want(self, purpose: str, request: NovelRequest) -> None:
        """Asks for a picture; one that still waits for this purpose is dropped."""
        self._wanted[purpose] = request
        self._ask()

    def drop(self) -> None:
        """Nothing is wanted any more."""
        self._wanted.clear()
        self._asked = None
        self._follow(None)
        self.busy_changed.emit(False)

    def _follow(self, viewer: Viewer | None) -> None:
        if viewer is self._viewer:
            return
        if self._viewer is not None:
            self._viewer.rendered.disconnect(self._rendered)
            self._viewer.failed.disconnect(self._failed)
            self._viewer.left.disconnect(self._left)
        self._viewer, self._asked = viewer, None
        if viewer is not None:
            viewer.rendered.connect(self._rendered)
            viewer.failed.connect(self._failed)
            viewer.left.connect(self._left)

    def _ask(self) -> None:
        if self._asked is not None and self._viewer is not None and self._viewer.alive:
            return
        if not self._wanted:
            return
        self._follow(self._session.viewer())
        if self._viewer is None:
            self._wanted.clear()
            return
        purpose = next(iter(self._wanted))
        request = self._wanted.pop(purpose)
        ticket = self._viewer.render(request.camera, request.size_px, request.time_s)
        self._asked = (ticket, purpose, request)
        self.busy_changed.emit(True)

    def _rendered(self, ticket: int, file: str) -> None:
        asked = self._asked
        if asked is None or ticket != asked[0]:
            return
        self._asked = None
        if asked[1] not in self._wanted:
            self.arrived.emit(asked[1], asked[2], Path(file))
        self._ask()
        if self._asked is None:
            self.busy_changed.emit(False)

    def _failed(self, text: str) -> None:
        self._asked = None
        self.busy_changed.emit(False)
        self.failed.emit(text)

    def _left(self) -> None:
        """Another viewer is asked for what the job did not answer before it ended."""
        asked, self._asked = self._asked, None
        if asked is not None:
            self._wanted.setdefault(asked[1], asked[2])
            self._ask()
