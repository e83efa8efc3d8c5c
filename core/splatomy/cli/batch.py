"""``splatomy batch``: many cases, one live table, one table of results."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table as Grid
from rich.text import Text

from splatomy.batch import (
    Batch,
    BatchRequest,
    Engine,
    LocalEngine,
    RayEngine,
    Table,
    newest_progress,
    read_cases,
)
from splatomy.cli.progress import drive
from splatomy.errors import CancelledError, InputError
from splatomy.events import Event, Notice, Progress
from splatomy.io.options import InputOptions

EXIT_PARTIAL = 5
_EXITS = {"input": 2, "backend": 3}
_SHOWN = 16
_DRAW_EVERY_S = 0.5


def batch(arguments: Namespace, options: InputOptions, settings: dict[str, Any]) -> None:
    """Runs the cases; ends with exit code 5 when some are done and some are not.

    Raises:
        InputError: the list, an option or the folder cannot be used.
        MissingBackendError: the engine is not installed.
        CancelledError: the user pressed Ctrl-C; the same command goes on.
    """
    request = _request(arguments, options, settings)

    def connect() -> Engine:
        if arguments.engine == "ray":
            return RayEngine(arguments.address, arguments.workers)
        return LocalEngine(arguments.workers)

    work = Batch(request, connect)
    try:
        table = drive(work.run(), json_lines=arguments.events == "jsonl", display=_LiveTable(work))
    except CancelledError:
        raise CancelledError(
            "Stopped. Every result so far was kept; the same command goes on where it stopped."
        ) from None
    done, total = table.count("done"), len(table.rows)
    sys.stderr.write(f"Done: {done} of {total} cases. Results: {request.out / 'results.html'}\n")
    if done < total:
        sys.exit(exit_code(table))


def exit_code(table: Table) -> int:
    """0 = all done; 5 = some; when none is, the code of the error that all have in common, or 5."""
    codes = {row.get("code") for row in table.rows}
    done = table.count("done")
    if done == len(table.rows):
        return 0
    return EXIT_PARTIAL if done or len(codes) > 1 else _EXITS.get(str(codes.pop()), EXIT_PARTIAL)


def _request(arguments: Namespace, options: InputOptions, settings: dict[str, Any]) -> BatchRequest:
    for name, least in (("workers", 1), ("cpus", 1), ("retries", 0), ("replicas", 1)):
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise InputError(f"--{name} must be a whole number from {least}, got {value}. Choose another.")
    if arguments.limit_min is not None and not arguments.limit_min > 0:
        raise InputError(f"--limit-min must be more than 0 minutes, got {arguments.limit_min:g}.")
    if arguments.address is not None and arguments.engine != "ray":
        raise InputError("--address is that of a Ray cluster: expected it with --engine ray only.")
    defaults = {
        "method": arguments.method,
        "preset": arguments.preset,
        "config": settings,
        "options": _given(options),
        "device": arguments.device,
        "replicas": arguments.replicas,
        "seed": arguments.seed,
        "views": arguments.views,
    }
    return BatchRequest(
        cases=read_cases(arguments.cases, defaults),
        out=arguments.out,
        retries=arguments.retries,
        limit_s=None if arguments.limit_min is None else 60 * arguments.limit_min,
        cpus=arguments.cpus,
    )


def _given(options: InputOptions) -> dict[str, Any]:
    """The options that differ from their defaults, as a job file has them."""
    usual = vars(InputOptions())
    given = {name: value for name, value in vars(options).items() if value != usual[name]}
    return {
        name: str(value.absolute())
        if isinstance(value, Path)
        else list(value)
        if isinstance(value, tuple)
        else value
        for name, value in given.items()
    }


class _LiveTable:
    """The cases that run, with their stages, under what is done and how long the rest takes."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False)
        self._due_s = 0.0

    def start(self) -> None:
        self._live.start()

    def stop(self) -> None:
        self._live.stop()
        if not self._console.is_terminal:
            self._console.line()

    def show(self, event: Event) -> None:
        if isinstance(event, Notice):
            mark = "[yellow]note[/]" if event.level == "warning" else "[cyan]info[/]"
            self._console.print(mark, Text(event.text), sep=": ")
        now = time.monotonic()
        if isinstance(event, Progress) and (now >= self._due_s or event.step == event.total):
            self._live.update(self._drawn(event), refresh=True)
            self._due_s = now + _DRAW_EVERY_S

    def _drawn(self, event: Progress) -> Group:
        batch = self._batch
        ended, total = len(batch.outcomes), len(batch.works)
        states = [outcome.state for outcome in batch.outcomes.values()]
        left = "" if batch.eta_s is None else f", about {_duration(batch.eta_s)} left"
        counts = f"{states.count('failed')} failed, {states.count('stopped')} stopped"
        head = f"{ended} of {total} cases, {counts}{left}"
        if event.stage != "cases":
            return Group(Text(f"{event.stage} {event.step}/{event.total}"))
        grid = Grid("case", "stage", "step", "for", box=None, pad_edge=False)
        running = batch.running()
        for work in running[:_SHOWN]:
            progress = newest_progress(work.run)
            step = f"{progress['step']}/{progress['total']}" if progress else ""
            passed = _duration(batch.running_s(work))
            grid.add_row(Text(work.case.name), Text(str(progress.get("stage", "starts"))), step, passed)
        if len(running) > _SHOWN:
            grid.add_row(f"and {len(running) - _SHOWN} more", "", "", "")
        # The padding ends the bar's line.
        bar = Padding(ProgressBar(total=total, completed=ended, width=60), 0)
        return Group(Text(head), bar, grid) if running else Group(Text(head), bar)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    )
