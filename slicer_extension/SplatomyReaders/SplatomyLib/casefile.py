"""The case folder of the engine: masks of frames under review, read and written without the engine.

CASE/case.json, masks/{auto,add,erase}/NUMBER.png (255 = marked). The mask in force is (auto or add) and
not erase. Automatic layers are never touched here: what a person changes goes into add and erase.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from SplatomyLib.bridge_frames import read_picture, write_mask
from SplatomyLib.files import UnusableFile, read_json

CONFIRMED, EDITED = "confirmed", "edited"
STATES = ("untouched", "proposed", "propagated", EDITED, CONFIRMED)
LAYERS = ("auto", "add", "erase")


@dataclass(frozen=True)
class MaskCase:
    """A case folder's record and the masks in force.

    masks: (T, H, W) bool, True = hidden. states: of each frame, one of ``STATES``.
    """

    folder: Path
    record: dict[str, Any]
    masks: np.ndarray
    states: tuple[str, ...]

    @property
    def times_s(self) -> list[float]:
        """Seconds of each frame."""
        return [float(frame["time_s"]) for frame in self.record["frames"]]

    @property
    def source(self) -> Path:
        """The clip that the case is about."""
        return (self.folder / str(self.record["source"])).resolve()


def is_case(path: Path) -> bool:
    """True for a case folder or its case.json."""
    return path.name == "case.json" or (path / "case.json").is_file()


def open_case(path: Path) -> MaskCase:
    """The case of a folder or of its case.json.

    Raises:
        UnusableFile: no case, a newer one, or mask files missing or of another size.
    """
    folder = (path.parent if path.name == "case.json" else path).absolute()
    if (folder / "case.saving.json").exists():
        raise UnusableFile(
            f"The case {folder.name} was left in the middle of being saved: expected a whole one. Open it "
            "once in the desktop app, which ends the saving."
        )
    record = read_json(folder / "case.json")
    if record.get("schema") != 1:
        raise UnusableFile(
            f"The case {folder.name} has schema {record.get('schema')!r}: expected 1. Use matching versions."
        )
    try:
        shape = int(record["height_px"]), int(record["width_px"])
        frames = record["frames"]
        layers = [_layers(folder, frame, shape) for frame in frames]
        states = tuple(str(frame["state"]) for frame in frames)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, UnusableFile):
            raise
        raise UnusableFile(f"case.json of {folder.name} is damaged. Put a copy back.") from None
    masks = np.stack([_in_force(found) for found in layers]) if layers else np.zeros((0, *shape), bool)
    return MaskCase(folder, record, masks, states)


def save_masks(path: Path, masks: np.ndarray, states: Sequence[str]) -> int:
    """Writes a person's masks (T, H, W), True = hidden, into a case; the number of frames that changed.

    A changed frame without another state becomes "edited". After a kill in between each frame has its mask of
    before or the new one, and none that was changed counts as confirmed.

    Raises:
        UnusableFile: the case is damaged, open elsewhere, or of another size or number of frames.
    """
    case = open_case(path)
    if masks.shape != case.masks.shape:
        raise UnusableFile(
            f"The case {case.folder.name} has {len(case.masks)} frames of {case.masks.shape[2]}x"
            f"{case.masks.shape[1]}, the masks {len(masks)} of {masks.shape[2]}x{masks.shape[1]}: expected "
            "the same. Load the case's own clip."
        )
    if len(states) != len(masks) or not set(states) <= set(STATES):
        raise ValueError(f"states must be {len(masks)} of {STATES}")
    changes = []
    with held(case.folder):
        for frame, before, mask, state in zip(case.record["frames"], case.masks, masks, states):
            differs = not np.array_equal(before, mask)
            if not differs and state == frame["state"]:
                continue
            changes.append((frame, mask if differs else None, state))
            if differs:
                frame["state"] = EDITED
        # Whoever finds the masks half written finds them unconfirmed.
        write_json(case.folder / "case.json", case.record)
        for frame, mask, state in changes:
            if mask is None or state == CONFIRMED:
                frame["state"] = state
            if mask is not None:
                frame["layers"] = _write_layers(case.folder, frame, mask)
        write_json(case.folder / "case.json", case.record)
    return len(changes)


def _layers(folder: Path, frame: dict[str, Any], shape: tuple[int, int]) -> dict[str, np.ndarray]:
    found = {}
    for name in frame["layers"]:
        if name not in LAYERS:
            raise ValueError(name)
        picture = read_picture(folder / "masks" / name / f"{int(frame['number']):06d}.png")
        if picture.shape != shape:
            raise UnusableFile(
                f"masks/{name}/{int(frame['number']):06d}.png is not {shape[1]}x{shape[0]} and grey. "
                "Put the right file back."
            )
        found[name] = picture > 0
    return {name: found.get(name, np.zeros(shape, bool)) for name in LAYERS}


def _in_force(layers: dict[str, np.ndarray]) -> np.ndarray:
    return (layers["auto"] | layers["add"]) & ~layers["erase"]


def _write_layers(folder: Path, frame: dict[str, Any], mask: np.ndarray) -> list[str]:
    """Writes what a person added and erased; the names of the frame's layers."""
    number = f"{int(frame['number']):06d}.png"
    auto = np.zeros(mask.shape, bool)
    if "auto" in frame["layers"]:
        auto = read_picture(folder / "masks" / "auto" / number) > 0
    names = ["auto"] if "auto" in frame["layers"] else []
    for name, layer in (("add", mask & ~auto), ("erase", auto & ~mask)):
        # A file that stays empty is written all the same when case.json still names it.
        if layer.any() or name in frame["layers"]:
            write_mask(folder / "masks" / name / number, layer)
            names.append(name)
    return names


def write_json(path: Path, value: Any) -> None:
    """Writes strict JSON atomically."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps(value, indent=1, allow_nan=False), encoding="utf-8")
    temporary.replace(path)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keeps other programs out of a case while it is written, by the lock that they use too.

    Raises:
        UnusableFile: another program has the case open.
    """
    with (folder / "lock").open("a+") as file:
        if not _take(file.fileno()):
            raise UnusableFile(f"The case {folder.name} is open in another program. Close it there first.")
        yield


def _take(handle: int) -> bool:
    """True if the file's lock is ours now; it ends with the file."""
    try:
        if sys.platform == "win32":
            import msvcrt

            # The byte that the engine locks.
            os.lseek(handle, 1 << 20, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
