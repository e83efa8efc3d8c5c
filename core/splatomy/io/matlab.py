"""Numeric arrays of MATLAB files, versions 5 to 7.

SciPy's reader looks a number type of the file up without checking it: a damaged file ends the process.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError

_HEADER_BYTES = 128
_MOST_BYTES = 2 << 30
_MATRIX, _COMPRESSED = 14, 15
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}


def read_matlab(path: Path) -> dict[str, NDArray[Any]]:
    """The real numeric arrays of a file by name, in their own shapes; text, cells and structs are left out.

    Raises:
        InputError: it is no such file, or it is damaged.

    Source: MAT-File Format, The MathWorks, chapter 1.
    """
    data = path.read_bytes()
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None:
        raise InputError(
            f"{path.name} is no MATLAB file of versions 5 to 7: expected the mark IM at byte 126. Save it in "
            "MATLAB with the option -v7."
        )
    arrays: dict[str, NDArray[Any]] = {}
    room = _MOST_BYTES
    try:
        for kind, content in _elements(memoryview(data)[_HEADER_BYTES:], order):
            if kind == _COMPRESSED:
                opened = zlib.decompressobj()
                content = memoryview(opened.decompress(content, room))
                room -= len(content)
                if opened.unconsumed_tail or room <= 0:
                    raise ValueError("it opens to more than 2 GiB")
                kind, content = next(_elements(content, order))
            named = _array(content, order) if kind == _MATRIX else None
            if named is not None:
                arrays[named[0]] = named[1]
    except (ValueError, StopIteration, struct.error, zlib.error, OverflowError) as error:
        raise InputError(f"{path.name} is a damaged MATLAB file ({error}): copy it again.") from error
    return arrays


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Type and content of each element, one after the other."""
    place = 0
    while place + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, place)
        if kind >> 16:
            # A small element: size and type share a word, and the content has the other one.
            kind, size = kind & 0xFFFF, kind >> 16
            first, after = place + 4, place + 8
            if size > 4:
                raise ValueError("a small element is too long")
        else:
            first = place + 8
            # A compressed element is not filled up to eight bytes.
            after = first + (size if kind == _COMPRESSED else -(-size // 8) * 8)
        if first + size > len(data):
            raise ValueError("it ends too early")
        yield kind, data[first : first + size]
        place = after


def _array(data: memoryview, order: str) -> tuple[str, NDArray[Any]] | None:
    """Name and values of a matrix; None for what is no real numeric array."""
    parts = _elements(data, order)
    flags, shape, name = (_numbers(*part, order) for part in islice(parts, 3))
    wanted = _CLASSES.get(int(flags[0]) & 0xFF)
    if wanted is None:
        return None
    values = _numbers(*next(parts), order)
    sides = [int(side) for side in shape]
    if len(sides) < 2 or min(sides) < 0:
        raise ValueError("an array has no shape")
    return bytes(name.astype(np.uint8)).decode("ascii", "replace"), values.astype(wanted).reshape(
        sides, order="F"
    )


def _numbers(kind: int, content: memoryview, order: str) -> NDArray[Any]:
    if kind not in _STORED:
        raise ValueError(f"its number type {kind} is unknown")
    return np.frombuffer(content, order + _STORED[kind])
