"""The case folder: an input, the masks of its frames under review, and where they come from.

CASE/case.json, masks/{auto,add,erase}/NUMBER.png and labels/NUMBER.png (see ``case_masks``),
case.autosave.json, lock; case.saving.json only while a save is under way, or after one was broken off.
NUMBER is the frame's number in the clip.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import splatomy
from splatomy.errors import InputError
from splatomy.io.atomic import remove_remnants, unwritable, write_json
from splatomy.io.case_masks import (
    LABELS,
    LAYERS,
    check_own_folders,
    has_labels,
    labels_file,
    layer_file,
    packed,
    read_labels,
    read_layer,
    remove_strangers,
    unpacked,
    write_layer,
    write_own_labels,
)
from splatomy.io.options import InputOptions, options_from_record, options_record, relative_path
from splatomy.review import FrameReview, Mask, MaskReview, ReviewState

CONTRACT, SCHEMA = 1, 1
LARGEST_SIDE_PX = 1 << 16
_LARGEST_NUMBER = 10**9
RECORD, AUTOSAVE, SAVING = "case.json", "case.autosave.json", "case.saving.json"
OWN_NAMES = (
    RECORD, AUTOSAVE, SAVING, "masks", "labels", "lock", "runs", "measurements.json", "exports",
    "thumbnail.png",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """An input under review.

    source, options: what was opened, and how. frames: (T,) numbers of the frames in the clip.
    times_s: (T,) seconds from the first one. geometry: crop, bin and cameras, as JSON values.
    metric: lengths are mm. mm_per_unit: the scale that a person gave, or None.
    notes: what was found out and assumed about the input, such as the polarity of given masks.
    """

    source: Path
    options: InputOptions
    frames: NDArray[np.int64]
    times_s: NDArray[np.float64]
    review: MaskReview
    geometry: Mapping[str, Any] = field(default_factory=dict)
    metric: bool = False
    mm_per_unit: float | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.review)
        if self.frames.shape != (count,) or self.times_s.shape != (count,):
            raise ValueError(
                f"frames and times_s must have shape ({count},), got {self.frames.shape} and "
                f"{self.times_s.shape}"
            )


def is_case(path: Path) -> bool:
    """True if a path is a case folder or the case.json in one."""
    if path.name == RECORD:
        return path.is_file()
    # The first save of a case may have been broken off.
    return (path / RECORD).is_file() or (path / SAVING).is_file()


def case_folder(path: Path) -> Path:
    """The folder of a case, from it or from its case.json."""
    return path.parent if path.name == RECORD else path


def save_case(folder: Path, case: Case, saved: MaskReview | None = None) -> None:
    """Writes a case; of masks only the layers that differ from those in ``saved`` (None: all).

    A program that is killed meanwhile leaves the whole case of before or the whole new one: what changes is
    written to one file first, which counts from then on, until all the others are written.
    """
    check_own_folders(folder)
    if (folder / SAVING).is_file():
        # A save was broken off, so nobody knows which layers were written.
        saved = None
    changes = {
        **_record(folder, case),
        "layers": _changed_layers(case, saved),
        "replaces": _fingerprint(folder / AUTOSAVE),
    }
    write_json(folder / SAVING, changes)
    _write_files(folder, case, saved)


def _write_files(folder: Path, case: Case, saved: MaskReview | None) -> None:
    """Writes what the case of ``SAVING`` changes, then removes that file."""
    for index, (number, frame) in enumerate(zip(case.frames.tolist(), case.review.frames, strict=True)):
        for name in LAYERS:
            layer = getattr(frame, name)
            if saved is None or layer is not getattr(saved.frames[index], name):
                write_layer(layer_file(folder, name, number), layer)
        if saved is None or frame is not saved.frames[index]:
            write_own_labels(folder, number, frame, case.review)
    write_json(folder / RECORD, _record(folder, case))
    (folder / AUTOSAVE).unlink(missing_ok=True)
    if saved is None:
        remove_strangers(folder, {f"{number:06d}.png" for number in case.frames.tolist()})
    (folder / SAVING).unlink(missing_ok=True)


def _changed_layers(case: Case, saved: MaskReview | None) -> dict[str, dict[str, str | None]]:
    """Layers and labels that differ from the saved ones (None: all), packed, by the frame's number."""
    changed: dict[str, dict[str, str | None]] = {}
    for index, (number, frame) in enumerate(zip(case.frames.tolist(), case.review.frames, strict=True)):
        before = None if saved is None else saved.frames[index]
        names = {
            n for n in (*LAYERS, *LABELS) if before is None or getattr(frame, n) is not getattr(before, n)
        }
        if names & {*LABELS}:
            # One file holds both labels, so it says nothing of either while it is written anew.
            names |= {*LABELS}
        if names:
            changed[str(number)] = {name: packed(getattr(frame, name)) for name in sorted(names)}
    return changed


