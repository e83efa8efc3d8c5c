"""A tenth of the reliability table more with each run, until it is full; nothing may be lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.verify,
    pytest.mark.skipif(sys.platform != "linux", reason="the faults are injected by means that Linux has"),
]
TABLE = Path(__file__).parents[1] / "reliability" / "table.py"
BUDGET_S = "300"
"""No fault is begun later than this; what is left is for the next time."""
WAIT_S = 3600


def test_no_fault_costs_anything() -> None:
    done = subprocess.run(
        [sys.executable, str(TABLE), "--share", "0.1", "--jobs", "2", "--seconds", BUDGET_S],
        capture_output=True, text=True, check=False, timeout=WAIT_S,
    )  # fmt: skip
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "**lost: 0**" in done.stdout
