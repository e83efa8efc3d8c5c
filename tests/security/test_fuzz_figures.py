"""The figures of the security table: several processes count together, and other machines' are added once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.verify,
    pytest.mark.skipif(sys.platform != "linux", reason="the harness forks and limits itself as on Linux"),
]
TABLE = Path(__file__).parent / "table.py"
GOAL = 300


def run(state: Path, *words: str) -> None:
    given = [sys.executable, str(TABLE), "--reader", "job", "--state", str(state), "--commit", "abc", *words]
    done = subprocess.run(given, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def figures(state: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((state / "job.json").read_text())
    return read


def test_two_processes_count_to_the_goal_and_a_merge_adds_once(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    run(there, "--jobs", "2", "--goal", str(GOAL), "--seconds", "200")
    found = figures(there)
    assert found["inputs"] >= GOAL and found["commits"] == {"abc": found["inputs"]}
    assert found["inputs"] == found["accepted"] + found["refused"] and found["findings"] == {}
    for _ in range(2):
        run(here, "--merge", str(there), "--seconds", "0")
        assert figures(here)["inputs"] == found["inputs"] and figures(there)["inputs"] == 0
    inputs = {path.name for path in (there / "corpus" / "job").iterdir()}
    assert inputs and inputs <= {path.name for path in (here / "corpus" / "job").iterdir()}


def test_published_figures_are_gone_on_from_where_they_are_further(tmp_path: Path) -> None:
    published, state = tmp_path / "published.json", tmp_path / "state"
    row = {"reader": "job", "inputs": 5000, "accepted": 900, "refused": 4097, "corpus": 12, "found": 3}
    row |= {"open": 0, "commits": ["old"], "seconds": 50}
    published.write_text(json.dumps({"readers": [row]}))
    run(state, "--published", str(published), "--seconds", "0")
    taken = figures(state)
    assert (taken["inputs"], taken["fixed"], taken["commits"]) == (5000, 3, {"old": 0})
    run(state, "--published", str(published), "--goal", "5100", "--seconds", "60")
    more = figures(state)
    assert more["inputs"] >= 5100 and more["commits"] == {"old": 0, "abc": more["inputs"] - 5000}
    run(state, "--published", str(published), "--seconds", "0")
    assert figures(state) == more
