"""One case from its job to its outcome: an engine process of its own, supervised wherever the case runs."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from splatomy.batch.cases import Case
from splatomy.batch.shares import Share
from splatomy.errors import MEMORY_SIGNALS, InputError
from splatomy.io.atomic import write_json
from splatomy.io.run import RunFolder

State = Literal["done", "failed", "stopped"]

_LOOK_EVERY_S = 0.2
_STOP_S = 1.2
"""Asked to stop, an engine keeps its result and ends; a batch that is stopped has 2 s for everything."""
_LIMIT_STOP_S = 20.0
_LOCK_S = 60.0
"""The process of an earlier attempt, whose supervisor died, ends by itself within this time."""
_LONGEST_LINE = 1 << 20
_ERROR_CODES = {2: "input", 3: "backend"}
_FINAL_CODES = ("input", "backend")
"""Errors that come again however often a case is tried; a full memory or disk may not."""


@dataclass(frozen=True)
class Work:
    """A case with everything that another machine needs to run it.

    out: the batch's folder, at the same path on every machine. limit_s: wall-clock time for all attempts of
    this case, None = as long as it takes. retries: attempts after the first. visible_gpus: numbers of the
    GPUs that its process may see, None = all that this one sees.
    """

    case: Case
    share: Share
    out: Path
    limit_s: float | None = None
    retries: int = 2
    visible_gpus: str | None = None

    @property
    def run(self) -> Path:
        """The case's run folder."""
        return self.out / "runs" / self.case.name

    @property
    def job(self) -> Path:
        """The case's job file, written when it is begun."""
        return self.out / "jobs" / f"{self.case.name}.json"


@dataclass(frozen=True)
class Outcome:
    """What became of a case. code: of its error, None without one. attempts: 0 = it was done before."""

    name: str
    state: State
    code: str | None = None
    text: str = ""
    seconds: float = 0.0
    attempts: int = 1


def done_before(work: Work) -> bool:
    """True if the case's run folder holds its finished run.

    Raises:
        InputError: it holds the run of another case, or of this one with other settings.
    """
    state = _state(work.run)
    if state == "done" and _same_job(work):
        return True
    if state is not None and not _same_job(work) and state != "failed":
        raise InputError(
            f"The run of {work.case.name} was made of another input or with other settings: expected the "
            "case as it was. Correct the list, give the case another name, or move its run folder away."
        )
    return False


def run_case(work: Work, stopping: Callable[[], bool]) -> Outcome:
    """Runs one case in engine processes, one after the other until one of them ends it.

    stopping: asked several times a second; once it is true the engine is stopped and the case's result so
    far kept. A begun run is gone on with, a finished one left as it is.
    """
    began = time.monotonic()
    deadline = None if work.limit_s is None else began + work.limit_s
    outcome = Outcome(work.case.name, "stopped", attempts=0)
    for attempt in range(1, work.retries + 2):
        try:
            if done_before(work):
                outcome = replace(outcome, state="done", attempts=attempt - 1)
                break
            outcome = _attempt(work, stopping, deadline)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other cases go on
            outcome = _failure(work.case.name, error)
        outcome = replace(outcome, attempts=attempt)
        if outcome.state != "failed" or outcome.code in _FINAL_CODES or stopping():
            break
    return replace(outcome, seconds=round(time.monotonic() - began, 1))


def _failure(name: str, error: Exception) -> Outcome:
    """The outcome of a case that could not even be supervised."""
    if isinstance(error, InputError):
        return Outcome(name, "failed", "input", str(error))
    if isinstance(error, OSError):
        what = Path(error.filename or "a file").name
        return Outcome(name, "failed", "disk", f"{what} cannot be read or written: {error.strerror}.")
    return Outcome(name, "failed", "defect", f"This is a defect of splatomy ({type(error).__name__}).")


def newest_progress(run: Path) -> Mapping[str, Any]:
    """The last progress that a run wrote down: stage, step and total; empty when there is none yet."""
    try:
        with (run / "events.jsonl").open("rb") as lines:
            size = lines.seek(0, os.SEEK_END)
            lines.seek(max(0, size - 8192))
            tail = lines.read().split(b"\n")
    except OSError:
        return {}
    for line in reversed(tail):
        with contextlib.suppress(ValueError, RecursionError):
            event = json.loads(line)
            if isinstance(event, dict) and event.get("event") == "progress":
                return event
    return {}


