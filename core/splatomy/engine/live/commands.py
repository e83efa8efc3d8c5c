"""The surgeon's commands: read, answered, applied between two frames, logged, undone and given again."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.engine.live.frame_preparing import Preparer
from splatomy.errors import InputError
from splatomy.events import Answer
from splatomy.io.run import RunFolder
from splatomy.methods.live_scene.editing import (
    Undo,
    apply_scale,
    area_of,
    edit_mask,
    edit_region,
    seen,
    set_mark,
    set_scale,
)
from splatomy.methods.live_scene.online import Online

NAMES = ("mask", "region", "mark", "scale", "rewind", "freeze", "undo")
_MOST_UNDO = 200
_REWIND_EVERY_S = 10.0
_MOST_POINTS = 12
_MOST_CORNERS = 4096
_OF_NOW = ("pose", "before", "gap_s", "time_s", "index", "frozen", "metric", "usual_gain")
"""What a rewind leaves as it is."""


@dataclass(frozen=True)
class SurgeonCommand:
    """One command. identifier: any JSON value, returned with every answer."""

    name: str
    identifier: Any
    fields: Mapping[str, Any]


def surgeon_command(fields: Mapping[str, Any]) -> SurgeonCommand:
    """The command of a JSON object, its form checked.

    Raises:
        InputError: it is none, or a value is missing or not of the protocol.
    """
    name = fields.get("command")
    if name not in NAMES:
        raise InputError(f"{name!r} is no command of a live session: expected one of {', '.join(NAMES)}.")
    if "id" not in fields:
        raise InputError(f"The command {name} needs id: expected any JSON value, which the answer repeats.")
    return SurgeonCommand(str(name), fields["id"], fields)


@dataclass
class RewindPoint:
    """A state of the session that can be gone back to."""

    generation: int
    time_s: float
    arrays: Mapping[str, NDArray[Any]]
    values: Mapping[str, Any]


@dataclass
class Desk:
    """Where commands are applied. All of it happens in the thread that owns the session's state."""

    online: Online
    preparer: Preparer
    folder: RunFolder
    generation: int = 0
    frame: int = -1
    points: deque[RewindPoint] = field(default_factory=lambda: deque(maxlen=_MOST_POINTS))
    _undo: deque[tuple[str, Undo]] = field(default_factory=lambda: deque(maxlen=_MOST_UNDO))
    _regions: int = 0

    def remember(self, time_s: float, now: bool = False) -> None:
        """Keeps a state to rewind to, every 10 s."""
        if not now and self.points and time_s - self.points[-1].time_s < _REWIND_EVERY_S:
            return
        arrays, values = self.online.state()
        self.points.append(RewindPoint(self.generation, time_s, arrays, values))

    def obey(self, command: SurgeonCommand) -> Answer:
        """Applies a command and logs it; the answer says at which generation, or why not."""
        try:
            undo = self._apply(command)
        except InputError as error:
            answer = Answer(command.identifier, "rejected", self.generation, str(error))
        else:
            if undo is not None:
                self._undo.append((command.name, undo))
            self.generation += 1
            answer = Answer(command.identifier, "applied", self.generation)
        line = {"at_frame": self.frame, **command.fields, "state": answer.state}
        line |= {"applied_at": answer.generation}
        if answer.reason is not None:
            line["reason"] = answer.reason
        self.folder.append_line("commands.jsonl", line)
        return answer

    def _apply(self, command: SurgeonCommand) -> Undo | None:
        fields, online = command.fields, self.online
        match command.name:
            case "mask":
                return self._mask(_polygon(fields), _word(fields, "what", ("add", "erase")) == "add", fields)
            case "region":
                self._regions += 1
                keep = _word(fields, "what", ("keep", "ignore")) == "keep"
                return edit_region(online, self._regions, _frame(fields), _polygon(fields), keep)
            case "mark":
                name = str(fields.get("name") or f"Mark {len(online.marks) + 1}")
                pixel = _numbers(fields, "pixel", (2,))
                return set_mark(online, command.identifier, name, _frame(fields), pixel)
            case "scale":
                distance = float(_numbers(fields, "distance_mm", ()))
                if not distance > 0:
                    raise InputError(f"distance_mm is {distance:g}: expected a length over 0.")
                return set_scale(online, _frame(fields), _numbers(fields, "pixels", (2, 2)), distance)
            case "freeze":
                return self._freeze(fields.get("on", True))
            case "rewind":
                return self._rewind(fields.get("generation"))
            case _:
                self._take_back()
                return None

    def _mask(self, polygon: NDArray[np.float64], hides: bool, fields: Mapping[str, Any]) -> Undo:
        frame = _frame(fields)
        undo = edit_mask(self.online, frame, polygon, hides)
        if seen(self.online, frame).index != self.online.index:
            return undo
        # The newest frame's instrument is in the next ones too.
        whole = np.zeros((self.online.height_px, self.online.width_px), bool)
        level = seen(self.online, None).level
        small = area_of(polygon, level)
        factor = level.factor
        large = np.repeat(np.repeat(small, factor, 0), factor, 1)
        whole[: large.shape[0], : large.shape[1]] = large
        carried = self.preparer.correct(whole, hides)

        def both() -> None:
            self.preparer.withdraw(carried)
            undo()

        return both

    def _freeze(self, on: Any) -> Undo:
        if type(on) is not bool:
            raise InputError(f"freeze needs on: expected true or false, got {on!r}.")
        before = self.online.frozen
        self.online.frozen = on

        def undo() -> None:
            self.online.frozen = before

        return undo

    def _rewind(self, generation: Any) -> Undo:
        if type(generation) is not int:
            raise InputError("rewind needs generation: expected a whole number, as snapshots tell it.")
        point = next((p for p in reversed(self.points) if p.generation <= generation), None)
        if point is None:
            if not self.points:
                raise InputError(
                    f"The map cannot be taken back to generation {generation}: no state of it is kept yet. "
                    "Wait for the first frame."
                )
            oldest = self.points[0].generation
            raise InputError(
                f"The map cannot be taken back to generation {generation}: the oldest state that is kept is "
                f"of generation {oldest}. Go back less far, to generation {oldest} or later: states are kept "
                "every 10 s, for two minutes."
            )
        arrays, values = self.online.state()
        self._back_to(point.arrays, point.values)
        return lambda: self._back_to(arrays, values)

    def _back_to(self, arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any]) -> None:
        """The map of then with the camera and the scale of now: the tissue is rewound, the scope is not."""
        online = self.online
        now = {name: getattr(online, name) for name in _OF_NOW}
        health, scale = online.health.values(), online.depth_scale
        online.restore(arrays, values)
        if not math.isclose(scale, online.depth_scale):
            apply_scale(online, scale / online.depth_scale)
        for name, value in now.items():
            setattr(online, name, value)
        online.health.restore(health)

    def _take_back(self) -> None:
        if not self._undo:
            raise InputError("There is nothing to undo: expected an earlier command that was applied.")
        _, undo = self._undo.pop()
        undo()


