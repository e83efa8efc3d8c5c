"""Hostile input: feeds every reader, adds up over runs and commits, and prints the security table.

    python tests/security/table.py [--seconds N] [--jobs N] [--goal INPUTS] [--reader NAME ...] [--write]
                                   [--published] [--state FOLDER] [--merge FOLDER] [--repeatable INPUTS]

What was counted, the inputs that reach new code and the findings are kept in .venv/security, so that a run
goes on where the last one stopped. With --published it goes on from the published figures where those are
further, as on a new machine. A finding counts as a crash until its input is read properly. With --repeatable
each reader gets that many inputs, the same ones every time, and nothing is kept or added up.

On a machine with more processors: --jobs 12 feeds twelve processes at a time, those readers first that need
the longest to their 100,000 inputs, and --goal 100000 ends as soon as all have seen so many. --state keeps
the figures elsewhere, there without --published; here --merge then adds the counts, inputs and findings of
such a folder, once, and tries every one of its findings. --commit names the version where the tree has no
history.
"""

from __future__ import annotations

import argparse
import datetime
import fcntl
import json
import multiprocessing
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from fuzz_readers import READERS, Reader
from fuzz_worker import Feeder, packed, unpacked

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "resources" / "benchmarks" / "security"
ENOUGH = 100_000
_SILENT_S = 90.0
_LONGEST_TURN_S = 45.0


def main() -> int:
    """0 = every reader has no open finding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="for all readers together")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--goal", type=int, metavar="INPUTS", help="end when every reader has seen so many")
    parser.add_argument("--reader", action="append", choices=[r.name for r in READERS])
    parser.add_argument(
        "--published", type=Path, nargs="?", const=RESULT.with_suffix(".json"), metavar="FILE",
        help="first take over the published figures where fewer inputs are known",
    )  # fmt: skip
    parser.add_argument("--state", type=Path, default=ROOT / ".venv" / "security", help="folder of figures")
    parser.add_argument("--merge", type=Path, metavar="FOLDER", help="first add what is in such a folder")
    parser.add_argument("--commit", help="name of the version, instead of git's")
    parser.add_argument("--write", action="store_true", help="also write resources/benchmarks/security.*")
    parser.add_argument("--repeatable", type=int, metavar="INPUTS")
    given = parser.parse_args()
    if given.repeatable is not None:
        return _repeat(given.repeatable)
    chosen = [r for r in READERS if not given.reader or r.name in given.reader]
    figures = Figures(given.state, given.commit or _commit())
    if given.published is not None:
        rows = {row["reader"]: row for row in json.loads(given.published.read_text())["readers"]}
        for reader in READERS:
            if reader.name in rows:
                figures.take_over(reader, rows[reader.name])
    if given.merge is not None:
        if given.merge.resolve() == given.state.resolve():
            parser.error("--merge and --state are the same folder")
        for reader in chosen:
            figures.merge(reader, Figures(given.merge, ""))
    for reader in chosen:
        _replay(reader, figures)
    _feed_all(chosen, figures, given.seconds, given.jobs, given.goal)
    table = [_row(reader, figures.load(reader)) for reader in READERS]
    sys.stdout.write(_text(table, figures.commit))
    if given.write:
        _write(table, figures.commit)
    return 1 if any(row["open"] for row in table) else 0


class Figures:
    """What was counted and found, in a folder that several processes may add to."""

    def __init__(self, folder: Path, commit: str) -> None:
        self.folder, self.commit = folder, commit

    def load(self, reader: Reader) -> dict[str, Any]:
        """The figures of a reader so far; rate: inputs a second of the last turn."""
        path = self.folder / f"{reader.name}.json"
        empty: dict[str, Any] = {"inputs": 0, "accepted": 0, "refused": 0, "seconds": 0.0, "commits": {},
                                 "findings": {}, "fixed": 0, "corpus": 0, "rate": 300.0}  # fmt: skip
        return {**empty, **json.loads(path.read_text())} if path.is_file() else empty

    @contextmanager
    def changed(self, reader: Reader) -> Iterator[dict[str, Any]]:
        """The figures of a reader, to be changed: no other process changes them meanwhile."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = self.load(reader)
            yield state
            path = self.folder / f"{reader.name}.json"
            temporary = path.with_suffix(".writing")
            temporary.write_text(json.dumps(state, indent=1))
            temporary.replace(path)

    def corpus(self, reader: Reader) -> Path:
        """The folder of the inputs that reached new code."""
        folder = self.folder / "corpus" / reader.name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def finding(self, reader: Reader, file: str) -> Path:
        """The input of a finding."""
        path = self.folder / "findings" / reader.name / f"{file}.zip"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def take_over(self, reader: Reader, row: dict[str, Any]) -> None:
        """Goes on from a published row if it counts more inputs than are known here; findings here stay."""
        if row["open"]:
            sys.stdout.write(f"{reader.name}: not taken over: the inputs of its crashes are not published\n")
            return
        with self.changed(reader) as state:
            if row["inputs"] <= state["inputs"]:
                return
            for name in ("inputs", "accepted", "refused", "seconds", "corpus"):
                state[name] = row[name]
            state["fixed"] = max(state["fixed"], row["found"])
            # How many inputs each commit saw is not published.
            state["commits"] = dict.fromkeys(row["commits"], 0)
            state["rate"] = max(1.0, row["inputs"] / max(1, row["seconds"]))

    def merge(self, reader: Reader, other: Figures) -> None:
        """Adds what another folder counted and found, which is emptied of it: it cannot be added twice."""
        with other.changed(reader) as theirs, self.changed(reader) as ours:
            for name in ("inputs", "accepted", "refused", "seconds", "fixed"):
                ours[name] += theirs[name]
                theirs[name] = 0
            for commit, count in theirs.pop("commits").items():
                ours["commits"][commit] = ours["commits"].get(commit, 0) + count
            for key, finding in theirs.pop("findings").items():
                if key in ours["findings"]:
                    ours["findings"][key]["times"] += finding["times"]
                else:
                    ours["findings"][key] = finding
                    shutil.copy(other.finding(reader, finding["file"]), self.finding(reader, finding["file"]))
            for path in other.corpus(reader).glob("*.zip"):
                shutil.copy(path, self.corpus(reader))
            ours["corpus"] = max(ours["corpus"], theirs["corpus"])


