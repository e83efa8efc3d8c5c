"""Disks that fill up, refuse or stall while a run writes to them: real file systems, mounted for it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from fault_checks import finished_problems, run_problems
from fault_kills import is_done
from fault_masks import case_of, is_same
from fault_runs import (
    Child,
    Subject,
    Told,
    commanded,
    is_begun,
    sentence_problems,
    undisturbed_command,
)
from fault_tally import Tally

from splatomy.errors import InputError
from splatomy.io.case import open_case, save_case

_PAGE = 4096
_STOP_S = 2.0
_NOBODY = 65534


def can_mount() -> bool:
    """True if this user may mount file systems."""
    return os.geteuid() == 0 and _call("unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt") == 0


def _call(*words: str) -> int:
    return subprocess.run(words, capture_output=True, check=False).returncode


@contextlib.contextmanager
def small_disk(where: Path, options: str) -> Iterator[Path]:
    """A file system in memory, of the size that the options tell."""
    where.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(where)], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", str(where)], check=True)


def _resize(where: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(where)], check=True)


def fill_runs(tally: Tally, subject: Subject, work: Path, trials: int, until_s: float) -> None:
    """Lets the disk be full in the middle of a file, then at the making of each file.

    After each failure the disk gets a little more room and the run goes on: so every write is once the one
    that fails.
    """
    source, where = subject.make_input(work), work / f"{subject.method}-disk"
    undisturbed_command(subject, source, where)
    files = [p for p in (where / "reference").rglob("*") if p.is_file()]
    pages = sum(-(-p.stat().st_size // _PAGE) for p in files)
    for kind, first, last in (("size", 2, 2 * pages), ("nr_inodes", 3, 4 * len(files))):
        fault = {"size": "disk full in the middle of a file", "nr_inodes": "no room for another file"}[kind]
        step = max(1, round((last if kind == "size" else len(files)) / trials))
        disk = work / f"{subject.method}-{kind}"
        with small_disk(disk, f"{kind}={first * (_PAGE if kind == 'size' else 1)}"):
            out = disk / "run"
            # At last the disk is free: a run needs more on the way than in the end, for the volumes of a
            # sequence before they are packed, and its events grow with every failure.
            for amount in (*range(first, last + step, step), 4 * last):
                if time.monotonic() > until_s:
                    return
                _resize(disk, f"{kind}={amount * (_PAGE if kind == 'size' else 1)}")
                began = time.monotonic()
                child = Child(commanded(subject, source, out))
                code, said = child.end(), child.said()
                if code == 0:
                    break
                problems = sentence_problems(code, said) + run_problems(out)
                tally.add(
                    fault, subject.method, problems, resumed=True, sentence=True,
                    seconds=time.monotonic() - began,
                )  # fmt: skip
            problems = finished_problems(out, where / "reference") if is_done(out) else ["never resumed"]
            tally.add("runs gone on with on a freed disk", subject.method, problems, resumed=True)
    tally.finish()


def fill_masks(tally: Tally, work: Path, trials: int, until_s: float) -> None:
    """Lets the disk be full while a case is saved: the masks of before or the new ones are there then."""
    disk, source = work / "masks-disk", work / "clip.mp4"
    source.write_bytes(b"frames")
    fault = "disk full while masks are saved"
    edit = 0
    with small_disk(disk, "size=4m"):
        folder = disk / "case.splatomy"
        while tally.count(fault, "a case") < trials and time.monotonic() < until_s:
            _resize(disk, "size=4m,nr_inodes=10000")
            save_case(folder, case_of(edit, source))
            used = shutil.disk_usage(disk).used // _PAGE
            inodes = os.statvfs(disk).f_files - os.statvfs(disk).f_ffree
            room = edit // 4 % 6
            _resize(disk, f"size={(used + room) * _PAGE}" if edit % 4 else f"nr_inodes={inodes + room}")
            edit += 2
            problems = []
            try:
                save_case(folder, case_of(edit - 1, source), case_of(edit - 2, source).review)
                continue
            except OSError as error:
                if not error.filename:
                    problems.append(f"the file is not named: {error}")
            try:
                opened = open_case(folder)
                kept = [e for e in (edit - 2, edit - 1) if is_same(opened, case_of(e, source))]
                if not kept:
                    problems.append("the masks are neither those of before nor the new ones")
            except InputError as error:
                problems.append(str(error))
            tally.add(fault, "a case", problems, resumed=True, sentence=True)
    if tally.count(fault, "a case") >= trials:
        tally.finish()


def refuse_writes(tally: Tally, subject: Subject, work: Path, trials: int, until_s: float) -> None:
    """Tries to write to a read-only disk and to somebody else's folder, and loses its rights in mid-run."""
    source, where = subject.make_input(work), work / f"{subject.method}-refused"
    seconds = undisturbed_command(subject, source, where)
    rng = np.random.default_rng([5, tally.count("rights lost in mid-run", subject.method)])
    disk = work / "refusing"
    out = disk / "run"
    with small_disk(disk, "size=64m"):
        disk.chmod(0o755)
        for options, fault in (("ro", "read-only disk"), ("rw", "folder of another user")):
            _resize(disk, options)
            while tally.count(fault, subject.method) < max(1, trials // 4):
                child = Child(_as_nobody(commanded(subject, source, out)))
                problems = sentence_problems(child.end(), child.said())
                if out.exists():
                    problems.append("something was written")
                tally.add(fault, subject.method, problems, sentence=True)
        fault = "rights lost in mid-run"
        while tally.count(fault, subject.method) < trials and time.monotonic() < until_s:
            shutil.rmtree(out, ignore_errors=True)
            os.chown(disk, _NOBODY, _NOBODY)
            child = Child(_as_nobody(commanded(subject, source, out)))
            child.listen(time.monotonic() + rng.uniform(0, seconds))
            _give(disk, 0)
            code, said = child.end(), child.said()
            problems = [] if code == 0 else sentence_problems(code, said)
            _give(disk, _NOBODY)
            if is_begun(out):
                problems += run_problems(out)
                _give(disk, _NOBODY)
            if code != 0:
                again = Child(_as_nobody(commanded(subject, source, out)))
                if again.end() != 0:
                    problems.append(f"not resumed: {again.said()[-300:]}")
            problems += finished_problems(out, where / "reference")
            tally.add(fault, subject.method, problems, resumed=True, sentence=code != 0)
    if tally.count(fault, subject.method) >= trials:
        tally.finish()


def _as_nobody(work: Callable[[Told], int]) -> Callable[[Told], int]:
    """The work by a user without rights."""

    def changed(tell: Told) -> int:
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
        return work(tell)

    return changed


def _give(folder: Path, user: int) -> None:
    """Makes everything in a folder somebody's."""
    for path in (folder, *folder.rglob("*")):
        # The run goes on meanwhile and may remove a file.
        with contextlib.suppress(FileNotFoundError):
            os.chown(path, user, user)


def stall_writes(tally: Tally, subject: Subject, work: Path, trials: int, until_s: float) -> None:
    """Freezes the run's disk for two seconds at random moments, as a network drive does.

    Such a write cannot be interrupted by anybody. What must hold: the run goes on when the drive does, with
    the same result, a Ctrl-C given meanwhile is obeyed within 2 s of that, and a kill leaves a whole run.
    """
    source, where = subject.make_input(work), work / f"{subject.method}-stalled"
    seconds = undisturbed_command(subject, source, where)
    image, disk = work / "drive.img", work / "drive"
    disk.mkdir(exist_ok=True)
    with image.open("wb") as file:
        file.truncate(64 << 20)
    made = _call("mkfs.ext4", "-q", str(image)) == 0
    if not made or _call("mount", "-o", "loop", str(image), str(disk)) != 0:
        tally.note("Stalled drives: not tried, for want of a loop device.")
        tally.finish()
        return
    rng = np.random.default_rng(6)
    wishes = {
        "the drive stalls": None,
        "Ctrl-C in a stall": signal.SIGINT,
        "kill -9 in a stall": signal.SIGKILL,
    }
    try:
        for wish, number in wishes.items():
            while tally.count(wish, subject.method) < trials and time.monotonic() < until_s:
                shutil.rmtree(disk / "run", ignore_errors=True)
                problems = _stalled(subject, source, disk, where, rng.uniform(0.05, 0.9 * seconds), number)
                tally.add(wish, subject.method, problems, resumed=True, sentence=number == signal.SIGINT)
    finally:
        _call("fsfreeze", "-u", str(disk))
        _call("umount", "-l", str(disk))
    if all(tally.count(wish, subject.method) >= trials for wish in wishes):
        tally.finish()


def _stalled(
    subject: Subject, source: Path | str, disk: Path, where: Path, delay_s: float, number: int | None
) -> list[str]:
    """What is wrong after one stall."""
    out = disk / "run"
    child = Child(commanded(subject, source, out))
    child.listen(time.monotonic() + delay_s)
    subprocess.run(["fsfreeze", "-f", str(disk)], check=True)
    try:
        child.listen(time.monotonic() + 1.0)
        if number is not None and child.is_open:
            child.kill(number)
        child.listen(time.monotonic() + 1.0)
    finally:
        subprocess.run(["fsfreeze", "-u", str(disk)], check=True)
    thawed = time.monotonic()
    code, said, problems = child.end(), child.said(), list[str]()
    if number == signal.SIGINT and code == 4:
        problems += sentence_problems(code, said)
        if (took_s := time.monotonic() - thawed) > _STOP_S:
            problems.append(f"it stopped {took_s:.1f} s after the stall")
    elif code not in (0, -signal.SIGKILL):
        problems.append(f"exit code {code}: {said[-300:]}")
    problems += run_problems(out)
    if code != 0:
        again = Child(commanded(subject, source, out))
        if again.end() != 0:
            problems.append(f"not resumed: {again.said()[-300:]}")
    return problems + finished_problems(out, where / "reference")
