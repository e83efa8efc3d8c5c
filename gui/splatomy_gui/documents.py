"""Further JSON files of the case, or of a run without a case: measurements, kept cameras."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from PyQt6.QtCore import QObject, pyqtSignal

from splatomy.io.atomic import write_json
from splatomy_gui.tasks import Tasks


class Documents(QObject):
    """Values by file name. Other programs may write the files too: what they wrote is read again.

    A value is written on another thread, one at a time; the newest wins.
    """

    changed = pyqtSignal(str)
    """Name of a file whose value this app changed."""

    def __init__(self, tasks: Tasks, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._tasks = tasks
        self._folder: Path | None = None
        self._values: dict[str, Any] = {}
        self._stamps: dict[str, int] = {}
        self._writing: set[str] = set()

    def set_folder(self, folder: Path | None) -> None:
        """Where the files are; None = nowhere, so that values last as long as the app."""
        if folder != self._folder:
            self._folder = folder
            self._values, self._stamps, self._writing = {}, {}, set()

    def get(self, name: str) -> Any:
        """The value of a file; None without one."""
        path = None if self._folder is None else self._folder / name
        if path is not None and name not in self._writing and _stamp(path) != self._stamps.get(name, -1):
            self._stamps[name] = _stamp(path)
            try:
                self._values[name] = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError, RecursionError):
                self._values[name] = None
        return self._values.get(name)

    def set(self, name: str, value: Any) -> None:
        """Another value, written at once."""
        self._values[name] = value
        if self._folder is not None and name not in self._writing:
            self._write(self._folder / name, self._values)
        self.changed.emit(name)

    def close(self) -> None:
        """Writes what still waits for its turn."""
        folder = self._folder
        if folder is not None:
            for name in self._writing:
                write_json(folder / name, self._values[name])

    def _write(self, path: Path, values: dict[str, Any]) -> None:
        """values: those of the folder of ``path``; by the time of writing another one may be open."""
        name, value = path.name, values[path.name]
        if values is self._values:
            self._writing.add(name)

        def ended() -> None:
            if values is self._values:
                self._writing.discard(name)
                self._stamps[name] = _stamp(path)
            if values[name] is not value:
                self._write(path, values)

        task = self._tasks.start(f"{name} cannot be saved", partial(write_json, path, value))
        task.ended.connect(ended)


def _stamp(path: Path) -> int:
    """When a file was written, 0 without one."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
