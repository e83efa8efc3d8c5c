"""The case folder: an input, the masks of its frames under review, and where they come from.

CASE/case.json, masks/{auto,add,erase}/NUMBER.png (8 bit, 255 = marked), labels/NUMBER.png (1 occluder,
2 specular, 3 outside), case.autosave.json, lock. NUMBER is the frame's number in the clip.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import splatomy
from splatomy.errors import InputError
from splatomy.io.atomic import unwritable, write_json
from splatomy.io.frames import read_picture
from splatomy.io.options import InputOptions, options_from_record, options_record, relative_path
from splatomy.io.picture import write_png
from splatomy.review import FrameReview, Mask, MaskReview, ReviewState

CONTRACT, SCHEMA = 1, 1
RECORD, AUTOSAVE = "case.json", "case.autosave.json"
OWN_NAMES = (RECORD, AUTOSAVE, "masks", "labels", "lock", "runs", "measurements.json", "exports")
LAYERS = ("auto", "add", "erase")
OCCLUDER, SPECULAR, OUTSIDE = 1, 2, 3
_MARKED = 255


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
    return (path / RECORD).is_file()


def case_folder(path: Path) -> Path:
    """The folder of a case, from it or from its case.json."""
    return path.parent if path.name == RECORD else path


def save_case(folder: Path, case: Case, saved: MaskReview | None = None) -> None:
    """Writes a case; of masks only the layers that differ from those in ``saved`` (None: all).

    case.json comes last and the autosave file goes after it: a kill in between loses nothing that was saved.
    """
    for index, (number, frame) in enumerate(zip(case.frames.tolist(), case.review.frames, strict=True)):
        for name in LAYERS:
            layer = getattr(frame, name)
            if saved is None or layer is not getattr(saved.frames[index], name):
                _write_layer(_layer_file(folder, name, number), layer)
    write_json(folder / RECORD, _record(folder, case))
    (folder / AUTOSAVE).unlink(missing_ok=True)
    if saved is None:
        _remove_strangers(folder, {f"{number:06d}.png" for number in case.frames.tolist()})


def autosave_case(folder: Path, case: Case, saved: MaskReview) -> None:
    """Writes everything that differs from the saved case to the autosave file, in one atomic step."""
    changed: dict[str, dict[str, str | None]] = {}
    for index, (number, frame) in enumerate(zip(case.frames.tolist(), case.review.frames, strict=True)):
        new = {
            name: _packed(getattr(frame, name))
            for name in LAYERS
            if getattr(frame, name) is not getattr(saved.frames[index], name)
        }
        if new:
            changed[str(number)] = new
    write_json(folder / AUTOSAVE, {**_record(folder, case), "layers": changed})


def open_case(path: Path) -> Case:
    """The case as it was last saved.

    Raises:
        InputError: no case, a newer schema, or damaged files.
    """
    folder = case_folder(path)
    record = _read_json(folder / RECORD)
    return _case_of(folder, record, None)


def recovered_case(path: Path) -> Case | None:
    """The case with what was autosaved after the last save; None when nothing was.

    Raises:
        InputError: no case, or damaged files.
    """
    folder = case_folder(path)
    if not (folder / AUTOSAVE).is_file():
        return None
    record = _read_json(folder / AUTOSAVE)
    layers = record.get("layers")
    if not isinstance(layers, Mapping):
        raise _damaged(AUTOSAVE)
    return _case_of(folder, record, layers)


def write_labels(folder: Path, number: int, occluder: Mask, specular: Mask, outside: Mask | None) -> None:
    """Writes what each pixel of a frame is: 0 tissue, 1 occluder, 2 highlight on tissue, 3 outside."""
    labels = np.zeros(occluder.shape, np.uint8)
    labels[specular] = SPECULAR
    labels[occluder] = OCCLUDER
    if outside is not None:
        labels[outside] = OUTSIDE
    write_png(folder / "labels" / f"{number:06d}.png", labels)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other programs from changing the case; the system frees the lock of a program that died.

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
        if not _take(file.fileno()):
            file.seek(0)
            holder = file.read(200).strip()
            raise InputError(
                f"The case {folder.name} is open in another program ({holder or 'unknown'}); expected it to "
                "be free: close it there."
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
        file.truncate(0)


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
        except OSError:
            return False
        return True


def _layer_file(folder: Path, layer: str, number: int) -> Path:
    return folder / "masks" / layer / f"{number:06d}.png"


def _write_layer(path: Path, layer: Mask | None) -> None:
    if layer is None:
        path.unlink(missing_ok=True)
    else:
        write_png(path, np.where(layer, np.uint8(_MARKED), np.uint8(0)))


def _remove_strangers(folder: Path, own: set[str]) -> None:
    """Removes mask files of frames that the case no longer has."""
    for name in (*(f"masks/{layer}" for layer in LAYERS), "labels"):
        for path in (folder / name).glob("*.png"):
            if path.name not in own:
                path.unlink(missing_ok=True)


def _record(folder: Path, case: Case) -> dict[str, Any]:
    """case.json without the masks themselves."""
    frames = [
        {"number": number, "time_s": time_s, "state": frame.state.value, "confidence": frame.confidence}
        | {"layers": [name for name in LAYERS if getattr(frame, name) is not None]}
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


def _case_of(folder: Path, record: Mapping[str, Any], overlay: Mapping[str, Any] | None) -> Case:
    """The case of a record; layers in ``overlay`` (of an autosave) replace those in files."""
    if record.get("schema") != SCHEMA:
        raise InputError(
            f"The case {folder.name} has schema {record.get('schema')!r}; expected {SCHEMA}: open it with "
            "the version of splatomy that wrote it."
        )
    try:
        height, width = int(record["height_px"]), int(record["width_px"])
        frames = [
            _frame_of(folder, entry, (height, width), (overlay or {}).get(str(entry["number"]), {}))
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
    except (KeyError, TypeError, ValueError, zlib.error):
        raise _damaged(RECORD if overlay is None else AUTOSAVE) from None


def _frame_of(
    folder: Path, entry: Mapping[str, Any], shape: tuple[int, int], overlay: Mapping[str, Any]
) -> FrameReview:
    layers: dict[str, Mask | None] = dict.fromkeys(LAYERS)
    for name in entry["layers"]:
        if name not in LAYERS:
            raise ValueError(f"no layer {name!r}")
        if name in overlay:
            layers[name] = _unpacked(overlay[name], shape)
        else:
            layers[name] = _read_layer(_layer_file(folder, name, int(entry["number"])), shape)
    return FrameReview(
        layers["auto"],
        layers["add"],
        layers["erase"],
        ReviewState(entry["state"]),
        float(entry["confidence"]),
    )


def _read_layer(path: Path, shape: tuple[int, int]) -> Mask:
    """A layer's file as (H, W), True = marked.

    Raises:
        InputError: missing, of another size, or with other values than 0 and 255.
    """
    where = f"masks/{path.parent.name}/{path.name}"
    if not path.is_file():
        raise InputError(f"{where} is missing; case.json says that it is there: put the file back.")
    picture = read_picture(path, cv2.IMREAD_GRAYSCALE)
    if picture.shape != shape:
        raise InputError(
            f"{where} is {picture.shape[1]}x{picture.shape[0]} but the case has {shape[1]}x{shape[0]}; "
            "expected one size: put the right file back."
        )
    if not np.isin(picture, (0, _MARKED)).all():
        raise InputError(
            f"{where} holds other values than 0 and {_MARKED}; expected an 8-bit mask, {_MARKED} = marked: "
            "put the right file back."
        )
    return np.asarray(picture == _MARKED)


def _packed(layer: Mask | None) -> str | None:
    if layer is None:
        return None
    return base64.b64encode(zlib.compress(np.packbits(layer).tobytes())).decode("ascii")


def _unpacked(text: str, shape: tuple[int, int]) -> Mask:
    bits = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    if len(bits) != -(-shape[0] * shape[1] // 8):
        raise ValueError(f"a layer of {len(bits)} bytes is not {shape}")
    return np.asarray(np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape) > 0)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path.parent.name} is no case folder: expected a file {RECORD} in it, found none. Make one "
            "with `splatomy masks`."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise _damaged(path.name) from None
    if not isinstance(record, dict):
        raise _damaged(path.name)
    return record


def _damaged(name: str) -> InputError:
    return InputError(
        f"{name} is damaged; expected the record that `splatomy masks` or the desktop app wrote: put a copy "
        "back, or make the case anew with --force."
    )
