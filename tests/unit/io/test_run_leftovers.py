"""What killed processes and full disks leave in a run folder, and what the next process makes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from splatomy.errors import InputError
from splatomy.events import Checkpoint
from splatomy.io.run import RunFolder, check_run_path, prepare_run


def test_a_run_killed_before_its_first_file_was_whole_can_be_started(tmp_path: Path) -> None:
    (tmp_path / ".0123abcd.run.json").write_text("{")
    (tmp_path / "lock").write_text("4711")
    check_run_path(tmp_path, force=False, resume=False)
    prepare_run(tmp_path, force=False, resume=False)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    (tmp_path / ".mine").write_text("mine")
    with pytest.raises(InputError, match="not a run folder"):
        check_run_path(tmp_path, force=True, resume=False)


def test_a_line_that_was_broken_off_costs_no_other_line(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.append_event({"step": 1})
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b'{"step": 2, "lo')
    run.append_event({"step": 3})
    run.append_event({"step": 4})
    assert [event["step"] for event in run.read_events()] == [1, 3, 4]
    assert (tmp_path / "events.jsonl").read_bytes().endswith(b"\n")


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint({"means": np.full((4, 3), step, np.float32)}, {"step": step})


def test_a_checkpoint_that_was_killed_between_its_renames_is_kept_until_the_next_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path)
    for step in (1, 2):
        run.save_checkpoint(checkpoint(step))
    # The state between the two renames of the third one.
    run.save_checkpoint(checkpoint(3))
    (tmp_path / "checkpoint" / "newest").rename(tmp_path / "checkpoint" / "writing")
    stored = run.load_checkpoint()
    assert stored is not None and stored.checkpoint.values["step"] == 3

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            run.save_checkpoint(checkpoint(4))
    stored = run.load_checkpoint()
    assert stored is not None and stored.checkpoint.values["step"] == 3
    run.save_checkpoint(checkpoint(4))
    names = [
        json.loads((tmp_path / f"checkpoint/{n}/state.json").read_text()) for n in ("newest", "previous")
    ]
    assert [state["values"]["step"] for state in names] == [4, 3]


WRITES = """
import resource, sys
import numpy as np
from splatomy.io.volume import write_volume
from splatomy.scene import Volume
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
values = np.random.default_rng(0).uniform(size=(24, 24, 24)).astype(np.float32)
try:
    write_volume(sys.argv[1], Volume(values, np.eye(4)))
except OSError as error:
    print(error.filename)
"""


@pytest.mark.skipif(os.name != "posix", reason="the limit on file sizes is POSIX")
@pytest.mark.parametrize("name", ["volume.nii.gz", "volume.nrrd"])
def test_a_volume_that_does_not_fit_is_no_volume(name: str, tmp_path: Path) -> None:
    """ITK does not tell that a compressed volume came to its end before its time."""
    file = tmp_path / name
    file.write_bytes(b"before")
    done = subprocess.run(
        [sys.executable, "-c", WRITES, str(file)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == str(file), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [name] and file.read_bytes() == b"before"


def test_a_file_is_told_from_its_successor_whatever_the_clock_says(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.stamp("run.json") is None
    run.write_record({"state": "running"})
    first = run.stamp("run.json")
    run.write_record({"state": "done"})
    os.utime(tmp_path / "run.json", (0, 0))
    assert first is not None and run.stamp("run.json") != first


def test_a_glance_at_a_run_keeps_nobody_out(tmp_path: Path) -> None:
    """Whoever asks whether a run goes on holds it for an instant; who stays is told after a while."""
    glance = RunFolder(tmp_path).lock()
    glance.__enter__()
    ended = threading.Timer(0.1, glance.__exit__, (None, None, None))
    ended.start()
    with RunFolder(tmp_path).lock():
        ended.join()
        with pytest.raises(InputError, match="Another process"), RunFolder(tmp_path).lock(wait_s=0):
            pass
