"""One job from its file to its exit code: the loop that pulls events and obeys commands."""

from __future__ import annotations

import contextlib
import errno
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from enum import Enum
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors import SafetensorError

import splatomy
from splatomy.engine import RunRequest, run
from splatomy.engine.request import pick_device
from splatomy.errors import InputError, MissingBackendError, is_out_of_memory
from splatomy.events import Event, Notice, Progress, Snapshot, event_json
from splatomy.io.run import RunFolder
from splatomy.jobs.commands import (
    Command,
    FrontEndGone,
    Inbox,
    Message,
    Unreadable,
    command_folder,
    read_stdin,
    watch_folder,
)
from splatomy.jobs.live import run_live
from splatomy.jobs.output import Output, log, private_stdout
from splatomy.jobs.pictures import Gallery, RenderRequest, render_request
from splatomy.jobs.request import Job, read_job
from splatomy.method import find_method, make_config

_PREVIEW_SHARE = 0.1
EXIT_DONE, EXIT_DEFECT, EXIT_INPUT, EXIT_BACKEND, EXIT_STOPPED = 0, 1, 2, 3, 4


def run_job(path: Path) -> int:
    """Runs the job of a JSON file, speaking the protocol of the package's docstring; its exit code."""
    inbox: Inbox = Inbox()
    with private_stdout() as stream:
        output = Output(stream, lambda: inbox.put(FrontEndGone()))
        try:
            job = read_job(path)
            with _signals(inbox, job.detached):
                threading.Thread(target=read_stdin, args=(inbox,), daemon=True).start()
                if job.live is not None:
                    return run_live(job.live, job.detached, inbox, output)
                with Session(job, inbox, output) as session:
                    return session.run()
        except Exception as error:  # noqa: BLE001 - whatever it is, the front end is told
            code, sentence, hint, exit_code = _failure(error)
            if code == "defect":
                log(traceback.format_exc())
            log(sentence)
            # A full disk must not keep the error from standard output.
            with contextlib.suppress(OSError):
                output.send({"event": "error", "code": code, "text": sentence, "hint": hint})
            return exit_code


@contextlib.contextmanager
def _signals(inbox: Inbox, detached: bool) -> Iterator[None]:
    """SIGTERM, Ctrl-C and a closed terminal are the command cancel; a detached job survives the last."""

    def cancel(number: int, frame: FrameType | None) -> None:
        inbox.put(Command("cancel", {}))

    handlers: dict[int, Any] = {signal.SIGTERM: cancel, signal.SIGINT: cancel}
    if hasattr(signal, "SIGHUP"):
        handlers[signal.SIGHUP] = signal.SIG_IGN if detached else cancel
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _failure(error: Exception) -> tuple[str, str, str | None, int]:
    """Code, sentence, hint and exit code of an error."""
    text = str(error)
    if isinstance(error, InputError):
        return "input", text, None, EXIT_INPUT
    if isinstance(error, MissingBackendError):
        return "backend", text, "Install what it names where splatomy is installed.", EXIT_BACKEND
    # The safetensors library has no type of its own for this.
    no_space = isinstance(error, SafetensorError) and "os error" in text
    if is_out_of_memory(error):
        return (
            "memory",
            "The memory of this machine is too small for this job; its last checkpoint was kept.",
            "Use a coarser input (option bin), fewer Gaussians or preset draft, or close other programs.",
            EXIT_INPUT,
        )
    if isinstance(error, OSError) or no_space:
        full = no_space or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        name = Path(getattr(error, "filename", None) or "a file of the run").name
        what = "the disk is full" if full else getattr(error, "strerror", None) or text
        return (
            "disk",
            f"{name} cannot be read or written: {what}.",
            "Check space, rights and the path, then resume.",
            EXIT_INPUT,
        )
    sentence = f"This is a defect of splatomy {splatomy.__version__} ({type(error).__name__})."
    return "defect", sentence, "Report it with the lines on standard error.", EXIT_DEFECT


class _End(Enum):
    """Why the engine was left."""

    DONE = 0
    STOPPED = 1
    TRAIN_ON = 2


