"""`splatomy live`: sessions on video that is still arriving."""

from __future__ import annotations

import json
import sys
from argparse import Namespace

from splatomy.cli.progress import drive
from splatomy.engine.live import LiveRequest, live
from splatomy.io.options import InputOptions


def live_session(arguments: Namespace, options: InputOptions, settings: dict[str, object]) -> None:
    """Runs a session; Ctrl-C ends it with its report."""
    request = LiveRequest(
        source=arguments.source,
        out=arguments.out,
        rate=arguments.rate,
        preset=arguments.preset,
        settings=settings,
        options=options,
        device=arguments.device,
        seed=arguments.seed,
        resume=arguments.resume,
        force=arguments.force,
        replay=arguments.replay,
    )
    json_lines = arguments.events == "jsonl"
    folder = drive(
        live(request),
        json_lines=json_lines,
        on_stop=lambda: request.inbox.put({"command": "finish"}),
    )
    if json_lines:
        sys.stdout.write(json.dumps({"event": "done", "run": str(folder.path)}) + "\n")
    else:
        sys.stdout.write(f"Run: {folder.path}\nReport: {folder.path / 'report.html'}\n")
