"""The reliability table goes on from what was published, and shows it as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.verify,
    pytest.mark.skipif(sys.platform != "linux", reason="the faults are injected by means that Linux has"),
]
TABLE = Path(__file__).parent / "table.py"
PUBLISHED = Path(__file__).parents[2] / "resources" / "benchmarks" / "reliability"


def shown(state: Path, *words: str) -> list[str]:
    """The rows of the table."""
    given = [sys.executable, str(TABLE), "--share", "0", "--state", str(state), *words]
    done = subprocess.run(given, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith("|")]


def section(injected: int, lost: int = 0) -> dict[str, Any]:
    row = {
        "fault": "the clock is set", "where": "dynamic_tissue", "injected": injected,
        "survived": injected - lost, "lost": lost, "resumed": 0, "sentences": 0, "seconds": 1.0,
        "problems": [],
    }  # fmt: skip
    return {
        "wanted": injected,
        "is_done": True,
        "versions": ["old"],
        "machines": ["a"],
        "rows": [row],
        "notes": [],
    }


def test_the_published_table_is_taken_over_as_it_is(tmp_path: Path) -> None:
    rows = [line for line in PUBLISHED.with_suffix(".md").read_text().splitlines() if line.startswith("|")]
    assert len(rows) > 50
    for _ in range(2):
        assert shown(tmp_path, "--published") == rows
    assert shown(tmp_path) == rows


def test_only_what_is_further_and_lost_nothing_is_taken_over(tmp_path: Path) -> None:
    published, state = tmp_path / "published.json", tmp_path / "state"
    state.mkdir()
    for name, here in (("clock", 7), ("stalled-drive", 3)):
        (state / f"{name}.json").write_text(json.dumps(section(here)))
    sections = {"clock": section(5), "stalled-drive": section(4), "kill-fdk": section(9, lost=1)}
    published.write_text(json.dumps({"sections": sections}))
    shown(state, "--published", str(published))
    kept = {path.stem: json.loads(path.read_text())["rows"][0]["injected"] for path in state.glob("*.json")}
    assert kept == {"clock": 7, "stalled-drive": 4}
