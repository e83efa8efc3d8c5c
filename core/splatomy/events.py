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
    """An immutable scene to look at, and, when the method is ready to be resumed here, its checkpoint."""

    stage: str
    step: int
    scene: Scene
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True)
class Notice:
    """Something a user should know."""

    level: Literal["info", "warning"]
    code: str
    text: str


Event = Progress | Snapshot | Notice
T = TypeVar("T")
Task = Generator[Event, None, T]
"""A long job: yields events and returns its product; compose with ``yield from``."""


def event_json(event: Event) -> dict[str, Any]:
    """The event as a JSON object of the job protocol (a snapshot's scene is not included)."""
    match event:
        case Progress(stage, step, total, metrics):
            clean = {k: (float(v) if np.isfinite(v) else None) for k, v in metrics.items()}
            return {"event": "progress", "stage": stage, "step": step, "total": total, "metrics": clean}
        case Snapshot(stage, step, _, _):
            return {"event": "snapshot", "stage": stage, "step": step}
        case Notice(level, code, text):
            return {"event": "notice", "level": level, "code": code, "text": text}


def finish(task: Task[T]) -> T:
    """The product of a task whose events nobody watches."""
    while True:
        try:
            next(task)
        except StopIteration as stop:
            product: T = stop.value
            return product
