"""The supervision of engine processes: fakes that misbehave in every way, by both kinds of pipe."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PyQt6 import QtCore

from application import TurnedProcess
from SplatomyLib.install import Engine
from SplatomyLib.logic import EngineLogic
from SplatomyLib.process import Pipe, PlainPipe, QtPipe, Runner, clean_environment
from SplatomyLib.protocol import Force, Job, JobSpec, Lines, State, command_line, duration, event_of

FAKE = Path(__file__).with_name("fake_engine.py")
PATIENCE_S = 120.0


class Clock:
    """Seconds that a test moves on; they pass by themselves as well."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


@pytest.fixture(params=["plain", "qt"])
def new_pipe(request: pytest.FixtureRequest) -> Callable[[], Pipe]:
    """Both pipes; Qt's as PyQt6 has it, which Slicer's own binding has under the same names."""
    if request.param == "plain":
        return PlainPipe
    qt = SimpleNamespace(QProcess=TurnedProcess, QProcessEnvironment=QtCore.QProcessEnvironment)
    return lambda: QtPipe(qt)


def started(
    new_pipe: Callable[[], Pipe], mode: str, clock: Any = time.monotonic, speaks: bool = True
) -> Runner:
    runner = Runner(new_pipe(), Job("fake", speaks), clock)
    runner.start([sys.executable, str(FAKE), mode], dict(os.environ))
    return runner


def polled(runner: Runner, until: Callable[[Job], bool]) -> Job:
    """Polls as Slicer's timer does."""
    end = time.monotonic() + PATIENCE_S
    while not until(runner.job):
        assert time.monotonic() < end, (runner.job.state, runner.job.log[-5:])
        runner.poll()
        time.sleep(0.02)
    return runner.job


def over(runner: Runner) -> Job:
    return polled(runner, lambda job: job.state.is_over)


def test_sudden_death_is_a_failure_with_advice(new_pipe: Callable[[], Pipe]) -> None:
    job = over(started(new_pipe, "crash"))
    assert job.state is State.FAILED
    assert "left no message" in job.text(0)
    assert "Resume" in job.text(0)
    assert (job.stage, job.step, job.total) == ("train", 3, 10)


def test_the_engines_own_sentence_is_shown(new_pipe: Callable[[], Pipe]) -> None:
    job = over(started(new_pipe, "refuse"))
    assert job.text(0) == "The input is a poem. Give a clip."


def test_garbage_changes_nothing(new_pipe: Callable[[], Pipe]) -> None:
    runner = started(new_pipe, "babble")
    seen: list[dict[str, str]] = []
    runner.snapshot.connect(seen.append)
    job = over(runner)
    assert job.state is State.DONE
    assert job.result == "/run"
    assert len(job.log) <= 500
    assert job.files == {"preview": "nowhere.png"}
    assert job.share_done() is None


def test_commands_are_answered(new_pipe: Callable[[], Pipe]) -> None:
    runner = started(new_pipe, "obey")
    polled(runner, lambda job: job.state is State.RUNNING)
    assert "9 s left" in runner.job.text(time.monotonic())
    runner.pause()
    polled(runner, lambda job: job.state is State.PAUSED)
    runner.resume()
    polled(runner, lambda job: job.state is State.RUNNING)
    runner.cancel()
    assert runner.job.state is State.STOPPING
    assert over(runner).state is State.STOPPED


def test_an_engine_that_hears_nothing_is_terminated(new_pipe: Callable[[], Pipe]) -> None:
    clock = Clock()
    runner = started(new_pipe, "stubborn", clock)
    polled(runner, lambda job: job.state is State.RUNNING)
    runner.cancel()
    runner.poll()
    assert not runner.job.state.is_over
    clock.ahead_s = 9
    assert over(runner).state is State.STOPPED


def test_an_engine_that_hangs_is_killed(new_pipe: Callable[[], Pipe]) -> None:
    clock = Clock()
    runner = started(new_pipe, "hang", clock)
    polled(runner, lambda job: job.state is State.RUNNING)
    clock.ahead_s = 70
    assert "may hang" in runner.job.text(clock())
    runner.cancel()
    clock.ahead_s += 9
    for _ in range(20):
        runner.poll()
        time.sleep(0.02)
    assert not runner.job.state.is_over
    clock.ahead_s += 4
    assert over(runner).state is State.STOPPED


def test_ending_without_a_result_is_a_failure(new_pipe: Callable[[], Pipe]) -> None:
    assert over(started(new_pipe, "unfinished")).state is State.FAILED
    assert over(started(new_pipe, "unfinished", speaks=False)).state is State.DONE


