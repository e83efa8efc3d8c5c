"""The process beside a command: it says why another one died, and is in nobody's way otherwise."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="watching is for Linux")
START = "import os, signal, sys, time\nfrom splatomy.cli.main import end_for_memory\n"
START += "from splatomy.cli.watching import watched\n"
# What a shell starts in the background ignores Ctrl-C, and so would everything that it starts.
START += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
SLOW = "try:\n        print(os.getpid(), flush=True)\n        while True:\n            time.sleep(0.05)\n"
SLOW += "    except KeyboardInterrupt:\n        return 4"


def started(body: str) -> subprocess.Popen[str]:
    text = f"{START}def work():\n    {body}\nsys.exit(watched(work, end_for_memory))"
    words = [sys.executable, "-c", text]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("body", ["os.abort()", "os.kill(os.getpid(), 9)"])
def test_a_process_that_dies_for_memory_is_one_sentence(body: str) -> None:
    process = started(body)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 2 and error.count("splatomy: ") == 1 and "memory" in error


@pytest.mark.parametrize(("body", "code"), [("return 3", 3), ("sys.exit(5)", 5)])
def test_codes_pass_through(body: str, code: int) -> None:
    process = started(body)
    assert process.communicate(timeout=30) == ("", "") and process.returncode == code


def test_another_signal_stays_that_signal() -> None:
    process = started("os.kill(os.getpid(), 11)")
    assert process.communicate(timeout=30) == ("", "") and process.returncode == -11


def test_ctrl_c_reaches_the_work() -> None:
    process = started(SLOW)
    assert process.stdout is not None and process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 4


def test_the_work_ends_with_its_watcher() -> None:
    process = started(SLOW)
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    process.kill()
    process.wait(timeout=30)
    until = time.monotonic() + 30
    with contextlib.suppress(FileNotFoundError):
        # Whoever inherited it may not have collected it yet.
        while Path(f"/proc/{worker}/stat").read_text().rpartition(") ")[2][0] not in "ZX":
            assert time.monotonic() < until and os.getpgid(worker) > 0
            time.sleep(0.05)
    process.stdout.close()
