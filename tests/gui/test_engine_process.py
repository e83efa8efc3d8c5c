"""Supervision of engines that misbehave: garbage, silence, sudden death, out of memory."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from splatomy_gui import engine_process
from splatomy_gui.engine_process import EngineLink, FollowedEngine, LaunchedEngine
from splatomy_gui.worker import Job, JobPlan, JobState


def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Every engine is this Python program instead."""
    file = tmp_path / "engine.py"
    file.write_text("import sys, time, os, json\ndef say(**e): print(json.dumps(e), flush=True)\n" + code)
    monkeypatch.setattr(engine_process, "engine_words", lambda *words: [sys.executable, str(file), *words])


def ended_job(qtbot: Any, tmp_path: Path) -> Job:
    job = Job(JobPlan("Test run", tmp_path / "runs" / "one", {"input": "x"}))
    with qtbot.waitSignal(job.ended, timeout=120_000):
        job.launch()
    return job


def test_progress_and_done(qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
assert json.load(open(sys.argv[3]))["detached"] is True
for n in range(5000):
    say(event="progress", stage="train", step=n + 1, total=5000, metrics={"loss": 1 / (n + 1)}, eta_s=1.0)
say(event="done", run="x")
"""
    program(tmp_path, monkeypatch, code)
    job = ended_job(qtbot, tmp_path)
    assert job.state is JobState.DONE and job.problem is None
    assert (job.step, job.total, len(job.history["loss"])) == (5000, 5000, 5000)


def test_garbage_is_survived(qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
sys.stdout.buffer.write(b"\\xff\\xfe garbage\\n[1, 2]\\n{}\\nnull\\n{\\"event\\": 3}\\n")
sys.stdout.buffer.write(b"x" * 3_000_000 + b"\\n")
sys.stdout.flush()
say(event="progress")
say(event="progress", stage="s", step="many", total=None)
say(event="render")
say(event="surprise", value=1)
say(event="done", run="x")
"""
    program(tmp_path, monkeypatch, code)
    assert ended_job(qtbot, tmp_path).state is JobState.DONE


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("os.kill(os.getpid(), 9)", "memory"),
        ("os.kill(os.getpid(), 11)", "signal 11"),
        ("sys.exit(137)", "memory"),
        ("sys.exit(0)", "without saying why"),
        (
            "say(event='error', code='disk', text='The disk is full.', hint='Make room.'); sys.exit(2)",
            "disk is full",
        ),
    ],
)
def test_death_is_explained(
    qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, words: str
) -> None:
    program(tmp_path, monkeypatch, f"sys.stderr.write('last words\\n'); sys.stderr.flush()\n{code}")
    job = ended_job(qtbot, tmp_path)
    assert job.state is JobState.FAILED and job.problem is not None
    assert words in job.problem.why and job.problem.advice and "last words" in job.problem.details


def test_commands_arrive_and_late_pictures_are_dropped(
    qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
tickets = []
for line in sys.stdin:
    command = json.loads(line)
    if command["command"] == "pause":
        say(event="notice", level="info", code="paused", text="held")
    elif command["command"] == "render":
        tickets.append(command["id"])
        if len(tickets) == 3:
            for ticket in (tickets[1], tickets[0], tickets[2]):
                say(event="render", id=ticket, file=f"{ticket}.png")
    elif command["command"] == "cancel":
        say(event="notice", level="info", code="stopped", text="stopped")
        sys.exit(4)
"""
    program(tmp_path, monkeypatch, code)
    job = Job(JobPlan("Test run", tmp_path / "runs" / "one"))
    shown: list[int] = []
    job.pictures.rendered.connect(lambda ticket, file: shown.append(ticket))
    job.launch()
    job.pause()
    qtbot.waitUntil(lambda: job.state is JobState.PAUSED, timeout=120_000)
    camera = {"primary_deg": 0.0, "secondary_deg": 0.0}
    first = [job.pictures.render(camera, (8, 8)) for _ in range(3)]
    qtbot.waitUntil(lambda: first[2] in shown, timeout=120_000)
    assert shown == [first[1], first[2]]
    with qtbot.waitSignal(job.ended, timeout=120_000):
        job.stop()
    assert job.state is JobState.STOPPED


def test_a_detached_run_is_followed(qtbot: Any, tmp_path: Path) -> None:
    from splatomy.io.run import RunFolder

    run = RunFolder(tmp_path / "one")
    run.path.mkdir()
    job = Job(JobPlan("Followed", run.path))
    with run.lock():
        run.append_event({"event": "progress", "stage": "train", "step": 3, "total": 9, "metrics": {}})
        job.follow(FollowedEngine(run.path, job))
        qtbot.waitUntil(lambda: job.step == 3, timeout=120_000)
        job.pause()
        qtbot.waitUntil(lambda: bool(list((run.path / "commands").glob("*.json"))), timeout=120_000)
        assert job.state is JobState.RUNNING
        run.append_event({"event": "done", "run": "x"})
    with qtbot.waitSignal(job.ended, timeout=120_000):
        pass
    assert job.state is JobState.DONE


def test_an_engine_that_cannot_be_started_is_told(
    qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_process, "engine_words", lambda *words: [str(tmp_path / "nothing")])
    job = ended_job(qtbot, tmp_path)
    assert job.state is JobState.FAILED and job.problem is not None
    assert "could not be started" in job.problem.why


def test_the_thread_ends_with_the_engine(qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, "time.sleep(60)")
    link = LaunchedEngine(("x",), tmp_path / "log.txt")
    link.start()
    qtbot.waitUntil(lambda: link.pid is not None, timeout=120_000)
    with qtbot.waitSignal(link.gone, timeout=120_000) as told:
        os.kill(link.pid, signal.SIGKILL)
    assert told.args == [-9]
    qtbot.waitUntil(lambda: link.wait(0.0), timeout=120_000)


def test_a_link_that_lacks_its_verbs_cannot_be_made(qtbot: Any) -> None:
    class Deaf(EngineLink):
        def _listen(self) -> None:
            """Hears nothing."""

    with pytest.raises(TypeError, match="leave"):
        Deaf()  # type: ignore[abstract]
