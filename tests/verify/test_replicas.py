"""Several processes on one case: the same result, and nobody left behind when one of them dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from splatomy.capture import Capture, Modality
from splatomy.cli.main import main
from splatomy.events import finish
from splatomy.io.volume import read_volume
from splatomy.method import find_method, make_config
from splatomy.phantoms.tissue import PRESETS, make_tissue
from splatomy.replicas.group import ReplicaLostError, Replicas
from splatomy.replicas.leading import replicated
from splatomy.replicas.meeting import meet, part
from splatomy.scene import Scene

pytestmark = [
    pytest.mark.verify,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc"),
]

CPU = torch.device("cpu")
WAIT_S = 300
GONE_S = 2.0
"""What the last process may take to end after the first."""
SETTINGS = [
    "--set", "steps=400", "--set", "num_start=600", "--set", "snapshot_every_s=0.2", "--set",
    "views_per_step=2", "--views", "12",
]  # fmt: skip


def trained(capture: Capture, count: int, method: str, **settings: Any) -> Scene:
    spec = find_method(method)
    return finish(replicated(spec, capture, make_config(spec, "standard", settings), CPU, count))


def assert_alike(one: np.ndarray, two: np.ndarray) -> None:
    """Alike but for the order of float32 sums, of which a training makes more than they were."""
    assert one.shape == two.shape and np.abs(one - two).max() <= 1e-4 * np.abs(one).max()


@pytest.fixture(scope="module")
def tiny_tissue() -> Capture:
    p = finish(make_tissue(replace(PRESETS["tiny"], baseline_mm=0.0), 0))
    known = {"cameras": p.cameras, "occluded": p.occluded, "depth_mm": p.observed_depth_mm}
    return Capture(Modality.COLOUR, p.images, p.times_s, **known)


@pytest.mark.parametrize("deformation", ["nodes", "curves"])
def test_two_replicas_of_tissue_do_what_one_process_does(deformation: str, tiny_tissue: Capture) -> None:
    settings = {"steps": 60, "grow_every": 10, "spacing_px": 3.0, "frames_per_step": 2}
    settings |= {"deformation": deformation}
    one, two = (trained(tiny_tissue, count, "dynamic_tissue", **settings).state().arrays for count in (1, 2))
    for name, array in one.items():
        assert_alike(array, two[name])


@pytest.mark.parametrize("field", ["curves", "grid"])
def test_three_replicas_share_four_views(field: str, tiny_capture: Capture) -> None:
    """Unequal shares. Pictures are compared: the rotation of a round Gaussian is left to the rounding."""
    settings = {"steps": 40, "num_start": 400, "grow_every": 10, "views_per_step": 4, "log2_table": 10}
    one, two = (trained(tiny_capture, count, "dynamic_vessels", field=field, **settings) for count in (1, 3))
    assert tiny_capture.cameras is not None
    views = tiny_capture.cameras, tiny_capture.times_s
    assert_alike(one.render(*views).colour, two.render(*views).colour)


_OTHER = """
import sys, torch
from splatomy.replicas.group import Replicas
from splatomy.replicas.meeting import meet
meet(sys.argv[1], 1, 2, torch.device("cpu"))
group = Replicas(1, 2)
numbers, table = torch.arange(3.0), torch.full((2, 2), 10.0)
group.add_up([numbers, table])
largest = torch.tensor([1.0, 5.0])
group.take_largest(largest)
choice = torch.tensor([True, False, True])
group.obey(choice)
assert choice.tolist() == [False, False, True] and largest.tolist() == [2.0, 5.0]
same = torch.tensor([1.0, float("nan")])
group.compare(50, [same])
same[0] = torch.nextafter(same[0], torch.tensor(2.0))
try:
    group.compare(100, [same])
except RuntimeError:
    sys.exit(7)
