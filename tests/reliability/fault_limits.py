"""Memory that runs out, clocks that jump, and two processes that want the same run folder."""

from __future__ import annotations

import contextlib
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from fault_checks import finished_problems, run_problems
from fault_kills import is_done
from fault_runs import Child, Subject, Told, commanded, sentence_problems, undisturbed_command
from fault_tally import Tally

from splatomy.cli.main import end_for_memory, main
from splatomy.cli.watching import watched
from splatomy.io.run import RunFolder

_HOUR_S = 3600.0
_LEAST_MB, _MOST_MB = 24.0, 2048.0
_PAGE_BYTES = 2**21


def starve(tally: Tally, subject: Subject, work: Path, trials: int, until_s: float) -> None:
    """Lets the memory of a run end; it then goes on with a little more, and at last with all there is.

    The limit is that of the address space, so that every allocation beyond it fails, whoever makes it. No run
    is made in this process before: what that had freed would be there for the children, beyond every limit.
    Some libraries end the process when their own memory is refused: the process beside it then says so, as
    for every command of the program.
    """
    source, where = subject.make_input(work), work / f"{subject.method}-starved"
    shutil.rmtree(where, ignore_errors=True)
    made = Child(lambda tell: main(subject.words(source, where / "reference")))
    if made.end() != 0:
        raise ValueError(f"the undisturbed run fails: {made.said()[-300:]}")
    fault, out = "out of memory", where / "run"
    problems = ["never resumed"]
    for more_mb in np.geomspace(_LEAST_MB, _MOST_MB, 2 * trials):
        if time.monotonic() > until_s:
            break
        began = time.monotonic()
        code, said = _starved(subject, source, out, more_mb)
        if code == 0:
            break
        tally.add(
            fault, subject.method, run_problems(out), resumed=True,
            sentence=not sentence_problems(code, said), seconds=time.monotonic() - began,
        )  # fmt: skip
    if not is_done(out):
        last = Child(commanded(subject, source, out))
        problems = [] if last.end() == 0 else [f"not resumed: {last.said()[-300:]}"]
    if is_done(out):
        problems = finished_problems(out, where / "reference")
    tally.add("runs gone on with after a lack of memory", subject.method, problems, resumed=True)
    tally.finish()


