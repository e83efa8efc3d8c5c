"""Engine processes seen from the app: threads read their lines and pass commands on."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from PyQt6.QtCore import QObject, pyqtSignal

from splatomy.errors import InputError
from splatomy.io.atomic import write_json
from splatomy_gui.abstract import AbstractQt

_LOG = logging.getLogger(__name__)
_LONGEST_LINE = 1 << 20
_GARBAGE_SHOWN = 5
_POLL_S = 0.2
_ALIVE_EVERY_S = 2.0
_LAST_WORDS_S = 5.0
_PASSING_S = 2.0

Event = dict[str, Any]


def engine_words(*words: str) -> list[str]:
    """The command line of a splatomy command in this very environment."""
    return [sys.executable, "-m", "splatomy", *words]


def engine_environment() -> dict[str, str]:
    """The environment of an engine process: as ours, in UTF-8, unbuffered."""
    return {**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"}


def own_session() -> dict[str, Any]:
    """What keeps a Ctrl-C or a closed terminal of the app away from the process."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


class EngineLink(QObject, metaclass=AbstractQt):
    """Events from an engine and commands to it. ``take`` empties what ``news`` announced.

    Many events between two looks of the GUI thread make one ``news``, so that a talkative engine cannot
    flood the window. The thread is a daemon: an app that ends does not wait for an engine that works for
    hours.
    """

    news = pyqtSignal()
    gone = pyqtSignal(object)
    """The exit code; None when it is not known. Everything it said can be taken before."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._events: deque[Event] = deque()
        self._told = threading.Event()
        self._commands: SimpleQueue[bytes | None] = SimpleQueue()
        self._passed = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="engine", daemon=True)
        self.garbage = 0

    def start(self) -> None:
        """Begins to listen."""
        self._thread.start()

    def wait(self, timeout_s: float = 2.0) -> bool:
        """Waits for the thread; True if it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @abstractmethod
    def _listen(self) -> None:
        """What the thread does."""

    def take(self) -> list[Event]:
        """The events since the last call."""
        self._told.clear()
        taken = []
        while self._events:
            taken.append(self._events.popleft())
        return taken

    def send(self, command: Mapping[str, Any]) -> None:
        """Passes a command on, after those before it; never waits."""
        self._commands.put(json.dumps(command).encode() + b"\n")

    @abstractmethod
    def leave(self) -> None:
        """Stops listening; a detached engine goes on."""

    def passed_on(self, timeout_s: float = _PASSING_S) -> bool:
        """Waits, after ``leave``, until every command is passed on; True if it is."""
        return self._passed.wait(timeout_s)

    def _put(self, line: bytes) -> None:
        """One line of the engine; what is no event is counted and logged, never more."""
        event: Any = None
        with suppress(ValueError, RecursionError):
            event = json.loads(line)
        if not isinstance(event, dict) or not isinstance(event.get("event"), str):
            if line.strip():
                self.garbage += 1
                if self.garbage <= _GARBAGE_SHOWN:
                    _LOG.warning("The engine said something that is no event: %r", line[:200])
            return
        self._events.append(event)
        if not self._told.is_set():
            self._told.set()
            self.news.emit()


class LaunchedEngine(EngineLink):
    """An engine process that the app starts; its log goes to a file."""

    def __init__(
        self,
        words: Sequence[str],
        log: Path,
        job: tuple[Path, Mapping[str, Any]] | None = None,
        parent: QObject | None = None,
    ) -> None:
        """words: of the splatomy command. job: a JSON file to write first, and its content."""
        super().__init__(parent)
        self._words, self._log, self._job = words, log, job
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process, once it runs."""
        return None if self._process is None else self._process.pid

    def leave(self) -> None:
        self._commands.put(None)

    def kill(self) -> None:
        """Ends the process at once."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def _listen(self) -> None:
        """Starts the process and reads its lines."""
        try:
            if self._job is not None:
                write_json(*self._job)
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    engine_words(*self._words),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=engine_environment(),
                    **own_session(),
                )
        except OSError as error:
            _LOG.exception("the engine could not be started")
            text = f"The engine could not be started: {error.strerror or error}."
            self._put(json.dumps({"event": "error", "code": "disk", "text": text, "hint": None}).encode())
            self._passed.set()
            self.gone.emit(None)
            return
        threading.Thread(target=self._write, args=(self._process,), daemon=True).start()
        stdout = self._process.stdout
        while stdout is not None and (line := stdout.readline(_LONGEST_LINE)):
            self._put(line)
        try:
            code = self._process.wait(_LAST_WORDS_S)
        except subprocess.TimeoutExpired:
            # It closed its output but lives on; without output it cannot be supervised.
            self._process.kill()
            code = self._process.wait()
        self._commands.put(None)
        self.gone.emit(code)

    def _write(self, process: subprocess.Popen[bytes]) -> None:
        """Passes commands on, in a thread of its own, because a full pipe blocks."""
        stdin = process.stdin
        try:
            while stdin is not None and (line := self._commands.get()) is not None:
                stdin.write(line)
                stdin.flush()
        except OSError:
            return
        finally:
            with suppress(OSError):
                if stdin is not None:
                    stdin.close()
            self._passed.set()


class FollowedEngine(EngineLink):
    """A detached engine that an earlier app started: RUN/events.jsonl is read, RUN/commands/ written."""

    def __init__(self, run: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._run = run
        self._left = threading.Event()

    def leave(self) -> None:
        self._left.set()
        self._commands.put(None)

    def _write(self) -> None:
        """Passes commands on, one after the other: the engine takes the oldest file first."""
        stamp = 0
        while (line := self._commands.get()) is not None:
            stamp = max(stamp + 1, time.time_ns())
            try:
                write_json(self._run / "commands" / f"{stamp}.json", json.loads(line))
            except OSError:
                _LOG.exception("a command could not be written")
        self._passed.set()

    def _listen(self) -> None:
        """Follows the file until the engine ends."""
        threading.Thread(target=self._write, daemon=True).start()
        position, rest, checked_s = 0, b"", 0.0
        alive = True
        while not self._left.is_set():
            try:
                with (self._run / "events.jsonl").open("rb") as file:
                    file.seek(position)
                    block = file.read()
                    position = file.tell()
            except OSError:
                block = b""
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                self._put(line)
            if not alive:
                self._commands.put(None)
                self.gone.emit(None)
                return
            if time.monotonic() - checked_s > _ALIVE_EVERY_S:
                alive, checked_s = is_running(self._run), time.monotonic()
            self._left.wait(_POLL_S)


def is_running(run: Path) -> bool:
    """True if an engine holds the run folder."""
    from splatomy.io.run import RunFolder

    if not (run / "lock").exists():
        return False
    try:
        with RunFolder(run).lock(wait_s=0):
            return False
    except InputError:
        return True
    except OSError:
        return False
