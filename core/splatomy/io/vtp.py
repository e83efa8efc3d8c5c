"""Reading VTK's XML polygon data (.vtp) from any source.

VTK's own reader ends the whole process on files with impossible numbers, so it is only used for writing.
Source: the file format description in VTK's user guide.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError

_TYPES = {
    "Int8": "i1", "UInt8": "u1", "Int16": "i2", "UInt16": "u2", "Int32": "i4", "UInt32": "u4", "Int64": "i8",
    "UInt64": "u8", "Float32": "f4", "Float64": "f8",
}  # fmt: skip
_HIGHEST_RATIO = 1032
"""No zlib stream unpacks to more bytes per byte than this."""


@dataclass(frozen=True)
class Cells:
    """corners: point numbers of all cells, one after the other. ends: (F,) where each cell ends in them."""

    corners: NDArray[np.int64]
    ends: NDArray[np.int64]

    def sized(self) -> Iterator[NDArray[np.int64]]:
        """The cells of each number of corners n that occurs, (F_n, n)."""
        sizes = np.diff(self.ends, prepend=0)
        for size in np.unique(sizes[sizes > 2]).tolist():
            starts = (self.ends - sizes)[sizes == size]
            yield self.corners[starts[:, None] + np.arange(size)]


@dataclass(frozen=True)
class PolyData:
    """points: (N, 3) as stored. fields: point arrays by name, (N,) or (N, C)."""

    points: NDArray[Any]
    polygons: Cells
    strips: Cells
    fields: Mapping[str, NDArray[Any]]

    @property
    def triangles(self) -> NDArray[np.int32]:
        """(F, 3): polygons as fans about their first corner, strips unrolled."""
        found = [np.zeros((0, 3), np.int64)]
        for cells in self.polygons.sized():
            first = np.broadcast_to(cells[:, :1], cells[:, 2:].shape)
            found.append(np.stack([first, cells[:, 1:-1], cells[:, 2:]], -1).reshape(-1, 3))
        for cells in self.strips.sized():
            turns = np.stack([cells[:, :-2], cells[:, 1:-1], cells[:, 2:]], -1)
            turns[:, 1::2] = turns[:, 1::2, ::-1]
            found.append(turns.reshape(-1, 3))
        return np.concatenate(found).astype(np.int32)


def read_vtp(path: Path) -> PolyData:
    """The polygon data of a file; several pieces are joined.

    Raises:
        InputError: missing, damaged, of another kind, or packed in another way than by zlib.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; expected a .vtp file: check the path.")
    try:
        pieces = _File(path.read_bytes()).pieces()
    except (ValueError, KeyError, TypeError, OverflowError, ElementTree.ParseError, zlib.error):
        raise InputError(
            f"{path.name} is damaged or no VTK polygon data that can be read; expected a .vtp file, plain or "
            "packed with zlib: export it again."
        ) from None
    pieces = [piece for piece in pieces if len(piece.points)]
    if not pieces:
        raise InputError(f"{path.name} holds no points or is damaged; export it again.")
    return pieces[0] if len(pieces) == 1 else _joined(pieces)


def _joined(pieces: list[PolyData]) -> PolyData:
    first = np.cumsum([0, *(len(p.points) for p in pieces[:-1])])
    shared = [n for n in pieces[0].fields if all(n in p.fields for p in pieces)]

    def cells(parts: list[Cells]) -> Cells:
        before = np.cumsum([0, *(len(c.corners) for c in parts[:-1])])
        return Cells(
            np.concatenate([c.corners + at for c, at in zip(parts, first, strict=True)]),
            np.concatenate([c.ends + at for c, at in zip(parts, before, strict=True)]),
        )

    return PolyData(
        np.concatenate([p.points for p in pieces]),
        cells([p.polygons for p in pieces]),
        cells([p.strips for p in pieces]),
        {n: np.concatenate([p.fields[n] for p in pieces]) for n in shared},
    )


