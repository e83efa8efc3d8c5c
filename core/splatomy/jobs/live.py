"""A live session under the supervision of a front end."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace
from typing import Any

from splatomy.engine.live import LiveRequest, live
from splatomy.engine.live.commands import NAMES
from splatomy.errors import InputError
from splatomy.events import Event, Notice, Snapshot, event_json
from splatomy.io.run import RunFolder
from splatomy.jobs.commands import (
    Command,
    FrontEndGone,
    Inbox,
    Message,
    Unreadable,
    command_folder,
    watch_folder,
)
from splatomy.jobs.output import Output, log
from splatomy.jobs.pictures import Gallery, RenderRequest, render_request

EXIT_DONE = 0


def run_live(request: LiveRequest, detached: bool, inbox: Inbox, output: Output) -> int:
    """Runs a session to its end, which is that of its stream or the command cancel; the exit code."""
    session = LiveJob(request, detached, inbox, output)
    try:
        return session.run()
    finally:
        session.ended.set()


class LiveJob:
    """A session in progress. Cancel, or a front end that went, ends it well: with its report."""

    def __init__(self, request: LiveRequest, detached: bool, inbox: Inbox, output: Output) -> None:
        self.request = replace(request, on_held=self._held)
        self.detached, self.inbox, self.output = detached, inbox, output
        self.gallery = Gallery(request.out)
        self.ended = threading.Event()
        self.newest: Snapshot | None = None
        self.wanted: RenderRequest | None = None

    def run(self) -> int:
        """Drives the session; its commands go to its own inbox, which it looks into between two frames."""
        task = live(self.request)
        try:
            while True:
                while not self.inbox.empty():
                    self._take(self.inbox.get())
                try:
                    event = next(task)
                except StopIteration:
                    break
                self._publish(event)
                self._answer()
        finally:
            task.close()
        self._send({"event": "done", "run": str(self.request.out.absolute())})
        return EXIT_DONE

    def _held(self, folder: RunFolder) -> None:
        self.output.hold(folder)
        commands = command_folder(folder.path, watched=self.detached)
        if self.detached:
            arguments = (commands, self.inbox, self.ended)
            threading.Thread(target=watch_folder, args=arguments, daemon=True).start()

    def _send(self, line: dict[str, Any]) -> None:
        # Standard output is written first; a full disk must not end a session.
        with contextlib.suppress(OSError):
            self.output.send(line)

    def _publish(self, event: Event) -> None:
        if isinstance(event, Snapshot):
            self.newest = event
            if event.files is None:
                return
        if isinstance(event, Notice) and event.level == "warning":
            log(event.text)
        self._send(event_json(event))

    def _notice(self, code: str, text: str, **extra: Any) -> None:
        self._send({"event": "notice", "level": "warning", "code": code, "text": text, **extra})

    def _take(self, message: Message) -> None:
        match message:
            case FrontEndGone():
                if not self.detached:
                    self.request.inbox.put({"command": "finish"})
            case Unreadable(text):
                self._notice("unreadable-command", text)
            case Command("cancel", _):
                self.request.inbox.put({"command": "finish"})
            case Command("render", fields):
                try:
                    self.wanted = render_request(fields)
                except InputError as error:
                    self._notice("render", str(error), id=fields.get("id"))
            case Command(name, fields) if name in (*NAMES, "pause", "resume"):
                self.request.inbox.put(fields)
            case Command(_, _):
                self._notice(
                    "unknown-command",
                    "A command is none of a live session's: expected pause, resume, cancel, render, "
                    f"{', '.join(NAMES)}.",
                )

    def _answer(self) -> None:
        """Renders what is wanted, once there is a scene; in the thread that drives the session."""
        if self.wanted is None or self.newest is None:
            return
        request, self.wanted = self.wanted, None
        try:
            path = self.gallery.render(self.newest.scene, request)
        except InputError as error:
            self._notice("render", str(error), id=request.identifier)
        else:
            self._send({"event": "render", "id": request.identifier, "file": str(path)})
