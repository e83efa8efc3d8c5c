"""The one way in: QApplication, theme, log, window; and what happens when something of ours breaks."""

from __future__ import annotations

import locale
import logging
import os
import sys
import threading
from pathlib import Path
from types import TracebackType

# pyvistaqt asks qtpy, which would otherwise take whatever binding it finds first.
os.environ.setdefault("QT_API", "pyqt6")

from PyQt6.QtCore import QObject, QTimer, pyqtSignal
from PyQt6.QtWidgets import QApplication

from splatomy_gui.main_window import MainWindow
from splatomy_gui.panels.log_panel import LogStore
from splatomy_gui.problem import problem_of
from splatomy_gui.session import Session
from splatomy_gui.settings import APP_NAME, Settings
from splatomy_gui.theme import apply_theme
from splatomy_gui.watchdog import Watchdog

_LOG = logging.getLogger(__name__)
_SETTLED_MS = 300


class _Crash(QObject):
    """Takes errors that nobody caught to the GUI thread."""

    happened = pyqtSignal(object)


class App:
    """Everything that lives as long as the process."""

    def __init__(self, arguments: list[str]) -> None:
        self.qt = QApplication.instance() or QApplication(arguments)
        assert isinstance(self.qt, QApplication)
        # Qt puts the system's language in force for C too, whose libraries would write 1,5 into files.
        locale.setlocale(locale.LC_NUMERIC, "C")
        self.qt.setApplicationName(APP_NAME)
        self.qt.setOrganizationName(APP_NAME)
        self.settings = Settings()
        apply_theme(self.qt, self.settings.get("theme"), self.settings.get("text_scale"))
        self.log = LogStore(self.settings.data_folder() / "logs")
        self.watchdog = Watchdog()
        self.session = Session(self.settings)
        self.window = MainWindow(self.session, self.log, self.watchdog)
        self._settling = QTimer()
        self._settling.setSingleShot(True)
        self._settling.setInterval(_SETTLED_MS)
        self._settling.timeout.connect(self._settled)
        self._crash = _Crash()
        self._crash.happened.connect(self.window.show_problem)
        self._hooks = (sys.excepthook, threading.excepthook)
        sys.excepthook = self._unexpected
        threading.excepthook = lambda args: self._unexpected(
            args.exc_type, args.exc_value, args.exc_traceback
        )

    def start(self, path: Path | None = None) -> None:
        """Shows the window; what is slow to load comes after it."""
        layout = self.settings.layout("window")
        if layout is not None:
            self.window.restoreGeometry(layout)
        self.window.show()
        if path is not None:
            self.window.open_path(path)
        self._settling.start()

    def close(self) -> None:
        """Ends what the window did not."""
        self._settling.stop()
        sys.excepthook, threading.excepthook = self._hooks
        self.watchdog.close()
        self.log.close()

    def _settled(self) -> None:
        self.window.start_page.look_at_machine(self.window.preferences_page.show_machine)
        # The first 3D page would otherwise wait for these libraries.
        threading.Thread(target=_warm_up, name="warm up", daemon=True).start()

    def _unexpected(
        self, kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or issubclass(kind, KeyboardInterrupt | SystemExit):
            self._hooks[0](kind, error, trace)  # type: ignore[arg-type]
            return
        _LOG.error("not caught", exc_info=(kind, error, trace))
        self._crash.happened.emit(problem_of("Something went wrong in the app", error))


def _warm_up() -> None:
    import splatomy_gui.views.scene_view  # noqa: F401


def main(arguments: list[str] | None = None) -> int:
    """Runs the app; the exit code. The first argument that is no option is a path to open."""
    words = sys.argv if arguments is None else arguments
    given = [word for word in words[1:] if not word.startswith("-")]
    app = App(words)
    app.start(Path(given[0]).absolute() if given else None)
    try:
        return int(app.qt.exec())
    finally:
        app.close()
