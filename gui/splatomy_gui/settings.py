"""Preferences of this machine's user; never anything of a case but its path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PyQt6.QtCore import QByteArray, QObject, QSettings, QStandardPaths, pyqtSignal

APP_NAME = "Splatomy"
DEFAULTS: dict[str, Any] = {
    "theme": "system",
    "text_scale": 100,
    "autosave_s": 60,
    "device": "auto",
    "memory_gib": 0,
    "preview_every_s": 5.0,
    "models_folder": "",
    "mask_model": "",
    "mask_decoder": "",
    "slicer_path": "",
    "cases_folder": "",
    "notice_seen": False,
}
_MOST_RECENT = 12


class Settings(QObject):
    """Named preferences with defaults, kept in the user's configuration folder."""

    changed = pyqtSignal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._store = QSettings(
            QSettings.Format.IniFormat, QSettings.Scope.UserScope, APP_NAME, APP_NAME, self
        )

    def get(self, name: str) -> Any:
        """The preference, in the type of its default."""
        default = DEFAULTS[name]
        value = self._store.value(f"preferences/{name}", default)
        if isinstance(default, bool):
            return value in (True, "true")
        try:
            return type(default)(value)
        except (TypeError, ValueError):
            return default

    def set(self, name: str, value: Any) -> None:
        """Keeps a preference and tells everybody."""
        if value != self.get(name):
            self._store.setValue(f"preferences/{name}", value)
            self.changed.emit(name)

    def layout(self, name: str) -> QByteArray | None:
        """A window layout kept under that name."""
        value = self._store.value(f"layout/{name}")
        return value if isinstance(value, QByteArray) else None

    def keep_layout(self, name: str, state: QByteArray) -> None:
        """Keeps a window layout."""
        self._store.setValue(f"layout/{name}", state)

    def recent_cases(self) -> list[Path]:
        """Cases that were open, newest first."""
        value = self._store.value("recent/cases", [])
        names = [value] if isinstance(value, str) else list(value or [])
        return [Path(name) for name in names]

    def keep_recent_case(self, folder: Path) -> None:
        """Puts a case on top of the list."""
        kept = [str(folder), *(str(p) for p in self.recent_cases() if p != folder)]
        self._store.setValue("recent/cases", kept[:_MOST_RECENT])

    def forget_case(self, folder: Path) -> None:
        """Takes a case off the list; its files stay."""
        self._store.setValue("recent/cases", [str(p) for p in self.recent_cases() if p != folder])

    def cases_folder(self) -> Path:
        """Where new cases are made."""
        chosen = self.get("cases_folder")
        if chosen:
            return Path(chosen)
        places = QStandardPaths.standardLocations(QStandardPaths.StandardLocation.DocumentsLocation)
        return Path(places[0] if places else Path.home()) / APP_NAME

    def data_folder(self) -> Path:
        """Where the app keeps its log."""
        place = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.AppLocalDataLocation)
        return Path(place) if place else Path.home() / f".{APP_NAME.lower()}"
