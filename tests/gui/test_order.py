"""What ends in another order than it was begun: the newest counts, nothing is lost, nothing is done twice."""

from __future__ import annotations

import json
import logging
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driving import LONG_MS, open_by_drop
from masking import LEFT, click, open_masks
from PyQt6.QtCore import Qt
from test_engine_process import program
from test_inspect_angiography import moving_volume, shown_volume  # noqa: F401  (the fixture)
from test_inspect_endoscopy import write_run
from test_mask_clicks import hidden, instrument, settled
from test_small_troubles import changed

from splatomy.io.case import open_case
from splatomy.io.run import RunFolder
from splatomy_gui.engine_process import FollowedEngine
from splatomy_gui.panels.inspect.novel_views import NovelRequest, NovelViews
from splatomy_gui.result import Result
from splatomy_gui.tasks import Tasks
from splatomy_gui.worker import Job, JobPlan, JobState


def all_ended(window: Any, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: not window.session.tasks.running, timeout=LONG_MS)


def test_what_is_cancelled_is_not_told_even_if_it_is_over(qtbot: Any) -> None:
    tasks, told = Tasks(), []
    for work in (int, lambda: int("none")):
        task = tasks.start(
            "It cannot be done", work, told.append, told.append, lambda: told.append("stopped")
        )
        assert task.wait(LONG_MS)
        task.cancel()
    qtbot.waitUntil(lambda: not tasks.running, timeout=LONG_MS)
    assert told == ["stopped", "stopped"]
    tasks.close()


def test_of_one_topic_only_the_newest_is_told(qtbot: Any) -> None:
    tasks, told, gate = Tasks(), [], threading.Event()
    tasks.start("It cannot be done", gate.wait, lambda _: told.append("first"), topic="one")
    tasks.start("It cannot be done", int, lambda _: told.append("other"), topic="two")
    tasks.start("It cannot be done", int, lambda _: told.append("second"), topic="one")
    qtbot.waitUntil(lambda: len(told) == 2, timeout=LONG_MS)
    gate.set()
    qtbot.waitUntil(lambda: not tasks.running, timeout=LONG_MS)
    assert sorted(told) == ["other", "second"]
    tasks.close()


def test_an_earlier_list_of_runs_does_not_replace_a_later_one(
    window: Any, qtbot: Any, tiny_clip: Path
) -> None:
    open_by_drop(window, qtbot, tiny_clip)
    all_ended(window, qtbot)
    session = window.session
    run = session.folder / "runs" / "one"
    run.mkdir(parents=True)
    record, metrics = run / "run.json", run / "metrics.json"
    record.write_text(json.dumps({"state": "running"}))
    # Who reads this, after the record, waits until whoever writes it has closed it.
    os.mkfifo(metrics)
    session.refresh_runs()
    ends: list[int] = []

    def read_by_somebody() -> bool:
        with suppress(OSError):
            ends.append(os.open(metrics, os.O_WRONLY | os.O_NONBLOCK))
        return bool(ends)

    qtbot.waitUntil(read_by_somebody, timeout=LONG_MS)
    metrics.unlink()
    record.write_text(json.dumps({"state": "done"}))
    session.refresh_runs()
    qtbot.waitUntil(lambda: [info.state for info in session.runs] == ["done"], timeout=LONG_MS)
    os.close(ends[0])
    all_ended(window, qtbot)
    assert [info.state for info in session.runs] == ["done"]


def test_a_case_is_closed_with_changes_and_opened_again_at_once(
    window: Any, qtbot: Any, tiny_clip: Path
) -> None:
    open_by_drop(window, qtbot, tiny_clip)
    session, problems = window.session, []
    session.tasks.failed.connect(problems.append)
    folder = session.folder
    changed(session)
    mask = session.review.hidden(0)
    session.autosave()
    session.close_case()
    session.open_case(folder)
    qtbot.waitUntil(lambda: session.case is not None or bool(problems or window.dialogs), timeout=LONG_MS)
    assert problems == [] and not window.dialogs
    assert np.array_equal(session.review.hidden(0), mask)


