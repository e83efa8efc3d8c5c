"""How soon long jobs report and stop: ``python tests/benchmarks/bench_stops.py [--first-run] [--only NAME]``.

Every job is run once to its end, and the longest time between two of its events is kept by stage, the
stage being that of the event that ends the wait. Then it is run once more for each stage and closed at the
stage's first event. A user who stops a job waits for the next event and then for the closing, so the sum of
both is what must stay below 2 s. Each run is a process of its own; with ``--first-run`` it also finds no
compiled kernels. Prints a table and writes resources/benchmarks/stops.json (``stops_first_run.json``), in
which jobs that were not chosen keep their figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from splatomy.cli.phantom.tissue import written_tissue
from splatomy.engine import RunRequest, run
from splatomy.engine.measuring import VolumeRequest, measure_volume
from splatomy.events import Notice, Snapshot, Task
from splatomy.phantoms.vessels import make_vessels

OUT = Path(__file__).parents[2] / "resources" / "benchmarks"
STEPS = {"steps": 400}


def reconstruction(method: str, case: str, **more: Any) -> Callable[[Path], Task[Any]]:
    """A job that reconstructs one of the cases, with everything that follows."""

    def job(folder: Path) -> Task[Any]:
        source = folder / case
        truth = source / "truth" if (source / "truth").exists() else None
        return run(RunRequest(source, folder / "out", method, force=True, truth=truth, **more))

    return job


JOBS: dict[str, Callable[[Path], Task[Any]]] = {
    "phantom vessels hard": lambda folder: make_vessels("hard", 1),
    "phantom tissue demo": lambda folder: written_tissue(folder / "out", "demo", 1, "endonerf"),
    "fdk": reconstruction("fdk", "vessels", num_views=30),
    "classical_4d": reconstruction("classical_4d", "vessels", num_views=30),
    "dynamic_vessels": reconstruction("dynamic_vessels", "vessels", num_views=30, settings=STEPS),
    "dynamic_vessels, grid field": reconstruction(
        "dynamic_vessels", "vessels", num_views=30, settings={**STEPS, "field": "grid"}
    ),
    "dynamic_tissue": reconstruction("dynamic_tissue", "tissue", settings=STEPS),
    "vessels": lambda folder: measure_volume(
        VolumeRequest(folder / "vessels" / "truth" / "volume.nii.gz", folder / "out", force=True)
    ),
    "dynamic_vessels full": reconstruction(
        "dynamic_vessels", "full", preset="draft", num_views=30, settings={"steps": 300}
    ),
}
LARGE = {"dynamic_vessels full"}
"""Only run when named: they need a case of their own, and minutes for each stage."""


def watched(job: Task[Any], stop_at: str | None) -> dict[str, Any]:
    """Drives a job to its end, or closes it at the first event of a stage.

    Returns the longest waits in s by stage and the seconds that closing took (None without a stop).
    """
    waits: dict[str, float] = {}
    close_s: float | None = None
    stage, last = "start", time.perf_counter()
    for event in job:
        wait = time.perf_counter() - last
        if not isinstance(event, Notice):
            stage = "snapshot" if isinstance(event, Snapshot) else event.stage
        waits[stage] = max(waits.get(stage, 0.0), wait)
        last = time.perf_counter()
        if stage == stop_at:
            job.close()
            close_s = time.perf_counter() - last
            break
    else:
        waits["end"] = time.perf_counter() - last
    return {"waits_s": waits, "close_s": close_s}


def in_own_process(name: str, folder: Path, stop_at: str | None, first_run: bool) -> dict[str, Any]:
    """``watched`` in a fresh process, and how long that process took to end after the job."""
    answer = folder / "answer.json"
    answer.unlink(missing_ok=True)
    shutil.rmtree(folder / "out", ignore_errors=True)
    words = [sys.executable, __file__, "--child", name, "--folder", str(folder)]
    words += ["--stop-at", stop_at] if stop_at else []
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache} if first_run else dict(os.environ)
        done = subprocess.run(words, env=environment)
    found: dict[str, Any] = json.loads(answer.read_text())
    found["exit_s"] = time.time() - found.pop("finished")
    if done.returncode:
        print(f"{name}: the process stopped at {stop_at} ended with {done.returncode}")
    return found


def make_cases(folder: Path, names: list[str]) -> None:
    """The inputs that the jobs read."""
    phantoms = {"vessels": ["demo"], "tissue": ["demo"]}
    for kind, (preset,) in phantoms.items():
        words = ["phantom", kind, "--preset", preset, "--seed", "1", "--out", str(folder / kind)]
        if not (folder / kind).exists():
            subprocess.run([sys.executable, "-m", "splatomy", *words], check=True)
    if LARGE & set(names) and not (folder / "full").exists():
        words = ["phantom", "vessels", "--preset", "full", "--seed", "1", "--out", str(folder / "full")]
        subprocess.run([sys.executable, "-m", "splatomy", *words], check=True)


def main() -> None:
    """Runs every job and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=JOBS, help="these jobs alone")
    parser.add_argument("--first-run", action="store_true", help="no kernel has been compiled yet")
    parser.add_argument("--no-stops", action="store_true", help="the waits alone")
    parser.add_argument("--stages", nargs="+", help="stop at these stages alone")
    parser.add_argument("--keep", type=Path, help="keep the inputs here")
    parser.add_argument("--child", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--stop-at", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        found = watched(JOBS[arguments.child](arguments.folder), arguments.stop_at)
        answer = {**found, "finished": time.time()}
        (arguments.folder / "answer.json").write_text(json.dumps(answer))
        return
    names = arguments.only or [name for name in JOBS if name not in LARGE]
    path = OUT / ("stops_first_run.json" if arguments.first_run else "stops.json")
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        make_cases(folder, names)
        for name in names:
            rows = measured(name, folder, arguments)
            keep_rows(path, name, rows)


def measured(name: str, folder: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The figures of one job, one row a stage; ``load``: processes that wanted a core in the last minute."""
    whole = in_own_process(name, folder, None, arguments.first_run)
    rows = []
    for stage, wait_s in whole["waits_s"].items():
        row: dict[str, Any] = {"job": name, "stage": stage, "longest_wait_s": round(wait_s, 3)}
        if not arguments.no_stops and stage != "end" and stage in (arguments.stages or [stage]):
            stopped = in_own_process(name, folder, stage, arguments.first_run)
            row["close_s"] = round(stopped["close_s"], 3)
            row["exit_s"] = round(stopped["exit_s"], 3)
        row["load"] = round(os.getloadavg()[0], 1)
        rows.append(row)
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return rows


def keep_rows(path: Path, job: str, rows: list[dict[str, Any]]) -> None:
    """Puts the rows of a job into the file, in place of older ones."""
    before = json.loads(path.read_text())["rows"] if path.exists() else []
    kept = [*(row for row in before if row["job"] != job), *rows]
    facts = {"machine": platform.machine(), "cores": os.cpu_count(), "rows": kept}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
