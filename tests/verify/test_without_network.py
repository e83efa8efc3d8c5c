"""Every main job on a machine that has no network: not even an address of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_UNSHARE = shutil.which("unshare")
_ALONE = [str(_UNSHARE), "--map-root-user", "--net"]
"""A network namespace with nothing in it, and no loopback interface that is up."""


def _can_be_alone() -> bool:
    return _UNSHARE is not None and subprocess.run([*_ALONE, "true"], capture_output=True).returncode == 0


pytestmark = [
    pytest.mark.verify,
    pytest.mark.skipif(not _can_be_alone(), reason="this system does not allow network namespaces"),
]


def alone(*words: str | Path) -> str:
    """Runs the command line where no packet can leave; what it said."""
    command = [*_ALONE, sys.executable, "-m", "splatomy", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def state(run: Path) -> str:
    return str(json.loads((run / "run.json").read_text())["state"])


def test_there_is_really_no_network() -> None:
    code = "import socket; socket.create_connection(('127.0.0.1', 9), 1)"
    done = subprocess.run([*_ALONE, sys.executable, "-c", code], capture_output=True, text=True)
    assert "Network is unreachable" in done.stderr


def test_vessels_and_their_outputs(tmp_path: Path) -> None:
    case, run = tmp_path / "case", tmp_path / "run"
    alone("phantom", "vessels", "--preset", "tiny", "--out", case)
    settings = ("--set", "steps=30", "--set", "num_start=300", "--views", "12")
    alone("reconstruct", case, "--out", run, *settings)
    assert state(run) == "done"
    alone("evaluate", run, "--truth", case / "truth")
    alone("export", run, "--what", "volume", "--out", tmp_path / "volume.nii.gz")
    alone("render", run, "--out", tmp_path / "pictures")


def test_a_clip_with_masks_of_its_own(tmp_path: Path) -> None:
    case, run = tmp_path / "case", tmp_path / "run"
    alone("phantom", "tissue", "--preset", "tiny", "--out", case)
    alone("reconstruct", case, "--out", run, "--preset", "draft", "--set", "steps=20")
    assert state(run) == "done"
    alone("export", run, "--what", "mesh", "--out", tmp_path / "tissue.ply")


def test_an_object_and_what_hides_it(tmp_path: Path) -> None:
    case, run = tmp_path / "case", tmp_path / "run"
    alone("phantom", "object", "--preset", "tiny", "--out", case)
    alone("reconstruct", case, "--out", run, "--preset", "draft", "--set", "joint_steps=30")
    assert state(run) == "done"


def test_a_live_stream(tmp_path: Path) -> None:
    run = tmp_path / "run"
    alone("live", "phantom:tiny", "--out", run, "--rate", "max")
    assert state(run) == "done"


def test_many_cases(tmp_path: Path) -> None:
    case = tmp_path / "case"
    alone("phantom", "vessels", "--preset", "tiny", "--out", case)
    cases = tmp_path / "cases.csv"
    cases.write_text(f"input,name\n{case},one\n")
    alone("batch", cases, "--out", tmp_path / "batch", "--method", "fdk", "--preset", "draft")
    assert state(tmp_path / "batch" / "runs" / "one") == "done"


def test_the_desktop_app(tmp_path: Path) -> None:
    """A sample is made, reconstructed and shown, in a window on a screen of its own."""
    xvfb = shutil.which("xvfb-run")
    if xvfb is None:
        pytest.skip("there is no Xvfb")
    words = [xvfb, "-a", "-s", "-screen 0 1600x1200x24", sys.executable, "-m", "splatomy_gui.screenshots"]
    words += ["--out", str(tmp_path), "--sample", "tiny", "--workspace", "angiography"]
    done = subprocess.run([*_ALONE, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("*.png"))
