"""kill -9 at many moments of a run of the command line, then --resume: the same result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from splatomy.cli.main import main
from splatomy.io.volume import read_volume

pytestmark = pytest.mark.verify

QUICK = [
    "--views", "12", "--set", "steps=500", "--set", "num_start=600", "--set", "snapshot_every_s=0.2",
]  # fmt: skip
WAIT_S = 300


def start(case: Path, out: Path, *extra: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "splatomy", "reconstruct", str(case), "--out", str(out), *QUICK]
    return subprocess.Popen(
        [*words, "--events", "jsonl", *extra], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(process: subprocess.Popen[str], stage: str, at_least: int) -> None:
    """Reads events until a stage's step is reached."""
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event.get("stage") == stage and event.get("step", 0) >= at_least:
            return
    raise AssertionError(f"the run ended before {stage} {at_least}: {process.communicate()[1]}")


@pytest.fixture(scope="module")
def undisturbed(tiny_case: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["reconstruct", str(tiny_case), "--out", str(out), *QUICK]) == 0
    return out


def assert_same(a: Path, b: Path) -> None:
    one, two = (read_volume(p / "volumes" / "volume.nii.gz").values for p in (a, b))
    assert np.abs(one - two).max() <= 1e-4 * np.abs(one).max()


@pytest.mark.parametrize(
    ("stage", "step"),
    [
        ("fdk", 1),
        ("train", 1),
        ("train", 120),
        ("train", 400),
        ("time maps", 5),
        ("sequence", 3),
        ("report", 0),
    ],
)
def test_killed_and_resumed(
    stage: str, step: int, tiny_case: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    process = start(tiny_case, out)
    wait_for(process, stage, step)
    process.kill()
    process.communicate(timeout=WAIT_S)
    assert json.loads((out / "run.json").read_text())["state"] == "running"
    again = start(tiny_case, out, "--resume")
    shown, error = again.communicate(timeout=WAIT_S)
    assert again.returncode == 0, error
    codes = [json.loads(line).get("code") for line in shown.splitlines()]
    assert ("resumed" in codes) != ("no-checkpoint" in codes)
    record = json.loads((out / "run.json").read_text())
    assert record["state"] == "done" and len(record["resumed"]) == 1
    if stage != "fdk":
        assert "resumed" in codes
    if stage not in ("fdk", "train"):
        assert record["resumed"][0]["from_step"] > 0
    assert_same(undisturbed, out)


def test_killed_again_and_again(tiny_case: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Kills at moments that nobody chose; each attempt gets further than nothing."""
    out = tmp_path / "run"
    rng = np.random.default_rng(0)
    for _ in range(6):
        begun = (out / "run.json").exists()
        process = start(tiny_case, out, *(["--resume"] if begun else []))
        wait_for(process, "train", 1)
        time.sleep(float(rng.uniform(0, 1.5)))
        process.kill()
        process.communicate(timeout=WAIT_S)
    last = start(tiny_case, out, "--resume")
    assert last.wait(timeout=WAIT_S) == 0
    assert_same(undisturbed, out)


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
@pytest.mark.parametrize("stage", ["open", "fdk", "train", "vessels", "time maps", "renders", "report"])
def test_ctrl_c_keeps_the_result(stage: str, tiny_case: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(tiny_case, out)
    wait_for(process, stage, 0)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=WAIT_S)
    # A signal that comes with the last event finds the run done.
    assert process.returncode == 4 or (stage == "report" and process.returncode == 0)
    if stage in ("train", "vessels", "time maps", "renders"):
        assert json.loads((out / "run.json").read_text())["state"] == "cancelled"
        assert (out / "volumes" / "volume.nii.gz").exists() and (out / "checkpoint" / "newest").exists()