def _repeat(inputs: int) -> int:
    """The same inputs every time, for all readers; 0 = none of them is a finding."""
    findings = 0
    with tempfile.TemporaryDirectory() as empty:
        for reader in READERS:
            told: list[dict[str, Any]] = []
            _forked(reader, 3600.0, told.append, corpus=Path(empty) / reader.name, most=inputs)
            fed = sum(sum(message.get("tally", {}).values()) for message in told)
            found = [message for message in told if "finding" in message or "broken" in message]
            findings += len(found)
            sys.stdout.write(f"{reader.name}: {fed} inputs, {len(found)} findings\n")
            sys.stdout.writelines(f"{json.dumps(message)[:2000]}\n" for message in found)
    return 1 if findings else 0


def _commit() -> str:
    words = ("git", "-C", str(ROOT), "rev-parse", "--short=7", "HEAD")
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip() or "no commit"


def _replay(reader: Reader, figures: Figures) -> None:
    """Findings whose input is read properly now join the corpus."""
    for key, finding in figures.load(reader)["findings"].items():
        path = figures.finding(reader, finding["file"])
        folder = unpacked(path.read_bytes())
        found: list[str] = []
        _forked(reader, 20.0, lambda m, found=found: found.append(m.get("finding", "")), only=folder)
        if not any(found):
            with figures.changed(reader) as state:
                del state["findings"][key]
                state["fixed"] += 1
            path.replace(figures.corpus(reader) / f"fixed-{path.name}")


