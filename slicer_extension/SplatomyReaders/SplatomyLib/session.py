"""One set of engine runs for the whole application, whichever module started them. Inside Slicer only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
import slicer

from SplatomyLib import install
from SplatomyLib.logic import EngineLogic
from SplatomyLib.process import QtPipe

POLL_MS = 150
_ENGINE, _SOURCE = "Splatomy/EnginePath", "Splatomy/EngineSource"
_sessions: list[Session] = []


class Session:
    """The application's engine logic with its timer. Settings are those of the machine, not of the scene."""

    def __init__(self) -> None:
        self.logic = EngineLogic(slicer.mrmlScene, lambda: QtPipe(qt), install.start_environment())
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.connect("timeout()", self.logic.poll)
        self._timer.start()
        slicer.app.connect("aboutToQuit()", self.close)
        logic = self.logic
        event = slicer.vtkMRMLScene.EndCloseEvent
        self._observer = slicer.mrmlScene.AddObserver(event, lambda *_: logic.forget_scene())

    def close(self) -> None:
        """The application quits: runs keep their checkpoint and end."""
        self._timer.stop()
        slicer.mrmlScene.RemoveObserver(self._observer)
        self.logic.shut_down()

    @property
    def data_folder(self) -> Path:
        """Where files of this user's may be kept."""
        return Path(qt.QStandardPaths.writableLocation(qt.QStandardPaths.AppLocalDataLocation))

    @property
    def checkout(self) -> Path | None:
        """The source folder that this extension is used from, if it is."""
        return install.checkout_beside(Path(__file__))

    def engine_path(self) -> str:
        """The program that a person chose, "" for none."""
        return str(qt.QSettings().value(_ENGINE, "") or "")

    def choose_engine(self, path: str) -> None:
        """Remembers a person's choice."""
        qt.QSettings().setValue(_ENGINE, path)

    def engine_source(self) -> str:
        """What the engine is installed from."""
        chosen = str(qt.QSettings().value(_SOURCE, "") or "")
        return chosen or str(self.checkout or "")

    def choose_source(self, path: str) -> None:
        """Remembers a person's choice."""
        qt.QSettings().setValue(_SOURCE, path)

    def candidates(self) -> list[tuple[str, ...]]:
        """Commands that may be the engine, best first."""
        variables = install.start_environment()
        return install.engine_candidates(self.engine_path(), self.data_folder, variables, self.checkout)

    def new_folder(self, stem: str) -> Path:
        """A new folder for files that need not be kept."""
        base = Path(slicer.app.temporaryPath) / "Splatomy"
        number = 1
        while (base / f"{stem}-{number}").exists():
            number += 1
        folder = base / f"{stem}-{number}"
        folder.mkdir(parents=True)
        return folder


def session() -> Any:
    """The application's session, made when it is first needed."""
    if not _sessions:
        _sessions.append(Session())
    return _sessions[0]
