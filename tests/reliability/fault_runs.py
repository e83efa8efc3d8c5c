"""The tiny runs that faults are injected into, each in a process of its own made by a fork.

A fork server saves the start of the interpreter and the imports, which would be ten times the run: the
parent has made the undisturbed run, so it holds everything that the children need, and no thread of ours.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splatomy.cli.main import main
from splatomy.engine import ProductOptions, RunRequest, run
from splatomy.engine.live import LiveRequest, live
from splatomy.events import Progress, Snapshot, Task
from splatomy.io.run import RunFolder

Told = Callable[[str], None]
Groups = Mapping[str, tuple[str, ...]]
_PATIENCE_S = 180.0
_FEW = ProductOptions(map_times=4, sequence_times=3)


@dataclass(frozen=True)
class Subject:
    """A method with a tiny input. groups: its stages, those of a few milliseconds with their neighbours."""

    method: str
    phantom: tuple[str, ...]
    settings: Mapping[str, Any]
    groups: Groups
    num_views: int | None = None
    preset: str = "draft"
    is_exact: bool = True
    """A run that was killed ends with the same numbers as one that was not."""

    def make_input(self, folder: Path) -> Path | str:
        """The input, made in ``folder`` unless it is there."""
        if not self.phantom:
            return "phantom:tiny"
        where = folder / "-".join(self.phantom)
        if not where.exists():
            words = ["phantom", self.phantom[0], *self.phantom[1:], "--out", str(where)]
            if main(words) != 0:
                raise ValueError(f"the phantom {words} cannot be made")
        return where

    def task(self, source: Path | str, out: Path, *, resume: bool) -> Task[RunFolder]:
        """The run, to be driven."""
        if not self.phantom:
            request = LiveRequest(
                str(source), out, "max", self.preset, dict(self.settings), device="cpu", resume=resume
            )
            return live(request)
        return run(
            RunRequest(
                source=Path(source), out=out, method=self.method, preset=self.preset, device="cpu",
                settings=dict(self.settings), num_views=self.num_views, resume=resume, products=_FEW,
            )
        )  # fmt: skip

    def words(self, source: Path | str, out: Path, device: str = "cpu") -> list[str]:
        """The same run for the command line."""
        pairs = [w for k, v in self.settings.items() for w in ("--set", f"{k}={v}")]
        if not self.phantom:
            return ["live", str(source), "--out", str(out), "--rate", "max", "--preset", self.preset, *pairs]
        views = [] if self.num_views is None else ["--views", str(self.num_views)]
        given = ["--method", self.method, "--preset", self.preset, "--device", device]
        return ["reconstruct", str(source), "--out", str(out), *given, *views, *pairs]

    def group_of(self, stage: str, before: str) -> str:
        """The group of a stage; of one that is in none, the group of the stage before it."""
        return next((name for name, stages in self.groups.items() if stage in stages), before)


_VESSELS = ("vessels", "--preset", "tiny")
_OBJECT = ("object", "--preset", "tiny", "--seed", "1")
_START = ("open", "subtract", "compile kernels", "check poses", "masks", "support plane")
_PRODUCTS = (
    "hold-out", "volume", "vessels", "time maps", "files", "sequence", "renders", "curves", "meshes",
    "mesh", "look at mesh", "look around",
)  # fmt: skip
SUBJECTS = {
    subject.method: subject
    for subject in (
        Subject(
            "dynamic_vessels", _VESSELS, {"steps": 400, "num_start": 300, "snapshot_every_s": 0.1},
            {"opening to start volume": (*_START, "fdk"), "training": ("train",),
             "volume to curves": _PRODUCTS, "report": ("report",)},
            num_views=12,
        ),
        Subject(
            "dynamic_tissue", ("tissue", "--preset", "tiny", "--seed", "3"),
            {"steps": 80, "snapshot_every_s": 0.1},
            {"opening": ("open", "depth", "poses", "check depth", "propose", "propagate"),
             "inpainting, keeping": ("inpaint", "keep prepared", "read prepared"),
             "start": ("compile kernels", "track", "seed"), "training": ("train",),
             "pictures, meshes": _PRODUCTS, "report": ("report",)},
        ),
        Subject(
            "pulled_surface", _OBJECT,
            {"splat_steps": 30, "joint_steps": 20, "finish_steps": 20, "mesh_resolution": 24,
             "start_points": 400, "queries": 256, "levels": 6, "log2_table": 12, "snapshot_every_s": 0.2},
            {"opening to start": (*_START, "start"), "training": ("train",),
             "mesh to pictures": _PRODUCTS, "report": ("report",)},
            num_views=6,
        ),
        Subject(
            "completed_object", _OBJECT,
            {"coarse_steps": 40, "fine_steps": 20, "rays": 64, "samples": 12, "levels": 4, "log2_table": 10,
             "mesh_resolution": 24, "snapshot_every_s": 0.2},
            {"opening": (*_START, "complete"), "coarse shape": ("coarse shape",),
             "hidden parts, training": ("hidden masks", "fill hidden parts", "train"),
             "mesh to pictures": _PRODUCTS, "report": ("report",)},
            num_views=6,
        ),
        Subject(
            "live_scene", (), {"steps_per_frame": 1, "publish_every_s": 0.5, "keep_every_s": 0.5},
            {"opening": ("open", "compile kernels"), "frames": ("live", "track"),
             "finishing": ("refine", "finish", "renders", "meshes", "report")},
        ),
        Subject(
            "fdk", _VESSELS, {},
            {"opening to volume": (*_START, "fdk"), "volume to pictures": _PRODUCTS, "report": ("report",)},
            num_views=12, preset="standard",
        ),
        Subject(
            "classical_4d", _VESSELS, {},
            {"opening to ratios": (*_START, "fdk", "ratios"), "volume to curves": _PRODUCTS,
             "report": ("report",)},
            num_views=12, preset="standard",
        ),
    )
}  # fmt: skip


class Child:
    """A forked process that tells how far it is."""

    def __init__(self, work: Callable[[Told], int]) -> None:
        """work: what it does, given what tells a line to the parent; its exit code."""
        reading, writing = os.pipe()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - read after the process has ended
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reading)
            os.dup2(self._errors.fileno(), 1)
            os.dup2(self._errors.fileno(), 2)
            code = 1
            try:
                code = work(lambda line: os.write(writing, line.encode() + b"\n") and None)
            except BaseException:  # noqa: BLE001 - the parent reads it
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        os.close(writing)
        self._pipe, self._rest = reading, b""
        self.lines: list[tuple[float, str]] = []
        self.code: int | None = None
        self.is_open = True

    def listen(self, until_s: float) -> None:
        """Takes what the process tells until a moment of the monotonic clock, or until it has ended."""
        while self.is_open:
            wait_s = until_s - time.monotonic()
            if wait_s < 0:
                return
            if not select.select([self._pipe], [], [], wait_s)[0]:
                return
            self._take()

    def _take(self) -> None:
        data = os.read(self._pipe, 1 << 16)
        self.is_open = bool(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        self.lines += [(time.monotonic(), line.decode()) for line in whole]

    def hear(self, is_it: Callable[[str], bool]) -> bool:
        """Waits for a line; False when the process ended without it."""
        until, seen = time.monotonic() + _PATIENCE_S, 0
        while time.monotonic() < until:
            for _, line in self.lines[seen:]:
                if is_it(line):
                    return True
            seen = len(self.lines)
            if not self.is_open:
                return False
            select.select([self._pipe], [], [], 1.0)
            self._take() if select.select([self._pipe], [], [], 0)[0] else None
        raise TimeoutError("the process neither ended nor came as far")

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends a signal."""
        os.kill(self.pid, number)

    def end(self, patience_s: float = _PATIENCE_S) -> int:
        """The exit code, negative for the signal that ended it."""
        if self.code is None:
            self.listen(time.monotonic() + patience_s)
            if self.is_open:
                self.kill()
                self.listen(time.monotonic() + patience_s)
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self._pipe)
        return self.code

    def said(self) -> str:
        """Everything on its standard output and error."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")


def driven(subject: Subject, source: Path | str, out: Path) -> Callable[[Told], int]:
    """The work of a child: the run, gone on with where there is one; it tells every change of stage."""

    def work(tell: Told) -> int:
        task = subject.task(source, out, resume=is_begun(out))
        told = ""
        for event in task:
            if isinstance(event, Progress | Snapshot) and event.stage != told:
                told = event.stage
                tell(told)
        return 0

    return work


def commanded(subject: Subject, source: Path | str, out: Path, device: str = "cpu") -> Callable[[Told], int]:
    """The same by the command line, which turns errors into sentences and exit codes."""

    def work(tell: Told) -> int:
        tell("open")
        return main([*subject.words(source, out, device), *(["--resume"] if is_begun(out) else [])])

    return work


def is_begun(out: Path) -> bool:
    """True if a user would have to say --resume."""
    return any((out / name).exists() for name in ("run.json", "events.jsonl"))


def undisturbed(subject: Subject, source: Path | str, out: Path) -> dict[str, float]:
    """Makes the run that the others are compared with, in this very process; seconds of each group.

    It is made twice, because the first time also loads libraries, which the children then share.
    """
    seconds: dict[str, float] = {}
    shutil.rmtree(out, ignore_errors=True)
    for name in ("first", "reference"):
        group, began, seconds = next(iter(subject.groups)), time.monotonic(), {}
        for event in subject.task(source, out / name, resume=False):
            if isinstance(event, Progress | Snapshot):
                now = time.monotonic()
                seconds[group] = seconds.get(group, 0.0) + now - began
                group, began = subject.group_of(event.stage, group), now
        seconds[group] = seconds.get(group, 0.0) + time.monotonic() - began
    return seconds


def undisturbed_command(subject: Subject, source: Path | str, out: Path) -> float:
    """The same by the command line, which makes all products; seconds of the whole."""
    shutil.rmtree(out, ignore_errors=True)
    for name in ("first", "reference"):
        began = time.monotonic()
        if main(subject.words(source, out / name)) != 0:
            raise ValueError(f"the undisturbed run of {subject.method} fails")
    return time.monotonic() - began


def sentence_problems(code: int, said: str) -> list[str]:
    """What is wrong with the way in which a command ended that could not do its work."""
    problems = []
    if code not in (2, 3, 4):
        problems.append(f"exit code {code}: {said[-300:]}")
    if "Traceback" in said or "defect" in said:
        problems.append(f"no sentence: {said[-300:]}")
    if said.count("splatomy: ") != 1:
        problems.append(f"{said.count('splatomy: ')} sentences: {said[-300:]}")
    return problems
