"""Batches on a real Ray cluster of this machine: workers and drivers are killed, and nothing is lost."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from splatomy.batch import newest_progress
from splatomy.io.atomic import write_json

pytestmark = [
    pytest.mark.verify,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="parents are found in /proc"),
]
pytest.importorskip("ray")

WAIT_S = 900
STEPS = 3000
SLOW = [
    "--method", "dynamic_vessels", "--set", f"steps={STEPS}", "--set", "num_start=600",
    "--set", "snapshot_every_s=0.2", "--views", "12",
]  # fmt: skip
QUICK = ["--method", "fdk", "--preset", "draft", "--bin", "4"]


def start(cases: Path, out: Path, *extra: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "splatomy", "batch", str(cases), "--out", str(out), "--workers", "2"]
    return subprocess.Popen([*words, "--device", "cpu", *extra], start_new_session=True)


def listed(folder: Path, source: Path, names: list[str]) -> Path:
    path = folder / "cases.csv"
    path.write_text("input,name\n" + "".join(f"{source},{name}\n" for name in names))
    return path


def wait_until(true: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + WAIT_S
    while not true():
        assert process.poll() is None, f"the batch ended first, with {process.returncode}"
        assert time.monotonic() < until
        time.sleep(0.1)


def trains(run: Path) -> bool:
    """True once a run has something to go on from, and something left to do."""
    progress, stored = newest_progress(run), run / "checkpoint" / "newest" / "state.json"
    try:
        kept = json.loads(stored.read_text())["values"]["step"]
    except (OSError, ValueError):
        return False
    return kept > 0 and progress.get("stage") == "train" and progress["step"] < STEPS - 100


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def engine_of(run: Path) -> int:
    return int((run / "lock").read_text().split()[0])


def record(run: Path) -> Mapping[str, Any]:
    value: Mapping[str, Any] = json.loads((run / "run.json").read_text())
    return value


def rows(out: Path) -> dict[str, dict[str, str]]:
    with (out / "results.csv").open(newline="") as lines:
        return {row["case"]: row for row in csv.DictReader(lines)}


def test_a_killed_worker_is_rescheduled_and_resumes(tiny_case: Path, tmp_path: Path) -> None:
    out = tmp_path / "batch"
    batch = start(listed(tmp_path, tiny_case, ["one", "two"]), out, "--engine", "ray", *SLOW)
    wait_until(lambda: trains(out / "runs" / "one"), batch)
    worker = parent(engine_of(out / "runs" / "one"))
    assert worker != batch.pid, "an engine on a cluster is watched by a worker, not by the driver"
    os.kill(worker, signal.SIGKILL)
    assert batch.wait(WAIT_S) == 0
    assert {row["state"] for row in rows(out).values()} == {"done"}
    resumed = record(out / "runs" / "one")["resumed"]
    assert len(resumed) == 1 and resumed[0]["from_step"] > 0
    assert "resumed" not in record(out / "runs" / "two")


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_killed_engine_is_started_again(engine: str, tiny_case: Path, tmp_path: Path) -> None:
    out = tmp_path / "batch"
    batch = start(listed(tmp_path, tiny_case, ["one"]), out, "--engine", engine, *SLOW)
    wait_until(lambda: trains(out / "runs" / "one"), batch)
    os.kill(engine_of(out / "runs" / "one"), signal.SIGKILL)
    assert batch.wait(WAIT_S) == 0
    assert rows(out)["one"]["attempts"] == "2"
    assert record(out / "runs" / "one")["resumed"][0]["from_step"] > 0


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_killed_driver_loses_nothing(engine: str, tiny_case: Path, tmp_path: Path) -> None:
    out = tmp_path / "batch"
    names = ["one", "two", "three"]
    words = ["--engine", engine, *SLOW]
    cases = listed(tmp_path, tiny_case, names)
    batch = start(cases, out, *words)
    # The third can only begin when one of the first two is done.
    wait_until(lambda: trains(out / "runs" / "three"), batch)
    batch.kill()
    batch.wait()
    before = {name: record(out / "runs" / name) for name in names}
    done = [name for name in names if before[name]["state"] == "done"]
    assert done
    again = start(cases, out, *words)
    assert again.wait(WAIT_S) == 0
    after = rows(out)
    assert {row["state"] for row in after.values()} == {"done"}
    for name in done:
        assert record(out / "runs" / name) == before[name] and after[name]["attempts"] == "0"
    assert record(out / "runs" / "three")["resumed"][0]["from_step"] > 0


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_ctrl_c_keeps_every_result(engine: str, tiny_case: Path, tmp_path: Path) -> None:
    out = tmp_path / "batch"
    words = ["--engine", engine, *SLOW]
    cases = listed(tmp_path, tiny_case, ["one", "two"])
    batch = start(cases, out, *words)
    wait_until(lambda: trains(out / "runs" / "one"), batch)
    batch.send_signal(signal.SIGINT)
    assert batch.wait(WAIT_S) == 4
    assert set(rows(out)) == {"one", "two"}
    assert (out / "runs" / "one" / "checkpoint" / "newest" / "state.json").exists()
    assert start(cases, out, *words).wait(WAIT_S) == 0
    assert record(out / "runs" / "one")["resumed"][0]["from_step"] > 0


@pytest.mark.soak
def test_a_thousand_cases_after_the_death_of_a_driver(tiny_case: Path, tmp_path: Path) -> None:
    """Of a thousand cases 980 were finished before; the last twenty are run, and none of the others again."""
    names = [f"c{number:04d}" for number in range(1000)]
    out = tmp_path / "batch"
    cases = listed(tmp_path, tiny_case, names)
    words = ["--engine", "ray", *QUICK]
    first = start(listed(tmp_path, tiny_case, names[:1]), out, *words)
    assert first.wait(WAIT_S) == 0
    made = out / "runs" / names[0]
    job = json.loads((out / "jobs" / f"{names[0]}.json").read_text())
    for name in names[1:980]:
        for file in ("run.json", "metrics.json"):
            (out / "runs" / name).mkdir(exist_ok=True)
            shutil.copy(made / file, out / "runs" / name / file)
        write_json(out / "jobs" / f"{name}.json", {**job, "out": str(out / "runs" / name)})
    cases = listed(tmp_path, tiny_case, names)
    assert start(cases, out, *words).wait(WAIT_S) == 0
    after = rows(out)
    assert list(after) == names and {row["state"] for row in after.values()} == {"done"}
    assert [name for name in names if after[name]["attempts"] != "0"] == names[980:]
    assert all(record(out / "runs" / name)["state"] == "done" for name in names)
