"""Reconstructions: a queue of jobs, each supervised as an engine process of its own."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from PyQt6.QtCore import QObject, QTimer, pyqtSignal

from splatomy.errors import MEMORY_SIGNALS
from splatomy_gui.engine_process import EngineLink, FollowedEngine, LaunchedEngine, is_running
from splatomy_gui.problem import Problem
from splatomy_gui.viewer import Viewer

_LOG = logging.getLogger(__name__)
SILENT_AFTER_S = 60.0
_LOG_TAIL = 4000
_KILLED = tuple(code for number in MEMORY_SIGNALS for code in (-number, 128 + number))
"""As the process itself ended, and as a shell between tells it."""


class JobState(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """True if its process is gone, or was never started and never will be."""
        return self in (JobState.DONE, JobState.STOPPED, JobState.FAILED)


@dataclass(frozen=True)
class JobPlan:
    """A reconstruction to be made. fields: of the job protocol, without contract, out and detached."""

    title: str
    run: Path
    fields: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The job file. It is detached, so that a crash of the app does not end it.

        A live session is not: without the app nobody could end it, so it ends well by itself.
        """
        detached = "live" not in self.fields
        return {"contract": 1, **self.fields, "out": str(self.run), "detached": detached}


class Job(QObject):
    """One reconstruction; ``changed`` follows whatever the engine tells."""

    changed = pyqtSignal()
    snapshot = pyqtSignal(object)
    """{"preview", "gaussians", "volume"}: paths of a new snapshot's files, those that there are."""
    lived = pyqtSignal(object)
    """How a live session stands now: the event of the protocol."""
    answered = pyqtSignal(object)
    """What became of a surgeon's command: the event of the protocol."""
    ended = pyqtSignal(object)

    def __init__(self, plan: JobPlan, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.plan = plan
        self.state = JobState.QUEUED
        self.stage, self.step, self.total = "", 0, 0
        self.eta_s: float | None = None
        self.gpu_mem_mb: float | None = None
        self.history: dict[str, list[tuple[int, float]]] = {}
        self.notices: list[tuple[str, str]] = []
        self.files: dict[str, str] = {}
        self.problem: Problem | None = None
        self.discarding = False
        self._error: Mapping[str, Any] | None = None
        self._link: EngineLink | None = None
        self.pictures = Viewer(None, self)
        self._saw_done = self._saw_stop = False
        self._started_s = self._ended_s = self._heard_s = 0.0

    @property
    def run(self) -> Path:
        """Its run folder."""
        return self.plan.run

    @property
    def log_file(self) -> Path:
        """What the engine wrote on its standard error."""
        return self.run.with_name(f"{self.run.name}.log")

    @property
    def share(self) -> float:
        """How far the stage is, 0 to 1."""
        if self.state is JobState.DONE:
            return 1.0
        return min(1.0, self.step / self.total) if self.total else 0.0

    @property
    def elapsed_s(self) -> float:
        """Since its process was started, until it ended."""
        if not self._started_s:
            return 0.0
        return (self._ended_s or time.monotonic()) - self._started_s

    @property
    def silent_s(self) -> float:
        """Since the engine was last heard of; 0 if it does not run."""
        return time.monotonic() - self._heard_s if self.state is JobState.RUNNING else 0.0

    @property
    def engine(self) -> EngineLink | None:
        """The process's link while it lives."""
        return self._link

    # -- commands --------------------------------------------------------------------------------

    def launch(self) -> None:
        """Starts the engine."""
        file = self.run.with_name(f"{self.run.name}.job.json")
        self.follow(
            LaunchedEngine(("job", "run", str(file)), self.log_file, (file, self.plan.as_json()), self)
        )

    def follow(self, link: EngineLink) -> None:
        """Listens to an engine."""
        self._link = link
        self.pictures.link = link
        link.news.connect(self._hear)
        link.gone.connect(self._gone)
        self._started_s = self._heard_s = time.monotonic()
        self._set_state(JobState.RUNNING)
        link.start()

    def pause(self) -> None:
        """Holds the engine."""
        self._send({"command": "pause"})

    def resume(self) -> None:
        """Lets it go on."""
        self._send({"command": "resume"})

    def stop(self) -> None:
        """Stops it; its result so far is kept."""
        if self.state is JobState.QUEUED:
            self._set_state(JobState.STOPPED)
            self.ended.emit(self)
        elif not self.state.ended:
            self._set_state(JobState.STOPPING)
            self._send({"command": "cancel"})

    def continue_for(self, steps: int) -> None:
        """Trains on beyond the planned steps, while it runs."""
        self._send({"command": "continue", "steps": steps})

    def ask(self, command: Mapping[str, Any]) -> None:
        """Passes a surgeon's command to a live session; ``answered`` brings what became of it."""
        self._send(command)

    def _send(self, command: Mapping[str, Any]) -> None:
        if self._link is not None:
            self._link.send(command)

    # -- events ----------------------------------------------------------------------------------

    def _hear(self) -> None:
        if self._link is None:
            return
        for event in self._link.take():
            try:
                self._take(event)
            except (KeyError, TypeError, ValueError):
                _LOG.warning("The engine sent an event that lacks something: %s", str(event)[:200])
        self._heard_s = time.monotonic()
        self.changed.emit()

    def _take(self, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        if kind == "progress":
            self.stage, self.step, self.total = str(event["stage"]), int(event["step"]), int(event["total"])
            self.eta_s, self.gpu_mem_mb = event.get("eta_s"), event.get("gpu_mem_mb")
            for name, value in (event.get("metrics") or {}).items():
                if isinstance(value, int | float):
                    points = self.history.setdefault(name, [])
                    if points and points[-1][0] > self.step:
                        # Another stage, or a run that goes on from an earlier checkpoint.
                        points.clear()
                    points.append((self.step, float(value)))
        elif kind == "snapshot":
            self.files = {k: str(v) for k, v in (event.get("files") or {}).items()}
            if self.files:
                self.snapshot.emit(self.files)
        elif kind == "notice":
            self._take_notice(event)
        elif kind == "live":
            self.lived.emit(event)
        elif kind == "command":
            self.answered.emit(event)
        elif kind == "render":
            self.pictures.take(event)
        elif kind == "error":
            self._error = event
        elif kind == "done":
            self._saw_done = True

    def _take_notice(self, event: Mapping[str, Any]) -> None:
        code, text = event.get("code"), str(event["text"])
        if code in ("paused", "resumed"):
            # An engine that is to stop may still tell of what it was told before.
            if self.state is not JobState.STOPPING:
                self._set_state(JobState.PAUSED if code == "paused" else JobState.RUNNING)
        elif code == "stopped":
            self._saw_stop = True
        self.notices.append((str(event.get("level", "info")), text))
        level = logging.WARNING if event.get("level") == "warning" else logging.INFO
        _LOG.log(level, "%s: %s", self.plan.title, text)

    def _gone(self, code: int | None) -> None:
        self._hear()
        link, self._link = self._link, None
        self.pictures.link = None
        if link is not None:
            link.wait()
            link.deleteLater()
        self._ended_s = time.monotonic()
        if self._saw_done:
            self._set_state(JobState.DONE)
        elif code == 4 or self._saw_stop:
            self._set_state(JobState.STOPPED)
        else:
            self.problem = self._diagnosis(code)
            self._set_state(JobState.FAILED)
        self.ended.emit(self)
        self.pictures.left.emit()

    def _diagnosis(self, code: int | None) -> Problem:
        """Why the engine ended without being done, in plain words."""
        what = f"{self.plan.title} stopped before it was done"
        details = "\n".join(filter(None, (f"exit code: {code}", str(self._error or ""), self._log_tail())))
        keep = "Masks and the last checkpoint are kept: press Continue in Jobs to go on from there."
        if self._error is not None:
            hint = self._error.get("hint")
            return Problem(what, str(self._error.get("text")), str(hint or keep), details)
        if code in _KILLED:
            why = "The system ended the engine, most likely because the memory of this machine ran out."
            return Problem(what, why, f"Use a draft preset or bin the input. {keep}", details)
        if code is not None and code < 0:
            return Problem(what, f"The engine died suddenly (signal {-code}).", keep, details)
        return Problem(what, "The engine ended without saying why.", keep, details)

    def _log_tail(self) -> str:
        try:
            return self.log_file.read_bytes()[-_LOG_TAIL:].decode("utf-8", "replace")
        except OSError:
            return ""

    def _set_state(self, state: JobState) -> None:
        if self.state is JobState.STOPPING and not state.ended:
            return
        self.state = state
        self.changed.emit()


class JobQueue(QObject):
    """Jobs in order; one runs at a time, the others wait."""

    jobs_changed = pyqtSignal()
    job_changed = pyqtSignal(object)
    job_ended = pyqtSignal(object)
    discarded = pyqtSignal(object)
    """Path of a run folder that is no longer there."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.jobs: list[Job] = []
        self._closing = False
        self._ticker = QTimer(self)
        self._ticker.setInterval(1000)
        self._ticker.timeout.connect(self._tick)

    @property
    def active(self) -> list[Job]:
        """Jobs whose engine lives."""
        return [job for job in self.jobs if not job.state.ended and job.state is not JobState.QUEUED]

    def add(self, plan: JobPlan) -> Job:
        """Puts a reconstruction at the end of the queue."""
        job = self._adopt(plan)
        self._start_next()
        return job

    def start_now(self, plan: JobPlan) -> Job:
        """Starts a job that cannot wait, such as a live session, beside what runs."""
        job = self._adopt(plan)
        job.launch()
        return job

    def attach_running(self, folder: Path, runs: list[Any]) -> None:
        """Follows engines that an earlier app left behind in a case."""
        known = {job.run for job in self.jobs if not job.state.ended}
        for info in runs:
            if info.state != "done" and info.path not in known and is_running(info.path):
                job = self._adopt(JobPlan(f"{folder.stem}: {info.method}", info.path))
                job.follow(FollowedEngine(info.path, job))

    def job_of(self, run: Path) -> Job | None:
        """The newest job of a run folder."""
        return next((job for job in reversed(self.jobs) if job.run == run), None)

    def discard(self, job: Job) -> None:
        """Stops a job and removes its run folder."""
        job.discarding = True
        if job.state.ended:
            self._remove(job)
        else:
            job.stop()

    def forget(self, job: Job) -> None:
        """Takes an ended job off the list; its run stays."""
        if job.state.ended and job in self.jobs:
            self.jobs.remove(job)
            self.jobs_changed.emit()

    def close(self) -> None:
        """Leaves every engine to itself: detached ones can be followed again, live ones end."""
        self._closing = True
        self._ticker.stop()
        for job in self.active:
            link = job.engine
            if link is not None:
                link.news.disconnect()
                link.gone.disconnect()
                link.leave()
                # A process that ends takes its threads along, and with them what was just asked for.
                if not link.passed_on():
                    _LOG.warning("%s: not every command was passed on", job.plan.title)

    def _adopt(self, plan: JobPlan) -> Job:
        job = Job(plan, self)
        job.changed.connect(lambda: self.job_changed.emit(job))
        job.ended.connect(self._job_ended)
        self.jobs.append(job)
        self._ticker.start()
        self.jobs_changed.emit()
        return job

    def _start_next(self) -> None:
        if not self.active and not self._closing:
            waiting = next((job for job in self.jobs if job.state is JobState.QUEUED), None)
            if waiting is not None:
                waiting.launch()

    def _job_ended(self, job: Job) -> None:
        if job.discarding:
            self._remove(job)
        self.job_ended.emit(job)
        self._start_next()

    def _remove(self, job: Job) -> None:
        gone = job.run.with_name(f".{job.run.name}.discarded")
        try:
            # It is gone at once, also if the app ends before everything in it is deleted.
            job.run.rename(gone)
        except OSError:
            gone = job.run

        def delete() -> None:
            shutil.rmtree(gone, ignore_errors=True)
            for path in (job.log_file, job.run.with_name(f"{job.run.name}.job.json")):
                path.unlink(missing_ok=True)

        threading.Thread(target=delete, daemon=True).start()
        self.forget(job)
        self.discarded.emit(job.run)

    def _tick(self) -> None:
        """Elapsed times move on though nothing is heard."""
        for job in self.active:
            self.job_changed.emit(job)
        if not self.active:
            self._ticker.stop()