def _feed_all(chosen: list[Reader], figures: Figures, seconds: float, jobs: int, goal: int | None) -> None:
    """Feeds the readers in turns, several processes at a time; with a goal some may have the same reader."""
    end = time.monotonic() + seconds
    turn_s = min(_LONGEST_TURN_S, seconds * jobs / len(chosen))
    context = multiprocessing.get_context("fork")
    turns = dict.fromkeys((reader.name for reader in chosen), 0)
    running: list[tuple[Reader, float, Any]] = []
    while True:
        while chosen and end - time.monotonic() > 0.2 and len(running) < jobs:
            need_s = {r.name: _need_s(r, running, figures, goal) for r in chosen}
            # Without a goal all get the same time, those that have seen least first.
            seen = {r.name: (-turns[r.name], -figures.load(r)["inputs"]) for r in chosen}
            reader = max(chosen, key=lambda r: need_s[r.name] if goal else seen[r.name])
            if goal and need_s[reader.name] == 0:
                break
            turns[reader.name] += 1
            now = time.monotonic()
            until = min(end, now + (min(turn_s, need_s[reader.name] + 1) if goal else turn_s))
            process = context.Process(target=_feed, args=(reader, figures, until - now))
            process.start()
            running.append((reader, until, process))
        if not running:
            return
        wait([process.sentinel for _, _, process in running])
        for reader, _, process in [turn for turn in running if not turn[2].is_alive()]:
            if process.exitcode != 0 and reader in chosen:
                sys.stdout.write(f"{reader.name}: left out here, since it cannot be fed\n")
                chosen = [other for other in chosen if other is not reader]
        running = [turn for turn in running if turn[2].is_alive()]


def _need_s(
    reader: Reader, running: list[tuple[Reader, float, Any]], figures: Figures, goal: int | None
) -> float:
    """About how long one process would feed a reader to its goal, beside those that do."""
    state, now = figures.load(reader), time.monotonic()
    left_s = sum(max(0.0, until - now) for other, until, _ in running if other is reader)
    return max(0.0, ((goal or ENOUGH) - state["inputs"]) / state["rate"] - left_s)


def _feed(reader: Reader, figures: Figures, seconds: float) -> None:
    """One turn of a reader: as many forked processes as it crashes, one after another."""
    began, fed, broken = time.monotonic(), 0, False

    def take(message: dict[str, Any]) -> None:
        nonlocal fed, broken
        broken |= "broken" in message
        with figures.changed(reader) as state:
            for kind, count in message.get("tally", {}).items():
                fed += count
                state["inputs"] += count
                state["commits"][figures.commit] = state["commits"].get(figures.commit, 0) + count
                if kind != "finding":
                    state[kind] += count
            state["corpus"] = max(state["corpus"], message.get("corpus", 0))
            if "finding" in message:
                _keep(reader, figures, state, message)

    while not broken and (left := seconds - (time.monotonic() - began)) > 0.1:
        _forked(reader, left, take, corpus=figures.corpus(reader))
    spent = time.monotonic() - began
    with figures.changed(reader) as state:
        state["seconds"] += spent
        state["rate"] = max(1.0, fed / spent)
    sys.exit(1 if broken else 0)


def _keep(reader: Reader, figures: Figures, state: dict[str, Any], message: dict[str, Any]) -> None:
    """Keeps the first input of a finding."""
    known = state["findings"].setdefault(message["finding"], {"times": 0})
    known["times"] += 1
    if "file" not in known:
        known["file"] = f"{time.time_ns() // 1000:x}"
        known["text"] = message["text"]
        figures.finding(reader, known["file"]).write_bytes(bytes.fromhex(message["input"]))
        sys.stdout.write(f"{reader.name}: {message['finding']}\n")
        sys.stdout.flush()