def test_a_missing_program_is_told(new_pipe: Callable[[], Pipe]) -> None:
    runner = Runner(new_pipe(), Job("none"))
    runner.start(["no-such-engine-anywhere"], dict(os.environ))
    assert runner.job.state is State.FAILED
    assert "could not be started" in runner.job.text(0)


def test_slicer_quitting_ends_a_run_in_seconds(new_pipe: Callable[[], Pipe]) -> None:
    runner = started(new_pipe, "hang")
    polled(runner, lambda job: job.state is State.RUNNING)
    began = time.monotonic()
    runner.shut_down(grace_s=0.5)
    over(runner)
    assert time.monotonic() - began < 10


def test_the_environment_has_nothing_of_slicers(new_pipe: Callable[[], Pipe], tmp_path: Path) -> None:
    foreign = {
        "PYTHONPATH": str(tmp_path), "PYTHONHOME": "", "SLICER_HOME": "/opt/Slicer", "QT_PLUGIN_PATH": "/opt",
        "Slicer_DEFAULT": "1",
    }  # fmt: skip
    runner = Runner(new_pipe(), Job("variables", speaks=False))
    kept = {**os.environ, **foreign, "HOME_OF_DATA": "kept"}
    runner.start([sys.executable, str(FAKE), "variables"], kept)
    given = json.loads(over(runner).answers[-1])
    assert not foreign.keys() & given.keys()
    assert given["HOME_OF_DATA"] == "kept"
    assert given["PYTHONUNBUFFERED"] == "1"


def test_lines_come_whole_however_they_are_cut() -> None:
    text = '{"event": "progress", "stage": "größer"}\nlog\n'.encode()
    for size in (1, 2, 7, len(text)):
        lines = Lines()
        found = [line for i in range(0, len(text), size) for line in lines.feed(text[i : i + size])]
        assert found == ['{"event": "progress", "stage": "größer"}', "log"], size
    assert event_of(found[0]) == {"event": "progress", "stage": "größer"}
    assert json.loads(command_line("render", id=1)) == {"command": "render", "id": 1}


def test_the_job_file_is_one_that_the_engine_reads(clip: Path, tmp_path: Path) -> None:
    from splatomy.jobs.request import read_job

    spec = JobSpec(
        clip, tmp_path / "run", preset="draft", device="cpu", config={"steps": 30},
        options={"frames": [0, 4, None], "crop": [0, 0, 32, 32]}, seed=3, resume=True,
    )  # fmt: skip
    (tmp_path / "job.json").write_text(json.dumps(spec.as_json()))
    job = read_job(tmp_path / "job.json")
    assert job.run.settings == {"steps": 30}
    assert job.run.options.frames == (0, 4, None)
    assert (job.run.preset, job.run.seed, job.run.resume, job.run.method) == (
        "draft",
        3,
        True,
        "dynamic_tissue",
    )


def test_a_job_is_pushed_only_after_it_was_asked() -> None:
    job = Job("x")
    job.feed(b"", b"", 0.0)
    assert job.force(1000.0) is Force.NONE
    job.ask_to_stop(1000.0)
    assert [job.force(1000.0 + s) for s in (2, 9, 13)] == [Force.NONE, Force.TERMINATE, Force.KILL]


@pytest.mark.parametrize(
    "seconds, text", [(0.4, "0 s"), (59, "59 s"), (75, "1 min 15 s"), (7260, "2 h 1 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_what_is_kept_of_the_environment() -> None:
    assert clean_environment({"PATH": "/bin", "LD_LIBRARY_PATH": "/opt"}).keys() >= {"PATH"}
    assert "LD_LIBRARY_PATH" not in clean_environment({"LD_LIBRARY_PATH": "/opt"})


def test_nobody_hears_of_runs_that_end_as_slicer_quits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Panels may be gone by then: a callback into one would take the application down."""
    monkeypatch.setattr("SplatomyLib.logic.QUIT_GRACE_S", 0.2)
    logic = EngineLogic(None, PlainPipe, dict(os.environ))
    logic.engine = Engine((sys.executable, str(FAKE)), "0", "", (), 0.0)
    heard: list[str] = []
    logic.over.connect(lambda run: heard.append(run.title))
    for name in ("one", "two"):
        logic.command(name, ["hang"], lambda run: heard.append(run.title))
    for run in logic.runs:
        polled(run.runner, lambda job: job.state is State.RUNNING)
    logic.shut_down()
    assert not logic.active() and heard == []
