"""NumPy files that others made: never unpickled, and never trusted about their size.

NumPy itself allocates what a header declares before it looks whether the file has it.
"""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_MOST_BYTES = 8 * 2**30
_MOST_MEMBERS = 100_000
_KINDS = "biufcU"
# What a damaged header, or a damaged archive, makes the standard library and NumPy raise.
_DAMAGE = (
    ValueError, TypeError, SyntaxError, OverflowError, EOFError, OSError, RecursionError, MemoryError,
    RuntimeError, NotImplementedError, KeyError, AttributeError,
    struct.error, tokenize.TokenError, zlib.error, zipfile.BadZipFile,
    # What the tokenizer of Python 3.12 makes of a damaged header.
    SystemError,
)  # fmt: skip


def read_npy(path: Path) -> NDArray[Any]:
    """The array of a .npy file.

    Raises:
        ValueError: it is damaged, cut off, larger than 8 GiB, or holds objects.
    """
    try:
        with path.open("rb") as file:
            return _array(file, path.stat().st_size)
    except _DAMAGE as error:
        raise ValueError(f"no readable array ({type(error).__name__})") from None


def read_npz(path: Path, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, NDArray[Any]]:
    """The wanted arrays of a .npz file by name.

    Raises:
        ValueError: it is damaged, cut off, larger than 8 GiB unpacked, or holds objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if m.filename.endswith(".npy")]
            members = [m for m in members if wanted(m.filename.removesuffix(".npy"))]
            if len(members) > _MOST_MEMBERS or sum(m.file_size for m in members) > _MOST_BYTES:
                raise ValueError("too large")
            found = {}
            for member in members:
                with archive.open(member) as file:
                    found[member.filename.removesuffix(".npy")] = _array(file, member.file_size)
            return found
    except _DAMAGE as error:
        raise ValueError(f"no readable set of arrays ({type(error).__name__})") from None


def _array(file: IO[bytes], num_bytes: int) -> NDArray[Any]:
    """The array of a stream that is as long as its container says, (any shape)."""
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, is_column_major, dtype = readers[version](file)
    if dtype.kind not in _KINDS or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("an array of something else than numbers or texts")
    wanted = math.prod(shape) * dtype.itemsize
    if wanted > min(num_bytes, _MOST_BYTES):
        raise ValueError("shorter than its header says")
    data = file.read(wanted)
    if len(data) != wanted:
        raise ValueError("shorter than its header says")
    array: NDArray[Any] = np.frombuffer(bytearray(data), dtype=dtype)
    return array.reshape(shape, order="F" if is_column_major else "C")
