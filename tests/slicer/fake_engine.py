"""Programs that behave as engines must not, by the first word: each is run as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import sys
import time


def say(**event: object) -> None:
    """One event on standard output."""
    print(json.dumps(event), flush=True)


def crash() -> None:
    """Dies without a word in the middle of training."""
    say(event="progress", stage="train", step=3, total=10, metrics={}, eta_s=4.0)
    os.kill(os.getpid(), signal.SIGKILL)


def refuse() -> None:
    """Says why it cannot."""
    say(event="error", code="input", text="The input is a poem.", hint="Give a clip.")
    sys.exit(2)


def babble() -> None:
    """Prints everything but the protocol, and between it the protocol."""
    out = sys.stdout.buffer
    for junk in (
        b"\xff\xfe\x00 noise\n",
        b"{not json}\n",
        b'["event"]\n',
        b'{"event": 7}\n',
        b"NaN\n",
        b"\n",
    ):
        out.write(junk)
    out.write(b'{"event": "progress", "stage": null, "step": "x", "total": -3, "metrics": [1]}\n')
    out.write(b"[" * 100_000 + b"\n")
    out.write(b"x" * 3_000_000 + b"\n")
    out.flush()
    sys.stderr.write("warning: a library talks\n" * 2000)
    say(event="snapshot", stage="train", step=1, files={"preview": "nowhere.png"})
    say(event="done", run="/run")


def hang() -> None:
    """Hears neither commands nor signals that can be ignored."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say(event="progress", stage="train", step=1, total=10, metrics={})
    while True:
        time.sleep(1)


def stubborn() -> None:
    """Hears no commands but ends at SIGTERM."""
    say(event="progress", stage="train", step=1, total=10, metrics={})
    while True:
        time.sleep(1)


def obey() -> None:
    """Answers every command as the protocol says."""
    say(event="progress", stage="train", step=1, total=10, metrics={"loss": 0.5}, eta_s=9.0)
    for line in sys.stdin:
        command = json.loads(line)["command"]
        if command in ("pause", "resume"):
            say(event="notice", level="info", code=f"{command}d".replace("eed", "ed"), text=command)
        elif command == "cancel":
            say(event="notice", level="info", code="stopped", text="The job was stopped.")
            sys.exit(4)


def unfinished() -> None:
    """Ends well without a result."""
    say(event="progress", stage="open", step=1, total=1, metrics={})


def version() -> None:
    """What an engine says of itself."""
    facts = {"contract": 1, "splatomy": "9.9", "torch": "2", "cuda_devices": [], "memory_gib": 8}
    print(json.dumps(facts), flush=True)


def newer() -> None:
    """An engine of another contract."""
    print('{"contract": 2, "splatomy": "9", "torch": "2", "cuda_devices": [], "memory_gib": 8}', flush=True)


def variables() -> None:
    """The environment that it was given."""
    print(json.dumps(dict(os.environ)), flush=True)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
