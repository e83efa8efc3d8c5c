"""Inspecting a run of moving tissue as a person would: time, colours, comparing, measuring, cameras, film."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driving import LONG_MS, drop
from PyQt6.QtCore import QPoint, Qt
from PyQt6.QtWidgets import QApplication

from splatomy.io.atomic import write_json
from splatomy.io.mesh import write_mesh
from splatomy.io.options import InputOptions
from splatomy.io.picture import write_png
from splatomy.io.run import RunFolder
from splatomy.io.views import Views, write_views
from splatomy.scene import Mesh, SceneState
from splatomy_gui.panels.inspect.cameras import between
from splatomy_gui.panels.inspect.colouring import Colouring
from splatomy_gui.panels.inspect.moving_surface import MovingSurface
from splatomy_gui.panels.inspect.run_pictures import unobserved_mask
from splatomy_gui.views.compare_view import CompareMode, difference, hatched
from splatomy_gui.views.scene_view import CameraPose

SIZE = (64, 52)
LEFT, NONE = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
CONTROL = Qt.KeyboardModifier.ControlModifier


def cameras(count: int) -> Any:
    """One camera at the origin that looks along z."""
    from splatomy.geometry.cameras import Cameras

    k = np.array([[57.0, 0, 31.5], [0, 57.0, 25.5], [0, 0, 1]])
    return Cameras(np.tile(k, (count, 1, 1)), np.tile(np.eye(4), (count, 1, 1)), *SIZE)


def plane(depth: float, count: int = 41) -> Mesh:
    """A plane across the camera's view, 100 mm wide; its left third was not observed."""
    x, y = np.meshgrid(np.linspace(-50, 50, count), np.linspace(-50, 50, count))
    vertices = np.stack([x, y, np.full_like(x, depth)], -1).reshape(-1, 3).astype(np.float32)
    n = np.arange(count * count).reshape(count, count)
    one = np.stack([n[:-1, :-1], n[1:, :-1], n[1:, 1:]], -1).reshape(-1, 3)
    other = np.stack([n[:-1, :-1], n[1:, 1:], n[:-1, 1:]], -1).reshape(-1, 3)
    colours = np.tile(np.float32([0.8, 0.3, 0.3]), (len(vertices), 1))
    evidence = np.where(vertices[:, 0] < -50 / 3, 0.1, 1.0).astype(np.float32)
    return Mesh(vertices, np.concatenate([one, other]).astype(np.int32), colours, evidence)


def write_run(case: Path, metric: bool) -> Path:
    """A run of 8 frames whose plane goes from 80 to 87 mm away; the first two and the last have meshes."""
    folder = RunFolder(case / "runs" / ("made" if metric else "made-relative"))
    times = 0.45 * np.arange(8)
    frames = [0, 1, 7]
    for frame in frames:
        write_mesh(folder.file("meshes", f"frame_{frame:04d}.ply"), plane(80.0 + frame))
    write_json(folder.file("meshes", "meshes.json"), {"frames": frames, "times_s": times[frames].tolist()})
    write_views(folder.file("scene", "cameras.json"), Views(cameras(8), times))
    for frame in range(8):
        picture = np.full((SIZE[1], SIZE[0], 3), 100 + frame, np.uint8)
        write_png(folder.file("renders", f"frame_{frame:04d}.png"), picture)
        depth = np.full((SIZE[1], SIZE[0]), round((80 + frame) / 0.01), np.uint16)
        write_png(folder.file("renders", f"frame_{frame:04d}_depth.png"), depth)
    grid = plane(80.0, 12).vertices_mm
    arrays = {
        "surfels.means_mm": grid,
        "surfels.quats_wxyz": np.tile(np.float32([1, 0, 0, 0]), (len(grid), 1)),
        "surfels.log_scales": np.full((len(grid), 2), 1.0, np.float32),
        "surfels.opacity_logit": np.zeros(len(grid), np.float32),
        "surfels.sh": np.zeros((len(grid), 1, 3), np.float32),
        "surfels.evidence": np.ones(len(grid), np.float32),
    }
    folder.save_scene(SceneState(arrays, {"rest_time_s": 0.0}))
    folder.write_record(
        {"method": "dynamic_tissue", "preset": "draft", "state": "done", "metric": metric, "clip": {}}
    )
    return folder.path


