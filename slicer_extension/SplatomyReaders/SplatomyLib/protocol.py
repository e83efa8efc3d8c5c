"""The engine's job protocol as a state machine: lines in, commands out, no process and no clock of its own.

Whatever the engine does, the state stays defined: garbage lines, silence, sudden death, an exit without
"done", a "done" without an exit. ``now_s`` is any clock that only goes forward.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from SplatomyLib.live import live_text

LONGEST_LINE = 1 << 20
LOG_LINES = 500
SILENT_S = 60.0
# After "cancel" the engine stops within 2 s and then keeps its checkpoint; a hung one is ended by force.
TERMINATE_AFTER_S, KILL_AFTER_S = 8.0, 12.0
_KILL_LATER_S = KILL_AFTER_S - TERMINATE_AFTER_S
_EXIT_DONE, _EXIT_STOPPED = 0, 4


class State(Enum):
    """Where a job is."""

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def is_over(self) -> bool:
        """True when the process is gone."""
        return self in (State.DONE, State.STOPPED, State.FAILED)


class Force(Enum):
    """What to do with a process that does not stop."""

    NONE = 0
    TERMINATE = 1
    KILL = 2


@dataclass(frozen=True)
class JobSpec:
    """A reconstruction, as the job file says it. Empty values are left to the engine.

    source: a path, or what names a live source (camera:0, rtsp://...). live: of a session, such as its rate.
    """

    source: Path | str
    out: Path
    method: str = ""
    preset: str = ""
    device: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    views: int | None = None
    seed: int | None = None
    resume: bool = False
    force: bool = False
    live: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The object of the job file."""
        job: dict[str, Any] = {"contract": 1, "input": str(self.source), "out": str(self.out)}
        for name in ("method", "preset", "device", "config", "options", "views", "seed", "resume", "force",
                     "live"):  # fmt: skip
            value = getattr(self, name)
            if value not in (None, "", {}, False):
                job[name] = value
        return job


class Lines:
    """Bytes of a pipe to whole lines; one that never ends is cut off."""

    def __init__(self) -> None:
        self._rest, self._skipping = b"", False

    def feed(self, data: bytes) -> list[str]:
        """The lines that are complete now."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        if whole and self._skipping:
            whole, self._skipping = whole[1:], False
        if len(self._rest) > LONGEST_LINE:
            self._rest, self._skipping = b"", True
        return [line.decode("utf-8", "replace").rstrip("\r") for line in whole if len(line) <= LONGEST_LINE]


def event_of(line: str) -> dict[str, Any] | None:
    """The event of a line, None for anything else."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return None
    return event


def command_line(name: str, **fields: Any) -> bytes:
    """A command as a line for the engine's standard input."""
    return (json.dumps({"command": name, **fields}, allow_nan=False) + "\n").encode()


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


class Job:
    """What is known of one engine process.

    speaks: False for the engine's plain commands, which end with an exit code and need no "done".
    patience_s: how long it may take to stop by itself; a live session writes its result first.
    """

    def __init__(self, title: str, speaks: bool = True, patience_s: float = TERMINATE_AFTER_S) -> None:
        self.title, self.speaks, self.patience_s = title, speaks, patience_s
        self.live: dict[str, Any] = {}
        self.commands: dict[str, tuple[str, str]] = {}
        self.state = State.STARTING
        self.stage, self.step, self.total = "", 0, 0
        self.eta_s: float | None = None
        self.metrics: dict[str, float] = {}
        self.files: dict[str, str] = {}
        self.result: str | None = None
        self.problem, self.hint = "", ""
        self.notices: list[tuple[str, str]] = []
        self.log: list[str] = []
        self.answers: list[str] = []
        self._out, self._err = Lines(), Lines()
        self._last_s: float | None = None
        self._asked_s: float | None = None
        self._snapshots = 0

    # -- what the engine says ------------------------------------------------------------------------

    def feed(self, out: bytes, err: bytes, now_s: float) -> None:
        """Takes what came from standard output and standard error."""
        if self._last_s is None or out or err:
            self._last_s = now_s
        for line in self._out.feed(out):
            event = event_of(line)
            if event is not None:
                self._take(event)
            elif line.strip():
                self.answers = [*self.answers, line][-LOG_LINES:]
                self._say(line)
        for line in self._err.feed(err):
            if line.strip():
                self._say(line)

    def _say(self, line: str) -> None:
        self.log = [*self.log, line[:2000]][-LOG_LINES:]

    def _take(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if self.state is State.STARTING:
            self.state = State.RUNNING
        if kind == "progress":
            self.stage = str(event.get("stage", ""))
            self.step, self.total = (int(_number(event.get(key)) or 0) for key in ("step", "total"))
            self.eta_s = _number(event.get("eta_s"))
            metrics = event.get("metrics")
            if isinstance(metrics, dict):
                numbers = {str(key): _number(value) for key, value in metrics.items()}
                self.metrics = {key: value for key, value in numbers.items() if value is not None}
        elif kind == "snapshot" and isinstance(event.get("files"), dict):
            self.files = {str(key): str(value) for key, value in event["files"].items()}
            self._snapshots += 1
        elif kind == "notice":
            self._notice(
                str(event.get("level", "info")), str(event.get("code", "")), str(event.get("text", ""))
            )
        elif kind == "live":
            self.live = event
        elif kind == "command":
            answer = (str(event.get("state", "")), str(event.get("reason") or ""))
            kept = list(self.commands.items())[-LOG_LINES:]
            self.commands = {**dict(kept), str(event.get("id")): answer}
        elif kind == "error":
            self.problem = str(event.get("text") or "The engine reported an error without a text.")
            self.hint = str(event.get("hint") or "")
        elif kind == "done":
            self.result = str(event.get("run") or event.get("frames") or "")

    def _notice(self, level: str, code: str, text: str) -> None:
        if code == "paused" and self.state is State.RUNNING:
            self.state = State.PAUSED
        elif code == "resumed" and self.state is State.PAUSED:
            self.state = State.RUNNING
        self.notices = [*self.notices, (level, text)][-LOG_LINES:]
        self._say(text)

    # -- what happens to the process -----------------------------------------------------------------

    def ask_to_stop(self, now_s: float) -> None:
        """A person, or the end of Slicer, wants it to stop."""
        if not self.state.is_over and self._asked_s is None:
            self._asked_s, self.state = now_s, State.STOPPING

    def force(self, now_s: float) -> Force:
        """How hard a job that was asked to stop must be pushed by now."""
        if self._asked_s is None or self.state.is_over:
            return Force.NONE
        waited_s = now_s - self._asked_s
        if waited_s > self.patience_s + _KILL_LATER_S:
            return Force.KILL
        return Force.TERMINATE if waited_s > self.patience_s else Force.NONE

    def could_not_start(self, reason: str) -> None:
        """There is no process."""
        self.state, self.problem = State.FAILED, f"The engine could not be started: {reason}."
        self.hint = "Check the engine in the section Engine."

    def ended(self, code: int) -> None:
        """The process is gone; a negative code, or one over 128, says that it was killed."""
        if self.state.is_over:
            return
        asked = self._asked_s is not None
        if code == _EXIT_DONE and (self.result is not None or not self.speaks):
            self.state = State.DONE
        elif asked or code == _EXIT_STOPPED:
            self.state = State.STOPPED
        else:
            self.state = State.FAILED
            self.problem = self.problem or self._sudden_end(code)

    def _sudden_end(self, code: int) -> str:
        if not self.speaks and self.log:
            return self.log[-1]
        if code == _EXIT_DONE:
            return "The engine ended without a result."
        how = "was killed" if code < 0 or code > 128 else f"ended with code {code}"
        self.hint = self.hint or "Resume the run: it goes on from its last checkpoint."
        return f"The engine {how} and left no message."

    # -- what a person sees --------------------------------------------------------------------------

    @property
    def snapshots(self) -> int:
        """How many snapshots were announced."""
        return self._snapshots

    def share_done(self) -> float | None:
        """Share of the present stage, in [0, 1], None when unknown."""
        return min(1.0, max(0.0, self.step / self.total)) if self.total > 0 else None

    def is_silent(self, now_s: float) -> bool:
        """True when a running engine has said nothing for so long that it may hang."""
        waiting = self.state in (State.STARTING, State.RUNNING)
        return waiting and self._last_s is not None and now_s - self._last_s > SILENT_S

    def text(self, now_s: float) -> str:
        """One line about where it is."""
        if self.state is State.FAILED:
            return " ".join(part for part in (self.problem, self.hint) if part)
        if self.state is State.STOPPED:
            return "Stopped. What was reached is kept, and the run can be resumed."
        if self.state is State.STOPPING:
            return "Stopping ..."
        if self.is_silent(now_s):
            return "The engine has said nothing for a minute. It may hang: cancel it if this goes on."
        if self.live and self.state in (State.RUNNING, State.PAUSED):
            return live_text(self.live)
        parts = [self.state.value.capitalize()]
        if self.stage and self.state in (State.RUNNING, State.PAUSED):
            parts.append(f"{self.stage} {self.step} of {self.total}" if self.total > 1 else self.stage)
        if self.eta_s is not None and self.state is State.RUNNING and self.stage == "train":
            parts.append(f"{duration(self.eta_s)} left in this stage")
        parts += [f"{name} {value:.3g}" for name, value in list(self.metrics.items())[:2]]
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """Seconds in words that a person reads at a glance."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
