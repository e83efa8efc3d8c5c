"""Inspecting vessels as a person would: a finished 4D volume without a run, and a recorded run's frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driving import LONG_MS, drop, open_by_drop
from PyQt6.QtCore import QPoint, Qt

from splatomy.capture import Grid
from splatomy.io.volume import write_sequence, write_volume
from splatomy.scene import Volume
from splatomy_gui.panels.angiography.branches import Branch, stenosis_between
from splatomy_gui.panels.angiography.content import Course, canonical
from splatomy_gui.panels.angiography.projecting import difference_picture, gantry_of, matched, ray_sums

RADIUS_MM = 3.0
HALF_AT_S = 1.0
LEFT, NONE, CONTROL = (
    Qt.MouseButton.LeftButton,
    Qt.KeyboardModifier.NoModifier,
    Qt.KeyboardModifier.ControlModifier,
)


def tube(size: int = 36) -> np.ndarray:
    """A vessel of 3 mm radius that runs straight up through the middle, partial volume at its wall."""
    axis = np.arange(size) - (size - 1) / 2
    distance = np.hypot(*np.meshgrid(axis, axis, indexing="ij"))
    cross = np.clip(RADIUS_MM + 0.5 - distance, 0, 1).astype(np.float32)
    values = np.zeros((size, size, size), np.float32)
    values[:, :, 3:-3] = 0.05 * cross[:, :, None]
    return values


@pytest.fixture(scope="module")
def moving_volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 4D volume: the tube is empty at 0 s, half full at 1 s and full at 2 s."""
    path = tmp_path_factory.mktemp("volume") / "vessels.seq.nrrd"
    times = np.array([0.0, HALF_AT_S, 2.0])
    full = tube()
    grid = Grid.centred((36, 36, 36), (1.0, 1.0, 1.0))
    write_sequence(path, (full * np.float32(t / 2) for t in times), times, grid)
    return path


def shown_volume(window: Any, qtbot: Any, path: Path) -> Any:
    """Drops a finished volume and waits for it; the page."""
    drop(window, path)
    qtbot.waitUntil(lambda: window.step_key == "inspect" and window.page is not None, timeout=LONG_MS)
    page = window.page
    qtbot.waitUntil(lambda: page.volume is not None, timeout=LONG_MS)
    # The first 3D view makes Qt build the window anew, and without a window manager nobody activates it.
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow, timeout=LONG_MS)
    return page


def undo(window: Any, qtbot: Any) -> None:
    """Ctrl+Z."""
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow, timeout=LONG_MS)
    qtbot.keyClick(window, Qt.Key.Key_Z, CONTROL)


def place_in(view: Any, point: tuple[float, float, float]) -> QPoint:
    """Where a world point lies in a slice."""
    return view.place_of(point).toPoint()


def test_slices_follow_one_crosshair(window: Any, qtbot: Any, moving_volume: Path) -> None:
    page = shown_volume(window, qtbot, moving_volume)
    axial, coronal, _ = page.slices
    qtbot.mouseClick(axial, LEFT, NONE, place_in(axial, (6.0, -4.0, 0.0)))
    assert np.allclose(page.scene.cross_mm[:2], (6.0, -4.0), atol=1.0)
    # The patient's left lies at the viewer's right, the head at the top.
    assert place_in(axial, (10.0, 0, 0)).x() > place_in(axial, (-10.0, 0, 0)).x()
    assert place_in(coronal, (0, 0, 10.0)).y() < place_in(coronal, (0, 0, -10.0)).y()
    before = axial.window
    qtbot.mousePress(axial, Qt.MouseButton.RightButton, NONE, QPoint(60, 60))
    qtbot.mouseMove(axial, QPoint(100, 70))
    qtbot.mouseRelease(axial, Qt.MouseButton.RightButton, NONE, QPoint(100, 70))
    assert axial.window != before and coronal.window == axial.window
    undo(window, qtbot)
    assert axial.window == before