def wait(ready: Callable[[], bool]) -> None:
    """Lets the app run until something is so; for fixtures that live longer than a qtbot."""
    deadline = time.monotonic() + LONG_MS / 1000
    while not ready():
        QApplication.processEvents()
        time.sleep(0.005)
        assert time.monotonic() < deadline


@pytest.fixture(scope="module")
def app(qapp: Any, tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The app with a case of the clip, once for this file: to open it takes longer than any test here."""
    from splatomy_gui.app import App

    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
            patch.setenv(name, str(home / name.lower()))
        made = App(["splatomy"])
        made.start()
        made.session.open_input(tiny_clip, InputOptions())
        wait(lambda: made.session.case is not None)
        yield made
        made.window.close()
        wait(lambda: not made.window.isVisible())
        made.close()


@pytest.fixture
def page(app: Any, request: Any) -> Any:
    """The page with a made run on show, as it is first seen."""
    window, session = app.window, app.session
    metric = getattr(request, "param", True)
    drop(window, write_run(session.folder, metric))
    wait(lambda: window.step_key == "inspect" and not session.tasks.running)
    wait(lambda: window.page.content is not None and window.page.scene.metric is metric)
    made = window.page
    session.clock.show(0)
    for choice in (made.compare_choice, made.colour_choice, made.mark_choice, made.gaussian_choice):
        choice.setCurrentIndex(0)
    for name in ("tissue_wireframe", "tissue_normals"):
        window.actions_table[name].setChecked(False)
    window.actions_table["tissue_two"].setChecked(True)
    wait(lambda: made.moment.pictures is not None and made.moment.pictures.frame == 0)
    # The first 3D view makes Qt build the window anew, and there is no window manager to activate it again.
    window.activateWindow()
    wait(window.isActiveWindow)
    return made


def click_surface(page: Any, qtbot: Any, world: tuple[float, float, float]) -> None:
    """Clicks where a world point is seen."""
    x, y = page.scene_view.place_of(np.array([world]))[0]
    qtbot.mouseClick(page.scene_view.plotter, LEFT, NONE, QPoint(round(x), round(y)))


def test_one_clock_moves_every_layer(page: Any, window: Any, qtbot: Any) -> None:
    clock = window.session.clock
    page.gaussian_choice.setCurrentIndex(2)
    qtbot.keyClick(window, Qt.Key.Key_N)
    clock.show(4)
    # Between the meshes of frames 1 and 7 the surface goes straight, and takes everything with it.
    surface = page.scene_view.actor("surface").mapper.dataset
    assert np.allclose(surface.points[:, 2], 84, atol=1e-3)
    for name in ("ellipses", "unobserved"):
        assert np.allclose(page.scene_view.actor(name).mapper.dataset.points[:, 2], 84, atol=1e-3), name
    starts = page.scene_view.actor("normals").mapper.dataset.points[::2]
    assert np.allclose(starts[:, 2], 84, atol=1e-3)
    qtbot.waitUntil(lambda: page.moment.pictures.frame == 4, timeout=LONG_MS)
    assert page.moment.pictures.rendered[0, 0, 0] == 104
    # What was read stays as it was, so that time goes back exactly.
    clock.show(0)
    assert np.array_equal(page.scene.vertices, plane(80.0).vertices_mm)


def test_a_frame_that_cannot_be_read_does_not_stop_the_others(page: Any, window: Any, qtbot: Any) -> None:
    clock = window.session.clock
    # As a full disk leaves it behind.
    (page.content.pictures.run / "renders" / "frame_0003_depth.png").write_bytes(b"")
    clock.show(3)
    qtbot.waitUntil(lambda: bool(window.dialogs), timeout=LONG_MS)
    window.dialogs[-1].close()
    assert page.moment.pictures is None, "nothing of another moment may be measured"
    clock.show(4)
    qtbot.waitUntil(lambda: page.moment.pictures is not None, timeout=LONG_MS)
    assert page.moment.pictures.frame == 4 and page.moment.pictures.rendered[0, 0, 0] == 104


def test_colours_and_their_scale(page: Any, window: Any, qtbot: Any) -> None:
    clock = window.session.clock
    # There is no reference mesh of a clip.
    kinds = [kind for kind in Colouring if kind is not Colouring.DISTANCE]
    assert page.colour_choice.count() == len(kinds)
    for number, kind in enumerate(kinds):
        page.colour_choice.setCurrentIndex(number)
        assert page.scene.colouring is kind
    clock.show(7)
    assert page.scene.scale.unit == "mm" and page.scene.scale.high == pytest.approx(7, abs=0.01)
    colours = page.scene_view.actor("surface").mapper.dataset.point_data["colours"]
    assert np.array_equal(colours[0], page.scene.scale.colours(np.array([7.0]))[0])
    qtbot.keyClick(window, Qt.Key.Key_R, Qt.KeyboardModifier.ShiftModifier)
    assert np.allclose(page.scene.values(Colouring.DEFORMATION), 0)


def test_unobserved_tissue_is_always_marked(page: Any, window: Any, qtbot: Any) -> None:
    """Hatched, or grey: there is no third choice; a net of triangles is grey."""
    hatching = page.scene_view.actor("unobserved")
    assert hatching.GetVisibility() and page.mark_choice.count() == 2
    tissue = page.scene_view.actor("surface").mapper.dataset.point_data["colours"]
    page.mark_choice.setCurrentIndex(1)
    assert not hatching.GetVisibility()
    unseen = page.content.surface.evidence < 0.5
    for number in (0, 2, 3):
        page.colour_choice.setCurrentIndex(number)
        assert int(np.ptp(tissue[unseen].astype(int), axis=1).max()) < 60, number
    page.mark_choice.setCurrentIndex(0)
    qtbot.keyClick(window, Qt.Key.Key_W)
    assert int(np.ptp(tissue[unseen].astype(int), axis=1).max()) < 60
    mask = page.moment.pictures.unobserved
    assert mask[:, :8].all() and not mask[:, 32:].any()
    picture = page.moment.picture_view.composed()
    assert len(np.unique(picture[:, : picture.shape[1] // 8].reshape(-1, 3), axis=0)) > 1
    assert len(np.unique(picture[:, picture.shape[1] // 2 :].reshape(-1, 3), axis=0)) == 1


def test_comparing_and_blinking(page: Any, window: Any, qtbot: Any) -> None:
    view = page.picture_view
    recorded = view._recorded
    qtbot.keyClick(window, Qt.Key.Key_X)
    assert view.mode is CompareMode.RECORDED and np.array_equal(view.composed(), recorded)
    qtbot.keyClick(window, Qt.Key.Key_X)
    assert view.mode is CompareMode.WIPE
    x = round(view.viewport().width() / 2)
    qtbot.mousePress(view.viewport(), LEFT, NONE, QPoint(x, 100))
    qtbot.mouseRelease(view.viewport(), LEFT, NONE, QPoint(x + 60, 100))
    assert view.wipe > 0.55
    split = round(view.wipe * recorded.shape[1])
    assert np.array_equal(view.composed()[:, :split], recorded[:, :split])
    qtbot.keyPress(window, Qt.Key.Key_C)
    assert np.array_equal(view.composed(), recorded)
    qtbot.keyRelease(window, Qt.Key.Key_C)
    assert not np.array_equal(view.composed(), recorded)
    page.compare_choice.setCurrentIndex(3)
    assert view.composed().shape[1] > 2 * recorded.shape[1]
    page.compare_choice.setCurrentIndex(4)
    assert view.shown is CompareMode.DIFFERENCE
    assert not np.array_equal(difference(recorded, recorded), difference(recorded, 255 - recorded))


def test_measuring_by_mouse_follows_the_tissue(page: Any, window: Any, qtbot: Any) -> None:
    session = window.session
    page.scene_view.set_pose(CameraPose((0, 0, 0), (0, 0, 80), (0, -1, 0), 60))
    qtbot.keyClick(window, Qt.Key.Key_D)
    assert page.desk.active and page.panel.isVisible()
    click_surface(page, qtbot, (0, 0, 80))
    click_surface(page, qtbot, (20, 0, 80))
    # A second one on the picture: 28.5 px there are 40 mm at 80 mm away.
    view = page.picture_view
    for x in (31.5, 60.0):
        scale = view.picture_size_px[0] / SIZE[0]
        place = view.place_of(np.array([[x * scale, 25.5 * scale]]))[0]
        qtbot.mouseClick(view.viewport(), LEFT, NONE, QPoint(round(place[0]), round(place[1])))
    qtbot.keyClick(window, Qt.Key.Key_Escape)
    assert not page.desk.active
    first, second = page.desk.measurements
    # One pixel of the view is about a third of a millimetre there, one of the picture 1.4 mm.
    assert first.value == pytest.approx(20, abs=0.7) and second.value == pytest.approx(40, abs=1.5)
    assert first.unit == "mm" and first.evidence == pytest.approx(1)
    session.clock.show(7)
    drawn = page.desk.drawn()[0]
    assert np.allclose([point[2] for point in drawn.points], 87, atol=0.01)
    assert page.desk.value_now(first) == pytest.approx(first.value, rel=1e-3)
    assert page.measure_table.table.item(0, 3).text() == "mm"
    qtbot.keyClick(window, Qt.Key.Key_Z, CONTROL)
    assert page.desk.measurements == (first,)


@pytest.mark.parametrize("page", [False], indirect=True)
def test_without_a_scale_there_are_no_millimetres(page: Any, window: Any) -> None:
    page.colour_choice.setCurrentIndex(2)
    assert page.scene.scale.unit == "relative" and "no millimetres" in page.units.text()
    assert not page.scene_view._scale_bar.isVisible()
    assert page.desk.context.unit == "relative"


def test_layouts_and_kept_cameras(page: Any, window: Any, qtbot: Any) -> None:
    for key, count in ((Qt.Key.Key_1, 1), (Qt.Key.Key_2, 2)):
        qtbot.keyClick(window, key)
        assert sum(pane.isVisible() for pane in page.grid.panes) == count
    kept = page.scene_view.pose
    qtbot.keyClick(window, Qt.Key.Key_B, CONTROL)
    page.scene_view.set_pose(CameraPose((30, 0, 0), (0, 0, 80), (0, -1, 0), 40))
    qtbot.keyClick(window, Qt.Key.Key_B, CONTROL)
    assert [b.name for b in page.cameras.bookmarks.all()] == ["Camera 1", "Camera 2"]
    assert window.actions_table["view_film"].isEnabled()
    page.cameras.list.list.setCurrentRow(0)
    qtbot.mouseClick(page.cameras.list.show_button, LEFT)
    assert np.allclose(page.scene_view.pose.position, kept.position)
    qtbot.waitUntil(lambda: not window.session.tasks.running, timeout=LONG_MS)
    document = json.loads((window.session.folder / "cameras.json").read_text(encoding="utf-8"))
    assert len(document["cameras"]) == 2
    qtbot.keyClick(window, Qt.Key.Key_Z, CONTROL)
    assert len(page.cameras.bookmarks.all()) == 1 and not window.actions_table["view_film"].isEnabled()


def test_flight_passes_through_the_kept_cameras() -> None:
    poses = [CameraPose((0, 0, z), (x, 0, 80), (0, -1, 0), 40) for x, z in ((0, 0), (10, 20), (30, 0))]
    for number, pose in enumerate(poses):
        made = between(poses, number / 2)
        assert np.allclose(made.position, pose.position) and np.allclose(made.focal_point, pose.focal_point)
    way = [np.array(between(poses, s).position) for s in np.linspace(0, 1, 101)]
    assert max(np.linalg.norm(b - a) for a, b in itertools.pairwise(way)) < 2


def test_mask_of_unobserved_places_respects_what_hides_them() -> None:
    """A second, observed plane in front hides the unobserved one behind."""
    behind, front = plane(80.0), plane(60.0)
    mesh = Mesh(
        np.concatenate([behind.vertices_mm, front.vertices_mm]),
        np.concatenate([behind.faces, front.faces + len(behind.vertices_mm)]),
        None,
        np.repeat(np.float32([0, 1]), len(front.vertices_mm)),
    )
    surface = MovingSurface(mesh, mesh.vertices_mm[None], np.zeros(1))
    camera = cameras(1)
    seen = unobserved_mask(surface, 0.0, camera.intrinsics[0], camera.camera_from_world[0], SIZE)
    assert seen is None or seen.mean() < 0.01
    alone = MovingSurface(behind, behind.vertices_mm[None], np.zeros(1))
    mask = unobserved_mask(alone, 0.0, camera.intrinsics[0], camera.camera_from_world[0], SIZE)
    assert mask is not None and mask[:, :15].all() and not mask[:, 32:].any()
    grey = np.full((52, 64), 100, np.uint8)
    assert hatched(grey, None) is grey and hatched(grey, mask).shape == (52, 64, 3)
