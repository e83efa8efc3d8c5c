"""``make verify``: every file with slow tests, some at a time; resumable.

A file that passed for these very sources is skipped, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAMPS = Path(sys.prefix) / "verify"
WORDS = [sys.executable, "-m", "pytest", "-q", "-m", "verify and not soak"]


def slow_files() -> list[Path]:
    """Files of tests that ``make test`` leaves out; those that have a folder of their own are the longest."""
    own = sorted((ROOT / "tests/verify").glob("test_*.py"))
    others = [
        path for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.verify" in path.read_text()
    ]
    return own + [path for path in others if path not in own]


def sources() -> str | None:
    """A name for the state of the working tree; None outside git."""

    def git(*words: str) -> bytes:
        return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True).stdout

    try:
        digest = hashlib.sha256(git("rev-parse", "HEAD") + git("diff", "HEAD"))
        for name in sorted(git("ls-files", "-o", "--exclude-standard", "-z").split(b"\0")):
            path = ROOT / os.fsdecode(name)
            if name and path.is_file():
                digest.update(name + path.read_bytes())
    except (OSError, subprocess.CalledProcessError):
        return None
    return digest.hexdigest()[:24]


def run(path: Path, environment: dict[str, str]) -> tuple[int, str, float]:
    """The exit code of a file's tests, what they printed, and how long they took, in seconds."""
    print(f"verify: {path.relative_to(ROOT).as_posix()} begins", flush=True)
    begun = time.monotonic()
    ended = subprocess.run(
        [*WORDS, str(path)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return ended.returncode, ended.stdout, time.monotonic() - begun


def main() -> int:
    """Exit code 0 if every file passed, now or before."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--shared", type=Path, required=True, help="folder with the real recordings, as data/"
    )
    parser.add_argument("--jobs", type=int, default=2, help="files at a time")
    arguments = parser.parse_args()
    if not (arguments.shared / "data").is_dir():
        sys.exit(
            f"VERIFY CANNOT RUN: there is no {arguments.shared}/data, whose recordings are what is verified."
        )
    files = slow_files()
    if not files:
        sys.exit("VERIFY CANNOT RUN: no test is marked 'verify'.")
    state = sources()
    jobs = max(1, arguments.jobs)
    environment = dict(os.environ)
    if jobs > 1:
        # Files beside each other would wait for each other's threads.
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    failed, waiting = [], []
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        stamp = None if state is None else STAMPS / state / name.replace("/", ".")
        if stamp is not None and stamp.exists():
            print(f"already passed: {name}", flush=True)
        else:
            waiting.append((path, name, stamp))
    pool = ThreadPoolExecutor(jobs)
    try:
        runs = {pool.submit(run, path, environment): (name, stamp) for path, name, stamp in waiting}
        for number, ended in enumerate(as_completed(runs), 1):
            (name, stamp), (code, printed, seconds) = runs[ended], ended.result()
            how = "passed" if code == 0 else f"FAILED with exit code {code}"
            print(f"verify: {name} {how} in {seconds:.0f} s ({number} of {len(runs)})", flush=True)
            if code:
                print(printed, flush=True)
                failed.append(name)
            else:
                print(printed.strip().splitlines()[-1], flush=True)
                if stamp is not None:
                    stamp.parent.mkdir(parents=True, exist_ok=True)
                    stamp.touch()
    finally:
        # After Ctrl-C those that wait must not begin.
        pool.shutdown(cancel_futures=True)
    if failed:
        sys.exit(f"VERIFY FAILED: {' '.join(sorted(failed))}")
    print("verify: all passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