def _state(run: Path) -> str | None:
    """The state of a run folder: that of its run.json, "begun" without one, None where nothing was begun."""
    if (run / "run.json").exists():
        return str(RunFolder(run).record().get("state"))
    return "begun" if (run / "events.jsonl").exists() else None


def _same_job(work: Work) -> bool:
    try:
        before = json.loads(work.job.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    now = work.case.job(work.run)
    return isinstance(before, dict) and {**before, "resume": None} == {**now, "resume": None}


def _attempt(work: Work, stopping: Callable[[], bool], deadline: float | None) -> Outcome:
    """One engine process from start to end.

    Raises:
        InputError: the run folder is not free.
        OSError: the job cannot be written or the process not be started.
    """
    name = work.case.name
    if work.run.exists():
        _wait_until_free(work.run, stopping)
    if stopping():
        return Outcome(name, "stopped")
    state = _state(work.run)
    resume = state is not None and _same_job(work)
    write_json(work.job, {**work.case.job(work.run), "resume": resume})
    log = work.out / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as errors, _engine(work, errors) as process:
        listener = _Listener(process)
        try:
            state_if_stopped = _watched(process, stopping, deadline)
        finally:
            # Whatever goes wrong here, no engine is left without somebody who watches it.
            if process.poll() is None:
                process.kill()
        listener.join()
    return _outcome(name, process.returncode, listener.error, state_if_stopped)


def _engine(work: Work, errors: Any) -> subprocess.Popen[bytes]:
    threads = str(work.share.cpus)
    gpus = {} if work.visible_gpus is None else {"CUDA_VISIBLE_DEVICES": work.visible_gpus}
    own_session: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        own_session = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return subprocess.Popen(
        [sys.executable, "-m", "splatomy", "job", "run", str(work.job)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env={
            **os.environ,
            "PYTHONIOENCODING": "utf-8",
            "OMP_NUM_THREADS": threads,
            "NUMBA_NUM_THREADS": threads,
            **gpus,
        },
        **own_session,
    )


class _Listener:
    """Reads an engine's lines, so that it never waits for us, and keeps its error."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.error: Mapping[str, Any] | None = None
        self._process = process
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Waits for the last line of a process that has ended."""
        self._thread.join(timeout=2.0)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            while line := self._process.stdout.readline(_LONGEST_LINE):
                with contextlib.suppress(ValueError, RecursionError):
                    event = json.loads(line)
                    if isinstance(event, dict) and event.get("event") == "error":
                        self.error = event


def _watched(
    process: subprocess.Popen[bytes], stopping: Callable[[], bool], deadline: float | None
) -> tuple[str, str] | None:
    """Waits for the process; code and sentence of the reason if it had to be stopped."""
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_LOOK_EVERY_S)
            return None
        if stopping():
            _stop(process, _STOP_S)
            return "stopped", "The batch was stopped; this case goes on when the batch is started again."
        if deadline is not None and time.monotonic() >= deadline:
            _stop(process, _LIMIT_STOP_S)
            return "limit", "The case took its time limit; it goes on when the batch is started again."


def _stop(process: subprocess.Popen[bytes], patience_s: float) -> None:
    """Closing an engine's input makes it keep its result and end; one that does not is killed."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(patience_s)


def _outcome(
    name: str, exit_code: int, error: Mapping[str, Any] | None, stopped: tuple[str, str] | None
) -> Outcome:
    if exit_code == 0:
        return Outcome(name, "done")
    if stopped is not None:
        return Outcome(name, "stopped", *stopped)
    if error is not None:
        return Outcome(name, "failed", str(error.get("code")), str(error.get("text")))
    if -exit_code in MEMORY_SIGNALS:
        text = (
            f"The engine was ended by signal {-exit_code}, most likely because the memory of the machine ran "
            "out; it goes on when the batch is started again, with fewer --workers or a coarser input."
        )
        return Outcome(name, "failed", "crash", text)
    if exit_code < 0:
        return Outcome(name, "failed", "crash", f"The engine was killed by signal {-exit_code}.")
    code = _ERROR_CODES.get(exit_code, "crash")
    return Outcome(name, "failed", code, f"The engine ended with exit code {exit_code} and no word.")


def _wait_until_free(run: Path, stopping: Callable[[], bool]) -> None:
    """Waits for the process of an earlier attempt to leave the run folder.

    Raises:
        InputError: another process goes on holding it.
    """
    until = time.monotonic() + _LOCK_S
    while True:
        try:
            with RunFolder(run).lock(wait_s=0):
                return
        except InputError:
            if stopping() or time.monotonic() >= until:
                raise
        time.sleep(_LOOK_EVERY_S)
