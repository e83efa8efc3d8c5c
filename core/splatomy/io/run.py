"""The run folder: where a reconstruction keeps its record, checkpoints and products."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

import splatomy
from splatomy.errors import InputError
from splatomy.events import Checkpoint
from splatomy.io.atomic import atomic_path, is_remnant, remove_remnants, unwritable, write_json
from splatomy.io.gaussians import gaussians_among, write_gaussians
from splatomy.scene import SceneState

CONTRACT = 1
_STATE_ARRAYS = "state.safetensors"
_LOCK_POLL_S = 0.02


@dataclass(frozen=True)
class StoredCheckpoint:
    """A checkpoint read back; ``is_older``: the newest one was damaged, so this is the one before it."""

    checkpoint: Checkpoint
    software: str
    is_older: bool


@dataclass(frozen=True)
class RunFolder:
    """Paths and verbs of one run; every write is atomic."""

    path: Path

    def file(self, *parts: str) -> Path:
        """A path inside the run, its folder made."""
        target = self.path.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def stamp(self, *parts: str) -> tuple[int, int] | None:
        """What tells a file from one written there later, even when the clock was set; None = no file."""
        try:
            state = self.path.joinpath(*parts).stat()
        except FileNotFoundError:
            return None
        return state.st_ino, state.st_mtime_ns

    def record(self) -> dict[str, Any]:
        """The content of run.json.

        Raises:
            InputError: it is missing or unreadable.
        """
        try:
            record: dict[str, Any] = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(
                f"{self.path.name} is not a run folder: expected a file run.json in it, found none. "
                "Give the folder that `splatomy reconstruct --out` made."
            ) from None
        except (ValueError, RecursionError, OSError) as error:
            raise InputError(
                f"run.json of {self.path.name} cannot be read ({type(error).__name__}). "
                "Reconstruct again with --force."
            ) from None
        if not isinstance(record, dict):
            raise InputError(
                f"run.json of {self.path.name} is no JSON object. Reconstruct again with --force."
            )
        return record

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Writes run.json."""
        write_json(self.file("run.json"), {"contract": CONTRACT, **record})

    def append_event(self, event: Mapping[str, Any]) -> None:
        """Adds one line to events.jsonl."""
        self.append_line("events.jsonl", event)

    def append_line(self, name: str, value: Mapping[str, Any]) -> None:
        """Adds one JSON object as a line to a file of the run."""
        path = self.file(name)
        try:
            with path.open("ab+") as out:
                start = b""
                if out.tell():
                    out.seek(-1, os.SEEK_END)
                    # A full disk or a killed process may have broken off the line before.
                    start = b"" if out.read(1) == b"\n" else b"\n"
                out.write(start + json.dumps(value).encode() + b"\n")
        except OSError as error:
            raise unwritable(path, error) from None

    def read_events(self) -> Iterator[dict[str, Any]]:
        """The lines of events.jsonl; those that a killed process broke off are left out."""
        with contextlib.suppress(FileNotFoundError), (self.path / "events.jsonl").open("rb") as lines:
            for line in lines:
                with contextlib.suppress(ValueError, RecursionError):
                    event = json.loads(line)
                    if isinstance(event, dict):
                        yield event

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keeps the newest and the previous checkpoint; a kill at any moment leaves one whole."""
        folder = self.path / "checkpoint"
        new, current, previous = folder / "writing", folder / "newest", folder / "previous"
        if (new / "state.json").exists() and not current.exists():
            # A process that was killed between two renames had it whole: it must not go before its successor.
            new.rename(current)
        shutil.rmtree(new, ignore_errors=True)
        try:
            save_arrays(new / _STATE_ARRAYS, checkpoint.arrays)
            values = dict(checkpoint.values)
            # state.json is written last: a folder with it is complete.
            write_json(
                new / "state.json",
                {
                    "contract": CONTRACT,
                    "software": splatomy.__version__,
                    "sha256": _fingerprint(new / _STATE_ARRAYS, values),
                    "values": values,
                },
            )
        except OSError:
            # Half a checkpoint would only take the room that a full disk lacks.
            shutil.rmtree(new, ignore_errors=True)
            raise
        if current.exists():
            shutil.rmtree(previous, ignore_errors=True)
            current.rename(previous)
        new.rename(current)

    def load_checkpoint(self) -> StoredCheckpoint | None:
        """The newest whole checkpoint, or None when the run never came to write one.

        Raises:
            InputError: every checkpoint is damaged.
        """
        folder = self.path / "checkpoint"
        # A kill between two renames leaves the newest one under the name of the one being written.
        for name in ("newest", "writing", "previous"):
            try:
                state = json.loads((folder / name / "state.json").read_text(encoding="utf-8"))
                values = state["values"]
                arrays = folder / name / _STATE_ARRAYS
                if state["sha256"] != _fingerprint(arrays, values):
                    continue
                is_older = name == "previous" and (folder / "newest").exists()
                checkpoint = Checkpoint(load_file(arrays), values)
                return StoredCheckpoint(checkpoint, str(state["software"]), is_older)
            except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError):
                continue
        if (folder / "newest").exists() or (folder / "previous").exists():
            raise InputError(
                f"The checkpoints of {self.path.name} are damaged: expected a whole one to go on from, found "
                "none. Start the run again with --force."
            )
        return None

    def save_scene(self, state: SceneState) -> None:
        """Writes scene/: JSON values, arrays, and the Gaussians as a PLY when there are any."""
        save_arrays(self.file("scene", "fields.safetensors"), state.arrays)
        gaussians = gaussians_among(state.arrays)
        if gaussians:
            metric = state.values.get("metric") is not False
            write_gaussians(self.file("scene", "gaussians.ply"), gaussians, metric)
        write_json(self.file("scene", "scene.json"), {"contract": CONTRACT, "values": dict(state.values)})

    def load_scene_state(self) -> SceneState:
        """The saved scene.

        Raises:
            InputError: the run has no readable scene.
        """
        folder = self.path / "scene"
        try:
            values = json.loads((folder / "scene.json").read_text(encoding="utf-8"))["values"]
            if not isinstance(values, dict):
                raise ValueError("values must be an object")
            return SceneState(load_file(folder / "fields.safetensors"), values)
        except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError):
            raise InputError(
                f"{self.path.name} holds no readable scene: expected scene/scene.json and "
                "scene/fields.safetensors. Let the run finish with `splatomy reconstruct ... --resume`."
            ) from None

    @contextlib.contextmanager
    def lock(self, wait_s: float = 0.5) -> Iterator[None]:
        """Keeps other processes out of the folder, which is made if need be; a dead one keeps nobody out.

        wait_s: how long to try. Who only asks whether a run goes on holds the folder for an instant.

        Raises:
            InputError: another process holds it.
        """
        path = self.file("lock")
        handle, until = _locked(path), time.monotonic() + wait_s
        while handle is None and time.monotonic() < until:
            time.sleep(_LOCK_POLL_S)
            handle = _locked(path)
        if handle is None:
            holder = _holder(path)
            raise InputError(
                f"Another process ({holder}) is writing to {self.path.name}: expected a folder that nobody "
                "uses. Wait for it, stop it, or choose another --out."
            )
        try:
            os.ftruncate(handle, 0)
            os.write(handle, f"{os.getpid()} {time.time():.0f}\n".encode())
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            os.close(handle)


def save_arrays(path: Path, named: Mapping[str, NDArray[Any]], durable: bool = True) -> None:
    """Writes named arrays as safetensors, atomically."""
    with atomic_path(path, durable) as temporary:
        try:
            save_file({name: np.ascontiguousarray(array) for name, array in named.items()}, temporary)
        except SafetensorError as error:
            raise unwritable(path, error) from None


def _fingerprint(arrays: Path, values: Mapping[str, Any]) -> str:
    """SHA-256 of a checkpoint's array file and JSON values together."""
    with arrays.open("rb") as source:
        digest = hashlib.file_digest(source, "sha256")
    digest.update(json.dumps(values, sort_keys=True).encode())
    return digest.hexdigest()


