"""Trainings whose GPU has too little memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from splatomy.capture import Modality
from splatomy.engine.memory_bound import HALVED, halvings_of, within_memory
from splatomy.events import Checkpoint, Event, Notice, Progress, Snapshot, Task
from splatomy.method import MethodSpec, check_ranges, list_methods, load_symbol, make_config
from splatomy.methods.dynamic_vessels.model import VesselScene
from splatomy.scene import Scene

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


@dataclass(frozen=True)
class Sizes:
    """The settings of a training."""

    rows: int = 800


def halved(sizes: Sizes) -> Sizes | None:
    return replace(sizes, rows=sizes.rows // 2) if sizes.rows >= 200 else None


def spec(smaller: str | None = f"{__name__}:halved") -> MethodSpec:
    return MethodSpec(
        "sizes", "Sizes", Modality.ATTENUATION, (), frozenset(), "", "", "", {}, "", halved=smaller
    )


def scene() -> Scene:
    rows = np.zeros((1, 3), np.float32)
    quats, bounds = np.ones((1, 4), np.float32), np.zeros((2, 3))
    return VesselScene(rows, quats, rows, np.zeros((1, 2)), np.arange(2.0), np.arange(2.0), bounds)


class Training:
    """Ten steps with a checkpoint after each, for which there is room for so many rows."""

    def __init__(self, room: int, error: Exception = FULL) -> None:
        self.room, self.error = room, error
        self.starts: list[tuple[int, int]] = []

    def __call__(self, sizes: Sizes, checkpoint: Checkpoint | None) -> Task[Scene]:
        first = 0 if checkpoint is None else int(checkpoint.values["step"])
        self.starts.append((sizes.rows, first))
        for step in range(first, 10):
            if step == 4 and sizes.rows > self.room:
                raise self.error
            yield Progress("train", step, 10)
            yield Snapshot("train", step + 1, scene(), Checkpoint({}, {"step": step + 1}))
        return scene()


def drive(task: Task[Scene]) -> tuple[Scene, list[Event]]:
    events: list[Event] = []
    while True:
        try:
            events.append(next(task))
        except StopIteration as stop:
            return stop.value, events


def test_it_goes_on_from_the_last_checkpoint_with_half_as_much() -> None:
    training = Training(room=250)
    made, events = drive(within_memory(spec(), Sizes(), CUDA, training))
    assert isinstance(made, VesselScene)
    assert training.starts == [(800, 0), (400, 4), (200, 4)]
    notices = [event for event in events if isinstance(event, Notice)]
    assert [n.code for n in notices] == [HALVED, HALVED] and {n.level for n in notices} == {"warning"}
    assert "from step 4" in notices[0].text and "rows 400 instead of 800" in notices[0].text


def test_without_a_checkpoint_it_starts_again() -> None:
    def start(sizes: Sizes, checkpoint: Checkpoint | None) -> Task[Scene]:
        assert checkpoint is None
        yield Progress("seed", 0, 1)
        if sizes.rows > 500:
            raise FULL
        return scene()

    _, events = drive(within_memory(spec(), Sizes(), CUDA, start))
    assert "starts again with rows 400" in next(e.text for e in events if isinstance(e, Notice))


def test_a_run_that_is_resumed_stays_with_its_halved_settings() -> None:
    training = Training(room=250)
    drive(within_memory(spec(), Sizes(), CUDA, training, Checkpoint({}, {"step": 6}), halvings=2))
    assert training.starts == [(200, 6)]


@pytest.mark.parametrize(
    ("device", "error", "smaller"),
    [
        (CUDA, ValueError("shapes differ"), f"{__name__}:halved"),
        (CUDA, FULL, None),
        (CPU, RuntimeError("not enough memory: you tried to allocate 8 bytes"), f"{__name__}:halved"),
    ],
)
def test_what_halving_cannot_mend_is_raised(
    device: torch.device, error: Exception, smaller: str | None
) -> None:
    with pytest.raises(type(error)):
        drive(within_memory(spec(smaller), Sizes(), device, Training(0, error)))


def test_with_nothing_left_to_halve_the_lack_is_told() -> None:
    training = Training(room=0)
    with pytest.raises(torch.OutOfMemoryError):
        drive(within_memory(spec(), Sizes(), CUDA, training))
    assert [rows for rows, _ in training.starts] == [800, 400, 200, 100]


def test_closing_it_closes_the_training() -> None:
    task = within_memory(spec(), Sizes(), CUDA, Training(800))
    next(task)
    task.close()
    with pytest.raises(StopIteration):
        next(task)


@pytest.mark.parametrize(("told", "count"), [(None, 0), (2, 2), (-1, 0), ("3", 0), (10**9, 16)])
def test_a_record_tells_how_often(told: object, count: int) -> None:
    assert halvings_of({"halvings": told}) == count


@pytest.mark.parametrize("name", [n for n, method in list_methods().items() if method.halved])
def test_every_method_ends_with_its_smallest_settings_and_all_are_allowed(name: str) -> None:
    method = list_methods()[name]
    for preset in method.presets:
        config, times = make_config(method, preset, {}), 0
        while (smaller := load_symbol(method.halved or "")(config)) is not None:
            assert smaller != config
            check_ranges(smaller)
            config, times = smaller, times + 1
        assert 1 <= times <= 16
