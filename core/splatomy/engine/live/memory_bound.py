"""A session that goes on with half of everything when memory ends."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import torch

from splatomy.engine.memory_bound import HALVED
from splatomy.errors import is_out_of_memory
from splatomy.events import Event, Notice
from splatomy.methods.live_scene.config import Config, halved
from splatomy.methods.live_scene.online import Online


def within_memory(online: Online, work: Iterator[Event]) -> Iterator[Event]:
    """The events of some work on a session's state.

    Where memory ends in it, the work is given up and the session goes on with settings that need about half
    as much; a warning tells of each time. Main memory counts too: a stream does not wait for a new start.

    Raises:
        Exception: whatever the work raises, a lack of memory too when there is nothing left to halve.
    """
    try:
        yield from work
        return
    except Exception as error:
        smaller = halved(online.config, online.width_px) if is_out_of_memory(error) else None
        if smaller is None:
            raise
    # Only now has nobody a hand on what the work held.
    del work
    yield from within_memory(online, _lowered(online, smaller))


def _lowered(online: Online, smaller: Config) -> Iterator[Event]:
    yield Notice("warning", HALVED, _told(online.config, smaller))
    gc.collect()
    online.go_on_with(smaller)
    if online.device.type == "cuda":
        torch.cuda.empty_cache()


def _told(before: Config, now: Config) -> str:
    changed = [name for name, value in vars(now).items() if value != getattr(before, name)]
    words = ", ".join(f"{name} {getattr(now, name)} instead of {getattr(before, name)}" for name in changed)
    return f"The memory is full: the session goes on with {words}, so what it learns is coarser."
