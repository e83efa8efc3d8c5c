"""Commands of the engine as processes of their own: samples, exports, what this machine offers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from typing import Any

from splatomy.errors import InputError
from splatomy.events import Event, Progress
from splatomy_gui.engine_process import engine_environment, engine_words, own_session

_POLL_S = 0.1
_GRACE_S = 2.0


def run_command(*words: str) -> Generator[Event, None, str]:
    """What a splatomy command printed; a Task, so that closing it ends the process within two seconds.

    The app never loads the engine's own libraries: what needs them runs here.

    Raises:
        InputError: the command refused; its own sentence.
        RuntimeError: it failed.
    """
    process = subprocess.Popen(
        engine_words(*words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=engine_environment(),
        **own_session(),
    )
    try:
        while True:
            try:
                out, err = process.communicate(timeout=_POLL_S)
                break
            except subprocess.TimeoutExpired:
                yield Progress(words[0], 0, 1)
    except GeneratorExit:
        _end(process)
        raise
    text = err.decode("utf-8", "replace").strip()
    if process.returncode == 0:
        return out.decode("utf-8", "replace")
    sentence = next((x for x in reversed(text.splitlines()) if x.startswith("splatomy: ")), "")
    if process.returncode in (2, 3) and sentence:
        raise InputError(sentence.removeprefix("splatomy: "))
    raise RuntimeError(f"splatomy {words[0]} ended with {process.returncode}\n{text}")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate() if sys.platform == "win32" else process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + _GRACE_S
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    if process.poll() is None:
        process.kill()
        process.wait()


def machine() -> Generator[Event, None, dict[str, Any]]:
    """Versions, devices and memory of this machine, as ``splatomy --version --json`` tells them."""
    text = yield from run_command("--version", "--json")
    facts: dict[str, Any] = json.loads(text)
    return facts
