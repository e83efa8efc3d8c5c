"""What a closing app leaves behind: no thread that outlives the objects it belongs to."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from driving import LONG_MS
from PyQt6.QtWidgets import QApplication

from splatomy_gui.app import App
from splatomy_gui.tasks import Tasks


def test_nothing_begins_after_closing(qtbot: Any) -> None:
    ran = threading.Event()
    tasks = Tasks()
    with qtbot.waitSignal(tasks.ended, timeout=LONG_MS):
        tasks.start("The first cannot be done", ran.set)
    assert ran.is_set()
    tasks.close()
    ran.clear()
    late = tasks.start("The second cannot be done", ran.set)
    qtbot.wait(100)
    assert not late.isRunning() and not tasks.running and not ran.is_set()


def test_work_that_is_over_at_once_is_told(qtbot: Any) -> None:
    tasks, told = Tasks(), []
    for work in (int, lambda: int("none")):
        task = tasks.start("It cannot be done", work)
        assert task.wait(LONG_MS)
        task.ended.connect(lambda task=task: told.append(task.problem))
    qtbot.waitUntil(lambda: len(told) == 2, timeout=LONG_MS)
    assert told[0] is None and told[1] is not None and not tasks.running
    tasks.close()


def test_a_window_closed_at_once_starts_no_engine(qtbot: Any, home: Any) -> None:
    """Qt ends the whole process where a thread still runs when its object is collected."""
    made = App(["splatomy"])
    made.start()
    tasks = made.session.tasks
    begun: list[Any] = []
    tasks.started.connect(begun.append)
    made.window.close()
    made.close()
    begun.clear()
    qtbot.wait(1000)
    assert not begun and not tasks.running
    del made, tasks
    gc.collect()
    QApplication.processEvents()


WIDEN_AND_CLOSE = """
import runpy
from PyQt6.QtCore import QTimer
from PyQt6.QtWidgets import QApplication, QMainWindow

def end():
    window, = (shown for shown in qt.topLevelWidgets() if isinstance(shown, QMainWindow))
    window.resize(1111, 777)
    QTimer.singleShot(500, window.close)

qt = QApplication(["splatomy"])
QTimer.singleShot(1000, end)
runpy.run_module("splatomy_gui", run_name="__main__")
"""


def test_an_app_that_ends_keeps_its_preferences(home: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WIDEN_AND_CLOSE], env=dict(os.environ), timeout=LONG_MS / 1000, check=False
    )
    assert ended.returncode == 0
    kept = [path.read_text() for path in home.rglob("*.ini")]
    assert len(kept) == 1 and "[layout]" in kept[0] and "window=" in kept[0]
