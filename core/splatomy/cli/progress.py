"""Tasks on a terminal: progress with time left, or events as JSON lines."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from splatomy.errors import CancelledError
from splatomy.events import Event, Notice, Progress, Task, event_json

T = TypeVar("T")


class Display(Protocol):
    """Shows events on a terminal, from start to stop."""

    def start(self) -> None:
        """Begins to draw."""
        ...

    def show(self, event: Event) -> None:
        """Shows one event."""
        ...

    def stop(self) -> None:
        """Leaves what was drawn last."""
        ...


class _Terminal:
    """Shows one bar a stage and each notice once."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self.bars = Bars(
            TextColumn("{task.description:<14}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self.rows: dict[str, Any] = {}

    def start(self) -> None:
        self.bars.start()

    def stop(self) -> None:
        self.bars.stop()

    def show(self, event: Event) -> None:
        if isinstance(event, Progress):
            if event.stage not in self.rows:
                self.rows[event.stage] = self.bars.add_task(event.stage, total=event.total, note="")
            note = "  ".join(f"{name} {value:.4g}" for name, value in event.metrics.items())
            self.bars.update(self.rows[event.stage], completed=event.step, total=event.total, note=note)
        elif isinstance(event, Notice):
            mark = "[yellow]note[/]" if event.level == "warning" else "[cyan]info[/]"
            self.bars.console.print(f"{mark}: {event.text}", highlight=False)


def drive(
    task: Task[T],
    *,
    json_lines: bool = False,
    on_stop: Callable[[], object] | None = None,
    display: Display | None = None,
) -> T:
    """The task's product. Ctrl-C once closes the task, which keeps its result.

    display: what shows the events instead of bars.
    on_stop: called at the first Ctrl-C instead, for tasks that can be asked to end well; the next one closes.

    Raises:
        CancelledError: the user pressed Ctrl-C (or the process was asked to terminate).
    """
    asked = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        asked.set()

    in_main = threading.current_thread() is threading.main_thread()
    before = [(s, signal.signal(s, stop)) for s in (signal.SIGINT, signal.SIGTERM)] if in_main else []
    terminal = display or _Terminal()
    try:
        if not json_lines:
            terminal.start()
        while True:
            try:
                event = next(task)
            except StopIteration as end:
                product: T = end.value
                return product
            if json_lines:
                sys.stdout.write(json.dumps(event_json(event)) + "\n")
                sys.stdout.flush()
            else:
                terminal.show(event)
            if asked.is_set() and on_stop is not None:
                on_stop()
                on_stop = None
                asked.clear()
            elif asked.is_set():
                task.close()
                raise CancelledError("Stopped. The result so far and the checkpoint were kept; use --resume.")
    finally:
        if not json_lines:
            terminal.stop()
        for number, handler in before:
            signal.signal(number, handler)