def _starved(subject: Subject, source: Path | str, out: Path, more_mb: float) -> tuple[int, str]:
    """Exit code and words of a run that gets so much memory beyond what its process has at the start."""

    def work(tell: Told) -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + int(more_mb * 2**20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        return watched(lambda: commanded(subject, source, out)(tell), end_for_memory)

    child = Child(work)
    return child.end(), child.said()


def has_gpu() -> bool:
    """True if there is a GPU; asked in a child, since a process that has touched one cannot fork any more."""
    return Child(lambda tell: int(not torch.cuda.is_available())).end() == 0


def starve_gpu(tally: Tally, subject: Subject, work: Path, trials: int, until_s: float) -> None:
    """Lets the memory of the GPU end: all but a little of it is taken, a bit less every time.

    A GPU adds in another order every time, so the run that went on is looked at alone.
    """
    source, out = subject.make_input(work), work / f"{subject.method}-gpu" / "run"
    shutil.rmtree(out.parent, ignore_errors=True)
    for left_mb in np.geomspace(1.0, _MOST_MB, 2 * trials):
        if time.monotonic() > until_s:
            break
        began = time.monotonic()
        child = Child(_beside_another(left_mb, commanded(subject, source, out, device="cuda")))
        code, said = child.end(), child.said()
        if code == 0 and "halvings" not in RunFolder(out).record():
            break
        # What could go on with coarser settings has ended well, with a warning.
        fault = "out of memory on the GPU" if code != 0 else "out of memory on the GPU, gone on coarser"
        unsaid = sentence_problems(code, said) if code != 0 else []
        tally.add(
            fault, subject.method, run_problems(out) if out.exists() else [], resumed=True,
            sentence=code != 0 and not unsaid, seconds=time.monotonic() - began,
        )  # fmt: skip
        if unsaid:
            words = " ".join(unsaid[0].split())
            tally.note(f"{subject.method} with {left_mb:.0f} MB of a GPU: {words}")
        if code == 0:
            shutil.rmtree(out.parent)
    said = ""
    if not is_done(out):
        last = Child(commanded(subject, source, out, device="cuda"))
        last.end()
        said = last.said()
    problems = run_problems(out) if is_done(out) else [f"never resumed: {said[-300:]}"]
    tally.add("runs gone on with on a free GPU", subject.method, problems, resumed=True)
    tally.finish()


def _beside_another(left_mb: float, work: Callable[[Told], int]) -> Callable[[Told], int]:
    """The work on a GPU of which so much is left."""

    def changed(tell: Told) -> int:
        # The context and the libraries take their part first, as with everybody.
        torch.ones(64, 64, device="cuda") @ torch.ones(64, 64, device="cuda")
        free = torch.cuda.mem_get_info()[0]
        # In whole pages: asked for with a part of one, it would be more than there is.
        pages = max(1, (free - int(left_mb * 2**20)) // _PAGE_BYTES)
        taken = torch.empty(pages * _PAGE_BYTES, dtype=torch.uint8, device="cuda")
        try:
            return work(tell)
        finally:
            del taken

    return changed


def jump_clocks(tally: Tally, subject: Subject, work: Path, trials: int, until_s: float) -> None:
    """Sets the time of day forth and back by an hour or a day, at random moments of a run.

    The jump is made in the process, in what the operating system tells of the time of day; nobody else on
    the machine sees it. The monotonic clocks go on, as they do when somebody sets the time.
    """
    source, where = subject.make_input(work), work / f"{subject.method}-clocks"
    seconds = undisturbed_command(subject, source, where)
    rng = np.random.default_rng([7, tally.count("the clock is set", subject.method)])
    out = where / "run"
    while tally.count("the clock is set", subject.method) < trials:
        if time.monotonic() > until_s:
            return
        shutil.rmtree(out, ignore_errors=True)
        moments, hours = rng.uniform(0, seconds, 2), rng.choice([-24, -1, 1, 24], 2)
        jumps = list(zip(moments.tolist(), (hours * _HOUR_S).tolist(), strict=True))
        began = time.monotonic()
        killed = Child(jumping(commanded(subject, source, out), jumps))
        killed.listen(time.monotonic() + rng.uniform(0, seconds))
        killed.kill()
        killed.end()
        problems = []
        if not is_done(out):
            # The rest is done an hour before its beginning.
            again = Child(jumping(commanded(subject, source, out), [(0.0, -_HOUR_S), *jumps]))
            if again.end() != 0:
                problems.append(f"not resumed: {again.said()[-300:]}")
        problems += finished_problems(out, where / "reference")
        tally.add(
            "the clock is set", subject.method, problems, resumed=True, seconds=time.monotonic() - began
        )
    tally.finish()


def jumping(work: Callable[[Told], int], jumps: list[tuple[float, float]]) -> Callable[[Told], int]:
    """The work with a time of day that jumps; jumps: (seconds after the start, seconds forth)."""

    def changed(tell: Told) -> int:
        with set_clock(jumps):
            return work(tell)

    return changed


@contextlib.contextmanager
def set_clock(jumps: list[tuple[float, float]]) -> Iterator[None]:
    """Makes the time of day of this process jump at moments from now."""
    real, start = time.time, time.monotonic()

    def now() -> float:
        passed = time.monotonic() - start
        return real() + sum(by for after, by in jumps if passed >= after)

    time.time = now
    try:
        yield
    finally:
        time.time = real


def share_folder(tally: Tally, subject: Subject, work: Path, trials: int, until_s: float) -> None:
    """Starts a second process on a run folder at a random moment; every other first one is then killed."""
    source, where = subject.make_input(work), work / f"{subject.method}-shared"
    seconds = undisturbed_command(subject, source, where)
    fault, taken = "two processes on one run folder", "a lock whose holder was killed"
    rng = np.random.default_rng([8, tally.count(fault, subject.method)])
    out = where / "run"
    while tally.count(fault, subject.method) < trials:
        if time.monotonic() > until_s:
            return
        shutil.rmtree(out, ignore_errors=True)
        first = Child(commanded(subject, source, out))
        first.listen(time.monotonic() + rng.uniform(0, 0.8 * seconds))
        second = Child(commanded(subject, source, out))
        second_code = second.end()
        # Without an error it was the first to lock the folder, or came after the end of the other.
        problems = sentence_problems(second_code, second.said()) if second_code != 0 else []
        is_killed = tally.count(fault, subject.method) % 2 == 1
        if is_killed and first.is_open:
            first.kill()
        code = first.end()
        if code not in (0, -9):
            problems += sentence_problems(code, first.said())
        problems += run_problems(out)
        if not is_done(out):
            third = Child(commanded(subject, source, out))
            if third.end() != 0:
                problems.append(f"not resumed: {third.said()[-300:]}")
        problems += finished_problems(out, where / "reference")
        name = taken if is_killed and code == -9 else fault
        tally.add(name, subject.method, problems, resumed=True, sentence=second_code != 0)
        if name == taken:
            tally.add(fault, subject.method, [], resumed=True, sentence=second_code != 0)
    tally.finish()
