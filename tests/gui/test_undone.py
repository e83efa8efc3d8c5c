"""What a person switches, chooses or measures can be taken back, also beside other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driving import LONG_MS, drop, open_by_drop
from PyQt6.QtCore import QPoint, Qt

from splatomy.capture import Grid
from splatomy.io.volume import write_volume
from splatomy.scene import Volume

LEFT, CONTROL = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.ControlModifier


@pytest.fixture
def page(window: Any, qtbot: Any, tmp_path: Path) -> Any:
    """The angiography inspection with a ball."""
    axis = np.arange(24) - 11.5
    ball = (np.sqrt(sum(np.square(a) for a in np.meshgrid(axis, axis, axis))) < 7).astype(np.float32)
    grid = Grid.centred((24, 24, 24), (1.0, 1.0, 1.0))
    write_volume(tmp_path / "vessels.nii.gz", Volume(ball * np.float32(0.05), grid.affine_mm))
    drop(window, tmp_path / "vessels.nii.gz")
    qtbot.waitUntil(lambda: window.step_key == "inspect" and window.page is not None, timeout=LONG_MS)
    qtbot.waitUntil(lambda: window.page.volume is not None, timeout=LONG_MS)
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow, timeout=LONG_MS)
    return window.page


def test_switches_choices_and_layers_are_undone(page: Any, window: Any, qtbot: Any) -> None:
    session, cross = window.session, window.actions_table["angio_crosshair"]
    qtbot.keyClick(window, Qt.Key.Key_H)
    assert not cross.isChecked() and not page.slices[0].crosshair_shown
    slab = page.look_panel.slab
    slab.setFocus()
    qtbot.keyClick(slab, Qt.Key.Key_Down)
    assert page.slices[0]._slab_mm == 2
    tree = window.docks.case_tree.tree
    item = tree.findItems("Volume", Qt.MatchFlag.MatchExactly | Qt.MatchFlag.MatchRecursive)[0]
    box = tree.visualItemRect(item)
    qtbot.mouseClick(tree.viewport(), LEFT, pos=QPoint(box.left() + 8, box.center().y()))
    assert not session.layers["volume"].visible
    tree.setCurrentItem(item)
    opacity = window.docks.case_tree.opacity
    opacity.setFocus()
    for _ in range(3):
        qtbot.keyClick(opacity, Qt.Key.Key_Down)
    assert session.layers["volume"].opacity == pytest.approx(0.97)
    undo = window.actions_table["undo"]
    undo.trigger()
    assert session.layers["volume"].opacity == 1
    undo.trigger()
    assert session.layers["volume"].visible
    undo.trigger()
    assert slab.currentIndex() == 0 and page.slices[0]._slab_mm == 0
    undo.trigger()
    assert cross.isChecked() and page.slices[0].crosshair_shown
    assert not session.undo.canUndo()


def test_measurements_of_other_programs_are_shown_and_kept(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    open_by_drop(window, qtbot, tiny_clip)
    session = window.session
    desk_list = window.docks.case_tree._measurements
    common = {"subject": "run", "time_s": None, "anchors": None, "evidence": None, "reading": ""}
    line = {"id": 1, "kind": "distance", "name": "neck", "points": [[0, 0, 0], [0, 3, 4]], "value": 5.0}
    spot = {"id": 2, "kind": "point", "name": "landmark", "points": [[1, 1, 1]], "value": None, "unit": ""}
    path = session.folder / "measurements.json"

    def write(*entries: dict[str, Any]) -> None:
        path.write_text(json.dumps({"contract": 1, "measurements": [e | common for e in entries]}))

    write(line | {"unit": "mm"})
    assert [m.name for m in desk_list.all()] == ["neck"]
    desk_list.rename(1, "aneurysm neck")
    qtbot.waitUntil(lambda: not session.tasks.running, timeout=LONG_MS)
    assert json.loads(path.read_text())["measurements"][0]["name"] == "aneurysm neck"
    # 3D Slicer adds one while the app is open; taking our change back leaves it alone.
    write(line | {"unit": "mm", "name": "aneurysm neck"}, spot)
    assert [m.name for m in desk_list.all()] == ["aneurysm neck", "landmark"]
    window.actions_table["undo"].trigger()
    qtbot.waitUntil(lambda: not session.tasks.running, timeout=LONG_MS)
    kept = json.loads(path.read_text())["measurements"]
    assert [entry["name"] for entry in kept] == ["neck", "landmark"] and kept[1] == spot | common
