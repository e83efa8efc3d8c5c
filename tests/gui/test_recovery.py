"""The app is killed with unsaved masks; the next start offers them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from driving import LONG_MS, drop
from PyQt6.QtCore import Qt

from splatomy.io.case import open_case, recovered_case

# What a person does in the app that is going to be killed: opens a clip and confirms a frame.
CONFIRM = """
import sys
from pathlib import Path
from splatomy.io.options import InputOptions
from splatomy_gui.app import App
from splatomy_gui.undo import FrameReviewCommand

app = App(["splatomy"])
app.settings.set("autosave_s", 5)
app.start()
session = app.session

def opened():
    if session.case is not None:
        frame = session.review.frames[2].confirmed()
        session.push(FrameReviewCommand(session, 2, frame, "confirm mask"))

session.case_changed.connect(opened)
session.open_input(Path(sys.argv[1]), InputOptions(), Path(sys.argv[2]))
app.qt.exec()
"""


def test_unsaved_masks_survive_a_kill(window: Any, qtbot: Any, tiny_clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed.splatomy"
    words = [sys.executable, "-c", CONFIRM, str(tiny_clip), str(folder)]
    process = subprocess.Popen(words, env=dict(os.environ))
    try:
        deadline = time.monotonic() + LONG_MS / 1000
        while not (folder / "case.autosave.json").is_file():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert open_case(folder).review.counts()["confirmed"] == 0
    expected = recovered_case(folder)
    assert expected is not None
    drop(window, folder)
    qtbot.waitUntil(lambda: bool(window.dialogs), timeout=LONG_MS)
    box = window.dialogs[-1]
    assert "not saved" in box.text()
    restore = next(b for b in box.buttons() if b.text() == "Restore")
    qtbot.mouseClick(restore, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: window.session.case is not None, timeout=LONG_MS)
    review = window.session.review
    assert review.counts()["confirmed"] == 1
    assert all((review.hidden(n) == expected.review.hidden(n)).all() for n in range(len(review)))
    assert not (folder / "case.autosave.json").exists()
