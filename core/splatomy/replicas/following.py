"""The program of a replica that follows: ``python -m splatomy.replicas.following``, started by the leader.

Its standard input is a pipe from the leader, with one line that says what to do. Nothing else ever comes:
its end is that of the leader, whatever that died of.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from collections.abc import Mapping
from typing import Any

EXIT_LOST, EXIT_MEMORY = 70, 71
"""Exit codes: another process of the training ended first; there was not enough memory."""


def main() -> None:
    """Trains beside the leader until that is gone; never returns."""
    line = sys.stdin.buffer.readline()
    if not line:
        os._exit(0)
    job: dict[str, Any] = json.loads(line)
    threading.Thread(target=_end_with_leader, args=(job["meeting"],), daemon=True).start()
    # Imported here: loading torch takes seconds, in which the leader may already be gone.
    from splatomy.errors import is_out_of_memory
    from splatomy.replicas.group import ReplicaLostError

    try:
        _follow(job)
    except ReplicaLostError:
        _end(job["meeting"], EXIT_LOST)
    except Exception as error:
        if is_out_of_memory(error):
            os._exit(EXIT_MEMORY)
        raise
    # The connection stays open until the leader has all that was sent to it.
    threading.Event().wait()


def _end_with_leader(meeting: str) -> None:
    sys.stdin.buffer.read()
    _end(meeting, 0)


def _end(meeting: str, code: int) -> None:
    # A leader that was killed leaves its folder behind; nobody who still lives needs it.
    shutil.rmtree(meeting, ignore_errors=True)
    os._exit(code)


def _follow(job: Mapping[str, Any]) -> None:
    """One replica's part of a training.

    Raises:
        ReplicaLostError: another process ended first.
    """
    import torch
    from torch.utils import deterministic

    from splatomy.events import finish
    from splatomy.method import load_symbol
    from splatomy.replicas.capture_parcel import unpacked
    from splatomy.replicas.group import Replicas
    from splatomy.replicas.meeting import meet

    device = torch.device(job["device"])
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.set_deterministic_debug_mode("warn" if job["deterministic"] else "default")
    setattr(deterministic, "fill_uninitialized_memory", False)  # noqa: B010 - its type hides the property
    follow, config = load_symbol(job["follow"]), load_symbol(job["config"])(**job["settings"])
    meet(job["meeting"], job["rank"], job["count"], device)
    replicas = Replicas(job["rank"], job["count"])
    capture = unpacked(finish(replicas.parcel(None)))
    follow([capture], config, device, replicas)


if __name__ == "__main__":
    main()
