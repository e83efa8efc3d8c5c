"""`splatomy evaluate`: figures of a run against truth."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from typing import Any

from splatomy.capture import Capture
from splatomy.cli.progress import drive
from splatomy.engine import evaluate as figures_of
from splatomy.engine import find_own_input, open_capture, recorded_options
from splatomy.engine.protocols import PROTOCOLS, protocol_figures
from splatomy.errors import InputError
from splatomy.events import Notice, Progress, Task
from splatomy.io.run import RunFolder
from splatomy.io.truth_endoscopy import is_tissue_truth


def _own_capture(folder: RunFolder, arguments: Namespace) -> Task[Capture | None]:
    """The run's input, opened as the run did; None, and a word why, when the held-out views are left out.

    Raises:
        InputError: the input that was given cannot be opened.
    """
    if is_tissue_truth(arguments.truth) or "views" in folder.record():
        return None
    if arguments.truth.exists() and not (arguments.truth / "projections.npy").exists():
        text = "The truth has no projections.npy: held-out views are not measured."
        yield Notice("info", "views-skipped", text)
        return None
    path = arguments.input
    if path is None:
        yield Progress("input", 0, 1)
        try:
            path = find_own_input(folder)
        except InputError as error:
            yield Notice("warning", "views-skipped", f"Held-out views are not measured. {error}")
            return None
        yield Progress("input", 1, 1)
    return (yield from open_capture(path, recorded_options(folder)))


def _task(folder: RunFolder, arguments: Namespace) -> Task[dict[str, Any]]:
    if arguments.protocol in PROTOCOLS:
        where = arguments.truth or arguments.input
        return (yield from protocol_figures(folder, where, arguments.protocol))
    if arguments.truth is None:
        raise InputError(
            f"The protocol {arguments.protocol} compares with truth, and none was given: expected a folder. "
            "Give it with --truth."
        )
    capture = yield from _own_capture(folder, arguments)
    return (yield from figures_of(folder, arguments.truth, capture, arguments.protocol))


def evaluate(arguments: Namespace) -> None:
    """Prints all figures that the truth allows."""
    folder = RunFolder(arguments.run)
    folder.record()
    found = drive(_task(folder, arguments))
    if arguments.json:
        sys.stdout.write(json.dumps({"contract": 1, **found}, allow_nan=False) + "\n")
        return
    for key, value in found.items():
        shown = "-" if value is None else value if isinstance(value, str) else f"{value:.4g}"
        sys.stdout.write(f"{key:<28} {shown}\n")
