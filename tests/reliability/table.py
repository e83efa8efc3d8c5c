"""The reliability table: ``python tests/reliability/table.py [--share 0.1] [--jobs 2] [--only NAME ...]``.

Injects real faults into real processes: kill -9 at random moments of every stage of every method and while
masks are written, full, read-only and stalling disks, lost rights, too little memory, a clock that is set,
two processes on one run folder. A fault counts as survived when every file of the run folder (or case) is
whole, the process that could not go on said why in one sentence, and the run, gone on with, ends with the
result of an undisturbed one within 1e-4. Everything else counts as lost.

Each section is a process of its own and keeps its figures after every fault, in .venv/reliability under the
commit and its changes, so an interrupted table goes on where it was. ``--share 0.1`` adds a tenth of the full
number to each section, up to the full number. ``--publish`` writes the table to resources/benchmarks;
``--published`` first takes it over from there, whatever the commit, into a folder of its own, save for the
sections in which something was lost. ``--state`` keeps the figures elsewhere, as on a machine with more
processors (``--jobs 12``), there without ``--published``; ``--merge`` then adds the figures of such a folder
here, once. ``--commit`` names the version where there is no history. Linux alone; disks are tried where this
user may mount file systems, and the table says so where he may not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
OUT = ROOT / "resources" / "benchmarks"
FULL = {
    "kill-dynamic_vessels": 100,
    "kill-dynamic_tissue": 100,
    "kill-masks": 100,
    "kill-pulled_surface": 20,
    "kill-completed_object": 20,
    "kill-live_scene": 20,
    "kill-fdk": 20,
    "kill-classical_4d": 20,
    "full-disk-dynamic_vessels": 60,
    "full-disk-dynamic_tissue": 60,
    "full-disk-masks": 40,
    "refused-writes": 20,
    "stalled-drive": 10,
    "memory-dynamic_vessels": 20,
    "memory-dynamic_tissue": 20,
    "gpu-memory-dynamic_vessels": 10,
    "gpu-memory-dynamic_tissue": 10,
    "clock": 20,
    "two-processes": 20,
}
"""Sections and their full number of faults, of kills for each group of stages; the longest come first."""
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
    # The only layer of Numba's threads that outlives a fork.
    "NUMBA_THREADING_LAYER": "workqueue",
}  # fmt: skip
GONE_ON = "runs gone on with"
GPU_FAULT = "out of memory on the GPU"
NOT_MEASURED = "Out of memory on a GPU: not measured, for want of a machine."


def main() -> int:
    """Runs what is wanted and prints the table; 1 if anything was lost or could not be counted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="share of the full numbers to add; 0 = show")
    parser.add_argument("--jobs", type=int, default=2, help="sections at a time")
    parser.add_argument("--seconds", type=float, default=7200.0, help="no fault is begun later than this")
    parser.add_argument("--only", nargs="*", choices=list(FULL), help="sections")
    parser.add_argument(
        "--published", type=Path, nargs="?", const=OUT / "reliability.json", metavar="FILE",
        help="first take over the published sections that are further",
    )  # fmt: skip
    parser.add_argument("--state", type=Path, help="folder of the figures so far")
    parser.add_argument("--merge", type=Path, metavar="FOLDER", help="first add the figures in such a folder")
    parser.add_argument("--commit", default="", help="name of the version, instead of git's")
    parser.add_argument("--publish", action="store_true", help="write the table to resources/benchmarks")
    parser.add_argument("--section", choices=list(FULL), help=argparse.SUPPRESS)
    parser.add_argument("--wanted", type=int, default=0, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if sys.platform != "linux":
        print("The reliability table needs Linux: forks, mounts and limits of its kind.")
        return 1
    if chosen.section:
        return _section(chosen.section, chosen.state, chosen.wanted, chosen.seconds, chosen.commit)
    version = chosen.commit or _version()
    kept_in = version.replace(" ", "-") if chosen.published is None else "published"
    state = chosen.state or ROOT / ".venv" / "reliability" / kept_in
    state.mkdir(parents=True, exist_ok=True)
    if chosen.published is not None:
        take_over(chosen.published, state)
    if chosen.merge is not None:
        if chosen.merge.resolve() == state.resolve():
            parser.error("--merge and --state are the same folder")
        merge(chosen.merge, state)
    names = (chosen.only or list(FULL)) if chosen.share > 0 else []
    failed = _run_sections(names, state, chosen.share, chosen.jobs, chosen.seconds, version)
    table = _table(state, version)
    print(_shown(table))
    if chosen.publish:
        OUT.mkdir(parents=True, exist_ok=True)
        (OUT / "reliability.json").write_text(json.dumps(table, indent=1) + "\n")
        (OUT / "reliability.md").write_text(_shown(table))
    for name in failed:
        print(f"The section {name} ended with an error; see {state / (name + '.log')}", file=sys.stderr)
    return 1 if failed or table["lost"] else 0


def _version() -> str:
    """The commit, and what was changed since."""
    words = ["git", "-C", str(ROOT)]
    try:
        commit = subprocess.run(
            [*words, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changes = subprocess.run([*words, "diff", "HEAD"], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "no commit"
    return f"{commit} with changes {hashlib.sha256(changes).hexdigest()[:8]}" if changes else commit


def take_over(published: Path, state: Path) -> None:
    """Goes on from the published sections with more faults than are known here and nothing lost."""
    for name, section in json.loads(published.read_text())["sections"].items():
        file = state / f"{name}.json"
        here = json.loads(file.read_text())["rows"] if file.exists() else []
        lost = sum(row["lost"] for row in [*section["rows"], *here])
        if not lost and _injected(section["rows"]) > _injected(here):
            file.write_text(json.dumps(section))


def _injected(rows: list[dict[str, Any]]) -> int:
    """Faults of rows; those of runs that were gone on with count results instead."""
    return sum(row["injected"] for row in rows if not row["fault"].startswith(GONE_ON))


def merge(other: Path, state: Path) -> None:
    """Adds the figures of another folder, which is emptied of them: they cannot be added twice."""
    from fault_tally import Tally

    for name in FULL:
        if (file := other / f"{name}.json").exists():
            Tally(state / f"{name}.json").merge(Tally(file))
            file.unlink()


def _run_sections(
    names: list[str], state: Path, share: float, jobs: int, seconds: float, version: str
) -> list[str]:
    """Runs the sections that are not complete, several at a time; those that ended with an error."""
    until = time.monotonic() + seconds
    reached = {name: _reached(state / f"{name}.json") for name in names}
    # Those that are behind come first, so that a short time is spent on all of them in turn.
    waiting = sorted((n for n in names if reached[n] < FULL[n]), key=lambda n: reached[n] / FULL[n])
    running, failed = dict[str, subprocess.Popen[bytes]](), list[str]()
    while waiting or running:
        while waiting and len(running) < jobs:
            name = waiting.pop(0)
            left_s = until - time.monotonic()
            if left_s <= 0:
                continue
            wanted = min(FULL[name], reached[name] + max(1, math.ceil(share * FULL[name])))
            words = ["--section", name, "--wanted", str(wanted), "--state", str(state), "--commit", version]
            print(f"{time.strftime('%H:%M:%S')} {name}: up to {wanted}", flush=True)
            with (state / f"{name}.log").open("wb") as log:
                running[name] = subprocess.Popen(
                    [sys.executable, str(Path(__file__)), *words, "--seconds", str(left_s)],
                    stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **_ONE_THREAD},
                )  # fmt: skip
        for name in [n for n, process in running.items() if process.poll() is not None]:
            if running.pop(name).returncode != 0:
                failed.append(name)
        time.sleep(0.2)
    return failed


def _reached(file: Path) -> int:
    """How much was wanted of a section and reached."""
    if not file.exists():
        return 0
    kept = json.loads(file.read_text())
    # A section that was broken off has not reached what was wanted of it.
    return int(kept["wanted"]) - (not kept["is_done"])


def _section(name: str, state: Path, wanted: int, seconds: float, version: str) -> int:
    """One section, in this process, which must not have run any kernel with threads before."""
    from fault_disks import can_mount, fill_masks, fill_runs, refuse_writes, stall_writes
    from fault_kills import kill_runs
    from fault_limits import has_gpu, jump_clocks, share_folder, starve, starve_gpu
    from fault_masks import kill_masks
    from fault_runs import SUBJECTS
    from fault_tally import Tally

    tally = Tally(state / f"{name}.json")
    until_s = time.monotonic() + seconds
    tally.begin(wanted, version)
    if name.startswith(("full-disk", "refused", "stalled")) and not can_mount():
        tally.note(f"NOT TRIED HERE, since this user may not mount file systems: {name}.")
        tally.finish()
        return 0
    if name.startswith("gpu") and not has_gpu():
        tally.note(NOT_MEASURED)
        tally.finish()
        return 0
    tissue = SUBJECTS["dynamic_tissue"]
    faults = {
        "kill-masks": kill_masks,
        "full-disk-masks": fill_masks,
        "refused-writes": refuse_writes,
        "stalled-drive": stall_writes,
        "clock": jump_clocks,
        "two-processes": share_folder,
    }
    with tempfile.TemporaryDirectory(prefix="reliability-") as folder:
        work = Path(folder)
        # A user without rights must come this far.
        work.chmod(0o755)
        if name.endswith("masks"):
            faults[name](tally, work, wanted, until_s)
        elif name in faults:
            faults[name](tally, tissue, work, wanted, until_s)
        else:
            method = name.rpartition("-")[2]
            kinds = {"kill": kill_runs, "full": fill_runs, "memory": starve, "gpu": starve_gpu}
            kinds[name.partition("-")[0]](tally, SUBJECTS[method], work, wanted, until_s)
    return 0


def _table(state: Path, version: str) -> dict[str, Any]:
    """All sections so far, with what tells when and where they came about."""
    empty: dict[str, Any] = {"wanted": 0, "is_done": False, "versions": [], "machines": [], "rows": [],
                             "notes": []}  # fmt: skip
    sections = {}
    for name in FULL:
        file = state / f"{name}.json"
        sections[name] = json.loads(file.read_text()) if file.exists() else empty
    rows = _all(sections, "rows")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": _commits(_all(sections, "versions") or [version]),
        "machine": " and ".join(dict.fromkeys(_all(sections, "machines"))),
        "injected": _injected(rows),
        "survived": sum(row["survived"] for row in rows if not row["fault"].startswith(GONE_ON)),
        "lost": sum(row["lost"] for row in rows),
        "incomplete": [n for n, s in sections.items() if not s["is_done"] or s["wanted"] < FULL[n]],
        "sections": sections,
    }


def _all(sections: dict[str, Any], name: str) -> list[Any]:
    """One list of what every section has of a name."""
    return [item for section in sections.values() for item in section[name]]


def _commits(versions: list[str]) -> str:
    """The commits of versions, and whether anything was changed since."""
    commits = ", ".join(dict.fromkeys(version.split()[0] for version in versions))
    return f"{commits} with changes" if any("changes" in version for version in versions) else commits


def _shown(table: dict[str, Any]) -> str:
    """The table as Markdown."""
    rows, notes = _all(table["sections"], "rows"), _all(table["sections"], "notes")
    # Another machine may have had a GPU.
    if any(row["fault"].startswith(GPU_FAULT) for row in rows):
        notes = [note for note in notes if note != NOT_MEASURED]
    lines = [
        f"Faults injected {table['injected']}, survived {table['survived']}, **lost: {table['lost']}** "
        f"({table['date']}, commit {table['commit']}; {table['machine']}).",
        "",
        "| fault | where | injected | survived | lost | ended with one sentence |",
        "|---|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {r['fault']} | {r['where']} | {r['injected']} | {r['survived']} | {r['lost']} | "
        f"{r['sentences'] or ''} |"
        for r in rows
    ]
    lines += ["", *(f"- {note}" for note in dict.fromkeys(notes))]
    lines += [f"- Lost, {r['fault']}, {r['where']}: {p}" for r in rows for p in r["problems"]]
    if table["incomplete"]:
        lines.append(f"- Not yet at the full number: {', '.join(table['incomplete'])}.")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
