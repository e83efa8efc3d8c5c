"""Every page fits into 1280 x 800, and no control is disabled without its reason, in both themes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from driving import LONG_MS, drop, open_by_drop
from PyQt6.QtCore import QSize

from splatomy_gui.page_check import page_problems


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_pages_without_a_result_fit(
    window: Any, qtbot: Any, tiny_clip: Path, tiny_case: Path, theme: str
) -> None:
    window.session.settings.set("theme", theme)
    for place in ("start", "jobs", "preferences"):
        window.go(place)
        _check(window, qtbot, place)
    for source in (tiny_clip, tiny_case):
        open_by_drop(window, qtbot, source)
        qtbot.waitUntil(lambda: not window.session.tasks.running, timeout=LONG_MS)
        for step in ("masks", "reconstruct", "load"):
            window.show_step(step)
            _check(window, qtbot, f"{source.name}, {step}")
        window.session.close_case()
        qtbot.waitUntil(lambda: window.session.case is None, timeout=LONG_MS)
        window.show_start()


def _check(window: Any, qtbot: Any, name: str) -> None:
    window.resize(1280, 800)
    qtbot.wait(50)
    assert window.size() == QSize(1280, 800), name
    assert page_problems(window) == [], name


def test_the_button_that_opens_an_input_is_in_view(
    window: Any, qtbot: Any, tiny_case: Path, tmp_path: Path
) -> None:
    """Also of a run with much to tell: several problems, and a table of what its geometry lacks."""
    case = shutil.copytree(tiny_case, tmp_path / "run")
    (case / "transforms.json").unlink()
    window.resize(1280, 800)
    drop(window, case)
    qtbot.waitUntil(lambda: getattr(window.page, "inspection", None) is not None, timeout=LONG_MS)
    qtbot.wait(200)
    button = window.page.open_button
    assert button.visibleRegion().boundingRect() == button.rect()


def test_what_does_not_fit_is_found(window: Any, qtbot: Any) -> None:
    from PyQt6.QtWidgets import QPushButton

    button = QPushButton("Long text on a narrow button", window)
    button.resize(40, 24)
    button.setEnabled(False)
    button.show()
    found = "; ".join(page_problems(window))
    assert "is cut off" in found and "without a reason" in found and "no tooltip" in found


@pytest.mark.soak
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_every_page_fits_at_scale_2(tmp_path_factory: pytest.TempPathFactory, theme: str) -> None:
    """The command that makes the pictures, with results; its cases are made once for both themes."""
    out = tmp_path_factory.getbasetemp() / "pages"
    words = [sys.executable, "-m", "splatomy_gui.screenshots", "--out", str(out), "--sample", "tiny"]
    program = shutil.which("xvfb-run")
    if program is None:
        pytest.skip("xvfb-run is not installed, so there is no screen of that size")
    screen = [program, "-a", "-s", "-screen 0 2700x1700x24"]
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    ended = subprocess.run(
        [*screen, *words, "--theme", theme, "--scale", "2"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert len(list(out.glob(f"*-{theme}-2x.png"))) >= 15
