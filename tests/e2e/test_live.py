"""Live sessions from the outside: the command line, the job protocol, and the offline run afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from splatomy.cli.demo import live_demo
from splatomy.cli.main import main
from splatomy.engine import RunRequest, run
from splatomy.engine.live import LiveRequest, PhantomSource, live
from splatomy.engine.live.measuring import against_phantom
from splatomy.events import finish
from splatomy.phantoms.stream import PRESETS, StreamPhantom

_QUICK = ["--set", "steps_per_frame=1", "--set", "publish_every_s=2", "--preset", "draft"]


def test_a_session_from_the_command_line_becomes_a_run(tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ["live", "phantom:tiny", "--out", str(out), "--rate", "max", *_QUICK]
    assert main([*arguments, "--events", "jsonl"]) == 0
    assert json.loads((out / "run.json").read_text())["state"] == "done"
    assert main(arguments) == 2
    assert main(["export", str(out), "--what", "mesh", "--out", str(tmp_path / "tissue.ply")]) == 0
    assert main(["render", str(out), "--out", str(tmp_path / "pictures")]) == 0


def test_a_wrong_source_leaves_no_trace(tmp_path: Path) -> None:
    assert main(["live", str(tmp_path / "no.mp4"), "--out", str(tmp_path / "run")]) == 2
    assert main(["live", "phantom:none", "--out", str(tmp_path / "run")]) == 2
    assert not (tmp_path / "run").exists()


def test_a_stream_with_instruments_and_a_moving_lamp(tmp_path: Path) -> None:
    """The sheet's first test: path error under 1 %, and hardly a surfel where there is no tissue."""
    preset = replace(
        PRESETS["tiny"], width_px=96, height_px=78, node_mm=2.0, texels_per_mm=2.5, disturbances=()
    )
    phantom = StreamPhantom(preset, 0)
    settings = {"steps_per_frame": 2, "spacing_px": 1.0, "publish_every_s": 2.0}
    request = LiveRequest("phantom", tmp_path / "run", rate="max", settings=settings)
    folder = finish(live(request, PhantomSource(phantom, "max", 50)))
    metrics = json.loads((folder.path / "metrics.json").read_text())
    figures = against_phantom(folder, phantom)
    assert figures["ate_share"] < 0.01
    assert figures["stray_share"] < 0.005
    assert metrics["tracked_share"] == 1.0 and metrics["maps"] == 1


def test_a_job_speaks_the_protocol(tmp_path: Path) -> None:
    job = {
        "contract": 1,
        "input": "phantom:tiny",
        "out": str(tmp_path / "run"),
        "live": {"rate": "max"},
        "config": {"steps_per_frame": 1, "publish_every_s": 0.3},
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    process = subprocess.Popen(
        [sys.executable, "-m", "splatomy", "job", "run", str(tmp_path / "job.json")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    events = []
    asked = False
    for line in process.stdout:
        events.append(json.loads(line))
        if events[-1]["event"] == "command" and events[-1]["state"] == "applied":
            process.stdin.write('{"command": "cancel"}\n')
            process.stdin.flush()
        if events[-1]["event"] == "snapshot" and not asked:
            asked = True
            process.stdin.write('{"command": "mark", "id": "a", "name": "vessel", "pixel": [32, 26]}\n')
            process.stdin.write('{"command": "nonsense"}\n')
            process.stdin.flush()
    process.stdin.close()
    assert process.wait(120) == 0
    kinds = {e["event"] for e in events}
    assert {"progress", "live", "snapshot", "command", "done", "notice"} <= kinds
    states = [e["state"] for e in events if e["event"] == "command" and e["id"] == "a"]
    assert states == ["received", "applied"]
    assert any(e["event"] == "notice" and e["code"] == "unknown-command" for e in events)
    marks = json.loads((tmp_path / "run" / "marks.json").read_text())["marks"]
    assert [m["name"] for m in marks] == ["vessel"]


def test_a_job_with_wrong_live_wishes_is_refused(tmp_path: Path) -> None:
    job = {"contract": 1, "input": "camera:0", "out": str(tmp_path / "run"), "live": {"rate": "fast"}}
    (tmp_path / "job.json").write_text(json.dumps(job))
    with pytest.raises(SystemExit) as stopped:
        main(["job", "run", str(tmp_path / "job.json")])
    assert stopped.value.code == 2


def test_the_kept_frames_are_an_input_for_an_offline_run(tmp_path: Path) -> None:
    phantom = StreamPhantom(replace(PRESETS["tiny"], disturbances=()), 0)
    settings = {"steps_per_frame": 1, "keep_every_s": 0.2}
    request = LiveRequest("phantom", tmp_path / "run", rate="max", settings=settings)
    finish(live(request, PhantomSource(phantom, "max", 20)))
    offline = RunRequest(
        source=tmp_path / "run" / "session",
        out=tmp_path / "offline",
        method="dynamic_tissue",
        preset="draft",
        settings={"steps": 20},
    )
    folder = finish(run(offline))
    record = json.loads((folder.path / "run.json").read_text())
    assert record["state"] == "done" and record["metric"] is True


@pytest.mark.verify
def test_the_demo_has_its_figures(tmp_path: Path) -> None:
    figures = finish(live_demo(tmp_path, 0, "tiny"))["live_scene"]
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    assert {"ate_mm", "map_mae_mm", "stray_share", "fps"} <= figures.keys()
