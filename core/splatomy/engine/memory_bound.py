"""A training that goes on with half of everything when the memory of its GPU ends."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from typing import Any

import torch

from splatomy.errors import is_out_of_memory
from splatomy.events import Checkpoint, Notice, Snapshot, Task
from splatomy.method import MethodSpec, load_symbol
from splatomy.scene import Scene

HALVED = "memory-halved"
"""Code of the notice that settings were halved."""
_MOST_HALVINGS = 16

Start = Callable[[Any, Checkpoint | None], Task[Scene]]


def within_memory(
    spec: MethodSpec,
    config: Any,
    device: torch.device,
    start: Start,
    checkpoint: Checkpoint | None = None,
    halvings: int = 0,
) -> Task[Scene]:
    """The scene of ``start(config, checkpoint)``.

    Where the memory of a GPU ends it is started again from its last checkpoint, with settings that need
    about half as much, as often as the method has such; a warning tells of each time. Main memory is left
    to the user: what fills it is the input rather than the settings.

    halvings: how often the settings of this run were halved before it was interrupted.

    Raises:
        Exception: whatever ``start`` raises, a lack of memory too when there is nothing left to halve.
    """
    for _ in range(halvings):
        config = _halved(spec, config) or config
    while True:
        task = start(config, checkpoint)
        smaller = None
        try:
            while True:
                event = next(task)
                if isinstance(event, Snapshot):
                    checkpoint = event.checkpoint or checkpoint
                yield event
        except StopIteration as stop:
            scene: Scene = stop.value
            return scene
        except Exception as error:
            smaller = _halved(spec, config) if device.type == "cuda" and is_out_of_memory(error) else None
            if smaller is None:
                raise
        finally:
            task.close()
        # Only now has nobody a hand on what the training held.
        del task
        gc.collect()
        torch.cuda.empty_cache()
        yield _told(config, smaller, checkpoint)
        config = smaller


def halvings_of(record: Mapping[str, Any]) -> int:
    """How often a run halved its settings until now; record: the content of run.json."""
    halvings = record.get("halvings")
    return min(halvings, _MOST_HALVINGS) if isinstance(halvings, int) and halvings > 0 else 0


def _halved(spec: MethodSpec, config: Any) -> Any:
    return load_symbol(spec.halved)(config) if spec.halved is not None else None


def _told(before: Any, now: Any, checkpoint: Checkpoint | None) -> Notice:
    changed = [name for name, value in vars(now).items() if value != getattr(before, name)]
    words = ", ".join(f"{name} {getattr(now, name)} instead of {getattr(before, name)}" for name in changed)
    step = checkpoint.values.get("step") if checkpoint is not None else None
    where = "starts again" if step is None else f"goes on from step {step}"
    text = f"The memory of the GPU is full: the training {where} with {words}, so its result is coarser."
    return Notice("warning", HALVED, text)