def _forked(
    reader: Reader,
    seconds: float,
    take: Any,
    only: dict[str, bytes] | None = None,
    corpus: Path | None = None,
    most: int | None = None,
) -> None:
    """Feeds a reader in a process of its own; a crash or a hang of it becomes a finding.

    only: nothing but this input. corpus: the folder of the inputs that reach new code. most: so many inputs,
    the same every time.
    """
    fast = Path("/dev/shm")
    sandbox = Path(tempfile.mkdtemp(prefix="splatomy-", dir=fast if fast.is_dir() else None)) / "input"
    inlet, outlet = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(inlet)
        os.environ["OMP_NUM_THREADS"] = "1"
        try:
            where = corpus or sandbox.parent
            where.mkdir(parents=True, exist_ok=True)
            seed = int.from_bytes(os.urandom(6)) if most is None else 1
            source = (
                reader if only is None else Reader(reader.name, reader.reads, lambda: [only], reader.read)
            )
            Feeder(source, where, sandbox, seed).run(seconds if only is None else 0, outlet, most)
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - the exit code tells the parent
            os.write(outlet, json.dumps({"broken": repr(error)[:500]}).encode() + b"\n")
            os._exit(70)
    os.close(outlet)
    hung = _listen(inlet, child, take)
    status = os.waitpid(child, 0)[1]
    os.close(inlet)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, 70):
        folder = {
            p.relative_to(sandbox).as_posix(): p.read_bytes() for p in sandbox.rglob("*") if p.is_file()
        }
        name = (
            "a hang in native code"
            if hung
            else f"crash by {signal.Signals(-code).name}"
            if code < 0
            else "exit"
        )
        take({"tally": {"finding": 1}, "finding": name, "text": name, "input": packed(folder).hex()})
    shutil.rmtree(sandbox.parent, ignore_errors=True)


def _listen(inlet: int, child: int, take: Any) -> bool:
    """Passes messages on until the child ends; True if it had to be killed."""
    rest = b""
    while True:
        if not select.select([inlet], [], [], _SILENT_S)[0]:
            os.kill(child, signal.SIGKILL)
            return True
        block = os.read(inlet, 1 << 16)
        if not block:
            return False
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "broken" in message:
                sys.stdout.write(f"the harness itself: {message['broken']}\n")
            take(message)


def _row(reader: Reader, state: dict[str, Any]) -> dict[str, Any]:
    return {
        "reader": reader.name,
        "reads": reader.reads,
        "inputs": state["inputs"],
        "accepted": state["accepted"],
        "refused": state["refused"],
        "corpus": state["corpus"],
        "found": state["fixed"] + len(state["findings"]),
        "open": len(state["findings"]),
        "commits": list(state["commits"]),
        "seconds": round(state["seconds"]),
    }


def _text(table: list[dict[str, Any]], commit: str) -> str:
    lines = ["| reader | inputs | a value | one sentence | corpus | found and fixed | crashes |",
             "|---|---:|---:|---:|---:|---:|---:|"]  # fmt: skip
    for row in table:
        short = "" if row["inputs"] >= ENOUGH else f" (of {ENOUGH:,})"
        lines.append(
            f"| {row['reads']} | {row['inputs']:,}{short} | {row['accepted']:,} | {row['refused']:,} "
            f"| {row['corpus']} | {row['found'] - row['open']} | {row['open']} |"
        )
    total, crashes = sum(r["inputs"] for r in table), sum(r["open"] for r in table)
    fixed = sum(r["found"] for r in table) - crashes
    lines.append(f"| all | {total:,} | | | | {fixed} | {crashes} |")
    commits = list(dict.fromkeys(c for row in table for c in row["commits"]))
    # Their order is not known: a reader may have been fed last on another machine.
    named = ", ".join(commits) or "none"
    lines.append(
        f"\nInputs of the commits {named}; printed at {commit} on {datetime.date.today().isoformat()}."
    )
    return "\n".join(lines) + "\n"


def _write(table: list[dict[str, Any]], commit: str) -> None:
    record = {"contract": 1, "commit": commit, "date": datetime.date.today().isoformat(), "readers": table}
    RESULT.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    RESULT.with_suffix(".md").write_text(
        "# Hostile input\n\n`make fuzz` prints this table.\n\n" + _text(table, commit)
    )


if __name__ == "__main__":
    sys.exit(main())
