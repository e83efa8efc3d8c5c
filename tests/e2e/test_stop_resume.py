"""A run that is stopped keeps its result, and one that is resumed ends where an undisturbed one does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import splatomy
from splatomy.cli.main import main
from splatomy.engine import ProductOptions, RunRequest, load_scene, run
from splatomy.events import Event, Progress, Snapshot, Task
from splatomy.io.run import RunFolder
from splatomy.io.volume import read_volume
from splatomy.phantoms.vessels import make_vessels

SETTINGS = {"steps": 60, "num_start": 400, "snapshot_every_s": 0.1}
FEW = ProductOptions(map_times=4, sequence_times=3)
STAGES = (
    "open", "subtract", "fdk", "train", "hold-out", "volume", "vessels", "time maps", "files", "sequence",
    "renders", "curves", "report",
)  # fmt: skip


def request(case: Path, out: Path, **changes: Any) -> RunRequest:
    given = {"source": case, "out": out, "num_views": 12, "settings": SETTINGS, "products": FEW}
    return RunRequest(**{**given, **changes})


def pulled(task: Task[RunFolder]) -> Iterator[Event]:
    """The events; afterwards the run is done."""
    yield from task


def stage_of(event: Event) -> str | None:
    return event.stage if isinstance(event, Progress | Snapshot) else None


def stop_at(task: Task[RunFolder], stage: str, count: int = 1) -> None:
    """Closes the task at the stage's ``count``-th event."""
    for event in task:
        count -= stage_of(event) == stage
        if count == 0:
            break
    task.close()


@pytest.fixture(scope="module")
def undisturbed(tiny_case: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    out = tmp_path_factory.mktemp("runs") / "run"
    return out, list(pulled(run(request(tiny_case, out))))


def assert_same_volume(a: Path, b: Path) -> None:
    one, two = (read_volume(p / "volumes" / "volume.nii.gz").values for p in (a, b))
    assert np.abs(one - two).max() <= 1e-4 * np.abs(one).max()


def test_every_stage_reports_between_its_start_and_end(undisturbed: tuple[Path, list[Event]]) -> None:
    """Each stage has an event before its work and one after, so that it can be stopped on both sides."""
    events = undisturbed[1]
    for stage in STAGES:
        steps = [e.step for e in events if isinstance(e, Progress) and e.stage == stage]
        assert len(steps) >= 2 or stage in ("subtract", "fdk"), stage
        assert steps == sorted(steps) or stage == "train", stage


def test_a_run_stopped_in_every_stage_keeps_its_result_and_resumes(
    undisturbed: tuple[Path, list[Event]], tiny_case: Path, tmp_path: Path
) -> None:
    """One run, stopped in each stage in turn, goes on from there and ends like the undisturbed one."""
    out = tmp_path / "run"
    for number, stage in enumerate(STAGES[2:]):
        task = run(request(tiny_case, out, resume=number > 0))
        stop_at(task, stage, count=4 if stage == "train" else 1)
        record = json.loads((out / "run.json").read_text())
        assert record["state"] == "cancelled" and not (out / "lock").exists(), stage
        if stage == "fdk":
            assert not (out / "scene" / "scene.json").exists(), "there is no result yet"
            continue
        assert read_volume(out / "volumes" / "volume.nii.gz").values.max() > 0, stage
        assert load_scene(RunFolder(out)).time_range_s[1] > 0, stage
        assert len(record.get("resumed", [])) == number, stage
    for _ in pulled(run(request(tiny_case, out, resume=True))):
        pass
    assert json.loads((out / "run.json").read_text())["state"] == "done"
    assert_same_volume(undisturbed[0], out)


@pytest.mark.parametrize("stage", STAGES[:2])
def test_a_run_stopped_while_opening_leaves_no_trace(stage: str, tiny_case: Path, tmp_path: Path) -> None:
    stop_at(run(request(tiny_case, tmp_path / "run")), stage)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("preset", ["tiny"])
def test_phantoms_report_and_stop(preset: str) -> None:
    task = make_vessels(preset, 1)
    assert isinstance(next(task), Progress)
    task.close()
    with pytest.raises(StopIteration):
        next(task)


@pytest.fixture
def stopped(undisturbed: tuple[Path, list[Event]], tiny_case: Path, tmp_path: Path) -> Path:
    """A run folder with two checkpoints, as if killed."""
    out = tmp_path / "run"
    shutil.copytree(undisturbed[0], out)
    folder = RunFolder(out)
    stored = folder.load_checkpoint()
    assert stored is not None
    folder.save_checkpoint(stored.checkpoint)
    record = folder.record()
    folder.write_record({**record, "state": "running"})
    return out


def words(case: Path, out: Path, **settings: Any) -> list[str]:
    pairs = [w for k, v in {**SETTINGS, **settings}.items() for w in ("--set", f"{k}={v}")]
    return ["reconstruct", str(case), "--out", str(out), "--views", "12", "--resume", *pairs]


def corrupt(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    stopped: Path, tiny_case: Path, undisturbed: tuple[Path, list[Event]], capsys: pytest.CaptureFixture[str]
) -> None:
    corrupt(stopped / "checkpoint" / "newest" / "state.safetensors")
    assert main(words(tiny_case, stopped)) == 0
    assert "damaged" in " ".join(json.loads((stopped / "run.json").read_text())["notices"])
    assert_same_volume(undisturbed[0], stopped)


@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_two_damaged_checkpoints_are_told(
    how: str, stopped: Path, tiny_case: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("newest", "previous"):
        file = stopped / "checkpoint" / name / "state.safetensors"
        if how == "flipped":
            corrupt(file)
        elif how == "cut":
            file.write_bytes(file.read_bytes()[:100])
        else:
            file.with_name("state.json").unlink()
    assert main(words(tiny_case, stopped)) == 2
    error = capsys.readouterr().err
    assert "damaged" in error and "--force" in error and "Traceback" not in error


def test_another_run_is_not_gone_on_with(
    stopped: Path, tiny_case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_case, other)
    text = (other / "transforms.json").read_text()
    (other / "transforms.json").write_text(text.replace('"sad": 750.0', '"sad": 751.0'))
    before = {p: p.read_bytes() for p in stopped.rglob("*") if p.is_file()}
    for arguments, word in (
        (words(other, stopped), "transforms.json"),
        (words(tiny_case, stopped, sparsity=0.3), "sparsity"),
        ([*words(tiny_case, stopped), "--seed", "3"], "seed"),
        ([*words(tiny_case, stopped), "--bin", "2"], "bin"),
        ([*words(tiny_case, stopped)[:5], "14", "--resume"], "num_views"),
        (["reconstruct", str(tiny_case), "--out", str(stopped), "--resume", "--method", "fdk"], "method"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert word in error and "start a new run" in error and "Traceback" not in error
    assert {p: p.read_bytes() for p in stopped.rglob("*") if p.is_file()} == before


def test_another_version_is_not_gone_on_with(
    stopped: Path, tiny_case: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("newest", "previous"):
        file = stopped / "checkpoint" / name / "state.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "software": "0.0.1"}))
    assert main(words(tiny_case, stopped)) == 2
    error = capsys.readouterr().err
    assert "0.0.1" in error and splatomy.__version__ in error
