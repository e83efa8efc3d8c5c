"""The job protocol as a front end sees it: a process, lines in, lines out, files."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty
from typing import Any

import cv2
import numpy as np
import pytest

from splatomy.errors import InputError, MissingBackendError
from splatomy.geometry.cameras import Cameras
from splatomy.io.atomic import write_json
from splatomy.io.gaussians import read_gaussians
from splatomy.io.volume import read_volume
from splatomy.jobs import run_job
from splatomy.jobs.commands import Command, Inbox, Unreadable, parse_command, watch_folder
from splatomy.jobs.pictures import c_arm, camera_of, render_request
from splatomy.jobs.request import read_job
from splatomy.jobs.session import _failure

Event = dict[str, Any]
STEPS = 60
SETTINGS = {"steps": STEPS, "num_start": 800, "snapshot_every_s": 0.2}
VIEW = {"camera": {"primary_deg": 30, "secondary_deg": -10}, "time_s": 1.5}
LONGEST_WAIT_S = 120.0


def strict(line: str) -> Event:
    """One line of the protocol; NaN and infinity are refused."""

    def refuse(word: str) -> Any:
        raise ValueError(word)

    event: Event = json.loads(line, parse_constant=refuse)
    assert isinstance(event, dict)
    return event


class FrontEnd:
    """A program that supervises one job."""

    def __init__(self, job: Path) -> None:
        words = [sys.executable, "-m", "splatomy", "job", "run", str(job)]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.events: list[Event] = []
        self.errors: list[str] = []
        self.silent = False
        self.news = threading.Condition()
        self.readers = [threading.Thread(target=self._read), threading.Thread(target=self._read_errors)]
        for reader in self.readers:
            reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self.news:
                self.events.append(strict(line))
                self.news.notify_all()
        with self.news:
            self.silent = True
            self.news.notify_all()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors.extend(self.process.stderr)

    def say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def send(self, command: str, **fields: Any) -> None:
        self.say(json.dumps({"command": command, **fields}))

    def hang_up(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def wait_for(self, wanted: Callable[[Event], bool], start: int = 0) -> Event:
        """The first wanted event from number ``start`` on."""
        with self.news:
            self.news.wait_for(lambda: self.silent or any(map(wanted, self.events[start:])), LONGEST_WAIT_S)
            found = [e for e in self.events[start:] if wanted(e)]
        assert found, (self.events[-3:], self.errors)
        return found[0]

    def end(self) -> int:
        """The exit code; all lines are read and no defect was among them."""
        code = self.process.wait(LONGEST_WAIT_S)
        for reader in self.readers:
            reader.join(LONGEST_WAIT_S)
        assert not any("Traceback" in line for line in self.errors), "".join(self.errors)
        return code

    def of(self, kind: str) -> list[Event]:
        return [e for e in self.events if e["event"] == kind]

    def processor_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_snapshot(event: Event) -> bool:
    return event["event"] == "snapshot"


def notice(code: str) -> Callable[[Event], bool]:
    return lambda event: event["event"] == "notice" and event["code"] == code


@pytest.fixture()
def start(tiny_case: Path, tmp_path: Path) -> Iterator[Callable[..., FrontEnd]]:
    """Starts jobs on the tiny phantom into tmp_path/run; none outlives the test."""
    begun: list[FrontEnd] = []

    def begin(**fields: Any) -> FrontEnd:
        job = {"contract": 1, "input": str(tiny_case), "out": str(tmp_path / "run"), "device": "cpu"}
        write_json(tmp_path / "job.json", {**job, "views": 12, "config": SETTINGS, **fields})
        begun.append(FrontEnd(tmp_path / "job.json"))
        return begun[-1]

    yield begin
    for front_end in begun:
        front_end.process.kill()
        front_end.end()


def test_a_whole_job_with_all_commands(start: Callable[..., FrontEnd], tmp_path: Path) -> None:
    run = tmp_path / "run"
    front = start()
    # Before there is a scene: these wait for it, and the newest wins.
    front.send("render", id="old", size=[32, 32], **VIEW)
    front.send("render", id="new", size=[48, 40], **VIEW)
    for garbage in ("", "no json", "[1]", '{"command": 5}', '{"command": "mask"}', "\x00\xff", "{" * 5000):
        front.say(garbage)
    front.send("render", id="bad", size=[0, 5], **VIEW)
    snapshot = front.wait_for(is_snapshot)
    assert len(read_gaussians(Path(snapshot["files"]["gaussians"]))["x"]) > 10
    assert np.isfinite(read_volume(Path(snapshot["files"]["volume"])).values).all()
    answer = front.wait_for(lambda e: e["event"] == "render")
    assert answer["id"] == "new"
    picture = cv2.imread(answer["file"], cv2.IMREAD_UNCHANGED)
    assert picture.shape == (40, 48) and np.ptp(picture) > 50

    front.send("pause")
    front.wait_for(notice("paused"))
    count, used_s = len(front.events), front.processor_s()
    time.sleep(2.0)
    # 2 % of one core: the interpreter's own threads, and nothing of ours.
    assert len(front.events) == count and front.processor_s() - used_s < 0.04
    front.send("render", id=[1, {"a": None}], size=[20, 30], **VIEW)
    assert front.wait_for(lambda e: e["event"] == "render", count)["id"] == [1, {"a": None}]
    front.send("continue", steps=15)
    front.send("continue", steps=5)
    front.send("continue", steps=-5)
    front.send("continue", steps=10_000_000)
    front.send("resume")
    assert front.end() == 0

    stages = list(dict.fromkeys(e["stage"] for e in front.of("progress")))
    assert [s for s in stages if s in ("open", "fdk", "train", "hold-out", "report")] == [
        "open", "fdk", "train", "hold-out", "report",
    ]  # fmt: skip
    training = [e for e in front.of("progress") if e["stage"] == "train"]
    steps = [e["step"] for e in training]
    assert steps == sorted(steps) and steps[-1] == STEPS + 20 and training[-1]["eta_s"] == 0
    assert any(e["eta_s"] is not None and e["eta_s"] > 0 for e in training)
    assert all(e["gpu_mem_mb"] is None for e in training)
    codes = [e["code"] for e in front.of("notice")]
    assert codes.count("unreadable-command") == 5 and codes.count("unknown-command") == 1
    assert codes.count("continue") == 4 and codes.count("render") == 1
    assert front.events[-1] == {"event": "done", "run": str(run)}
    kept = [strict(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert all(e.pop("time") > 1e9 for e in kept) and kept == front.events
    record = json.loads((run / "run.json").read_text())
    assert record["state"] == "done" and record["config"]["steps"] == STEPS + 20
    assert (run / "report.html").exists()


def test_cancelled_then_killed_then_finished(start: Callable[..., FrontEnd], tmp_path: Path) -> None:
    run = tmp_path / "run"
    front = start()
    front.wait_for(lambda e: e["event"] == "progress" and e["stage"] == "train" and e["step"] > 10)
    front.send("pause")
    front.wait_for(notice("paused"))
    front.send("cancel")
    assert front.end() == 4 and front.of("done") == []
    assert json.loads((run / "run.json").read_text())["state"] == "cancelled"
    assert (run / "scene" / "scene.json").exists()
    step = json.loads((run / "checkpoint" / "newest" / "state.json").read_text())["values"]["step"]
    assert 0 <= step <= [e["step"] for e in front.of("progress") if e["stage"] == "train"][-1]

    front = start(resume=True)
    front.send("continue", steps=10)
    front.wait_for(lambda e: e["event"] == "progress" and e["stage"] == "train" and e["step"] > STEPS)
    assert min(e["step"] for e in front.of("progress") if e["stage"] == "train") >= step
    front.process.kill()
    assert front.end() == -signal.SIGKILL
    assert json.loads((run / "run.json").read_text())["state"] == "running"

    # The job of before, started again as it was: it goes on to where the continuation led.
    front = start(resume=True)
    assert front.end() == 0
    training = [e for e in front.of("progress") if e["stage"] == "train"]
    assert training[0]["step"] >= STEPS and training[-1]["step"] == training[-1]["total"] == STEPS + 10
    assert json.loads((run / "run.json").read_text())["state"] == "done"

    front = start()
    assert front.end() == 2 and "--force" in front.of("error")[0]["text"]


@pytest.mark.parametrize("how", ["stdin", "stdout", "terminate"])
def test_nobody_listens_any_more(how: str, start: Callable[..., FrontEnd], tmp_path: Path) -> None:
    front = start(config={**SETTINGS, "steps": 100_000})
    front.wait_for(is_snapshot)
    if how == "stdin":
        front.hang_up()
    elif how == "terminate":
        front.process.terminate()
    else:
        # A pipe that nobody reads any more: the descriptor behind the reading thread becomes another file.
        assert front.process.stdout is not None
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor is wanted
            os.dup2(nothing.fileno(), front.process.stdout.fileno())
    assert front.end() == 4
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["state"] == "cancelled" and (tmp_path / "run" / "checkpoint" / "newest").exists()
    last = strict((tmp_path / "run" / "events.jsonl").read_text().splitlines()[-1])
    assert last["code"] == "stopped"


def test_a_detached_job_outlives_its_front_end(start: Callable[..., FrontEnd], tmp_path: Path) -> None:
    run = tmp_path / "run"
    log = run / "events.jsonl"

    def wait_in_log(wanted: Callable[[Event], bool]) -> Event:
        deadline = time.monotonic() + LONGEST_WAIT_S
        while time.monotonic() < deadline:
            lines = log.read_text().splitlines(keepends=True) if log.exists() else []
            for event in (strict(line) for line in lines if line.endswith("\n")):
                if wanted(event):
                    return event
            time.sleep(0.05)
        raise AssertionError("the event did not come")

    def put(name: str, **fields: Any) -> None:
        write_json(run / "commands" / f"{name}.json", fields)

    front = start(detached=True)
    front.hang_up()
    wait_in_log(is_snapshot)
    put("1", command="pause")
    wait_in_log(notice("paused"))
    put("2", command="render", id=2, size=[24, 24], **VIEW)
    answer = wait_in_log(lambda e: e["event"] == "render")
    assert answer["id"] == 2 and cv2.imread(answer["file"]).shape == (24, 24, 3)
    put("3", command="resume")
    assert front.end() == 0 and front.of("done")
    assert wait_in_log(lambda e: e["event"] == "done")["run"] == str(run)
    assert list((run / "commands").iterdir()) == []


def test_a_wrong_input_is_an_event(start: Callable[..., FrontEnd], tmp_path: Path) -> None:
    front = start(input=str(tmp_path / "nowhere"))
    assert front.end() == 2
    assert front.events[-1]["event"] == "error" and front.events[-1]["code"] == "input"
    assert "nowhere" in front.events[-1]["text"] and front.events[-1]["hint"] is None
    assert not (tmp_path / "run").exists()


GOOD = {"contract": 1, "input": "a", "out": "b"}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "strict JSON"),
        ("{", "strict JSON"),
        ("\xff", "strict JSON"),
        ("[" * 100_000, "strict JSON"),
        ('{"contract": NaN}', "strict JSON"),
        ("[]", "JSON object"),
        ("{}", "contract is None"),
        (json.dumps({**GOOD, "contract": 2}), "contract is 2"),
        (json.dumps({"contract": 1, "out": "b"}), "lacks input"),
        (json.dumps({**GOOD, "input": None}), "input"),
        (json.dumps({**GOOD, "colour": 1}), "no key 'colour'"),
        (json.dumps({**GOOD, "seed": "1"}), "seed: expected a whole number"),
        (json.dumps({**GOOD, "seed": True}), "seed: expected a whole number"),
        (json.dumps({**GOOD, "detached": 1}), "detached: expected true or false"),
        (json.dumps({**GOOD, "config": []}), "config: expected an object"),
        (json.dumps({**GOOD, "options": {"colour": 1}}), "no 'colour'"),
        (json.dumps({**GOOD, "options": {"crop": [1, 2, 3]}}), "option crop cannot be"),
        (json.dumps({**GOOD, "options": {"bin": 0}}), "bin"),
        (json.dumps({**GOOD, "resume": True, "force": True}), "both resume and force"),
    ],
)
def test_a_wrong_job_is_one_sentence(
    text: str, part: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "job.json"
    path.write_bytes(text.encode("latin-1"))
    assert run_job(path) == 2
    event = strict(capfd.readouterr().out)
    assert (event["event"], event["code"]) == ("error", "input") and part in event["text"]


def test_a_job_is_read_whole(tmp_path: Path) -> None:
    options = {"crop": [1, 2, 3, 4], "frames": [None, 9, 2], "bin": 2, "geometry": "g.csv", "frame_time_s": 1}
    fields = {**GOOD, "views": 5, "preset": "draft", "detached": True, "options": options, "method": None}
    write_json(tmp_path / "job.json", fields)
    job = read_job(tmp_path / "job.json")
    assert job.detached and job.run.num_views == 5 and job.run.method == "dynamic_vessels"
    assert job.run.options.crop == (1, 2, 3, 4) and job.run.options.frames == (None, 9, 2)
    assert job.run.options.geometry == Path("g.csv") and job.run.options.frame_time_s == 1.0
    with pytest.raises(InputError, match=r"none\.json cannot be read"):
        read_job(tmp_path / "none.json")


BOX_MM = np.array([[-10.0, -20.0, 0.0], [30.0, 20.0, 60.0]])


def test_cameras_of_a_front_end() -> None:
    seen = c_arm(25, 40, BOX_MM, 300, 200)
    directions = np.random.default_rng(0).normal(size=(500, 3))
    sphere = BOX_MM.mean(0) + 30.0 * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    pixels, _ = seen.project(np.concatenate([sphere, BOX_MM.mean(0)[None]]))
    assert np.allclose(pixels[0, -1], [149.5, 99.5])
    assert (pixels >= 0).all() and (pixels[..., 0] < 300).all() and (pixels[..., 1] < 200).all()
    matrices = {
        "intrinsics": seen.intrinsics[0].tolist(),
        "camera_from_world": seen.camera_from_world[0].tolist(),
    }
    same = camera_of(render_request({"camera": matrices, "size": [300, 200]}), BOX_MM)
    assert isinstance(same, Cameras) and np.allclose(same.world_to_pixel, seen.world_to_pixel)


@pytest.mark.parametrize(
    "change",
    [
        {"camera": None},
        {"camera": {}},
        {"camera": {"primary_deg": 1}},
        {"camera": {"primary_deg": "x", "secondary_deg": 0}},
        {"camera": {"primary_deg": 1e999, "secondary_deg": 0}},
        {"camera": {"intrinsics": np.eye(3).tolist(), "camera_from_world": np.zeros((4, 4)).tolist()}},
        {"camera": {"intrinsics": np.zeros((3, 3)).tolist(), "camera_from_world": np.eye(4).tolist()}},
        {"camera": {"intrinsics": [[1, 2], [3]], "camera_from_world": np.eye(4).tolist()}},
        {"size": None},
        {"size": [10]},
        {"size": [10, 1e9]},
        {"size": [10, 100_000]},
        {"time_s": "now"},
        {"time_s": [1]},
    ],
)
def test_a_wrong_render_is_one_sentence(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="A render"):
        render_request({"size": [8, 8], **VIEW, **change})


def test_command_files_are_taken_in_order_and_once(tmp_path: Path) -> None:
    inbox, ended = Inbox(), threading.Event()
    (tmp_path / "half.json").write_text('{"command": "pau')
    write_json(tmp_path / "b.json", {"command": "first"})
    os.utime(tmp_path / "b.json", (1, 1))
    write_json(tmp_path / "a.json", {"command": "second"})
    (tmp_path / "other.txt").write_text("not a command")
    watcher = threading.Thread(target=watch_folder, args=(tmp_path, inbox, ended))
    watcher.start()
    names = [inbox.get(timeout=LONGEST_WAIT_S) for _ in range(2)]
    assert [m.name for m in names if isinstance(m, Command)] == ["first", "second"]
    # A file that is still being written waits; one that stays unreadable is dropped and told.
    (tmp_path / "half.json").write_text('{"command": "pause"}')
    whole = inbox.get(timeout=LONGEST_WAIT_S)
    assert isinstance(whole, Command) and whole.name == "pause"
    (tmp_path / "wrong.json").write_text("{")
    assert isinstance(inbox.get(timeout=LONGEST_WAIT_S), Unreadable)
    ended.set()
    watcher.join(LONGEST_WAIT_S)
    with pytest.raises(Empty):
        inbox.get_nowait()
    assert [p.name for p in tmp_path.iterdir()] == ["other.txt"]


def test_parse_command() -> None:
    command = parse_command(b'{"command": "render", "id": 3}', "stdin")
    assert isinstance(command, Command) and command.name == "render" and command.fields["id"] == 3
    for line in (
        b"",
        b"\xff",
        b"3",
        b"{}",
        b'{"command": null}',
        b'{"command": "x", "n": NaN}',
        b"[" * 10**5,
    ):
        assert isinstance(parse_command(line, "stdin"), Unreadable)


@pytest.mark.parametrize(
    ("error", "code", "exit_code"),
    [
        (InputError("wrong"), "input", 2),
        (MissingBackendError("install gsplat"), "backend", 3),
        (MemoryError(), "memory", 2),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "memory", 2),
        (OSError(errno.ENOSPC, "No space left on device", "x.ply"), "disk", 2),
        (PermissionError(errno.EACCES, "Permission denied", "x.ply"), "disk", 2),
        (ValueError("shape"), "defect", 1),
    ],
)
def test_errors_of_the_protocol(error: Exception, code: str, exit_code: int) -> None:
    found, text, hint, found_exit = _failure(error)
    assert (found, found_exit) == (code, exit_code) and text
    assert (hint is None) == (code == "input")
