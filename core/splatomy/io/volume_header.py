"""What the header of a NIfTI, NRRD or MHA file announces, read before any library believes it.

ITK ends the whole process on some impossible headers, takes the memory for others, and follows the names of
other files in them: such headers are refused here.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from splatomy.errors import InputError

_MOST_HEADER_BYTES = 16 * 2**20
_LONGEST_LINE = 4 * 2**20
_LARGEST_SIDE = 2**31 - 1
_HIGHEST_RATIO = 1032
"""No gzip stream unpacks to more bytes per byte than this."""
_ZLIB_DICTIONARY = 0x20
"""Set in the second byte of a zlib stream that cannot be unpacked without a dictionary known beforehand."""

_NRRD_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), 4),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), 4),
    **dict.fromkeys(("longlong", "long long", "int64", "int64_t", "ulonglong", "uint64", "uint64_t"), 8),
    **{"float": 4, "double": 8},
}
# "data file" is left out on purpose: pixels in another file.
_NRRD_FIELDS = (
    "type", "dimension", "space", "space dimension", "sizes", "space directions", "space origin",
    "space units", "kinds", "labels", "units", "sample units", "endian", "encoding", "measurement frame",
    "spacings", "thicknesses", "axis mins", "axis maxs", "centers", "centerings", "content", "min", "max",
    "old min", "old max", "byte skip", "line skip",
)  # fmt: skip
_LONGEST_VALUE = 500
# A number in a text takes two letters at least, and eight bytes at most.
_NRRD_RATIOS = {
    "raw": 1,
    "gzip": _HIGHEST_RATIO,
    "gz": _HIGHEST_RATIO,
    **dict.fromkeys(("txt", "text", "ascii"), 4),
}
_MHA_BYTES = {
    "MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4,
    "MET_LONG": 4, "MET_ULONG": 4, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4, "MET_DOUBLE": 8,
}  # fmt: skip
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?|[-+]?nan|[-+]?inf", re.IGNORECASE)


@dataclass(frozen=True)
class Announced:
    """num_bytes: of pixels. ratio: the most bytes that one byte of the file can stand for."""

    num_bytes: int
    ratio: int


def announced(path: Path) -> Announced:
    """What the header announces.

    Raises:
        InputError: the header is impossible, or leads to another file.
    """
    name = path.name.lower()
    try:
        if name.endswith((".nii", ".nii.gz")):
            return _nifti(path)
        if name.endswith(".nrrd"):
            return _nrrd(path)
        if name.endswith(".mha"):
            return _mha(path)
        raise ValueError("another kind of file")
    except (ValueError, KeyError, OSError, EOFError, struct.error, zlib.error):
        raise InputError(
            f"{path.name} has no readable header; expected a complete {name[name.index('.') :]} file that "
            f"holds its own pixels, got {path.stat().st_size} bytes: copy or export it again."
        ) from None


def check_room(path: Path) -> None:
    """Raises InputError if a file cannot hold what its header announces, packed or not."""
    found, size = announced(path), path.stat().st_size
    if found.num_bytes > found.ratio * size:
        raise InputError(
            f"{path.name} could not be read to its end; expected {found.num_bytes} bytes of pixels, got a "
            f"file of {size} bytes: copy or export it again."
        )


def _sides(sizes: list[int], fewest: int, most: int) -> int:
    """The number of pixels."""
    if not fewest <= len(sizes) <= most or not all(1 <= n <= _LARGEST_SIDE for n in sizes):
        raise ValueError("impossible sizes")
    return math.prod(sizes)


def _nifti(path: Path) -> Announced:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else path.open("rb") as file:
        head = file.read(540)
    order = next((o for o in "<>" if struct.unpack_from(o + "i", head)[0] in (348, 540)), None)
    if order is None:
        raise ValueError("no NIfTI")
    # NIfTI 1 and 2: magic, and where the sizes, the bits of a pixel and the place of the pixels stand.
    is_first = struct.unpack_from(order + "i", head)[0] == 348
    magic = head[344:348] if is_first else head[4:8]
    sizes = struct.unpack_from(order + ("8h" if is_first else "8q"), head, 40 if is_first else 16)
    (bits,) = struct.unpack_from(order + "h", head, 72 if is_first else 14)
    (start,) = struct.unpack_from(order + ("f" if is_first else "q"), head, 108 if is_first else 168)
    # Magic "ni1" is a header of its own, whose pixels are in another file.
    if magic != (b"n+1\0" if is_first else b"n+2\0"):
        raise ValueError("no single file")
    if not 1 <= sizes[0] <= 7 or not 0 <= start < 2**31 or bits not in (1, 8, 16, 24, 32, 64, 128, 256):
        raise ValueError("impossible header")
    count = _sides([int(n) for n in sizes[1 : 1 + sizes[0]]], 1, 7)
    return Announced(-(-count * bits // 8), _HIGHEST_RATIO if packed else 1)


def _lines(path: Path, last: bytes) -> tuple[list[str], bytes]:
    """The header's lines up to the one that starts with ``last``, or up to the first empty one.

    With the two bytes that follow them.
    """
    lines: list[str] = []
    with path.open("rb") as file:
        while (line := file.readline(_LONGEST_LINE)) and file.tell() <= _MOST_HEADER_BYTES:
            text = line.rstrip(b"\r\n")
            if not last and not text:
                return lines, file.read(2)
            lines.append(text.decode("ascii", "replace"))
            if last and text.startswith(last):
                return lines, file.read(2)
    raise ValueError("a header without an end")


def _nrrd(path: Path) -> Announced:
    lines, _ = _lines(path, b"")
    if not lines or not re.fullmatch(r"NRRD000[1-5]", lines[0]):
        raise ValueError("no NRRD")
    fields: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(": ")
        # ITK takes a line for a field before it looks for a key of somebody's own, KEY:=VALUE.
        if line.startswith("#") or ":=" in name:
            continue
        if not colon or name.lower() not in _NRRD_FIELDS or name.lower() in fields:
            raise ValueError("no field, or one given twice")
        if len(value) > _LONGEST_VALUE or not value.isprintable():
            raise ValueError("a value that no field has")
        fields[name.lower()] = value.strip()
    if any(fields.get(skip, "0") != "0" for skip in ("line skip", "byte skip")):
        raise ValueError("pixels that do not follow the header")
    if fields.get("endian", "little").lower() not in ("little", "big"):
        raise ValueError("another order of bytes")
    axes = _whole(fields["dimension"])
    sizes = [_whole(word) for word in fields["sizes"].split()]
    count = _sides(sizes, 1, 5)
    if axes != len(sizes):
        raise ValueError("sizes of other axes")
    _nrrd_place(fields, axes)
    return Announced(count * _NRRD_BYTES[fields["type"].lower()], _NRRD_RATIOS[fields["encoding"].lower()])


def _nrrd_place(fields: dict[str, str], axes: int) -> None:
    """Checks where the axes lie: ITK stumbles over vectors of other lengths."""
    space = {"left-posterior-superior": 3, "lps": 3, "right-anterior-superior": 3, "ras": 3,
             "left-anterior-superior": 3, "las": 3}  # fmt: skip
    length = (
        space[fields["space"].lower()] if "space" in fields else _whole(fields.get("space dimension", "3"))
    )
    for name in ("space directions", "space origin", "measurement frame"):
        if name not in fields:
            continue
        vectors = re.findall(r"none|\([^)]*\)", fields[name])
        if len(vectors) != {"space directions": axes, "space origin": 1, "measurement frame": length}[name]:
            raise ValueError(f"{name} of other axes")
        for vector in vectors:
            parts = vector.strip("()").split(",")
            if vector != "none" and (len(parts) != length or not all(_is_number(p) for p in parts)):
                raise ValueError(f"{name} is no vector")
    for name in ("spacings", "thicknesses", "axis mins", "axis maxs"):
        words = fields.get(name, "").split()
        if words and (len(words) != axes or not all(_is_number(w) for w in words)):
            raise ValueError(f"{name} of other axes")


def _mha(path: Path) -> Announced:
    lines, start = _lines(path, b"ElementDataFile")
    fields: dict[str, str] = {}
    for line in lines:
        name, equals, value = line.partition("=")
        if not equals or name.strip() in fields:
            raise ValueError("no field, or one given twice")
        fields[name.strip()] = value.strip()
    if fields["ElementDataFile"] not in ("LOCAL", "Local", "local"):
        raise ValueError("pixels in another file")
    axes = _whole(fields["NDims"])
    sizes = [_whole(word) for word in fields["DimSize"].split()]
    count = _sides(sizes, 2, 5)
    channels = _whole(fields.get("ElementNumberOfChannels", "1"))
    if axes != len(sizes) or not 1 <= channels <= 10_000 or _whole(fields.get("HeaderSize", "0")) != 0:
        raise ValueError("impossible header")
    for name, wanted in (("TransformMatrix", axes * axes), ("Offset", axes), ("ElementSpacing", axes)):
        words = fields.get(name, "").split()
        if words and (len(words) != wanted or not all(_is_number(w) for w in words)):
            raise ValueError(f"{name} of other axes")
    # ITK looks at the first letter alone.
    packed = fields.get("CompressedData", "").startswith(("T", "t", "1"))
    if packed and len(start) == 2 and start[1] & _ZLIB_DICTIONARY:
        raise ValueError("a dictionary that is in no file, for which ITK waits for ever")
    num_bytes = count * channels * _MHA_BYTES[fields["ElementType"]]
    return Announced(num_bytes, _HIGHEST_RATIO if packed else 1)


def _whole(text: str) -> int:
    """A plain whole number; long ones would not fit where they go."""
    if not re.fullmatch(r"\d{1,10}", text):
        raise ValueError("no whole number")
    return int(text)


def _is_number(text: str) -> bool:
    return len(text) < 60 and _NUMBER.fullmatch(text.strip()) is not None
