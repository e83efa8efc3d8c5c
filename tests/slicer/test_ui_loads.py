"""Qt itself builds the panels of the .ui files, and nothing is squeezed out of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
EXTENSION = HERE.parents[1] / "slicer_extension"


@pytest.mark.parametrize("module", ["SplatomyEndoscopy", "SplatomyAngiography", "SplatomySurface"])
def test_qt_builds_the_panel(module: str) -> None:
    path = EXTENSION / module / "Resources" / "UI" / f"{module}.ui"
    # A process of its own: the tests of the desktop app need Qt with a display.
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    words = [sys.executable, str(HERE / "panel_in_qt.py"), str(path)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    names = {node.attrib["name"] for node in ElementTree.parse(path).getroot().iter("widget")} - {module}
    assert names <= found.keys()
    assert all(found[name]["width"] <= 420 for name in names)
    apply = found["applyButton"]
    assert not apply["enabled"]
    assert apply["width"] > 300
    assert apply["tip"]
    bound = {about["parameter"] for about in found.values()}
    assert {"inputPath", "preset", "device", "outputFolder"} <= bound