def _frame(fields: Mapping[str, Any]) -> int | None:
    frame = fields.get("frame")
    if frame is not None and (type(frame) is not int or frame < 0):
        raise InputError(f"frame is {frame!r}: expected a frame's number, or null for the newest.")
    return frame


def _word(fields: Mapping[str, Any], name: str, words: tuple[str, ...]) -> str:
    value = fields.get(name)
    if value not in words:
        raise InputError(f"{name} is {value!r}: expected {' or '.join(words)}.")
    return str(value)


def _numbers(fields: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    try:
        array = np.asarray(fields.get(name), dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape != shape or not np.isfinite(array).all():
        kind = {(): "a number", (2,): "[x, y] in px"}.get(shape, "[[x, y], [x, y]] in px")
        raise InputError(f"{name}: expected {kind}.")
    return array


def _polygon(fields: Mapping[str, Any]) -> NDArray[np.float64]:
    try:
        array = np.asarray(fields.get("polygon"), dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.empty(0)
    good = array.ndim == 2 and array.shape[1:] == (2,) and 3 <= len(array) <= _MOST_CORNERS
    if not good or not np.isfinite(array).all() or np.abs(array).max() > 1e6:
        raise InputError("polygon: expected at least three corners [[x, y], ...] in px.")
    return array


class Replay:
    """The commands of an earlier session's log, each due after the frame that it was given at."""

    def __init__(self, path: Path) -> None:
        """Raises InputError: the log cannot be read."""
        try:
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
            self._waiting = deque((int(line["at_frame"]), surgeon_command(line)) for line in lines)
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise InputError(
                f"{path.name} is no log of commands: expected the commands.jsonl of a live session."
            ) from None

    def due(self, frame: int, take: Callable[[SurgeonCommand], Any]) -> None:
        """Gives every command whose frame has come."""
        while self._waiting and self._waiting[0][0] <= frame:
            take(self._waiting.popleft()[1])
