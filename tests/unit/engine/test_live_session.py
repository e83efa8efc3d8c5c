"""A whole live session on a small stream: run folder, commands, replay, faults."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from splatomy.engine.live import LiveRequest, PhantomSource, live
from splatomy.errors import InputError
from splatomy.events import Answer, Event, LiveStatus, Notice, Progress, Snapshot, finish
from splatomy.io.run import RunFolder
from splatomy.methods.live_scene.model import load_scene
from splatomy.phantoms.stream import PRESETS, StreamPhantom

CALM = replace(PRESETS["tiny"], disturbances=())
SETTINGS = {"steps_per_frame": 1, "publish_every_s": 0.2, "mesh_every_s": 0.5, "keep_every_s": 0.2}
SQUARE = [[20, 20], [40, 20], [40, 36], [20, 36]]


@pytest.fixture(scope="module")
def phantom() -> StreamPhantom:
    return StreamPhantom(CALM, 0)


def session(
    out: Path,
    phantom: StreamPhantom,
    frames: int = 16,
    commands: Mapping[int, Mapping[str, Any]] | None = None,
    **changes: Any,
) -> list[Event]:
    """All events of a session; ``commands`` are given when the stream has come to a frame."""
    inbox: SimpleQueue[Mapping[str, Any]] = SimpleQueue()
    request = LiveRequest("phantom", out, rate="max", settings=SETTINGS, force=True, inbox=inbox, **changes)
    source = _Told(phantom, frames, dict(commands or {}), inbox)
    return list(live(request, source))


class _Told(PhantomSource):
    """A phantom source whose surgeon speaks when a frame is taken."""

    def __init__(
        self,
        phantom: StreamPhantom,
        frames: int,
        commands: dict[int, Mapping[str, Any]],
        inbox: SimpleQueue[Mapping[str, Any]],
    ) -> None:
        super().__init__(phantom, "max", frames)
        self.commands, self.inbox = commands, inbox

    def read(self, timeout_s: float) -> Any:
        frame = super().read(timeout_s)
        if frame is not None and frame.index in self.commands:
            self.inbox.put(self.commands[frame.index])
        return frame


def arrays_of(out: Path) -> dict[str, Any]:
    return dict(RunFolder(out).load_scene_state().arrays)


@pytest.fixture(scope="module")
def commanded(tmp_path_factory: pytest.TempPathFactory, phantom: StreamPhantom) -> tuple[Path, list[Event]]:
    """A session in which every kind of command is given."""
    out = tmp_path_factory.mktemp("live") / "run"
    commands = {
        3: {"command": "mark", "id": "m", "name": "vessel", "pixel": [30, 26]},
        5: {"command": "mask", "id": 1, "polygon": SQUARE, "what": "add"},
        6: {"command": "undo", "id": 2},
        7: {"command": "region", "id": 3, "what": "keep", "polygon": SQUARE},
        8: {"command": "region", "id": 4, "what": "ignore", "polygon": [[4, 4], [14, 4], [14, 14]]},
        9: {"command": "scale", "id": 5, "pixels": [[20, 26], [44, 26]], "distance_mm": 30.0},
        10: {"command": "freeze", "id": 6, "on": True},
        11: {"command": "freeze", "id": 7, "on": False},
        12: {"command": "rewind", "id": 8, "generation": 2},
        13: {"command": "mark", "id": 9, "pixel": [500, 500]},
        14: {"command": "paint", "id": 10},
        15: {"command": "rewind", "id": 11, "generation": -1},
    }
    return out, session(out, phantom, 18, commands)


def test_the_run_folder_is_whole(commanded: tuple[Path, list[Event]]) -> None:
    out, events = commanded
    record = json.loads((out / "run.json").read_text())
    assert record["state"] == "done" and record["method"] == "live_scene"
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["frames"] == 18 and metrics["tracked_share"] == 1.0 and metrics["psnr"] > 20
    for name in ("report.html", "meshes/mesh.ply", "scene/gaussians.ply", "trajectory.txt", "marks.json"):
        assert (out / name).stat().st_size > 0, name
    assert load_scene(RunFolder(out).load_scene_state()).generation > 0
    assert len(np.loadtxt(out / "trajectory.txt")) == 18
    snapshots = [e for e in events if isinstance(e, Snapshot)]
    assert len(snapshots) > 2 and any(isinstance(e, LiveStatus) for e in events)


def test_every_command_is_answered(commanded: tuple[Path, list[Event]]) -> None:
    _, events = commanded
    answers = [e for e in events if isinstance(e, Answer)]
    final = {e.identifier: e for e in answers if e.state != "received"}
    for identifier in ("m", 1, 2, 3, 4, 5, 6, 7, 8):
        assert final[identifier].state == "applied", final[identifier].reason
    assert final[9].state == "rejected" and "pixel" in str(final[9].reason)
    assert final[10].state == "rejected" and "expected one of" in str(final[10].reason)
    assert final[11].state == "rejected"
    assert "back to generation -1: the oldest state that is kept is of generation 0." in str(final[11].reason)
    generations = [a.generation for a in answers]
    assert generations == sorted(generations)


def test_the_log_gives_the_same_result_again(
    commanded: tuple[Path, list[Event]], phantom: StreamPhantom, tmp_path: Path
) -> None:
    out, _ = commanded
    again = tmp_path / "again"
    session(again, phantom, 18, None, replay=out / "commands.jsonl")
    first, second = arrays_of(out), arrays_of(again)
    assert first.keys() == second.keys()
    # The log tells after which frame a command was obeyed; a state may lie one snapshot's number apart.
    for name in first:
        assert np.array_equal(first[name], second[name]), name


def test_snapshots_can_be_read_when_they_are_told(tmp_path: Path, phantom: StreamPhantom) -> None:
    request = LiveRequest("phantom", tmp_path / "run", rate="max", settings=SETTINGS)
    seen = 0
    for event in live(request, PhantomSource(phantom, "max", 10)):
        if isinstance(event, Snapshot) and event.files is not None:
            told = json.loads(Path(event.files["points"]).read_text())
            assert told["generation"] == event.step and told["metric"] is True
            points = sum(
                len(load_file(Path(event.files["points"]).parent / b["file"])["xyz"]) for b in told["blocks"]
            )
            assert points == sum(b["count"] for b in told["blocks"]) > 0
            assert Path(event.files["preview"]).stat().st_size > 0
            seen += 1
    assert seen >= 1


def test_pause_and_resume_are_told(tmp_path: Path, phantom: StreamPhantom) -> None:
    commands = {2: {"command": "pause"}, 4: {"command": "resume"}}
    events = session(tmp_path / "run", phantom, 8, commands)
    told = [event.code for event in events if isinstance(event, Notice)]
    assert told.index("paused") < told.index("resumed")


def test_a_breath_of_the_tissue_is_told(tmp_path: Path) -> None:
    """It moves the published path: in the notices and the figures, also after the session is resumed."""
    out, settings = tmp_path / "run", {"steps_per_frame": 1}
    phantom = StreamPhantom(replace(CALM, breath_mm=4.0, breath_period_s=2.5), 0)
    request = LiveRequest("phantom", out, rate="max", preset="deforming", settings=settings)
    events = list(live(request, PhantomSource(phantom, "max", 26)))
    told = [e for e in events if isinstance(e, Notice) and e.code == "breath-found"]
    assert len(told) == 1
    period_s = json.loads((out / "metrics.json").read_text())["breath_period_s"]
    assert 2.0 < period_s < 7.0
    assert f"({period_s:.1f} s at last) was told to be the tissue" in (out / "report.html").read_text()
    finish(live(replace(request, resume=True), PhantomSource(phantom, "max", 26)))
    assert json.loads((out / "metrics.json").read_text())["breath_period_s"] == period_s


def test_tissue_at_rest_has_no_breath(commanded: tuple[Path, list[Event]]) -> None:
    out, events = commanded
    assert "breath_period_s" not in json.loads((out / "metrics.json").read_text())
    assert not any(isinstance(e, Notice) and e.code.startswith("breath") for e in events)


def test_a_stopped_session_goes_on(tmp_path: Path, phantom: StreamPhantom) -> None:
    out = tmp_path / "run"
    request = LiveRequest("phantom", out, rate="max", settings=SETTINGS)
    # Told of twice a second: however fast the machine, the stream must not have ended by then.
    task = live(request, PhantomSource(phantom, "max", 10_000))
    for event in task:
        if isinstance(event, LiveStatus) and event.frame >= 4:
            break
    task.close()
    before = len(np.loadtxt(out / "trajectory.txt"))
    assert json.loads((out / "run.json").read_text())["state"] == "cancelled"
    assert (out / "checkpoint" / "newest" / "state.json").exists() and (out / "scene" / "scene.json").exists()
    events = list(live(replace(request, resume=True), PhantomSource(phantom, "max", before + 4)))
    assert any(isinstance(e, Notice) and e.code == "resumed" for e in events)
    assert len(np.loadtxt(out / "trajectory.txt")) == before + 4


def test_a_session_stopped_while_it_ends_adds_nothing_when_resumed(
    tmp_path: Path, phantom: StreamPhantom
) -> None:
    out = tmp_path / "run"
    request = LiveRequest("phantom", out, rate="max", settings=SETTINGS)
    for resume in (False, True, True):
        task = live(replace(request, resume=resume), PhantomSource(phantom, "max", 14))
        for event in task:
            if isinstance(event, Progress) and event.stage == "finish" and event.step == 1:
                break
        task.close()
    finish(live(replace(request, resume=True), PhantomSource(phantom, "max", 14)))
    assert len(np.loadtxt(out / "trajectory.txt")) == 14
    assert json.loads((out / "metrics.json").read_text())["frames"] == 14


def test_a_stream_without_tissue_is_said(tmp_path: Path) -> None:
    dark = StreamPhantom(replace(CALM, exposure=1e-4), 0)
    with pytest.raises(InputError, match="no map"):
        session(tmp_path / "run", dark, 3)


def test_a_refusing_disk_does_not_end_a_session(
    tmp_path: Path, phantom: StreamPhantom, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("splatomy.engine.live.keeping.write_frame", full)
    monkeypatch.setattr("splatomy.engine.live.publishing.write_picture", full)
    events = session(tmp_path / "run", phantom, 12)
    assert any(isinstance(e, Notice) and e.code == "disk" for e in events)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["frames"] == 12