def test_look_threshold_and_curve_are_undone(window: Any, qtbot: Any, moving_volume: Path) -> None:
    page = shown_volume(window, qtbot, moving_volume)
    panel = page.look_panel
    assert page.scene.look.preset == "Vessel red"
    panel.preset.setFocus()
    qtbot.keyClick(panel.preset, Qt.Key.Key_Down)
    assert page.scene.look.preset == "Vessel fire"
    first = page.scene.look.points
    editor = panel.editor
    place = editor.place_of(first[1]).toPoint()
    qtbot.mousePress(editor, LEFT, NONE, place)
    qtbot.mouseMove(editor, place - QPoint(0, 30))
    qtbot.mouseRelease(editor, LEFT, NONE, place - QPoint(0, 30))
    assert page.scene.look.points[1][1] > first[1][1]
    qtbot.mouseClick(panel.surface, LEFT, NONE, QPoint(8, panel.surface.height() // 2))
    qtbot.waitUntil(lambda: page.scene_view.actor("surface") is not None, timeout=LONG_MS)
    low = page.scene.level
    panel.value.setFocus()
    panel.value.selectAll()
    qtbot.keyClicks(panel.value, "0.04")
    qtbot.keyClick(panel.value, Qt.Key.Key_Return)
    assert page.scene.level == pytest.approx(0.04, abs=1e-3)
    for _ in range(3):
        qtbot.mouseClick(window.timeline, LEFT)
        window.actions_table["undo"].trigger()
    assert page.scene.level == low and page.scene.look.points == first
    assert not page.look_panel.surface.isChecked()
    window.actions_table["undo"].trigger()
    assert page.scene.look.preset == "Vessel red"


def test_time_curve_and_maps_of_a_4d_volume(window: Any, qtbot: Any, moving_volume: Path) -> None:
    page = shown_volume(window, qtbot, moving_volume)
    assert window.session.clock.count == 3 and window.timeline.isVisible()
    axial = page.slices[0]
    qtbot.keyClick(window, Qt.Key.Key_T)
    qtbot.mouseClick(axial, LEFT, NONE, place_in(axial, (0.0, 0.0, 0.0)))
    curve = page.time_panel.plot.curves[0]
    assert curve.y == pytest.approx([0.0, 0.025, 0.05], abs=0.003)
    undo(window, qtbot)
    assert page.points == () and not page.time_panel.plot.curves
    qtbot.mouseClick(page.time_panel.find_button, LEFT)
    qtbot.waitUntil(lambda: page.scene.tint is not None, timeout=LONG_MS)
    time, unit, name = page._reading_at((0.0, 0.0, 0.0))
    assert unit == "s" and name == "arrival" and time == pytest.approx(HALF_AT_S, abs=0.1)
    moving = page.time_panel.moving
    qtbot.mouseClick(moving, LEFT, NONE, QPoint(8, moving.height() // 2))
    window.setFocus()
    qtbot.keyClick(window, Qt.Key.Key_Right)
    qtbot.waitUntil(lambda: page.volume.values.max() == pytest.approx(0.025), timeout=LONG_MS)


def test_diameter_of_a_vessel(window: Any, qtbot: Any, moving_volume: Path) -> None:
    page = shown_volume(window, qtbot, moving_volume)
    bar = page.tabs.tabBar()
    qtbot.mouseClick(bar, LEFT, NONE, bar.tabRect(2).center())
    panel = page.branch_panel
    qtbot.waitUntil(lambda: panel.chosen is not None, timeout=LONG_MS)
    axial = page.slices[0]
    qtbot.mouseClick(axial, LEFT, NONE, place_in(axial, (0.0, 0.0, 0.0)))
    branch = panel.chosen
    width = branch.diameter_mm[branch.at(panel.place_mm)]
    assert width == pytest.approx(2 * RADIUS_MM, abs=0.75)
    qtbot.keyClick(window, Qt.Key.Key_D, Qt.KeyboardModifier.ShiftModifier)
    qtbot.mouseClick(axial, LEFT, NONE, place_in(axial, (1.0, 0.0, 0.0)))
    measured = page.desk.measurements[0]
    assert measured.unit == "mm" and measured.value == pytest.approx(2 * RADIUS_MM, abs=0.75)
    undo(window, qtbot)
    assert not page.desk.measurements


def test_virtual_c_arm_without_a_run(window: Any, qtbot: Any, moving_volume: Path) -> None:
    page = shown_volume(window, qtbot, moving_volume)
    qtbot.keyClick(window, Qt.Key.Key_2)
    pane = page.projections
    view = pane.carm_view
    qtbot.waitUntil(lambda: view.has_picture, timeout=LONG_MS)
    qtbot.mousePress(view, LEFT, NONE, QPoint(80, 80))
    qtbot.mouseMove(view, QPoint(130, 80))
    qtbot.mouseRelease(view, LEFT, NONE, QPoint(130, 80))
    assert view.angles[0] == pytest.approx(20.0) and view.words == "LAO 20\u00b0  CRA 0\u00b0"
    assert not pane.compare.isEnabled() and "no recorded frames" in pane.compare.toolTip()
    undo(window, qtbot)
    assert view.angles == (0.0, 0.0)
    qtbot.waitUntil(lambda: not window.session.tasks.running, timeout=LONG_MS)


def test_geometry_and_mask_frame_are_chosen(window: Any, qtbot: Any, tiny_case: Path) -> None:
    open_by_drop(window, qtbot, tiny_case)
    qtbot.mouseClick(window.stepper.buttons["load"], LEFT)
    page = window.page
    qtbot.waitUntil(lambda: page.geometry_view.count > 1, timeout=LONG_MS)
    assert page.geometry_view.problem == ""
    plot = page.brightness
    qtbot.waitUntil(lambda: bool(plot.curves), timeout=LONG_MS)
    for frame in (0, 1):
        qtbot.mouseClick(plot, LEFT, NONE, plot.place_at(frame).toPoint())
    assert page.mask_frames.text() == "0,1"
    qtbot.mouseClick(page.check_button, LEFT)
    qtbot.waitUntil(lambda: page.inspection.options.mask_frames == (0, 1), timeout=LONG_MS)


def test_ray_sums_are_line_integrals() -> None:
    volume = Volume(tube(), Grid.centred((36, 36, 36), (1.0, 1.0, 1.0)).affine_mm)
    for angle in (0.0, 40.0):
        sums = ray_sums(volume, angle, 0.0, 48)
        # Through the middle a ray passes 6 mm of 0.05 /mm.
        assert sums[24].max() == pytest.approx(0.05 * 2 * RADIUS_MM, rel=0.1)
    assert gantry_of(0.0, 0.0) == (90.0, 0.0)


def test_brightness_of_a_rendering_is_matched() -> None:
    recorded = np.linspace(0, 0.4, 64, dtype=np.float32).reshape(8, 8)
    rendered = np.rint(255 - 255 * recorded / 0.5).astype(np.uint8)
    same = matched(rendered, recorded)
    assert np.abs(same - recorded).max() < 0.005
    assert (difference_picture(recorded, recorded, 1.0) == 255).all()
    red = difference_picture(recorded + 1, recorded, 1.0)[0, 0]
    assert red[0] == 255 and red[1] == red[2] == 0


def test_stenosis_against_a_tapering_reference() -> None:
    along = np.linspace(0, 40, 81)
    healthy = 6.0 - 0.05 * along
    diameter = np.where(np.abs(along - 20) < 2, 0.5 * healthy, healthy)
    points = np.stack([np.zeros(81), np.zeros(81), along], -1)
    found = stenosis_between(Branch(0, points, along, diameter), 35.0, 5.0)
    assert found is not None and found.percent == pytest.approx(50, abs=2)
    assert found.at_mm == pytest.approx(20, abs=2.5) and found.percent_area == pytest.approx(75, abs=3)
    assert stenosis_between(Branch(0, points, along, diameter), 5.0, 5.2) is None


def test_turned_volumes_keep_their_place(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    affine = np.array([[0, 0, -2.0, 30], [1.5, 0, 0, -5], [0, -1.0, 0, 7], [0, 0, 0, 1]])
    volume = Volume(rng.random((4, 5, 6), dtype=np.float32), affine)
    turned = canonical(volume)
    assert (np.diag(turned.affine_mm[:3, :3]) > 0).all()
    index = np.array([1, 3, 2, 1.0])
    new = np.rint(np.linalg.solve(turned.affine_mm, affine @ index)[:3]).astype(int)
    assert turned.values[tuple(new)] == volume.values[1, 3, 2]
    write_volume(tmp_path / "turned.nii.gz", turned)


def test_values_between_times_are_linear() -> None:
    grid = Grid.centred((3, 3, 3), (1.0, 1.0, 1.0))
    values = np.stack([np.full((3, 3, 3), v, np.float32) for v in (0.0, 1.0, 5.0)])
    course = Course(values, np.array([0.0, 1.0, 2.0]), grid)
    assert course.at(1.5).values.max() == pytest.approx(3.0)
    assert course.curve(np.zeros(3)) == pytest.approx([0.0, 1.0, 5.0])
    assert np.isnan(course.curve(np.full(3, 9.0))).all()
