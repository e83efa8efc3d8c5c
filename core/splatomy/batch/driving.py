"""A batch from its list to its tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from splatomy.background import beside
from splatomy.batch.cases import Case, check_names, input_files
from splatomy.batch.engine import Engine
from splatomy.batch.shares import Share, share_of
from splatomy.batch.table import Table, make_table
from splatomy.batch.working import Outcome, Work, done_before
from splatomy.errors import InputError
from splatomy.events import Notice, Progress, Task
from splatomy.io.atomic import write_json, write_text
from splatomy.io.patient_words import patient_words, without_patient
from splatomy.io.run import CONTRACT, RunFolder

_POLL_S = 0.4
_LOOK_EVERY_S = 0.3
_TABLE_EVERY_S = 15.0
_TABLE_PAUSES = 20
"""Tables of very many cases take long: they may take a twentieth of the time."""
_OWN = ("batch.json", "runs", "jobs", "logs", "results.csv", "results.html", "lock")


@dataclass(frozen=True)
class BatchRequest:
    """What a user asked of a batch. cpus: cores a case, None = by its estimate. limit_s: of each case."""

    cases: Sequence[Case]
    out: Path
    retries: int = 2
    limit_s: float | None = None
    cpus: int | None = None


class Batch:
    """A batch in progress, to be driven by ``run`` and looked at from outside between its events."""

    def __init__(self, request: BatchRequest, connect: Callable[[], Engine]) -> None:
        """connect: makes the engine, once it is known that there is something to do."""
        self.request = request
        self.outcomes: dict[str, Outcome] = {}
        self.works = [
            Work(case, Share(), request.out.absolute(), request.limit_s, request.retries)
            for case in request.cases
        ]
        self.eta_s: float | None = None
        self.at_a_time = 1
        self._connect = connect
        self._jobs_before: dict[str, tuple[int, ...] | None] = {}
        self._seen_s: dict[str, float] = {}

    def run(self) -> Task[Table]:
        """The table of results, which is written as results.csv and results.html too.

        Closing the task stops the engines, which keep their results, and writes the tables.

        Raises:
            InputError: the folder cannot be used, or a case does not fit the run that it holds.
            MissingBackendError: the engine is not installed.
        """
        out = self.request.out
        _check_folder(out)
        with RunFolder(out).lock():
            yield from beside("names", 0, 1, partial(check_names, self.request.cases))
            write_json(out / "batch.json", {"contract": CONTRACT, "cases": len(self.works)})
            yield from self._skip_finished()
            try:
                if self.left():
                    yield from self._work_off()
            finally:
                self.eta_s = None
                table = self._write_tables()
            return table

    def left(self) -> list[Work]:
        """The cases without an outcome, in the order of the list."""
        return [work for work in self.works if work.case.name not in self.outcomes]

    def running(self) -> list[Work]:
        """The cases that were begun in this batch and have no outcome, as their job files tell."""
        # Cases are begun in order, so that those that run are among the first that are left.
        works = [work for work in self.left()[: 2 * self.at_a_time + 8] if self._is_begun(work)]
        for work in works:
            self._seen_s.setdefault(work.case.name, time.monotonic())
        return works

    def running_s(self, work: Work) -> float:
        """Seconds since a case was first seen to run; 0 if it never was."""
        now = time.monotonic()
        return now - self._seen_s.get(work.case.name, now)

    def _is_begun(self, work: Work) -> bool:
        """True once the job file is another than the one from before this batch, if there was any."""
        # Not by its time: clocks are set while a batch runs, and a cluster's differ.
        stamp, name = _stamp(work.job), work.case.name
        return stamp is not None and name in self._jobs_before and stamp != self._jobs_before[name]

    def _skip_finished(self) -> Task[None]:
        total, due = len(self.works), time.monotonic()
        for number, work in enumerate(self.works, 1):
            if done_before(work):
                self.outcomes[work.case.name] = Outcome(work.case.name, "done", attempts=0)
            if time.monotonic() >= due or number == total:
                yield Progress("look", number, total)
                due = time.monotonic() + _LOOK_EVERY_S
        if self.outcomes:
            yield Notice("info", "done-before", f"{len(self.outcomes)} of {total} cases were done before.")

    def _work_off(self) -> Task[None]:
        engine = yield from beside("engine", 0, 1, self._connect)
        try:
            yield from self._measure(engine.has_gpus())
            works = self.left()
            self.at_a_time = engine.start(works)
            began = time.monotonic()
            due = began + _TABLE_EVERY_S
            wanted_s = {work.case.name: work.share.seconds for work in works}
            while self.left():
                for outcome in engine.poll(_POLL_S):
                    yield from self._take(outcome)
                self.eta_s = _time_left_s(wanted_s, self.outcomes, time.monotonic() - began)
                yield self._progress()
                if time.monotonic() >= due:
                    started = time.monotonic()
                    yield from beside("table", len(self.outcomes), len(self.works), self._write_tables)
                    ended = time.monotonic()
                    due = ended + max(_TABLE_EVERY_S, _TABLE_PAUSES * (ended - started))
        finally:
            for outcome in engine.stop():
                self.outcomes.setdefault(outcome.name, outcome)

    def _measure(self, gpus_there: bool) -> Task[None]:
        """Gives every case its share."""
        total = len(self.works)
        for number, work in enumerate(self.works):
            if work.case.name not in self.outcomes:
                look = partial(share_of, work.case, gpus_there, self.request.cpus)
                share = yield from beside("shares", number, total, look)
                self._jobs_before[work.case.name] = _stamp(work.job)
                self.works[number] = replace(work, share=share)

    def _take(self, outcome: Outcome) -> Task[None]:
        work = next(work for work in self.works if work.case.name == outcome.name)
        outcome = replace(outcome, text=without_source(outcome.text, work.case))
        self.outcomes[outcome.name] = outcome
        if outcome.state != "done":
            yield Notice("warning", f"case-{outcome.state}", f"{outcome.name}: {outcome.text}")

    def _progress(self) -> Progress:
        states = [outcome.state for outcome in self.outcomes.values()]
        counts = {str(state): float(states.count(state)) for state in ("done", "failed", "stopped")}
        eta = {} if self.eta_s is None else {"eta_s": round(self.eta_s, 1)}
        return Progress("cases", len(self.outcomes), len(self.works), {**counts, **eta})

    def _write_tables(self) -> Table:
        table = make_table(self.works, self.outcomes)
        write_text(self.request.out / "results.csv", table.csv())
        write_text(self.request.out / "results.html", table.html())
        return table


def without_source(text: str, case: Case) -> str:
    """A sentence without the path of a case's input and the patient's words, which a table must not show."""
    for part in (str(case.source), case.source.name):
        text = text.replace(part, "the input")
    return without_patient(text, patient_words(input_files(case.source)))


def _check_folder(out: Path) -> None:
    """Raises InputError if a folder is in use for something else than a batch."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out.name} is a file: expected a folder for the batch. Choose another --out.")
    names = {entry.name for entry in out.iterdir()} if out.exists() else set()
    foreign = sorted(name for name in names if name not in _OWN and not name.startswith("."))
    if foreign or (names - {"lock"} and "batch.json" not in names):
        raise InputError(
            f"{out.name} is not empty and not the folder of a batch, so nothing is written there. Choose "
            "a new --out."
        )


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What differs between two contents that were written to a path, each by a file put in its place."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns, state.st_size


def _time_left_s(wanted_s: dict[str, float], outcomes: dict[str, Outcome], passed_s: float) -> float | None:
    """Seconds left: the estimates of what is left, corrected by how those of what ended came true."""
    ended = sum(seconds for name, seconds in wanted_s.items() if name in outcomes)
    return None if ended == 0 else passed_s / ended * (sum(wanted_s.values()) - ended)
