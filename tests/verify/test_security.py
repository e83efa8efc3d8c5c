"""Hostile input at length, the same every time; `make fuzz` goes on with inputs that nobody has seen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.verify

TABLE = Path(__file__).resolve().parents[1] / "security" / "table.py"


def test_no_reader_breaks() -> None:
    words = [sys.executable, str(TABLE), "--repeatable", "400"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=1200, check=False)
    sys.stdout.write(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" 0 findings") == done.stdout.count("inputs,") > 20