class _File:
    """One file: its tree, and the bytes behind it."""

    def __init__(self, data: bytes) -> None:
        at = data.find(b"<AppendedData")
        head, self._raw, self._in_base64 = data, b"", False
        if at >= 0:
            # What follows may be any bytes, so it is no XML.
            head = data[:at] + b"</VTKFile>"
            start = data.index(b"_", data.index(b">", at)) + 1
            self._raw = data[start:]
            self._in_base64 = b"base64" in data[at : data.index(b">", at)]
        if b"<!ENTITY" in head or b"<!DOCTYPE" in head:
            raise ValueError("entities")
        self._root = ElementTree.fromstring(head)
        if self._root.tag != "VTKFile" or self._root.get("type") != "PolyData":
            raise ValueError("another kind of data")
        order = ">" if self._root.get("byte_order") == "BigEndian" else "<"
        self._order = order
        self._number = np.dtype(order + _TYPES[self._root.get("header_type", "UInt32")])
        compressor = self._root.get("compressor")
        if compressor not in (None, "vtkZLibDataCompressor") or self._number.kind != "u":
            raise ValueError("another compressor")
        self._packed = compressor is not None
        self._room = len(data) * (_HIGHEST_RATIO if self._packed else 1)

    def pieces(self) -> list[PolyData]:
        """The pieces of the data."""
        return [self._piece(element) for element in self._root.iterfind("PolyData/Piece")]

    def _piece(self, piece: ElementTree.Element) -> PolyData:
        count = int(piece.get("NumberOfPoints", "0"))
        (stored,) = piece.findall("Points/DataArray")
        points = self._array(stored, count)
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError("points have three coordinates")
        fields = {}
        for element in piece.iterfind("PointData/DataArray"):
            name = element.get("Name")
            if name and element.get("type") in _TYPES:
                fields[name] = self._array(element, count)
        polygons, strips = (
            self._cells(piece.find(kind), int(piece.get(f"NumberOf{kind}", "0")), count)
            for kind in ("Polys", "Strips")
        )
        return PolyData(points, polygons, strips, fields)

    def _cells(self, group: ElementTree.Element | None, count: int, num_points: int) -> Cells:
        none = np.zeros(0, np.int64)
        if group is None or count == 0:
            return Cells(none, none)
        arrays = {element.get("Name"): element for element in group.iterfind("DataArray")}
        ends = self._array(arrays["offsets"], count).astype(np.int64)
        if ends.ndim != 1 or ends[0] < 0 or (np.diff(ends) < 0).any():
            raise ValueError("cells out of order")
        corners = self._array(arrays["connectivity"], int(ends[-1])).astype(np.int64)
        if corners.ndim != 1 or (len(corners) and not 0 <= corners.min() <= corners.max() < num_points):
            raise ValueError("a corner that is no point")
        return Cells(corners, ends)

    def _array(self, element: ElementTree.Element, count: int) -> NDArray[Any]:
        """The values of one array, (count,) or (count, components)."""
        dtype = np.dtype(self._order + _TYPES[element.get("type", "")])
        components = int(element.get("NumberOfComponents", "1") or 1)
        wanted = count * components * dtype.itemsize
        if count < 0 or not 1 <= components <= 1000 or wanted > self._room:
            raise ValueError("more values than the file can hold")
        kind = element.get("format", "ascii")
        if kind == "ascii":
            words = (element.text or "").split()
            values = np.array(words, dtype=np.float64 if dtype.kind == "f" else np.int64).astype(dtype)
        else:
            inside = kind == "binary"
            at = 0 if inside else int(element.get("offset", "0"))
            data = "".join((element.text or "").split()).encode() if inside else self._raw
            if at < 0:
                raise ValueError("an offset before the data")
            values = np.frombuffer(self._bytes(data, at, wanted, inside or self._in_base64), dtype)
        if values.size != count * components:
            raise ValueError("another number of values than announced")
        return values.reshape(count, components) if components > 1 else values

    def _bytes(self, data: bytes, at: int, wanted: int, in_base64: bool) -> bytes:
        """The unpacked bytes of an array that starts at ``at``."""
        size = self._number.itemsize
        if not self._packed:
            found = _piece_of(data, at, size + wanted, in_base64)
            if int(np.frombuffer(found[:size], self._number)[0]) != wanted:
                raise ValueError("another length than announced")
            return found[size:]
        first = np.frombuffer(_piece_of(data, at, 3 * size, in_base64), self._number)
        blocks, block_size, last_size = (int(n) for n in first)
        if blocks * size > len(data):
            raise ValueError("more blocks than the file can hold")
        head_size = (3 + blocks) * size
        sizes = np.frombuffer(_piece_of(data, at, head_size, in_base64), self._number)[3:].tolist()
        at += 4 * math.ceil(head_size / 3) if in_base64 else head_size
        packed = _piece_of(data, at, sum(sizes), in_base64)
        out, start = [], 0
        for number, length in enumerate(sizes):
            most = last_size if number == blocks - 1 and last_size else block_size
            out.append(zlib.decompressobj().decompress(packed[start : start + length], min(most, wanted) + 1))
            start += length
        return b"".join(out)


def _piece_of(data: bytes, at: int, length: int, in_base64: bool) -> bytes:
    """``length`` bytes from a place on, decoded if they are base64."""
    if in_base64:
        return base64.b64decode(data[at : at + 4 * math.ceil(length / 3)], validate=True)[:length]
    if at + length > len(data):
        raise ValueError("the file ends early")
    return data[at : at + length]