"""


def test_what_replicas_tell_each_other() -> None:
    with tempfile.TemporaryDirectory() as folder:
        other = subprocess.Popen([sys.executable, "-c", _OTHER, folder])
        try:
            meet(folder, 0, 2, CPU)
            group = Replicas(0, 2)
            numbers, table = torch.ones(3), torch.zeros(2, 2)
            group.add_up([numbers, table])
            assert numbers.tolist() == [1.0, 2.0, 3.0] and bool((table == 10).all())
            assert group.figures()["reduced_mb"] == pytest.approx(7 * 4 / 1e6)
            largest = torch.tensor([2.0, 3.0])
            group.take_largest(largest)
            assert largest.tolist() == [2.0, 5.0]
            group.obey(torch.tensor([False, False, True]))
            same = torch.tensor([1.0, float("nan")])
            group.compare(50, [same])
            # The other one's now differs by the last bit.
            with pytest.raises(ReplicaLostError, match="same scene at step 100"):
                group.compare(100, [same])
            assert other.wait(WAIT_S) == 7
        finally:
            other.kill()
            other.wait()
            part(CPU)


# -- deaths ------------------------------------------------------------------------------------


def start(case: Path, out: Path, *extra: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "splatomy", "reconstruct", str(case), "--out", str(out), *SETTINGS]
    return subprocess.Popen(
        [*words, "--events", "jsonl", *extra], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_step(process: subprocess.Popen[str], at_least: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event.get("stage") == "train" and event.get("step", 0) >= at_least:
            return
    raise AssertionError(f"the run ended before step {at_least}: {process.communicate()[1]}")


def followers_of(process: subprocess.Popen[str]) -> list[int]:
    """The processes that the run started, which itself was started by the one that watches it."""
    return [follower for run in children_of(process.pid) for follower in children_of(run)]


def children_of(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for children in found for child in children.read_text().split()]


def lives(pid: int) -> bool:
    """False also for one that nobody has buried yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def assert_gone(pids: list[int]) -> None:
    until = time.monotonic() + GONE_S
    while any(map(lives, pids)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(map(lives, pids))


@pytest.fixture(scope="module")
def undisturbed(tiny_case: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["reconstruct", str(tiny_case), "--out", str(out), *SETTINGS]) == 0
    return out


def assert_same(a: Path, b: Path) -> None:
    assert_alike(*(read_volume(p / "volumes" / "volume.nii.gz").values for p in (a, b)))


def test_a_dead_follower_is_one_sentence_and_the_run_goes_on_without_it(
    tiny_case: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    leader = start(tiny_case, out, "--replicas", "2")
    wait_for_step(leader, 100)
    (follower,) = followers_of(leader)
    os.kill(follower, signal.SIGKILL)
    error = leader.communicate(timeout=WAIT_S)[1].strip()
    assert leader.returncode == 2 and "\n" not in error
    assert "killed by signal 9" in error and "--resume" in error
    record = json.loads((out / "run.json").read_text())
    assert record["state"] == "failed" and record["replicas"] == 2
    again = start(tiny_case, out, "--resume")
    shown, error = again.communicate(timeout=WAIT_S)
    assert again.returncode == 0, error
    assert "resumed" in [json.loads(line).get("code") for line in shown.splitlines()]
    record = json.loads((out / "run.json").read_text())
    assert record["state"] == "done" and record["replicas"] == 1 and record["resumed"][0]["from_step"] > 0
    assert_same(undisturbed, out)


def test_a_dead_leader_takes_the_others_with_it(tiny_case: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    leader = start(tiny_case, out, "--replicas", "2")
    wait_for_step(leader, 100)
    followers = followers_of(leader)
    assert followers
    leader.kill()
    assert_gone(followers)
    leader.communicate(timeout=WAIT_S)
    again = start(tiny_case, out, "--resume", "--replicas", "2")
    error = again.communicate(timeout=WAIT_S)[1]
    assert again.returncode == 0, error
    assert_same(undisturbed, out)


@pytest.mark.parametrize("moment", ["training", "starting"])
def test_a_stopped_leader_ends_the_others(moment: str, tiny_case: Path, tmp_path: Path) -> None:
    leader = start(tiny_case, tmp_path / "run", "--replicas", "2", "--set", "steps=100000")
    if moment == "training":
        wait_for_step(leader, 50)
    else:
        until = time.monotonic() + WAIT_S
        while not followers_of(leader) and time.monotonic() < until:
            time.sleep(0.02)
    followers = followers_of(leader)
    assert followers
    leader.send_signal(signal.SIGINT)
    leader.communicate(timeout=WAIT_S)
    assert leader.returncode == 4
    assert_gone(followers)


def test_a_job_may_ask_for_replicas(tiny_case: Path, tmp_path: Path) -> None:
    """Paused too: those that follow wait as long as the leader does."""
    job = {
        "contract": 1, "input": str(tiny_case), "out": str(tmp_path / "run"), "replicas": 2, "views": 12,
        "config": {"steps": 200, "num_start": 400, "views_per_step": 2},
    }  # fmt: skip
    (tmp_path / "job.json").write_text(json.dumps(job))
    words = [sys.executable, "-m", "splatomy", "job", "run", str(tmp_path / "job.json")]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    wait_for_step(process, 1)
    process.stdin.write('{"command": "pause"}\n')
    process.stdin.flush()
    time.sleep(1.0)
    process.stdin.write('{"command": "resume"}\n')
    process.stdin.flush()
    lines = process.stdout.readlines() if process.stdout is not None else []
    assert process.wait(WAIT_S) == 0 and json.loads(lines[-1])["event"] == "done"
    assert json.loads((tmp_path / "run" / "run.json").read_text())["replicas"] == 2