def test_an_older_state_is_not_saved_over_a_newer_one(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    open_by_drop(window, qtbot, tiny_clip)
    session = window.session
    writer, first, early, kept = session._writer, session.case, session._writer.turn(), session._writer.turn()
    changed(session)
    window.actions_table["save"].trigger()
    qtbot.waitUntil(lambda: not session.dirty, timeout=LONG_MS)
    # Threads of saves that were asked for before, and get their turn only now.
    writer.save(early, first)
    writer.autosave(kept, first)
    disk = open_case(session.folder).review
    assert np.array_equal(disk.hidden(0), session.review.hidden(0))
    assert not (session.folder / "case.autosave.json").exists()


def test_an_object_is_kept_though_the_next_frame_is_clicked_before_it_is_found(
    window: Any, qtbot: Any, tiny_clip: Path
) -> None:
    page = open_masks(window, qtbot, tiny_clip)
    _, place = instrument(page)
    qtbot.keyClick(window, Qt.Key.Key_Delete)
    page.session.clock.show(1)
    qtbot.keyClick(window, Qt.Key.Key_Delete)
    page.session.clock.show(0)
    qtbot.keyClick(window, Qt.Key.Key_S)
    click(page, qtbot, *place)
    qtbot.keyClick(window, Qt.Key.Key_D)
    click(page, qtbot, *place)
    settled(page, qtbot)
    assert page.session.review.hidden(0)[place[::-1]]
    # The one of the frame on show waits for an answer as any other.
    assert page.session.clock.frame == 1 and page.clicks.pending and page.clicks.found is not None
    assert not hidden(page).any()


def test_time_maps_and_centrelines_come_together(
    window: Any,
    qtbot: Any,
    moving_volume: Path,  # noqa: F811
) -> None:
    page = shown_volume(window, qtbot, moving_volume)
    page.tabs.setCurrentWidget(page.branch_panel)
    qtbot.mouseClick(page.time_panel.find_button, LEFT)
    all_ended(window, qtbot)
    assert page.content.maps and page.content.line is not None and page.branch_panel.chosen is not None


def test_another_volume_that_comes_too_late_is_not_shown(
    window: Any,
    qtbot: Any,
    moving_volume: Path,  # noqa: F811
) -> None:
    page = shown_volume(window, qtbot, moving_volume)
    page.scene.show_other(moving_volume)
    window.show_step("load")
    all_ended(window, qtbot)
    assert page.scene_view.actor("other") is None and not window.dialogs


def test_two_clicks_start_and_resume_a_run_once(
    window: Any, qtbot: Any, tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_by_drop(window, qtbot, tiny_clip)
    all_ended(window, qtbot)
    session, queue = window.session, window.session.queue
    program(tmp_path, monkeypatch, "say(event='notice', code='stopped', text='stopped'); sys.exit(4)")
    window.show_step("reconstruct")
    changed(session)
    for _ in range(2):
        qtbot.mouseClick(window.page.start_button, LEFT)
    qtbot.waitUntil(lambda: bool(queue.jobs) and not queue.active, timeout=LONG_MS)
    all_ended(window, qtbot)
    assert [job.state for job in queue.jobs] == [JobState.STOPPED]
    job = queue.jobs[0]
    window.go("jobs")
    for _ in range(2):
        qtbot.mouseClick(window.jobs_page.continue_button, LEFT)
    qtbot.waitUntil(lambda: job not in queue.jobs and not queue.active, timeout=LONG_MS)
    all_ended(window, qtbot)
    assert len(queue.jobs) == 1


def test_a_stopped_run_is_inspected_once_it_is_read(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    open_by_drop(window, qtbot, tiny_clip)
    session = window.session
    job = Job(JobPlan("one", write_run(session.folder, True)), session.queue)
    job.state = JobState.STOPPED
    session.queue.jobs.append(job)
    window.show_step("reconstruct")
    qtbot.mouseClick(window.page.inspect_button, LEFT)
    all_ended(window, qtbot)
    assert window.step_key == "inspect" and session.result.path == job.run


def test_commands_to_a_followed_run_keep_their_order_and_outlive_the_app(window: Any, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "one")
    run.path.mkdir()
    queue = window.session.queue
    job = Job(JobPlan("Followed", run.path), queue)
    queue.jobs.append(job)
    with run.lock():
        job.follow(FollowedEngine(run.path, job))
        for _ in range(20):
            job.pause()
            job.resume()
        job.stop()
        queue.close()
        files = sorted((run.path / "commands").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        given = [json.loads(path.read_text())["command"] for path in files]
    assert given == ["pause", "resume"] * 20 + ["cancel"]
    assert [path.name for path in files] == sorted(path.name for path in files)
    queue.jobs.clear()


def test_the_log_is_filtered_while_other_threads_write(window: Any) -> None:
    panel = window.docks.log_panel
    for number in range(3000):
        window.log.lines.append((logging.INFO, f"line {number}"))

    def write() -> None:
        for _ in range(1500):
            logging.getLogger("splatomy_gui.busy").info("another")

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    words = 0
    while writer.is_alive():
        # Many words take longer than a thread may run on end.
        words = 150 if words != 150 else 151
        panel.search.setText("line " * words)
    panel.search.setText("line 2999")
    assert panel.text.toPlainText() == "line 2999" and not window.dialogs


def test_a_view_that_the_job_did_not_render_before_it_ended_is_asked_for_again(
    window: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
if sys.argv[2] == "view":
    for line in sys.stdin:
        command = json.loads(line)
        say(event="render", id=command["id"], file="seen.png")
else:
    sys.stdin.readline()
    say(event="done", run="x")
"""
    program(tmp_path, monkeypatch, code)
    session = window.session
    run = tmp_path / "case" / "runs" / "one"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    job = session.queue.add(JobPlan("one", run))
    session.set_result(Result(run, True, {}))
    views, arrived = NovelViews(session), []
    views.arrived.connect(lambda purpose, request, path: arrived.append(path.name))
    # The engine ends when it is asked, without an answer.
    views.want("novel", NovelRequest({"primary_deg": 0.0, "secondary_deg": 0.0}, (8, 8), 0.0))
    assert views.busy and session.viewer() is job.pictures
    qtbot.waitUntil(lambda: arrived == ["seen.png"], timeout=LONG_MS)
    assert job.state is JobState.DONE and not views.busy
