"""A still surface beside a reference mesh: distances as colours, figures in words, each choice undone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from driving import LONG_MS, drop
from PyQt6.QtCore import Qt

from splatomy.events import finish
from splatomy.io.mesh import write_mesh
from splatomy.io.run import RunFolder
from splatomy.scene import Mesh, SceneState
from splatomy_gui.panels.inspect.colouring import Colouring
from splatomy_gui.panels.inspect.reference import Asked, compared

CONTROL = Qt.KeyboardModifier.ControlModifier


def plane(depth_mm: float, count: int = 21) -> Mesh:
    """A plane across z, 100 mm wide."""
    x, y = np.meshgrid(np.linspace(-50, 50, count), np.linspace(-50, 50, count))
    vertices = np.stack([x, y, np.full_like(x, depth_mm)], -1).reshape(-1, 3).astype(np.float32)
    n = np.arange(count * count).reshape(count, count)
    one = np.stack([n[:-1, :-1], n[1:, :-1], n[1:, 1:]], -1).reshape(-1, 3)
    other = np.stack([n[:-1, :-1], n[1:, 1:], n[:-1, 1:]], -1).reshape(-1, 3)
    return Mesh(vertices, np.concatenate([one, other]).astype(np.int32))


def still_run(folder: Path) -> Path:
    """A finished run of a still scene: a plane 80 mm away."""
    run = RunFolder(folder)
    write_mesh(run.file("meshes", "mesh.ply"), plane(80.0))
    run.save_scene(SceneState({}, {}))
    run.write_record({"method": "pulled_surface", "preset": "draft", "state": "done", "metric": True})
    return run.path


def test_the_reference_is_shown_in_colours_and_words(window: Any, qtbot: Any, tmp_path: Path) -> None:
    write_mesh(tmp_path / "scan.ply", plane(82.0))
    drop(window, still_run(tmp_path / "run"))
    qtbot.waitUntil(lambda: window.step_key == "inspect" and window.page.content is not None, timeout=LONG_MS)
    page = window.page
    assert window.workspace_key == "surface"
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow, timeout=LONG_MS)
    qtbot.keyClick(window, Qt.Key.Key_T)
    panel = page.reference
    page.panel.setCurrentWidget(panel)
    assert not panel.tolerance.isEnabled() and "Open a reference" in panel.tolerance.toolTip()
    panel.path.edit.setFocus()
    qtbot.keyClicks(panel.path.edit, str(tmp_path / "scan.ply"))
    qtbot.keyClick(panel.path.edit, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: panel.comparison is not None, timeout=LONG_MS)
    # Two planes 2 mm apart, at a threshold of 1 mm; the distances are the colours at once.
    assert "F-score 0.0% at 1 mm" in panel.text.text() and "Accuracy 2.0" in panel.text.text()
    assert abs(panel.comparison.figures["accuracy_mm"] - 2.0) < 0.1
    assert page.colour_choice.value() is Colouring.DISTANCE and page.scene.scale.unit == "mm"
    np.testing.assert_allclose(page.scene.values(Colouring.DISTANCE), 2.0, atol=0.1)
    panel.tolerance.setFocus()
    panel.tolerance.selectAll()
    qtbot.keyClicks(panel.tolerance, "3")
    qtbot.keyClick(panel.tolerance, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: "F-score 100.0% at 3 mm" in panel.text.text(), timeout=LONG_MS)
    qtbot.keyClick(window, Qt.Key.Key_Z, CONTROL)
    qtbot.waitUntil(lambda: "F-score 0.0% at 1 mm" in panel.text.text(), timeout=LONG_MS)
    assert panel.tolerance.value() == 1.0
    qtbot.keyClick(window, Qt.Key.Key_Z, CONTROL)
    assert (
        panel.comparison is None
        and panel.path.path() is None
        and np.isnan(page.scene.values(Colouring.DISTANCE)).all()
    )


def test_a_rigid_move_first_takes_a_shift_away(tmp_path: Path) -> None:
    write_mesh(tmp_path / "scan.ply", plane(82.0))
    shifted = finish(compared(plane(80.0), Asked(tmp_path / "scan.ply", 0.5)))
    laid = finish(compared(plane(80.0), Asked(tmp_path / "scan.ply", 0.5, aligned=True)))
    assert shifted.figures["fscore_0.5mm"] == 0.0 and shifted.figures["accuracy_mm"] > 1.9
    assert laid.figures["accuracy_mm"] < 0.5 and laid.distances.max() < 2.0
    assert "rigid move" in laid.text("mm") and "relative" in laid.text("relative")