def _holder(path: Path) -> str:
    """Who holds a lock, as far as its file tells."""
    # Windows refuses to show a locked file, and the holder may have removed it just now.
    with contextlib.suppress(OSError):
        return (path.read_text(errors="replace").split() or ["unknown"])[0]
    return "unknown"


def _locked(path: Path) -> int | None:
    """A handle that holds the file's lock until it is closed or its process ends; None = it is taken.

    Raises:
        OSError: the drive has no locks, or refuses.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if sys.platform == "win32":
                import msvcrt

                # Far behind the text, which other processes must be able to read.
                os.lseek(handle, 1 << 20, os.SEEK_SET)
                msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
                os.lseek(handle, 0, os.SEEK_SET)
            else:
                import fcntl

                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The holder before may have removed the very file that was opened here: then try the new one.
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except FileNotFoundError:
            pass
        except (BlockingIOError, PermissionError):
            os.close(handle)
            return None
        except OSError as error:
            os.close(handle)
            raise unwritable(path, error) from None
        os.close(handle)


_FILES = (
    "run.json", "metrics.json", "evaluation.json", "events.jsonl", "report.html",
    "commands.jsonl", "trajectory.txt",
)  # fmt: skip
_FOLDERS = ("checkpoint", "scene", "prepared", "meshes", "volumes", "renders", "session")


def check_run_path(path: Path, *, force: bool, resume: bool) -> None:
    """Refuses a folder that must not be written to; changes nothing.

    Raises:
        InputError: it holds a run already, something that is not a run, or nothing to resume.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path.name} is a file: expected a folder for the run. Choose another --out.")
    entries = path.iterdir() if path.exists() else ()
    # What a process left that was killed right at its start is no run, and nobody's.
    names = {entry.name for entry in entries if not is_remnant(entry)} - {"lock"}
    if not names:
        if resume:
            raise InputError(
                f"{path.name} holds no run to resume: expected the folder of a run that was stopped, got "
                f"{'an empty' if path.exists() else 'no'} folder. Leave --resume out to start a run there."
            )
        return
    if not names & {"run.json", "events.jsonl"}:
        raise InputError(
            f"{path} is not empty and not a run folder, so nothing is written there. Choose a new --out."
        )
    if not resume and not force:
        record = RunFolder(path).record() if (path / "run.json").exists() else {"state": "unfinished"}
        state, kept = record.get("state"), _results(path)
        # A run that failed before it had anything to keep may simply be started again.
        if state == "failed" and not kept:
            return
        why = f"failed, but it kept {kept[0]}" if state == "failed" else state
        raise InputError(
            f"{path} already holds a run ({why}). Use --resume to go on, --force to overwrite it, "
            "or choose another --out."
        )


def _results(path: Path) -> list[str]:
    """What a run would lose if it were started again: results, but not what it prepared from its input."""
    folders = [n for n in _FOLDERS if n not in ("prepared", "scene") and any((path / n).glob("*"))]
    files = ("scene/scene.json", "metrics.json", "evaluation.json", "report.html")
    return folders + [name for name in files if (path / name).exists()]


def prepare_run(path: Path, *, force: bool, resume: bool) -> RunFolder:
    """The folder made ready: new, emptied (force), or as it was (resume).

    Raises:
        InputError: see ``check_run_path``.
    """
    check_run_path(path, force=force, resume=resume)
    run = RunFolder(path)
    path.mkdir(parents=True, exist_ok=True)
    remove_remnants(path)
    if resume:
        return run
    for name in _FILES:
        (path / name).unlink(missing_ok=True)
    for name in _FOLDERS:
        # What a failed run prepared fits the next one, or is made anew by it.
        if force or name != "prepared":
            shutil.rmtree(path / name, ignore_errors=True)
    return run
