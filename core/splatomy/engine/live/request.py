"""What a user asks of a live session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from splatomy.io.live_sources import Rate
from splatomy.io.options import InputOptions
from splatomy.io.run import RunFolder

METHOD = "live_scene"


@dataclass(frozen=True)
class LiveRequest:
    """What a user asked for.

    source: a recording, a growing folder, camera:K, rtsp://... or phantom:PRESET. rate: "max" takes every
    frame as fast as it can, by the stream's own clock, so that the result can be repeated.
    inbox: commands of the surgeon and pause, resume, finish, as JSON objects; any thread may put some in.
    replay: a commands.jsonl of an earlier session of the same stream, whose commands are given again.
    on_held: called once when the folder is ready; from then on the caller writes events.jsonl.
    """

    source: str
    out: Path
    rate: Rate = "real"
    preset: str = "standard"
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: InputOptions = field(default_factory=InputOptions)
    device: str = "auto"
    seed: int = 0
    resume: bool = False
    force: bool = False
    inbox: SimpleQueue[Mapping[str, Any]] = field(default_factory=SimpleQueue)
    replay: Path | None = None
    on_held: Callable[[RunFolder], None] | None = None
