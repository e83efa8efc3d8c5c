"""kill -9 at random moments of every stage of a run; the run then goes on, until it is done."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
from fault_checks import finished_problems, run_problems
from fault_runs import Child, Subject, driven, undisturbed
from fault_tally import Tally

_CHAIN = 4
"""Kills of one run in each of its groups of stages, before the next one starts anew."""
_TRIES = 3
"""A kill that comes too late, since the run goes on from its checkpoint, is tried as often again."""


def kill_runs(tally: Tally, subject: Subject, work: Path, wanted: int, until_s: float) -> None:
    """Kills a subject's run ``wanted`` times in each of its groups of stages, in as many runs as it takes.

    until_s: moment of the monotonic clock at which the rest is left for another time.
    """
    source = subject.make_input(work)
    where = work / subject.method
    seconds = undisturbed(subject, source, where)
    tally.note(
        f"{subject.method}: an undisturbed run takes "
        + ", ".join(f"{name} {seconds.get(name, 0):.2f} s" for name in subject.groups)
        + "."
    )
    rng = np.random.default_rng([len(subject.method), sum(r.injected for r in tally.rows.values())])
    fault = f"kill -9, {subject.method}"
    while time.monotonic() < until_s and any(tally.count(fault, g) < wanted for g in subject.groups):
        _chain(tally, subject, source, where, seconds, wanted, rng)
    if all(tally.count(fault, g) >= wanted for g in subject.groups):
        tally.finish()


def _chain(
    tally: Tally,
    subject: Subject,
    source: Path | str,
    where: Path,
    seconds: dict[str, float],
    wanted: int,
    rng: np.random.Generator,
) -> None:
    """One run from its start to its end, killed several times in each group of stages on the way."""
    out, fault = where / "run", f"kill -9, {subject.method}"
    shutil.rmtree(out, ignore_errors=True)
    first = next(iter(subject.groups))
    kills: list[str] = []
    for group in subject.groups:
        for _ in range(min(_CHAIN, wanted - tally.count(fault, group))):
            for _ in range(_TRIES):
                began = time.monotonic()
                delay_s = rng.uniform(0, seconds.get(group, 0.1))
                hit, code, said = _killed(subject, source, out, group, delay_s, first)
                if hit is None:
                    break
                problems = run_problems(out)
                if code > 0:
                    problems.append(f"it ended by itself with exit code {code}: {said[-300:]}")
                kills.append(hit)
                tally.add(fault, hit, problems, resumed=True, seconds=time.monotonic() - began)
                if hit == group:
                    break
            if hit is None:
                break
    if not is_done(out):
        last = Child(driven(subject, source, out))
        if last.end() != 0:
            tally.add(fault, kills[-1] if kills else first, [f"not resumed: {last.said()[-300:]}"])
            return
    problems = finished_problems(out, where / "reference") if subject.is_exact else run_problems(out)
    row = tally.row("runs gone on with after kills", subject.method)
    tally.add(row.fault, row.where, problems, resumed=True)


def is_done(out: Path) -> bool:
    """True if the run's record says so."""
    record = out / "run.json"
    return record.exists() and '"state": "done"' in record.read_text()


def _killed(
    subject: Subject, source: Path | str, out: Path, group: str, delay_s: float, first: str
) -> tuple[str | None, int, str]:
    """The group in which the run was killed, None if it was done before; its exit code; what it said."""
    child = Child(driven(subject, source, out))
    current = first

    def is_there(stage: str) -> bool:
        nonlocal current
        current = subject.group_of(stage, current)
        names = list(subject.groups)
        return names.index(current) >= names.index(group)

    if child.hear(is_there):
        child.listen(time.monotonic() + delay_s)
    if child.is_open:
        child.kill()
    code = child.end()
    if code == 0:
        return None, code, child.said()
    current = first
    for _, stage in child.lines:
        current = subject.group_of(stage, current)
    return current, code, child.said()
