"""A live session as a task: opened, run, and left as a run folder like any other."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

import splatomy
from splatomy.background import beside
from splatomy.engine.live.continuing import go_on
from splatomy.engine.live.finishing import finished
from splatomy.engine.live.frame_preparing import Preparer
from splatomy.engine.live.front import Front, StepFront, ThreadedFront
from splatomy.engine.live.newest_picture import ShownSource
from splatomy.engine.live.phantom_source import open_source
from splatomy.engine.live.request import METHOD, LiveRequest
from splatomy.engine.live.session import LiveSession
from splatomy.engine.memory_bound import HALVED, halvings_of
from splatomy.engine.repeatable import repeatable
from splatomy.engine.request import kernel_backends, pick_device
from splatomy.engine.resuming import stored_checkpoint
from splatomy.errors import InputError
from splatomy.events import Event, Notice, Progress, Task, event_json
from splatomy.io.live_sources import LiveSource, SourceInfo
from splatomy.io.run import RunFolder, check_run_path, prepare_run
from splatomy.kernels.ready import made_ready, on, surfel_kernels
from splatomy.method import find_method, make_config
from splatomy.methods.live_scene.config import Config, halved
from splatomy.methods.live_scene.online import Online
from splatomy.methods.live_scene.warming import warm_up


def live(request: LiveRequest, source: LiveSource | None = None) -> Task[RunFolder]:
    """The run folder of a finished session.

    source: an open one to take instead of the request's, which then only names it.

    The session ends with its stream, or by the command finish. Closing the task ends it at once: the newest
    scene, the path and a checkpoint are kept and the session counts as cancelled.

    Raises:
        InputError: the source, an option or a setting cannot be used, or no frame showed tissue.
    """
    spec = find_method(METHOD)
    config: Config = make_config(spec, request.preset, request.settings)
    config = dataclasses.replace(config, seed=request.seed)
    device = pick_device(request.device)
    check_run_path(request.out, force=request.force, resume=request.resume)
    if source is None:

        def opened() -> LiveSource:
            return open_source(request.source, request.options, request.rate, request.seed)

        source = yield from beside("open", 0, 1, opened)
    info = source.describe()
    try:
        preparer = Preparer(info, request.options, str(device))
        parts = on(device, surfel_kernels)
        if device.type == "cuda":
            camera = info.intrinsics, info.width_px, info.height_px
            parts.append(partial(warm_up, config, *camera, device))
        yield from made_ready(*parts)
        folder = RunFolder(request.out)
        with folder.lock(), repeatable(device, False):
            prepare_run(request.out, force=request.force, resume=request.resume)
            if request.on_held is not None:
                request.on_held(folder)
            keeper = _Keeper(request, config, device, folder, info)
            if request.rate == "real":
                source = ShownSource(source, folder.path)
            yield from keeper.drive(source, preparer)
    finally:
        source.close()
    return folder


class _Keeper:
    """Keeps the record of a session while it is driven."""

    def __init__(
        self, request: LiveRequest, config: Config, device: torch.device, folder: RunFolder, info: SourceInfo
    ) -> None:
        self.request, self.config, self.device, self.folder, self.info = request, config, device, folder, info
        self.notices: list[str] = []
        self.record: dict[str, Any] = {"halvings": _halvings_before(request)}
        self._events_refused = False

    def drive(self, source: LiveSource, preparer: Preparer) -> Task[None]:
        """Runs the session and writes what it leaves."""
        torch.manual_seed(self.request.seed)
        self._write_record("running", start=_clock())
        session: LiveSession | None = None
        try:
            for event in self._greeting():
                self.note(event)
                yield event
            online = Online(
                self._smaller(),
                self.info.intrinsics,
                self.info.width_px,
                self.info.height_px,
                self.info.metric,
                self.device,
            )
            front: Front = StepFront(source, preparer)
            if self.request.rate == "real":
                front = ThreadedFront(source, preparer, self.info)
            session = LiveSession(self.request, self.config, online, source, front, preparer, self.folder)
            if self.request.resume:
                yield from self._resumed(session)
            yield from self._noted(session.run())
            session.close()
            yield from self._noted(session.last_news())
            self._write_record("running", depth=preparer.depth_source)
            yield from self._noted(finished(self.folder, session, self.record))
        except GeneratorExit:
            self._keep_unfinished(session, "cancelled")
            raise
        except BaseException as error:
            self.record["error"] = str(error) if isinstance(error, InputError) else type(error).__name__
            with contextlib.suppress(OSError):
                self._keep_unfinished(session, "failed")
            raise
        self._write_record("done", end=_clock())

    def _greeting(self) -> Iterator[Event]:
        """What is known and assumed of the source, before its first frame."""
        info = self.info
        yield Progress("open", 1, 1)
        for text in info.found:
            yield Notice("info", "source", f"Found: {text}")
        for text in info.assumed:
            yield Notice("info", "source", f"Assumed: {text}")
        for text in info.problems:
            yield Notice("warning", "source", text)
        if not info.metric:
            text = (
                "The source has no scale: lengths have no unit until the surgeon tells one (command scale)."
            )
            yield Notice("warning", "no-scale", text)

    def _smaller(self) -> Config:
        """The settings as they were halved before the session was interrupted."""
        config = self.config
        for _ in range(self.record["halvings"]):
            config = halved(config, self.info.width_px) or config
        return config

    def _resumed(self, session: LiveSession) -> Iterator[Event]:
        stored = stored_checkpoint(self.folder)
        if stored is None:
            text = "There is no checkpoint yet; the session starts anew."
            yield Notice("info", "no-checkpoint", text)
            return
        go_on(session, stored.checkpoint)
        step = int(stored.checkpoint.values["step"])
        yield Notice("info", "resumed", f"The session goes on after {step} frames.")

    def _noted(self, events: Any) -> Task[None]:
        for event in events:
            self.note(event)
            yield event

    def note(self, event: Event) -> None:
        """Records one event; a full disk must not end a session."""
        if isinstance(event, Notice) and event.level == "warning":
            self.notices = [*self.notices, event.text][-200:]
            self.record["halvings"] += event.code == HALVED
        if self.request.on_held is None:
            with contextlib.suppress(OSError):
                self.folder.append_event({"time": round(time.time(), 3), **event_json(event)})

    def _write_record(self, state: str, **extra: Any) -> None:
        backends = kernel_backends(find_method(METHOD).modality, self.device)
        self.record |= {
            "software": splatomy.__version__,
            "method": METHOD,
            "preset": self.request.preset,
            "config": dataclasses.asdict(self.config),
            "seed": self.request.seed,
            "device": str(self.device),
            **backends,
            "input": self.info.name,
            "rate": self.request.rate,
            "world": "first camera",
            "metric": self.record.get("metric", self.info.metric),
            "state": state,
            "notices": list(dict.fromkeys(self.notices)),
            **extra,
        }
        self.folder.write_record(self.record)

    def _keep_unfinished(self, session: LiveSession | None, state: str) -> None:
        """Keeps scene, path and checkpoint of a session that is ended at once."""
        try:
            if session is not None:
                session.keep_now()
                session.close()
        finally:
            self._write_record(state, end=_clock())


def _halvings_before(request: LiveRequest) -> int:
    """How often a session that is resumed halved its settings until now."""
    if request.resume:
        # A record that cannot be read has nothing to go on from either.
        with contextlib.suppress(InputError):
            return halvings_of(RunFolder(request.out).record())
    return 0


def _clock() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S")
