"""Calls beside a task: what is left of them when the program ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

START = """
import sys, tempfile
import torch
from splatomy.background import beside, leave

def work():
    square = torch.rand(100, 100)
    while True:
        square = torch.mm(square, square).clamp(0, 1)

folder = tempfile.TemporaryDirectory()
task = beside("report", 0, 1, work)
print(next(task).stage, folder.name)
task.close()
"""


def test_a_call_that_goes_on_in_a_library_does_not_abort_the_program() -> None:
    words = [sys.executable, "-c", START + "sys.exit(leave(4))"]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 4 and ended.stderr == ""
    stage, folder = ended.stdout.split()
    assert stage == "report" and not Path(folder).exists()


def test_a_program_whose_calls_have_ended_ends_as_always() -> None:
    text = "from splatomy.background import leave\nleave(4)\nprint('on')\nraise SystemExit(leave(3))"
    words = [sys.executable, "-c", text]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 3 and ended.stdout == "on\n"
