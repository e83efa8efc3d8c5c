"""The app in a window under Xvfb, in a home of its own."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["QT_API"] = os.environ["PYTEST_QT_API"] = "pyqt6"

pytest.importorskip("PyQt6")

from PyQt6.QtCore import QSettings

import splatomy_gui.ending  # noqa: F401 - its exit code is set in the conftest of all tests
from splatomy.cli.phantom.tissue import written_tissue
from splatomy.events import finish


@pytest.fixture(scope="session", autouse=True)
def _display() -> Iterator[None]:
    """A screen, unless there is one. The server picks a free number itself and tells it."""
    os.environ["QT_QPA_PLATFORM"] = "xcb"
    if os.environ.get("DISPLAY"):
        yield
        return
    program = shutil.which("Xvfb")
    if program is None:
        pytest.skip("Xvfb is not installed, so there is no screen for the window")
    read, write = os.pipe()
    words = [program, "-displayfd", str(write), "-screen", "0", "1600x1200x24", "-nolisten", "tcp"]
    server = subprocess.Popen(words, pass_fds=[write], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as told:
        os.environ["DISPLAY"] = f":{told.readline().strip()}"
    # Qt ends the process if the screen goes away while it is still looked after.
    atexit.register(server.terminate)
    yield


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest endoscopic clip."""
    folder = tmp_path_factory.mktemp("clip") / "clip"
    finish(written_tissue(folder, "tiny", 0, "endonerf"))
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new home, so that no preference, log or case of anybody is touched."""
    place = tmp_path / "home"
    place.mkdir()
    monkeypatch.setenv("HOME", str(place))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(place / name.lower()))
    # Qt looks at the environment once in a process: later tests would find the preferences of the first.
    preferences = str(place / "xdg_config_home")
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, preferences)
    return place


@pytest.fixture
def app(qtbot: object, home: Path) -> Iterator[object]:
    """The app as ``main`` starts it, its window on show; closed as a person would."""
    from splatomy_gui.app import App

    made = App(["splatomy"])
    unexpected: list[object] = []
    made._crash.happened.connect(unexpected.append)
    made.start()
    # Without a window manager nobody else gives the window the keyboard.
    made.window.activateWindow()
    qtbot.waitUntil(made.window.isActiveWindow, timeout=120_000)  # type: ignore[attr-defined]
    yield made
    for job in made.session.queue.active:
        job.stop()
    qtbot.waitUntil(lambda: not made.session.queue.active, timeout=120_000)  # type: ignore[attr-defined]
    made.window.close()
    qtbot.waitUntil(lambda: not made.window.isVisible(), timeout=120_000)  # type: ignore[attr-defined]
    made.close()
    # What a slot or a thread does not catch is shown in a window, and would end no test by itself.
    assert not unexpected, [getattr(problem, "details", problem) for problem in unexpected]


@pytest.fixture
def window(app: object) -> object:
    """The app's window."""
    return app.window  # type: ignore[attr-defined]
