"""Engine processes: a pipe to each, and the runner that keeps a job's state true to its process.

Two pipes with the same five verbs: ``QtPipe`` inside Slicer, ``PlainPipe`` anywhere. Both are polled from
the main thread; nothing here waits, apart from ``shut_down`` when Slicer quits.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from SplatomyLib.protocol import Force, Job, State, command_line
from SplatomyLib.signal import Signal

# Slicer's start-up sets these for its own Python, Qt and libraries; another Python started with them crashes.
_FOREIGN = (
    "PYTHONHOME", "PYTHONPATH", "PYTHONNOUSERSITE", "PYTHONSTARTUP", "PYTHONEXECUTABLE", "LD_LIBRARY_PATH",
    "LD_PRELOAD", "DYLD_LIBRARY_PATH", "DYLD_FRAMEWORK_PATH", "DYLD_INSERT_LIBRARIES", "QT_PLUGIN_PATH",
    "QT_QPA_PLATFORM_PLUGIN_PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "SSL_CERT_FILE", "ITK_AUTOLOAD_PATH",
)  # fmt: skip
_FOREIGN_STARTS = ("SLICER", "Slicer_", "QTWEBENGINE")
QUIT_GRACE_S, _DEATH_S = 4.0, 2.0


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables for a foreign process: without what belongs to Slicer's own Python, Qt and libraries."""
    kept = {
        name: value
        for name, value in environment.items()
        if name not in _FOREIGN and not name.startswith(_FOREIGN_STARTS)
    }
    # What the engine prints must arrive at once, and in one encoding everywhere.
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}


class Pipe(Protocol):
    """A process with its standard streams."""

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Starts it. Raises OSError when there is no such program."""

    def read(self) -> tuple[bytes, bytes]:
        """What came on standard output and standard error since the last call."""

    def write(self, data: bytes) -> None:
        """Sends to standard input; a process that is gone gets nothing."""

    def close_input(self) -> None:
        """Closes standard input."""

    def push(self, force: Force) -> None:
        """Terminates or kills it."""

    def exit_code(self) -> int | None:
        """The code with which it ended, None while it lives."""


class PlainPipe:
    """A process of the standard library, its output read by threads."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._queues: tuple[queue.SimpleQueue[bytes], queue.SimpleQueue[bytes]] = (
            queue.SimpleQueue(), queue.SimpleQueue(),
        )  # fmt: skip
        self._threads: list[threading.Thread] = []

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Starts it in a session of its own, so that it can be ended with everything it started."""
        pipe = subprocess.PIPE
        # It outlives this function by design.
        self._process = subprocess.Popen(
            list(command), stdin=pipe, stdout=pipe, stderr=pipe, env=dict(environment),
            start_new_session=True, bufsize=0,
        )  # fmt: skip
        for stream, into in zip((self._process.stdout, self._process.stderr), self._queues):
            thread = threading.Thread(target=_forward, args=(stream, into), daemon=True)
            thread.start()
            self._threads.append(thread)

    def read(self) -> tuple[bytes, bytes]:
        """See ``Pipe``."""
        out, err = (_drained(source) for source in self._queues)
        return out, err

    def write(self, data: bytes) -> None:
        """See ``Pipe``."""
        stream = self._process.stdin if self._process else None
        if stream is not None and not stream.closed:
            try:
                stream.write(data)
            except OSError:
                # It is gone; its end is seen at the next look at the exit code.
                return

    def close_input(self) -> None:
        """See ``Pipe``."""
        if self._process and self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()

    def push(self, force: Force) -> None:
        """See ``Pipe``; the whole session goes with it."""
        if self._process is None or self._process.poll() is not None or force is Force.NONE:
            return
        if sys.platform == "win32":
            self._process.kill() if force is Force.KILL else self._process.terminate()
            return
        number = signal.SIGKILL if force is Force.KILL else signal.SIGTERM
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return

    def exit_code(self) -> int | None:
        """See ``Pipe``; None until everything it printed can be read."""
        if self._process is None or self._process.poll() is None:
            return None
        # A grandchild may hold the streams open for ever: its words are not waited for long.
        for thread in self._threads:
            thread.join(0.2)
        return self._process.returncode


def _forward(stream: Any, into: queue.SimpleQueue[bytes]) -> None:
    with stream:
        while block := stream.read(1 << 16):
            into.put(block)


def _drained(source: queue.SimpleQueue[bytes]) -> bytes:
    blocks = []
    while not source.empty():
        blocks.append(source.get())
    return b"".join(blocks)


class QtPipe:
    """A QProcess; ``qt`` is Slicer's module of that name."""

    def __init__(self, qt: Any) -> None:
        self._qt = qt
        self._process = qt.QProcess()

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """See ``Pipe``."""
        variables = self._qt.QProcessEnvironment()
        for name, value in environment.items():
            variables.insert(name, value)
        self._process.setProcessEnvironment(variables)
        self._process.start(command[0], list(command[1:]))
        if not self._process.waitForStarted(3000):
            raise OSError(f"there is no program {os.path.basename(command[0])} that can be run")  # noqa: PTH119

    def read(self) -> tuple[bytes, bytes]:
        """See ``Pipe``."""
        out, err = self._process.readAllStandardOutput(), self._process.readAllStandardError()
        return _bytes(out), _bytes(err)

    def write(self, data: bytes) -> None:
        """See ``Pipe``."""
        if self._process.processId():
            self._process.write(data)

    def close_input(self) -> None:
        """See ``Pipe``."""
        self._process.closeWriteChannel()

    def push(self, force: Force) -> None:
        """See ``Pipe``."""
        if self._process.processId() and force is not Force.NONE:
            self._process.kill() if force is Force.KILL else self._process.terminate()

    def exit_code(self) -> int | None:
        """See ``Pipe``."""
        # The number of a process that has ended is 0.
        if self._process.processId():
            return None
        status = self._process.exitStatus()
        crashed = int(getattr(status, "value", status)) != 0
        return -9 if crashed else int(self._process.exitCode())

    def wait(self, seconds: float) -> None:
        """Waits for the end; only when Slicer quits."""
        self._process.waitForFinished(int(seconds * 1000))


