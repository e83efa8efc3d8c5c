"""A full-size run, 133 frames of 960 x 1240 into 256^3 voxels, fits into 8 GiB."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.verify

LIMIT_GIB = 8.0


def splatomy(*words: str) -> float:
    """Runs one command in a process of its own; its largest resident memory in GiB."""
    script = (
        "import resource, sys; from splatomy.cli.main import main; code = main(sys.argv[1:]); "
        "print('PEAK', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    peak = next(line for line in done.stdout.splitlines() if line.startswith("PEAK"))
    return int(peak.split()[1]) / 2**20


def test_a_full_size_run_fits_into_memory(tmp_path: Path) -> None:
    case, out = tmp_path / "case", tmp_path / "run"
    made = splatomy("phantom", "vessels", "--preset", "full", "--out", str(case))
    spent = splatomy("reconstruct", str(case), "--out", str(out), "--preset", "draft", "--views", "30")
    record = json.loads((out / "run.json").read_text())
    print(f"phantom {made:.2f} GiB, draft run {spent:.2f} GiB, stages {record['timings_s']}")
    assert record["state"] == "done" and (out / "report.html").exists()
    assert spent < LIMIT_GIB and made < LIMIT_GIB
