"""Runs of the engine on behalf of a scene: started, watched, previewed and loaded, without any widget."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SplatomyLib import bridge_case, install
from SplatomyLib.casefile import is_case, write_json
from SplatomyLib.files import UnusableFile, is_run, open_run
from SplatomyLib.geometry import World
from SplatomyLib.preview import EVERY_S, LivePreview
from SplatomyLib.process import QUIT_GRACE_S, Pipe, Runner
from SplatomyLib.protocol import TERMINATE_AFTER_S, Job, JobSpec, State
from SplatomyLib.signal import Signal

_LIVE_EVERY_S = 0.5
_LIVE_PATIENCE_S = 90.0
"""A session that is stopped improves and writes its result first."""


@dataclass
class Run:
    """One engine process and what it is for."""

    number: int
    runner: Runner
    out: Path | None = None
    preview: LivePreview | None = None
    loaded: bridge_case.Loaded | None = None

    @property
    def job(self) -> Job:
        """Its state."""
        return self.runner.job

    @property
    def title(self) -> str:
        """Its name in lists."""
        return f"{self.number}: {self.job.title}"


class EngineLogic:
    """All engine processes of a Slicer session.

    new_pipe: makes the pipe of a process. clock: seconds that only go forward.
    changed: emitted with a run when anything is new. over: with a run whose process is gone.
    """

    def __init__(
        self, scene: Any, new_pipe: Callable[[], Pipe], environment: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.scene, self.new_pipe, self._environment, self._clock = scene, new_pipe, environment, clock
        self.engine: install.Engine | None = None
        self.runs: list[Run] = []
        self.changed, self.over = Signal(), Signal()
        self._count = 0
        self._quits = False
        self._installing: Path | None = None

    # -- the engine itself ---------------------------------------------------------------------------

    def check(self, command: Sequence[str], told: Callable[[str], None]) -> Run:
        """Asks a command whether it is the engine; ``told`` gets what a person should read."""

        def over(run: Run) -> None:
            job = run.job
            try:
                if job.state is not State.DONE:
                    raise ValueError(job.problem or "The program did not answer.")
                self.engine = install.engine_of(command, job.answers[-1] if job.answers else "")
            except ValueError as error:
                told(str(error))
            else:
                told(self.engine.text())

        return self._begin(Job("Check the engine", speaks=False), [*command, *install.VERSION_WORDS], over)

    def install(self, steps: list[tuple[str, list[str]]], target: Path, told: Callable[[str], None]) -> Run:
        """Makes the engine's environment by the steps of ``install.install_steps``, one after the other."""
        what, command = steps[0]
        self._installing = target

        def over(run: Run) -> None:
            job, self._installing = run.job, None
            if job.state is not State.DONE:
                install.remove_unfinished(target)
                told(f"{what} did not work. {job.problem}")
            elif len(steps) > 1:
                self.install(steps[1:], target, told)
            else:
                try:
                    self.engine = install.engine_of(command[: -len(install.VERSION_WORDS)], job.answers[-1])
                    told(self.engine.text())
                except (ValueError, IndexError) as error:
                    told(str(error))

        told(f"{what} ...")
        return self._begin(Job(what, speaks=False), command, over)

    # -- its commands --------------------------------------------------------------------------------

    def unpack(
        self, source: Path, folder: Path, done: Callable[[bridge_case.Loaded], None],
        failed: Callable[[str], None], options: Sequence[str] = (),
    ) -> Run:  # fmt: skip
        """Has the engine write an input's frames, then loads them; a case brings its masks."""
        words = ["frames", str(source), "--out", str(folder), "--events", "jsonl", "--force", *options]
        case = source if is_case(source) else None
        name = source.stem if source.is_file() and not case else source.name.removesuffix(".splatomy")

        def over(run: Run) -> None:
            if run.job.state is not State.DONE:
                failed(run.job.text(self._clock()))
                return
            try:
                loaded = bridge_case.load_input(self.scene, folder, name, case, source)
            except UnusableFile as error:
                failed(str(error))
            else:
                done(loaded)

        return self._begin(Job(f"Load {name}", speaks=False), self._words(*words), over, out=folder)

    def command(self, title: str, words: Sequence[str], over: Callable[[Run], None]) -> Run:
        """Any other command of the engine, such as ``masks`` or ``phantom``."""
        return self._begin(Job(title, speaks=False), self._words(*words), over)

    def reconstruct(
        self, spec: JobSpec, world: World, transform: Any, live: bool, over: Callable[[Run], None]
    ) -> Run:
        """Starts a reconstruction. Its job file lies beside the run folder, as the run's own is not made yet.

        Raises:
            UnusableFile: the folder holds something else, or cannot be made.
        """
        self._check_target(spec)
        job_file = spec.out.with_name(f"{spec.out.name}.job.json")
        try:
            spec.out.parent.mkdir(parents=True, exist_ok=True)
            write_json(job_file, spec.as_json())
        except OSError as error:
            raise UnusableFile(
                f"{spec.out.parent} cannot be written: {error.strerror}. Choose another."
            ) from None
        every_s = _LIVE_EVERY_S if spec.live else EVERY_S
        preview = LivePreview(self.scene, spec.out.name, world, transform, every_s) if live else None

        def ended(run: Run) -> None:
            # After a failure the newest snapshot is all that there is to see.
            if run.preview is not None and run.job.state is not State.FAILED:
                run.preview.remove()
            over(run)

        words = self._words("job", "run", str(job_file))
        patience_s = _LIVE_PATIENCE_S if spec.live else TERMINATE_AFTER_S
        job = Job(spec.out.name, patience_s=patience_s)
        return self._begin(job, words, ended, out=spec.out, preview=preview)

    def resume(self, folder: Path, live: bool, over: Callable[[Run], None]) -> Run:
        """Goes on with a run from its last checkpoint.

        Raises:
            UnusableFile: no run, or its input is not where it was.
        """
        spec = resumed(folder, source_of_run(folder))
        return self.reconstruct(spec, open_run(folder).world, None, live, over)

    def _check_target(self, spec: JobSpec) -> None:
        if spec.out.exists() and not spec.out.is_dir():
            raise UnusableFile(f"{spec.out.name} is a file: expected a folder for the run. Choose another.")
        busy = [run for run in self.runs if run.out == spec.out and not run.job.state.is_over]
        if busy:
            raise UnusableFile(f"The run {spec.out.name} is in progress. Cancel it first, or choose another.")
        if spec.out.is_dir() and any(spec.out.iterdir()) and not (is_run(spec.out) or spec.force):
            raise UnusableFile(f"{spec.out.name} holds other things than a run. Choose an empty folder.")

    def load_result(self, run: Run) -> bridge_case.Loaded:
        """Brings a finished or stopped run into the scene.

        Raises:
            UnusableFile: there is no result.
        """
        if run.out is None:
            raise UnusableFile("This was no reconstruction: it has no result to load.")
        run.loaded = bridge_case.load_run(self.scene, run.out)
        return run.loaded

    # -- all of them ---------------------------------------------------------------------------------

    def poll(self) -> None:
        """Looks after every run; call it several times a second from the main thread."""
        for run in tuple(self.runs):
            if run.job.state.is_over:
                continue
            run.runner.poll()
            if run.preview is not None and not run.job.state.is_over:
                run.preview.show(self._clock())

    def active(self) -> list[Run]:
        """Runs whose process lives."""
        return [run for run in self.runs if not run.job.state.is_over]

    def forget_scene(self) -> None:
        """The scene was closed: runs go on, their previews do not."""
        for run in self.runs:
            run.preview, run.loaded = None, None

    def shut_down(self) -> None:
        """Slicer quits: every run keeps its checkpoint and ends, all of them within one grace.

        Nobody hears of it any more: panels and views may be gone already.
        """
        self._quits = True
        for run in self.active():
            run.runner.cancel()
        end_s = time.monotonic() + QUIT_GRACE_S
        for run in self.active():
            run.runner.shut_down(max(0.0, end_s - time.monotonic()))
        if self._installing is not None:
            install.remove_unfinished(self._installing)

    def now_s(self) -> float:
        """The clock of the runs."""
        return self._clock()

    def _words(self, *words: str) -> list[str]:
        if self.engine is None:
            raise UnusableFile("There is no engine yet. Choose or install it in the section Engine.")
        return [*self.engine.command, *words]

    def _begin(
        self, job: Job, command: Sequence[str], over: Callable[[Run], None], out: Path | None = None,
        preview: LivePreview | None = None,
    ) -> Run:  # fmt: skip
        self._count += 1
        runner = Runner(self.new_pipe(), job, self._clock)
        run = Run(self._count, runner, out, preview)
        self.runs.append(run)
        runner.changed.connect(lambda _: self._quits or self.changed.emit(run))
        if preview is not None:
            runner.snapshot.connect(preview.offer)
        runner.over.connect(lambda _: self._quits or over(run))
        runner.over.connect(lambda _: self._quits or self.over.emit(run))
        runner.start(command, self._environment)
        return run


def resumed(path: Path, source: Path) -> JobSpec:
    """The spec that resumes a run from its own record."""
    record = open_run(path).record
    options = {key: value for key, value in (record.get("input_options") or {}).items() if value is not None}
    return JobSpec(
        source, path, method=str(record.get("method", "")), preset=str(record.get("preset", "")),
        config=dict(record.get("config") or {}), options=options, views=record.get("num_views"),
        seed=record.get("seed"), resume=True,
    )  # fmt: skip


def source_of_run(path: Path) -> Path:
    """The input of a run, from its record.

    Raises:
        UnusableFile: it is not where it was.
    """
    source = (path / str(open_run(path).record.get("input_path", ""))).resolve()
    if not source.exists():
        raise UnusableFile(f"The input of {path.name} is not where it was. Put it back, or load it again.")
    return source


def new_run_folder(parent: Path, stem: str) -> Path:
    """A run folder that does not exist yet, nor masks that were written for it."""
    number = 1
    while (run := parent / f"{stem}-run-{number}").exists() or masks_beside(run).exists():
        number += 1
    return run


def masks_beside(run: Path) -> Path:
    """Where masks that were painted for a run are kept, as its own folder is not made yet."""
    return run.with_name(f"{run.name}.masks")
