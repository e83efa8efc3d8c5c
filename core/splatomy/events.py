"""Events of a long job, and the generator type that yields them."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from splatomy.scene import Scene


@dataclass(frozen=True)
class Checkpoint:
    """Everything a method needs to go on from a step: named arrays and JSON values."""

    arrays: Mapping[str, NDArray[Any]]
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Progress:
    """Step ``step`` of ``total`` of a stage is done."""

    stage: str
    step: int
    total: int
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """An immutable scene to look at, and, when the method is ready to be resumed here, its checkpoint.

    files: paths by kind, already written, where whoever made the snapshot publishes it itself.
    """

    stage: str
    step: int
    scene: Scene
    checkpoint: Checkpoint | None = None
    files: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Notice:
    """Something a user should know."""

    level: Literal["info", "warning"]
    code: str
    text: str


@dataclass(frozen=True)
class LiveStatus:
    """How a live session stands at a frame: the camera's state, the newest generation, the shedding rung."""

    frame: int
    time_s: float
    state: str
    generation: int
    rung: int
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What became of a surgeon's command: received, then applied at a generation or rejected for a reason."""

    identifier: Any
    state: Literal["received", "applied", "rejected"]
    generation: int
    reason: str | None = None


Event = Progress | Snapshot | Notice | LiveStatus | Answer
T = TypeVar("T")
Task = Generator[Event, None, T]
"""A long job: yields events and returns its product; compose with ``yield from``."""


def event_json(event: Event) -> dict[str, Any]:
    """The event as a JSON object of the job protocol (a snapshot's scene is not included)."""
    match event:
        case Progress(stage, step, total, metrics):
            return {
                "event": "progress",
                "stage": stage,
                "step": step,
                "total": total,
                "metrics": _clean(metrics),
            }
        case Snapshot(stage, step, _, _, files):
            told = {} if files is None else {"files": dict(files)}
            return {"event": "snapshot", "stage": stage, "step": step, **told}
        case Notice(level, code, text):
            return {"event": "notice", "level": level, "code": code, "text": text}
        case LiveStatus(frame, time_s, state, generation, rung, metrics):
            return {
                "event": "live",
                "frame": frame,
                "time_s": time_s,
                "state": state,
                "generation": generation,
                "rung": rung,
                "metrics": _clean(metrics),
            }
        case Answer(identifier, state, generation, reason):
            answer = {"event": "command", "id": identifier, "state": state, "generation": generation}
            return answer if reason is None else {**answer, "reason": reason}


def _clean(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """The metrics as strict JSON: what is not finite is null."""
    return {k: (float(v) if np.isfinite(v) else None) for k, v in metrics.items()}


def finish(task: Task[T]) -> T:
    """The product of a task whose events nobody watches."""
    while True:
        try:
            next(task)
        except StopIteration as stop:
            product: T = stop.value
            return product