class _Clock:
    """The time left in a stage, from the steps done in it so far; pauses do not count."""

    def __init__(self) -> None:
        self._stage, self._start_s, self._first, self._newest = "", 0.0, 0, 0

    def left_s(self, event: Progress) -> float | None:
        """Seconds to the stage's end, None when not known yet."""
        now = time.monotonic()
        if event.stage != self._stage or event.step < self._newest:
            self._stage, self._start_s, self._first = event.stage, now, event.step
        self._newest = event.step
        done = event.step - self._first
        if event.step >= event.total:
            return 0.0
        return round((now - self._start_s) / done * (event.total - event.step), 1) if done else None

    def shift(self, paused_s: float) -> None:
        """A pause is over."""
        self._start_s += paused_s


def _to_go_on(request: RunRequest) -> RunRequest:
    """The request, with at least the steps that the run to resume was continued to."""
    config = make_config(find_method(request.method), request.preset, request.settings)
    if not (request.resume and hasattr(config, "steps") and (request.out / "run.json").exists()):
        return request
    before = RunFolder(request.out).record().get("config")
    steps = before.get("steps") if isinstance(before, dict) else None
    if not isinstance(steps, int) or steps <= config.steps:
        return request
    return replace(request, settings={**request.settings, "steps": steps})


class Session:
    """A job in progress; used as a context that ends its threads."""

    def __init__(self, job: Job, inbox: Inbox, output: Output) -> None:
        self.detached, self.inbox, self.output = job.detached, inbox, output
        self.request = _to_go_on(replace(job.run, on_held=self._held))
        self.gallery = Gallery(job.run.out)
        self.device = pick_device(job.run.device)
        self.clock = _Clock()
        self.newest: Snapshot | None = None
        self.wanted: RenderRequest | None = None
        self.paused = self.stopping = self.is_held = False
        self.more_steps = 0
        self.preview_due_s = 0.0
        self.ended = threading.Event()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        self.ended.set()

    def run(self) -> int:
        """Drives the engine to its end, once more for each continuation; the exit code."""
        while True:
            end = self._drive()
            if end is _End.TRAIN_ON:
                self._extend()
                continue
            if end is _End.STOPPED:
                kept = "its result and checkpoint so far were kept" if self.is_held else "nothing was written"
                self._notice("info", "stopped", f"The job was stopped; {kept}.")
                return EXIT_STOPPED
            self.output.send({"event": "done", "run": str(self.request.out.absolute())})
            return EXIT_DONE

    def _drive(self) -> _End:
        task = run(self.request)
        try:
            while True:
                end = self._obey()
                if end is not None:
                    return end
                try:
                    event = next(task)
                except StopIteration:
                    # A continuation may have come in with the last product.
                    return _End.TRAIN_ON if self._obey() is _End.TRAIN_ON else _End.DONE
                self._publish(event)
        finally:
            task.close()

    def _held(self, folder: RunFolder) -> None:
        """The engine made the run folder ready and keeps others out."""
        if self.is_held:
            return
        self.is_held = True
        self.output.hold(folder)
        self.gallery.clear()
        commands = command_folder(folder.path, watched=self.detached)
        if self.detached:
            watcher = threading.Thread(
                target=watch_folder, args=(commands, self.inbox, self.ended), daemon=True
            )
            watcher.start()

    # -- events ----------------------------------------------------------------------------------

    def _publish(self, event: Event) -> None:
        line = event_json(event)
        if isinstance(event, Progress):
            line |= {"eta_s": self.clock.left_s(event), "gpu_mem_mb": self._gpu_mem_mb()}
        elif isinstance(event, Snapshot):
            self.newest = event
            if time.monotonic() < self.preview_due_s and not self._is_trained():
                return
            line["files"] = self._preview(event)
        elif isinstance(event, Notice) and event.level == "warning":
            log(event.text)
        self.output.send(line)

    def _preview(self, snapshot: Snapshot) -> dict[str, str]:
        """The files of a snapshot; the next ones wait until previews take a small share of the time."""
        began = time.monotonic()
        files = self.gallery.preview(snapshot.scene, snapshot.step)
        now = time.monotonic()
        self.preview_due_s = now + (now - began) * (1 / _PREVIEW_SHARE - 1)
        return files

    def _gpu_mem_mb(self) -> float | None:
        if self.device.type != "cuda":
            return None
        return round(torch.cuda.memory_reserved(self.device) / 2**20, 1)

    def _notice(self, level: str, code: str, text: str, **extra: Any) -> None:
        self.output.send({"event": "notice", "level": level, "code": code, "text": text, **extra})

    # -- commands --------------------------------------------------------------------------------

    def _obey(self) -> _End | None:
        """Takes what came in; while paused it waits here, without using the processor."""
        while True:
            while not self.inbox.empty():
                self._take(self.inbox.get())
            if self.stopping:
                return _End.STOPPED
            if self.more_steps and self._is_trained():
                return _End.TRAIN_ON
            self._answer()
            if not self.paused:
                return None
            began = time.monotonic()
            self._take(self.inbox.get())
            self.clock.shift(time.monotonic() - began)

    def _take(self, message: Message) -> None:
        match message:
            case FrontEndGone():
                self.stopping = self.stopping or not self.detached
            case Unreadable(text):
                self._notice("warning", "unreadable-command", text)
            case Command("cancel", _):
                self.stopping = True
            case Command("pause", _):
                self.paused = True
                self._notice("info", "paused", "The job holds until it is resumed or cancelled.")
            case Command("resume", _):
                self.paused = False
                self._notice("info", "resumed", "The job goes on.")
            case Command("continue", fields):
                self._take_steps(fields.get("steps"))
            case Command("render", fields):
                try:
                    self.wanted = render_request(fields)
                except InputError as error:
                    self._notice("warning", "render", str(error), id=fields.get("id"))
            case Command(_, _):
                self._notice(
                    "warning",
                    "unknown-command",
                    "A command is none of this job's: expected pause, resume, cancel, continue or render.",
                )

    def _planned_steps(self) -> int | None:
        config = make_config(find_method(self.request.method), self.request.preset, self.request.settings)
        return getattr(config, "steps", None)

    def _take_steps(self, steps: Any) -> None:
        planned = self._planned_steps()
        if planned is None:
            text = f"Method {self.request.method} has no training steps, so there is nothing to continue."
            self._notice("warning", "continue", text)
            return
        if type(steps) is not int or steps < 1:
            self._notice("warning", "continue", "continue needs steps: expected a whole number from 1.")
            return
        total = planned + self.more_steps + steps
        try:
            make_config(
                find_method(self.request.method),
                self.request.preset,
                {**self.request.settings, "steps": total},
            )
        except InputError as error:
            self._notice("warning", "continue", str(error))
            return
        self.more_steps += steps
        self._notice("info", "continue", f"Training will go on to {total} steps.")

    def _is_trained(self) -> bool:
        """True when the planned steps are done and can be trained on from."""
        snapshot, planned = self.newest, self._planned_steps()
        if snapshot is None or snapshot.checkpoint is None or planned is None:
            return False
        return snapshot.step >= planned

    def _extend(self) -> None:
        """Plans the steps asked for; the run resumes from its checkpoint."""
        steps = (self._planned_steps() or 0) + self.more_steps
        self.more_steps = 0
        settings = {**self.request.settings, "steps": steps}
        self.request = replace(self.request, settings=settings, resume=True, force=False)

    def _answer(self) -> None:
        """Renders what is wanted, once there is a scene."""
        if self.wanted is None or self.newest is None:
            return
        request, self.wanted = self.wanted, None
        try:
            path = self.gallery.render(self.newest.scene, request)
        except InputError as error:
            self._notice("warning", "render", str(error), id=request.identifier)
        except (MemoryError, torch.OutOfMemoryError):
            text = "The memory is too small for a picture of that size. Ask for a smaller one."
            self._notice("warning", "render", text, id=request.identifier)
        else:
            self.output.send({"event": "render", "id": request.identifier, "file": str(path)})
