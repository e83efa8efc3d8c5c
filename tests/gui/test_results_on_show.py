"""What is on show when results or themes change, scenes are still, or the window goes while it is filmed."""

from __future__ import annotations

from typing import Any

import numpy as np
from driving import LONG_MS
from PyQt6.QtCore import Qt
from PyQt6.QtGui import QColor
from test_undone import page  # noqa: F401  (the fixture)

from splatomy_gui.panels.inspect.film import Film
from splatomy_gui.panels.live.surface import SurfaceNews
from splatomy_gui.result import Result
from splatomy_gui.theme import current_theme
from splatomy_gui.worker import Job, JobPlan, JobState

CONTROL = Qt.KeyboardModifier.ControlModifier


def test_results_themes_and_closing(page: Any, window: Any, qtbot: Any) -> None:  # noqa: F811
    _a_result_that_was_made_further_is_read_again(page, window, qtbot)
    _the_3d_view_follows_the_theme(page, window, qtbot)
    _closing_ends_a_recording(page, window, qtbot)


def _a_result_that_was_made_further_is_read_again(page: Any, window: Any, qtbot: Any) -> None:  # noqa: F811
    session, before = window.session, page.content
    session.set_result(Result(session.result.path, False, {"end": "later"}))
    qtbot.waitUntil(lambda: page.content is not None and page.content is not before, timeout=LONG_MS)
    after = page.content
    session.set_result(Result(session.result.path, False, {"end": "later"}))
    qtbot.wait(50)
    assert page.content is after


def _the_3d_view_follows_the_theme(page: Any, window: Any, qtbot: Any) -> None:  # noqa: F811
    view = page.scene_view
    view.set_backdrop(None)
    window.session.settings.set("theme", "light")
    qtbot.waitUntil(
        lambda: QColor(view.plotter.background_color.hex_rgb) == current_theme().colour("canvas"),
        timeout=LONG_MS,
    )
    view.set_backdrop((1.0, 1.0, 1.0))
    view.set_theme()
    assert view.plotter.background_color.hex_rgb == "#ffffff"


def _closing_ends_a_recording(page: Any, window: Any, qtbot: Any) -> None:  # noqa: F811
    """Its timer would go on with a view whose camera is freed."""
    qtbot.keyClick(window, Qt.Key.Key_B, CONTROL)
    pose = page.scene_view.pose
    page.cameras._record(Film((pose, pose), (0.0, 0.0), 100.0, 60, (64, 64)))
    recorder = page.cameras._recorder
    qtbot.waitUntil(lambda: recorder._taken > 2, timeout=LONG_MS)
    # A film that is longer than the memory waits for who writes it.
    assert recorder.pictures.qsize() <= 8
    window.close()
    qtbot.waitUntil(lambda: not window.isVisible(), timeout=LONG_MS)
    qtbot.wait(200)
    assert not recorder._timer.isActive() and not window.dialogs
    window.close()


def test_discarded_runs_and_still_scenes(window: Any) -> None:
    _a_discarded_run_is_on_show_no_more(window)
    _views_of_a_still_scene_have_no_time(window)


def _a_discarded_run_is_on_show_no_more(window: Any) -> None:
    session = window.session
    run = session.settings.cases_folder() / "a.splatomy" / "runs" / "one"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    job = Job(JobPlan("one", run), session.queue)
    job.state = JobState.STOPPED
    session.queue.jobs.append(job)
    session.set_result(Result(run, True, {}))
    session.queue.discard(job)
    assert session.result is None and not run.exists() and session.queue.jobs == []


def _views_of_a_still_scene_have_no_time(window: Any) -> None:
    clock, timeline = window.session.clock, window.timeline
    clock.set_times(np.arange(4), np.array([2, 4, 6, 8]), timed=False)
    clock.show(1)
    assert timeline.position.text() == "view 4 / 8"
    assert clock.moment(0) == "view 2"
    clock.set_times([0.0, 0.5])
    assert timeline.position.text() == "frame 0 / 1   0.00 s" and clock.moment(1) == "frame 1   0.50 s"


def test_closing_ends_the_upload_of_a_live_surface(window: Any, qtbot: Any) -> None:
    """Blocks that wait for their turn would be shown in a view that is freed."""
    window.show_workspace("endoscopy", "live")
    surface = window.page.surface
    block = {
        "points": np.zeros((4, 3), np.float32), "colours": np.zeros((4, 3), np.uint8),
        "oldest_s": np.array(0.0), "radius": np.ones(1),
    }  # fmt: skip
    record = {
        "time_s": 0.0, "received_to_published_s": 0.0, "generation": 0, "metric": True, "size": [64, 64],
        "intrinsics": np.eye(3).tolist(), "camera_from_world": np.eye(4).tolist(),
    }  # fmt: skip
    blocks = {str(n): (str(n), block) for n in range(40)}
    news = SurfaceNews(record, blocks, frozenset())
    surface._read(news, surface._run)
    assert surface._timer.isActive()
    window.close()
    qtbot.waitUntil(lambda: not window.isVisible(), timeout=LONG_MS)
    qtbot.wait(100)
    assert not surface._timer.isActive() and surface.settled and not window.dialogs
