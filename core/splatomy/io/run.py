"""The run folder: where a reconstruction keeps its record, checkpoints and products."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from splatomy.errors import InputError
from splatomy.events import Checkpoint
from splatomy.io.atomic import atomic_path, write_json
from splatomy.io.gaussians import write_gaussians
from splatomy.scene import SceneState

CONTRACT = 1


def _arrays(named: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: np.ascontiguousarray(array) for name, array in named.items()}


@dataclass(frozen=True)
class RunFolder:
    """Paths and verbs of one run; every write is atomic."""

    path: Path

    def file(self, *parts: str) -> Path:
        """A path inside the run, its folder made."""
        target = self.path.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def record(self) -> dict[str, Any]:
        """The content of run.json.

        Raises:
            InputError: it is missing or unreadable.
        """
        try:
            record: dict[str, Any] = json.loads((self.path / "run.json").read_text())
        except FileNotFoundError:
            raise InputError(
                f"{self.path.name} is not a run folder: expected a file run.json in it, found none. "
                "Give the folder that `splatomy reconstruct --out` made."
            ) from None
        except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
            raise InputError(
                f"run.json of {self.path.name} cannot be read ({type(error).__name__}). "
                "Reconstruct again with --force."
            ) from None
        return record

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Writes run.json."""
        write_json(self.file("run.json"), {"contract": CONTRACT, **record})

    def append_event(self, event: Mapping[str, Any]) -> None:
        """Adds one line to events.jsonl."""
        with self.file("events.jsonl").open("a", encoding="utf-8") as out:
            out.write(json.dumps(event) + "\n")

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keeps the newest and the previous checkpoint; a kill at any moment leaves one whole."""
        folder = self.path / "checkpoint"
        new, current, previous = folder / "writing", folder / "newest", folder / "previous"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        save_file(_arrays(checkpoint.arrays), new / "state.safetensors")
        # state.json is written last: a folder with it is complete.
        write_json(new / "state.json", {"contract": CONTRACT, "values": dict(checkpoint.values)})
        if current.exists():
            shutil.rmtree(previous, ignore_errors=True)
            current.rename(previous)
        new.rename(current)

    def load_checkpoint(self) -> Checkpoint | None:
        """The newest whole checkpoint, or None."""
        for name in ("newest", "writing", "previous"):
            folder = self.path / "checkpoint" / name
            try:
                values = json.loads((folder / "state.json").read_text())["values"]
                return Checkpoint(load_file(folder / "state.safetensors"), values)
            except (OSError, json.JSONDecodeError, KeyError, SafetensorError):
                continue
        return None

    def save_scene(self, state: SceneState) -> None:
        """Writes scene/: JSON values, arrays, and the Gaussians as a PLY when there are any."""
        arrays = _arrays(state.arrays)
        with atomic_path(self.file("scene", "fields.safetensors")) as temporary:
            save_file(arrays, temporary)
        if "means_mm" in arrays:
            write_gaussians(self.file("scene", "gaussians.ply"), arrays)
        write_json(self.file("scene", "scene.json"), {"contract": CONTRACT, "values": dict(state.values)})

    def load_scene_state(self) -> SceneState:
        """The saved scene.

        Raises:
            InputError: the run has no readable scene.
        """
        folder = self.path / "scene"
        try:
            values = json.loads((folder / "scene.json").read_text())["values"]
            return SceneState(load_file(folder / "fields.safetensors"), values)
        except (OSError, json.JSONDecodeError, KeyError, SafetensorError):
            raise InputError(
                f"{self.path.name} holds no readable scene: expected scene/scene.json and "
                "scene/fields.safetensors. Let the run finish with `splatomy reconstruct ... --resume`."
            ) from None

    @contextlib.contextmanager
    def lock(self) -> Any:
        """Holds the folder for this process.

        Raises:
            InputError: another live process holds it.
        """
        path = self.file("lock")
        if path.exists():
            with contextlib.suppress(ValueError, OSError):
                holder = int(path.read_text().split()[0])
                if holder != os.getpid() and _alive(holder):
                    raise InputError(
                        f"Another process ({holder}) is writing to {self.path.name}. "
                        "Wait for it, stop it, or choose another --out."
                    )
        path.write_text(f"{os.getpid()} {time.time():.0f}\n")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def check_run_path(path: Path, *, force: bool, resume: bool) -> None:
    """Refuses a folder that must not be written to; changes nothing.

    Raises:
        InputError: it holds a run already, or something that is not a run.
    """
    if not path.exists() or not any(path.iterdir()):
        return
    if not (path / "run.json").exists() and not (path / "events.jsonl").exists():
        raise InputError(
            f"{path} is not empty and not a run folder, so nothing is written there. Choose a new --out."
        )
    if not resume and not force:
        state = RunFolder(path).record().get("state") if (path / "run.json").exists() else "unfinished"
        raise InputError(
            f"{path} already holds a run ({state}). Use --resume to go on, --force to overwrite it, "
            "or choose another --out."
        )


def prepare_run(path: Path, *, force: bool, resume: bool) -> RunFolder:
    """The folder made ready: new, emptied (force), or as it was (resume).

    Raises:
        InputError: see ``check_run_path``.
    """
    check_run_path(path, force=force, resume=resume)
    run = RunFolder(path)
    path.mkdir(parents=True, exist_ok=True)
    if resume:
        return run
    for name in ("run.json", "metrics.json", "evaluation.json", "events.jsonl", "report.html"):
        (path / name).unlink(missing_ok=True)
    for name in ("checkpoint", "scene", "prepared", "meshes", "volumes", "renders"):
        shutil.rmtree(path / name, ignore_errors=True)
    return run