def _bytes(data: Any) -> bytes:
    """A QByteArray as bytes; PythonQt may give text."""
    content = data.data() if hasattr(data, "data") else data
    return content.encode("latin-1") if isinstance(content, str) else bytes(content)


class Runner:
    """One engine process and its job. Call ``poll`` several times a second.

    changed: emitted when anything new is known. snapshot: with the files of a new snapshot.
    over: once, when the process is gone.
    """

    def __init__(self, pipe: Pipe, job: Job, clock: Callable[[], float] = time.monotonic) -> None:
        self.pipe, self.job, self._clock = pipe, job, clock
        self.changed, self.snapshot, self.over = Signal(), Signal(), Signal()
        self._pushed = Force.NONE
        self._told = False
        self._seen_snapshots = 0

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Starts the process; a failure is the job's end, not an exception."""
        try:
            self.pipe.start(command, clean_environment(environment))
        except OSError as error:
            self.job.could_not_start(error.strerror or str(error))
        self.poll()

    def poll(self) -> None:
        """Takes what came, sees whether the process lives, and pushes one that does not stop."""
        if self._told:
            return
        now_s = self._clock()
        if self.job.state is not State.FAILED:
            # In this order: what was printed before the end is read after the end is known.
            code = self.pipe.exit_code()
            out, err = self.pipe.read()
            self.job.feed(out, err, now_s)
            if code is not None:
                self.job.ended(code)
            self._push(now_s)
        if self.job.snapshots != self._seen_snapshots:
            self._seen_snapshots = self.job.snapshots
            self.snapshot.emit(dict(self.job.files))
        self.changed.emit(self.job)
        if self.job.state.is_over:
            self._told = True
            self.over.emit(self.job)

    def _push(self, now_s: float) -> None:
        force = self.job.force(now_s)
        if force.value > self._pushed.value:
            self._pushed = force
            self.pipe.push(force)

    def pause(self) -> None:
        """Holds the engine; it answers when it holds."""
        self.pipe.write(command_line("pause"))

    def resume(self) -> None:
        """Lets it go on."""
        self.pipe.write(command_line("resume"))

    def ask(self, name: str, **fields: Any) -> None:
        """A surgeon's command to a live session; ``job.commands`` says what became of it."""
        self.pipe.write(command_line(name, **fields))

    def cancel(self) -> None:
        """Stops it; result and checkpoint are kept. A plain command is ended at once."""
        if self.job.state.is_over:
            return
        self.job.ask_to_stop(self._clock())
        if self.job.speaks:
            self.pipe.write(command_line("cancel"))
            # A cancelled engine needs no more commands, and one that hangs in a read wakes up.
            self.pipe.close_input()
        else:
            self.pipe.push(Force.TERMINATE)
        self.changed.emit(self.job)

    def shut_down(self, grace_s: float = QUIT_GRACE_S) -> None:
        """Slicer quits: the engine gets a moment to keep its checkpoint, then it is killed."""
        if self.job.state.is_over:
            return
        self.cancel()
        if not self._ended_within(grace_s):
            self.pipe.push(Force.KILL)
            self._ended_within(_DEATH_S)
        self.poll()

    def _ended_within(self, seconds: float) -> bool:
        end_s = time.monotonic() + seconds
        while self.pipe.exit_code() is None:
            if time.monotonic() > end_s:
                return False
            if isinstance(self.pipe, QtPipe):
                self.pipe.wait(0.05)
            else:
                time.sleep(0.02)
        return True
