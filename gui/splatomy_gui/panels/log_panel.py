"""What the app and the engine wrote down: level filter, search, copy, support bundle."""

from __future__ import annotations

import json
import logging
import platform
import re
import zipfile
from collections import deque
from collections.abc import Iterable
from logging.handlers import RotatingFileHandler
from pathlib import Path

from PyQt6.QtCore import QObject, pyqtSignal
from PyQt6.QtWidgets import (
    QApplication,
    QComboBox,
    QFileDialog,
    QLineEdit,
    QMessageBox,
    QPlainTextEdit,
    QVBoxLayout,
    QWidget,
)

import splatomy
from splatomy.io.atomic import atomic_path
from splatomy_gui.settings import DEFAULTS, Settings
from splatomy_gui.tasks import Tasks
from splatomy_gui.watchdog import Watchdog
from splatomy_gui.widgets.basics import button, row

_LEVELS = (
    ("everything", logging.DEBUG),
    ("notes", logging.INFO),
    ("warnings", logging.WARNING),
    ("errors", logging.ERROR),
)
_KEPT = 5000
_FILE_BYTES = 1 << 20


class _Relay(QObject):
    """Takes records to the GUI thread."""

    arrived = pyqtSignal(int, str)


class LogStore(logging.Handler):
    """Keeps the newest log lines, from any thread, and writes all to a file."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.relay = _Relay()
        self.lines: deque[tuple[int, str]] = deque(maxlen=_KEPT)
        self.setFormatter(logging.Formatter("%(asctime)s  %(levelname)-7s  %(message)s", "%H:%M:%S"))
        self.file = folder / "splatomy.log"
        root = logging.getLogger()
        root.setLevel(logging.INFO)
        root.addHandler(self)
        self._disk: logging.Handler | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._disk = RotatingFileHandler(self.file, maxBytes=_FILE_BYTES, backupCount=1, encoding="utf-8")
            self._disk.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
            root.addHandler(self._disk)
        except OSError:
            logging.getLogger(__name__).warning("The log cannot be written to %s", folder)

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps one record."""
        line = self.format(record)
        self.lines.append((record.levelno, line))
        self.relay.arrived.emit(record.levelno, line)

    def close(self) -> None:
        """Takes both handlers off."""
        root = logging.getLogger()
        root.removeHandler(self)
        if self._disk is not None:
            root.removeHandler(self._disk)
            self._disk.close()
        super().close()


class LogPanel(QWidget):
    """The log with its filters."""

    def __init__(
        self, store: LogStore, settings: Settings, tasks: Tasks, watchdog: Watchdog, names: Iterable[str]
    ) -> None:
        """names: of everything that was opened, which a support bundle must not hold."""
        super().__init__()
        self.store, self.settings, self.tasks, self.watchdog = store, settings, tasks, watchdog
        self.names = names
        self.level = QComboBox()
        self.level.addItems([name for name, _ in _LEVELS])
        self.level.setCurrentIndex(1)
        self.level.setToolTip("How important a line must be to be shown")
        self.level.currentIndexChanged.connect(lambda _: self._show_all())
        self.search = QLineEdit()
        self.search.setPlaceholderText("Find")
        self.search.setToolTip("Show only lines with these words")
        self.search.textChanged.connect(lambda _: self._show_all())
        self.text = QPlainTextEdit()
        self.text.setReadOnly(True)
        self.text.setMaximumBlockCount(_KEPT)
        copy = button("Copy", self._copy, "Copy the lines that are shown")
        bundle = button(
            "Save support bundle...", self.save_bundle, "Save log, versions and settings in one file"
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(row(self.level, self.search, copy, bundle))
        layout.addWidget(self.text, 1)
        store.relay.arrived.connect(self._add)
        self._show_all()

    def _fits(self, level: int, line: str) -> bool:
        words = self.search.text().lower().split()
        return level >= _LEVELS[self.level.currentIndex()][1] and all(w in line.lower() for w in words)

    def _add(self, level: int, line: str) -> None:
        if self._fits(level, line):
            self.text.appendPlainText(line)

    def _show_all(self) -> None:
        # A copy: other threads go on writing.
        kept = tuple(self.store.lines)
        self.text.setPlainText("\n".join(line for level, line in kept if self._fits(level, line)))

    def _copy(self) -> None:
        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(self.text.toPlainText())

    def save_bundle(self) -> None:
        """Lists what the bundle will hold, then saves it."""
        parts = bundle_parts(self.store, self.settings, self.watchdog, self.names)
        box = QMessageBox(self)
        box.setWindowTitle("Support bundle")
        box.setText("The bundle will hold:\n\n" + "\n".join(f"- {name}" for name in parts))
        box.setInformativeText(
            "No pictures, no masks, no patient data; folders and inputs are replaced by <folder> and <input>."
        )
        box.setDetailedText("\n\n".join(f"== {name}\n{text}" for name, text in parts.items()))
        save = box.addButton("Save...", QMessageBox.ButtonRole.AcceptRole)
        box.addButton(QMessageBox.StandardButton.Cancel)
        box.exec()
        if box.clickedButton() is not save:
            return
        name, _ = QFileDialog.getSaveFileName(self, "Save support bundle", "splatomy-support.zip", "*.zip")
        if name:
            self.tasks.start("The bundle cannot be saved", lambda: write_bundle(Path(name), parts))


def without_folders(text: str) -> str:
    """The text with every path shortened to its last part's extension, since names may be patients'."""
    return re.sub(
        r"(?:[A-Za-z]:)?[\\/](?:[^\\/\s:'\"]+[\\/])+[^\\/\s:'\",)]*?(\.\w{1,5})?(?=[\s:'\",)]|$)",
        r"<folder>\1",
        text,
    )


def without_names(text: str, names: Iterable[str]) -> str:
    """The text without names of inputs, which may be those of patients; also without their endings."""
    whole = {part for name in names for part in (name, name.partition(".")[0]) if len(part) > 2}
    for name in sorted(whole, key=len, reverse=True):
        text = text.replace(name, "<input>")
    return text


def bundle_parts(
    store: LogStore, settings: Settings, watchdog: Watchdog, names: Iterable[str] = ()
) -> dict[str, str]:
    """Names and texts of what goes into a support bundle. names: of files and folders that were opened."""
    versions = {
        "splatomy": splatomy.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
    }
    kept = {
        name: settings.get(name)
        for name in DEFAULTS
        if not name.endswith(("_path", "_folder", "_model", "_decoder"))
    }
    stalls = "\n".join(f"{stall.duration_s:.3f} s\n{stall.stack}" for stall in tuple(watchdog.stalls))
    return {
        "log.txt": without_names(without_folders("\n".join(line for _, line in tuple(store.lines))), names),
        "versions.json": json.dumps(versions, indent=2),
        "settings.json": json.dumps(kept, indent=2),
        "slow-moments.txt": without_folders(stalls),
    }


def write_bundle(path: Path, parts: dict[str, str]) -> None:
    """Writes the bundle."""
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