def _fingerprint(path: Path) -> str | None:
    """SHA-256 of a file, None without one."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def autosave_case(folder: Path, case: Case, saved: MaskReview) -> None:
    """Writes everything that differs from the saved case to the autosave file, in one atomic step."""
    known = None if (folder / SAVING).is_file() else saved
    write_json(folder / AUTOSAVE, {**_record(folder, case), "layers": _changed_layers(case, known)})


def open_case(path: Path) -> Case:
    """The case as it was last saved.

    Raises:
        InputError: no case, a newer schema, or damaged files.
    """
    folder = case_folder(path)
    kept = _half_saved(folder)
    return kept if kept is not None else _case_of(folder, _read_json(folder / RECORD), RECORD)


def recovered_case(path: Path) -> Case | None:
    """The case with what was autosaved after the last save; None when nothing was.

    Raises:
        InputError: no case, or damaged files.
    """
    folder = case_folder(path)
    if not (folder / AUTOSAVE).is_file():
        return None
    if (folder / SAVING).is_file():
        saving = _read_json(folder / SAVING)
        if saving.get("replaces") == _fingerprint(folder / AUTOSAVE):
            return None
    return _case_of(folder, _read_json(folder / AUTOSAVE), AUTOSAVE)


def _half_saved(folder: Path) -> Case | None:
    """The case of a save that was broken off, None without one."""
    if not (folder / SAVING).is_file():
        return None
    return _case_of(folder, _read_json(folder / SAVING), SAVING)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other programs from changing the case; the system frees the lock of a program that died.

    What such a program left behind is put in order: a save that was broken off is ended.

    Raises:
        InputError: another program holds it.
    """
    path = folder / "lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise unwritable(path, error) from None
    with file:
        try:
            taken = _take(file.fileno())
        except OSError as error:
            raise unwritable(path, error) from None
        if not taken:
            file.seek(0)
            holder = file.read(200).strip()
            raise InputError(
                f"The case {folder.name} is open in another program ({holder or 'unknown'}); expected it to "
                "be free: close it there."
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        _put_in_order(folder)
        yield
        file.truncate(0)


def _put_in_order(folder: Path) -> None:
    """Ends a save that was broken off and removes half-written files, as far as disk and files allow."""
    with suppress(InputError, OSError):
        kept = _half_saved(folder)
        if kept is not None:
            _write_files(folder, kept, None)
    for name in ("masks", "labels"):
        remove_remnants(folder / name)
    remove_remnants(folder, below=False)


if sys.platform == "win32":
    import msvcrt

    def _take(handle: int) -> bool:
        """True if the file's lock is ours now; it ends with the file."""
        # A byte far behind the text, which others may then still read.
        os.lseek(handle, 1 << 20, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _take(handle: int) -> bool:
        """True if the file's lock is ours now; it ends with the file."""
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        return True


def _record(folder: Path, case: Case) -> dict[str, Any]:
    """case.json without the masks themselves."""
    frames = [
        {"number": number, "time_s": time_s, "state": frame.state.value, "confidence": frame.confidence}
        | {"layers": [name for name in LAYERS if getattr(frame, name) is not None]}
        | {"labels": has_labels(frame)}
        for number, time_s, frame in zip(
            case.frames.tolist(), case.times_s.tolist(), case.review.frames, strict=True
        )
    ]
    return {
        "contract": CONTRACT,
        "schema": SCHEMA,
        "splatomy": splatomy.__version__,
        "source": relative_path(case.source, folder),
        "options": options_record(case.options, folder),
        "width_px": case.review.width_px,
        "height_px": case.review.height_px,
        "geometry": dict(case.geometry),
        "scale": {"metric": case.metric, "mm_per_unit": case.mm_per_unit},
        "notes": list(case.notes),
        "frames": frames,
    }


def _case_of(folder: Path, record: Mapping[str, Any], name: str) -> Case:
    """The case of a record read from the file ``name``; its own layers replace those in other files."""
    overlay = record.get("layers") if name != RECORD else {}
    if not isinstance(overlay, Mapping):
        raise _damaged(name)
    if record.get("schema") != SCHEMA:
        raise InputError(
            f"The case {folder.name} has schema {record.get('schema')!r}; expected {SCHEMA}: open it with "
            "the version of splatomy that wrote it."
        )
    check_own_folders(folder)
    try:
        height, width = int(record["height_px"]), int(record["width_px"])
        if not 0 < height <= LARGEST_SIDE_PX >= width > 0:
            raise ValueError(f"frames of {width}x{height}")
        frames = [
            _frame_of(folder, entry, (height, width), overlay.get(str(entry["number"]), {}))
            for entry in record["frames"]
        ]
        scale = record["scale"]
        return Case(
            source=(folder / record["source"]).resolve(),
            options=options_from_record(record["options"], folder),
            frames=np.array([entry["number"] for entry in record["frames"]], dtype=np.int64),
            times_s=np.array([entry["time_s"] for entry in record["frames"]], dtype=np.float64),
            review=MaskReview(height, width, tuple(frames)),
            geometry=dict(record["geometry"]),
            metric=bool(scale["metric"]),
            mm_per_unit=None if scale["mm_per_unit"] is None else float(scale["mm_per_unit"]),
            notes=tuple(str(note) for note in record["notes"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, zlib.error):
        raise _damaged(name) from None


def _frame_of(
    folder: Path, entry: Mapping[str, Any], shape: tuple[int, int], overlay: Mapping[str, Any]
) -> FrameReview:
    number = int(entry["number"])
    if not 0 <= number <= _LARGEST_NUMBER:
        raise ValueError("a frame of no clip")
    layers: dict[str, Mask | None] = dict.fromkeys(LAYERS)
    for name in entry["layers"]:
        if name not in LAYERS:
            raise ValueError(f"no layer {name!r}")
        if name in overlay:
            layers[name] = unpacked(overlay[name], shape)
        else:
            layers[name] = read_layer(layer_file(folder, name, number), shape)
    labels: dict[str, Mask | None] = dict.fromkeys(LABELS)
    path = labels_file(folder, number)
    # Cases of before did not say whether there are labels.
    if not overlay.keys() >= set(LABELS) and entry.get("labels", path.is_file()):
        labels = read_labels(path, shape)
    for name in LABELS:
        if name in overlay:
            labels[name] = None if overlay[name] is None else unpacked(overlay[name], shape)
    return FrameReview(
        layers["auto"],
        layers["add"],
        layers["erase"],
        ReviewState(entry["state"]),
        float(entry["confidence"]),
        labels["specular"],
        labels["outside"],
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path.parent.name} is no case folder: expected a file {RECORD} in it, found none. Make one "
            "with `splatomy masks`."
        ) from None
    except (ValueError, RecursionError):
        raise _damaged(path.name) from None
    if not isinstance(record, dict):
        raise _damaged(path.name)
    return record


def _damaged(name: str) -> InputError:
    return InputError(
        f"{name} is damaged; expected the record that `splatomy masks` or the desktop app wrote: put a copy "
        "back, or make the case anew with --force."
    )
