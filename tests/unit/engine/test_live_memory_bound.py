"""A live session whose memory ends: it says so, goes on with less, and stays so when it is resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from splatomy.engine.live import LiveRequest, PhantomSource, live
from splatomy.engine.memory_bound import HALVED
from splatomy.events import Answer, Event, Notice
from splatomy.io.live_sources import LiveFrame
from splatomy.io.run import RunFolder
from splatomy.phantoms.stream import PRESETS, StreamPhantom

WIDE = replace(PRESETS["tiny"], width_px=128, height_px=104, disturbances=())
SETTINGS = {"steps_per_frame": 1, "publish_every_s": 0.2, "keep_every_s": 0.2}
SQUARE = [[40, 40], [80, 40], [80, 70], [40, 70]]


class Shared(TorchDispatchMode):
    """Memory that others take at times: torch finds no room for its next tensor, so many times."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.refusals and not func._schema.is_mutable and not func.is_view:
            self.refusals -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return func(*args, **(kwargs or {}))


class Beside(PhantomSource):
    """A phantom source: when it has come to a frame, others take memory, or the surgeon speaks."""

    def __init__(
        self, frames: int, memory: Shared, takes: Mapping[int, int], commands: Mapping[int, dict[str, Any]]
    ) -> None:
        super().__init__(StreamPhantom(WIDE, 0), "max", frames)
        self.memory, self.takes, self.commands = memory, takes, commands
        self.inbox: SimpleQueue[Mapping[str, Any]] = SimpleQueue()

    def read(self, timeout_s: float) -> LiveFrame | None:
        frame = super().read(timeout_s)
        if frame is not None:
            self.memory.refusals += self.takes.get(frame.index, 0)
            if frame.index in self.commands:
                self.inbox.put(self.commands[frame.index])
        return frame


def session(
    out: Path,
    frames: int,
    takes: Mapping[int, int],
    commands: Mapping[int, dict[str, Any]] | None = None,
    takes_for_commands: int = 0,
    **changes: Any,
) -> list[Event]:
    """All events; memory is refused so often at frames, and when a command is received."""
    memory, events = Shared(), []
    source = Beside(frames, memory, takes, commands or {})
    request = LiveRequest("phantom", out, rate="max", settings=SETTINGS, inbox=source.inbox, **changes)
    with memory:
        for event in live(request, source):
            events.append(event)
            if isinstance(event, Answer) and event.state == "received":
                memory.refusals += takes_for_commands
    return events


def told(events: list[Event]) -> list[str]:
    return [e.text for e in events if isinstance(e, Notice) and e.code == HALVED]


def answers(events: list[Event]) -> list[str]:
    return [e.state for e in events if isinstance(e, Answer)]


def test_it_goes_on_with_half_and_says_so(tmp_path: Path) -> None:
    out = tmp_path / "run"
    mask = {"command": "mask", "id": 1, "frame": 0, "polygon": SQUARE, "what": "add"}
    events = session(out, 16, {4: 1}, {9: mask})
    (text,) = told(events)
    assert "learn_px 64 instead of 320" in text and "max_surfels 75000 instead of 150000" in text
    record = json.loads((out / "run.json").read_text())
    assert record["state"] == "done" and record["halvings"] == 1 and text in record["notices"]
    # What was asked for stays in the record.
    assert record["config"]["learn_px"] == 320
    # The frame in which memory ended is the only one without a pose.
    assert len(np.loadtxt(out / "trajectory.txt")) == 15
    # Frames from before it are larger than those after it: they are masked and shown all the same.
    assert answers(events) == ["received", "applied"]
    assert (out / "report.html").is_file()


def test_a_resumed_session_stays_with_its_halved_settings(tmp_path: Path) -> None:
    out = tmp_path / "run"
    session(out, 8, {5: 1})
    events = session(out, 14, {}, resume=True)
    assert told(events) == []
    assert json.loads((out / "run.json").read_text())["halvings"] == 1
    stored = RunFolder(out).load_checkpoint()
    assert stored is not None
    keyframes = stored.checkpoint.values["online"]["parts"][0]["keyframes"]
    assert keyframes[0]["factor"] == 1 and keyframes[-1]["factor"] == 2


def test_with_nothing_left_to_halve_the_session_ends_and_keeps_its_map(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(torch.OutOfMemoryError):
        session(out, 12, {4: 1, 6: 1})
    record = json.loads((out / "run.json").read_text())
    assert record["state"] == "failed" and record["halvings"] == 1
    assert (out / "checkpoint" / "newest").is_dir() and (out / "scene" / "scene.json").is_file()


def test_a_command_without_room_is_rejected_and_the_session_goes_on(tmp_path: Path) -> None:
    region = {"command": "region", "id": 1, "frame": None, "polygon": SQUARE, "what": "keep"}
    events = session(tmp_path / "run", 10, {}, {4: region}, takes_for_commands=1)
    assert answers(events) == ["received", "rejected"]
    assert len(told(events)) == 1
    assert len(np.loadtxt(tmp_path / "run" / "trajectory.txt")) == 10
