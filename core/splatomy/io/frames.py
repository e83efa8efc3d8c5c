"""Folders of picture files as frames, in the order people number them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.io.atomic import write_bytes
from splatomy.io.frame_source import Frame, FrameSource

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")

_ASSUMED_RATE = 25.0
_LOOKED_AT = 8
_LARGEST_STEP = 1000
"""Numbers further apart than this are dates or stamps, not frame numbers."""


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """A sorting key by which frame 2 comes before frame 10, however many digits a number has."""
    parts = re.split(r"([0-9]+)", name)
    numbers = [(0, len(digits), digits) for digits in (part.lstrip("0") for part in parts[1::2])]
    texts = [(1, 0, part.lower()) for part in parts[::2]]
    # Texts and numbers take turns, a text first; those without a letter say nothing.
    mixed = [key for pair in zip(texts, [*numbers, (1, 0, "")], strict=True) for key in pair]
    return [key for key in mixed if key != (1, 0, "")]


def picture_files(folder: Path, suffixes: tuple[str, ...] = PICTURE_SUFFIXES) -> list[Path]:
    """The picture files directly in a folder, in natural order."""
    files = [
        p
        for p in folder.iterdir()
        if p.is_file() and p.suffix.lower() in suffixes and not p.name.startswith(".")
    ]
    return sorted(files, key=lambda p: natural_key(p.name))


def name_numbers(files: list[Path]) -> NDArray[np.int64] | None:
    """The last number in each file's name, (T,), or None when one has none."""
    found = [re.findall(r"\d+", p.stem) for p in files]
    if not all(found) or any(len(f[-1]) > 15 for f in found):
        return None
    return np.array([int(f[-1]) for f in found], dtype=np.int64)


def read_picture(path: Path, flags: int = cv2.IMREAD_UNCHANGED) -> NDArray[Any]:
    """A picture file as stored, (H, W) or (H, W, C) with OpenCV's channel order.

    Raises:
        InputError: it cannot be decoded.
    """
    # What it writes about damaged files would stand beside our own sentence.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    data = np.fromfile(path, dtype=np.uint8)
    try:
        picture = cv2.imdecode(data, flags) if data.size else None
    except cv2.error:
        # A size in its header that no picture has.
        picture = None
    if picture is None:
        raise InputError(
            f"{path.name} ({data.size} bytes) is no readable picture; expected a complete one: export it "
            "again."
        )
    return picture


def read_rgb(path: Path) -> Frame:
    """A picture file as (H, W, 3) RGB, uint8 or uint16.

    Raises:
        InputError: it cannot be decoded, or holds other numbers.
    """
    picture = read_picture(path, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if picture.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"{path.name} holds {picture.dtype} values; expected an 8 or 16 bit colour picture: convert it."
        )
    return np.ascontiguousarray(picture[..., ::-1])


def write_picture(path: Path, picture: NDArray[Any], durable: bool = True) -> None:
    """Writes a picture (H, W) or (H, W, 3) RGB, uint8 or uint16, atomically, in the format of its name."""
    stored = picture if picture.ndim == 2 else np.ascontiguousarray(picture[..., ::-1])
    done, data = cv2.imencode(path.suffix, stored)
    if not done:
        raise ValueError(f"no picture format {path.suffix!r} for {picture.dtype} of shape {picture.shape}")
    write_bytes(path, data.tobytes(), durable)


def frame_folder_source(
    folder: Path, files: list[Path] | None = None, frame_time_s: float | None = None
) -> FrameSource:
    """The pictures of a folder as frames; only the first one is decoded.

    Names that are numbered give the times (the number times 1/25 s or ``frame_time_s``), so that frames
    left out keep their distance in time.

    Raises:
        InputError: no pictures, or the first is unreadable.
    """
    files = picture_files(folder) if files is None else files
    if not files:
        raise InputError(
            f"{folder.name} holds no pictures; expected PNG, JPEG or TIFF frames: choose another."
        )
    first = read_rgb(files[0])
    height, width = first.shape[:2]
    times, assumed = _times(files, frame_time_s)
    white = _white(files, first)
    if white < np.iinfo(first.dtype).max:
        assumed.append(f"white is {white}: colours of {white.bit_length()} bits, by the largest values found")
    return FrameSource(
        kind="frame folder",
        name=folder.name,
        width_px=width,
        height_px=height,
        times_s=times,
        times_known=frame_time_s is not None,
        read=lambda wanted: _read(files, wanted, (height, width), first.dtype, white),
        input_files=tuple(files),
        dtype=np.uint16 if first.dtype == np.uint16 else np.uint8,
        found=(f"{len(files)} pictures of {width}x{height} px",),
        assumed=tuple(assumed),
    )


def _white(files: list[Path], first: Frame) -> int:
    """The code of white: pictures of 16 bits often hold colours of 10 or 12, as cameras give them."""
    if first.dtype != np.uint16:
        return 255
    chosen = np.unique(np.linspace(0, len(files) - 1, _LOOKED_AT).round().astype(int))
    top = max(int(read_rgb(files[i]).max()) for i in chosen.tolist())
    return next((white for white in (255, 1023, 4095) if 0 < top <= white), 65535)


def _times(files: list[Path], frame_time_s: float | None) -> tuple[NDArray[np.float64], list[str]]:
    step_s = frame_time_s or 1 / _ASSUMED_RATE
    assumed = []
    if frame_time_s is None:
        assumed.append(f"{_ASSUMED_RATE:g} frames per second, since pictures have no times (--frame-time-s)")
    plain = np.arange(len(files), dtype=np.float64)
    numbers = name_numbers(files)
    if numbers is None or len(files) < 2 or (np.diff(numbers) <= 0).any():
        return plain * step_s, assumed
    steps = np.diff(numbers)
    if np.median(steps) > _LARGEST_STEP or steps.max() == steps.min():
        return plain * step_s, assumed
    assumed.append(
        f"the numbers in the names are frame numbers ({int(steps.min())} to {int(steps.max())} apart), so "
        "the "
        "frames are not evenly spaced in time"
    )
    return (numbers - numbers[0]) * step_s, assumed


def _read(
    files: list[Path], wanted: NDArray[np.int64], size: tuple[int, int], dtype: np.dtype[Any], white: int
) -> Iterator[tuple[int, Frame]]:
    for number in wanted.tolist():
        picture = read_rgb(files[number])
        if picture.shape[:2] != size:
            raise InputError(
                f"{files[number].name} is {picture.shape[1]}x{picture.shape[0]} but the first frame is "
                f"{size[1]}x{size[0]}; expected one size: choose the folder of one clip."
            )
        if picture.dtype != dtype:
            raise InputError(
                f"{files[number].name} holds {picture.dtype} values but the first frame {dtype}; expected "
                "one "
                "kind: export the frames again."
            )
        if white < np.iinfo(dtype).max:
            picture = _stretched(picture, white, files[number])
        yield number, picture


def _stretched(picture: Frame, white: int, path: Path) -> Frame:
    """A 16 bit picture whose white is ``white``, with the white of its type."""
    top = int(picture.max())
    if top > white:
        raise InputError(
            f"{path.name} has values up to {top} but others looked at none above {white}; expected one "
            "scale: export all frames alike."
        )
    return np.rint(picture * (65535 / white)).astype(np.uint16)
