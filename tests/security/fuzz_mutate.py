"""Hostile variants of a file: damage that knows the format, so that it reaches behind the first check."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

NUMBERS: tuple[Any, ...] = (
    *(0, -1, 1, 2, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, 10**30),
    *(-(2**31), -(2**63), 0.5, -0.5, 1e-300, 1e300, -1e300, 100_000, 1_000_000_000),
    *(float("nan"), float("inf"), float("-inf")),
)
WORDS = (
    "", "nan", "inf", "-inf", "1e999", "0x10", "1_000", "../../../../etc/passwd", "/etc/passwd", "..", ".",
    "/", "C:\\win.ini", "~", "~root", "\0", "a\0b", "a" * 300, "a" * 5000, "9" * 5000, "-" * 40, "\u202e",
    "\x1b[31m", "\r\n", "<script>alert(1)</script>", "\ud800", "\u00e9\u6f22\U0001f480", "%s%n", "{0}",
    "${HOME}", "__import__('os').system('true')", "!!python/object/apply:os.system", "null", "true", "[]",
    "{}", "1,2", "\t",
)  # fmt: skip
_MOST_BYTES = 1 << 20
_NUMBER = re.compile(rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
Change = Callable[[bytes, random.Random], bytes]


def mutated(name: str, data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """The content of a file after one to four changes; ``others``: contents to splice with."""
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        if rng.random() < 0.03 and others:
            data = _spliced(data, rng.choice(others), rng)
        else:
            data = _changed(name, data, rng)
        data = data[:_MOST_BYTES]
    return data


def _changed(name: str, data: bytes, rng: random.Random) -> bytes:
    """One change, mostly one of the file's format."""
    if rng.random() < 0.12:
        return _bytes(data, rng)
    try:
        return _format_of(name, data)(data, rng)
    except (ValueError, KeyError, IndexError, OSError, EOFError, struct.error, zlib.error, RecursionError,
            zipfile.BadZipFile, NotImplementedError):  # fmt: skip
        # An earlier change broke the format itself.
        return _bytes(data, rng)


def _format_of(name: str, data: bytes) -> Change:
    if data[:2] == b"\x1f\x8b":
        return _gzip
    if data[:2] == b"PK":
        return _zip
    if data[:4] == b"\x89PNG":
        return _png
    if data[:6] == b"\x93NUMPY":
        return _npy
    if data[128:132] == b"DICM":
        return _dicom
    if name.endswith(".safetensors"):
        return _safetensors
    if data[:1] in (b"{", b"[") and name.endswith((".json", ".gltf")):
        return _json
    if data[:3] == b"ply" or data[:4] == b"NRRD" or name.endswith((".mha", ".vtp")):
        return _head_and_body
    return _text if _is_text(data) else _bytes


def _is_text(data: bytes) -> bool:
    return b"\0" not in data[:1000]


def _spliced(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """The start of one file and the end of another."""
    return data[: rng.randint(0, len(data))] + other[rng.randint(0, len(other)) :]


def _bytes(data: bytes, rng: random.Random) -> bytes:
    """Damage to plain bytes, more often near the front, where headers are."""
    if not data:
        return rng.randbytes(rng.randint(0, 40))
    out = bytearray(data)
    at = rng.randrange(min(len(out), rng.choice((16, 64, 512, len(out)))))
    kind = rng.randrange(8)
    if kind == 0:
        out[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        out[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
    elif kind == 2:
        form = rng.choice(("<h", ">h", "<i", ">i", "<q", ">q", "<f", ">f", "<d", ">d"))
        try:
            put = struct.pack(form, rng.choice(NUMBERS))
        except (struct.error, OverflowError):
            put = b"\xff" * struct.calcsize(form)
        out[at : at + len(put)] = put
    elif kind == 3:
        del out[at : at + rng.choice((1, 2, 4, 16, 256))]
    elif kind == 4:
        out[at:at] = rng.randbytes(rng.choice((1, 2, 4, 16)))
    elif kind == 5:
        del out[rng.randrange(len(out)) :]
    elif kind == 6:
        piece = out[at : at + rng.randint(1, 64)]
        out[at:at] = piece * rng.choice((1, 2, 50))
    else:
        for _ in range(rng.randint(2, 30)):
            out[rng.randrange(len(out))] = rng.randrange(256)
    return bytes(out)


def _text(data: bytes, rng: random.Random) -> bytes:
    """Numbers, words and lines of a text replaced, doubled, swapped and removed."""
    kind = rng.randrange(6)
    if kind <= 1:
        found = list(_NUMBER.finditer(data))
        if found:
            match = rng.choice(found)
            value = _nudged(match.group().decode(), rng)
            return data[: match.start()] + value.encode("utf-8", "surrogatepass") + data[match.end() :]
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    if kind == 2:
        del lines[at]
    elif kind == 3:
        lines[at:at] = lines[at : at + 1] * rng.choice((1, 2, 100))
    elif kind == 4:
        other = rng.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    else:
        words = re.split(rb"([\s,=:\"<>()\[\]]+)", lines[at])
        words[rng.randrange(len(words))] = rng.choice(WORDS).encode("utf-8", "surrogatepass")
        lines[at] = b"".join(words)
    return b"\n".join(lines)


def _nudged(text: str, rng: random.Random) -> str:
    """A number a little beside another, or something else entirely."""
    if rng.random() < 0.6:
        value = float(text) if len(text) < 30 else 1.0
        step = rng.choice((-1, 1, 0.5, -0.5, 1e-3, -1e-3))
        changed = rng.choice((value + step, value * (1 + step), -value, value * 10, value / 1000))
        return repr(int(changed) if text.isdigit() and abs(changed) < 1e15 else changed)
    return str(rng.choice((repr(rng.choice(NUMBERS)), rng.choice(WORDS))))


def _head_and_body(data: bytes, rng: random.Random) -> bytes:
    """A text header in front of binary data: the header is changed as a text."""
    ends = [data.find(mark) + len(mark) for mark in (b"end_header\n", b"\n\n", b"LOCAL\n", b"<AppendedData")]
    end = min((e for e in ends if e > 12), default=len(data))
    if rng.random() < 0.2:
        return data[:end] + _bytes(data[end:], rng)
    return _text(data[:end], rng) + data[end:]


def _json(data: bytes, rng: random.Random) -> bytes:
    """A tree with one node replaced, doubled, renamed, nested or removed."""
    if len(data) > 200_000:
        return _text(data, rng)
    tree = [json.loads(data)]
    parent, key = tree, 0
    while isinstance(parent[key], dict | list) and parent[key] and rng.random() < 0.85:
        parent = parent[key]
        key = rng.choice(list(parent)) if isinstance(parent, dict) else rng.randrange(len(parent))
    kind = rng.randrange(8)
    if isinstance(parent[key], int | float) and not isinstance(parent[key], bool) and rng.random() < 0.6:
        parent[key] = _number(_nudged(repr(parent[key]), rng))
    elif kind <= 2:
        parent[key] = rng.choice((rng.choice(NUMBERS), rng.choice(WORDS), None, True, False, [], {}, [[]]))
    elif kind == 3:
        del parent[key]
        if not tree:
            return b""
    elif kind == 4 and isinstance(parent, list):
        parent[key:key] = parent[key : key + 1] * rng.choice((1, 2, 30))
    elif kind == 4:
        parent[rng.choice(WORDS)] = parent.pop(key)
    elif kind == 5:
        parent[key] = rng.choice(([parent[key]], {"x": parent[key]}, [parent[key], 1], str(parent[key])))
    elif kind == 6:
        # json.dumps cannot write what is nested as deeply as a file may be.
        parent[key] = "@deep@"
        deep = rng.choice((50, 2000, 200_000))
        return json.dumps(tree[0]).encode().replace(b'"@deep@"', b"[" * deep + b"]" * deep)
    else:
        return _text(data, rng)
    return json.dumps(tree[0]).encode("utf-8", "surrogatepass")


def _number(text: str) -> Any:
    """The number of a text, or the text."""
    try:
        return int(text) if text.lstrip("-").isdigit() and len(text) < 4000 else float(text)
    except ValueError:
        return text


def _gzip(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.15:
        return _bytes(data, rng)
    inside = zlib.decompressobj(31).decompress(data, _MOST_BYTES)
    return gzip.compress(_changed("inside", inside, rng), 1, mtime=0)


def _zip(data: bytes, rng: random.Random) -> bytes:
    """An archive with one member changed, renamed or doubled."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(n, archive.open(n).read(_MOST_BYTES)) for n in archive.namelist()]
    at = rng.randrange(len(members))
    name, content = members[at]
    kind = rng.randrange(6)
    if kind == 0:
        members[at] = (rng.choice(WORDS).replace("\ud800", "?") or "x", content)
    elif kind == 1:
        del members[at]
    else:
        members[at] = (name, _changed(name, content, rng))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


def _npy(data: bytes, rng: random.Random) -> bytes:
    """Another type, order or shape in the header of a numpy file."""
    (length,) = struct.unpack_from("<H", data, 8)
    head, body = data[10 : 10 + length], data[10 + length :]
    kind = rng.randrange(5)
    if kind == 0:
        dtype = rng.choice(
            (b"|O", b"<U9", b"<f4", b"<c16", b"|V8", b"<M8[s]", b"|b1", b"<f2", b"|S1", b"<i8")
        )
        head = re.sub(rb"'descr': '[^']*'", b"'descr': '" + dtype + b"'", head)
    elif kind == 1:
        shape = ", ".join(repr(rng.choice(NUMBERS[:16])) for _ in range(rng.randint(0, 4)))
        head = re.sub(rb"\([^)]*\)", f"({shape},)".encode() if shape else b"()", head)
    elif kind == 2:
        head = _text(head, rng)
    elif kind == 3:
        return data[: 10 + length] + _bytes(body, rng)
    else:
        return _bytes(data, rng)
    return data[:8] + struct.pack("<H", len(head) & 0xFFFF) + head + body


def _png(data: bytes, rng: random.Random) -> bytes:
    """One chunk changed, with a right check sum, so that the decoder believes it."""
    chunks, at = [], 8
    while at + 8 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    which = rng.randrange(len(chunks))
    kind, body = chunks[which]
    if kind == b"IHDR" and rng.random() < 0.5:
        width, height = (rng.choice((0, 1, 7, 1000, 65536, 2**24, 2**31 - 1)) for _ in range(2))
        body = struct.pack(">II", width, height) + body[8:]
    elif kind == b"IDAT" and rng.random() < 0.5:
        body = zlib.compress(_bytes(zlib.decompressobj().decompress(body, _MOST_BYTES), rng))
    elif rng.random() < 0.2:
        chunks.insert(which, (rng.choice((b"iCCP", b"tEXt", b"eXIf", b"acTL", b"PLTE", b"tRNS")), body))
    else:
        body = _bytes(body, rng)
    chunks[which] = (kind, body)
    out = data[:8]
    for kind, body in chunks:
        out += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return out


def _safetensors(data: bytes, rng: random.Random) -> bytes:
    """The JSON header changed, with its length put right."""
    (length,) = struct.unpack_from("<Q", data, 0)
    if rng.random() < 0.2:
        return _bytes(data, rng)
    head = _json(data[8 : 8 + length], rng)
    return struct.pack("<Q", len(head)) + head + data[8 + length :]


def _dicom(data: bytes, rng: random.Random) -> bytes:
    """The value of one element of an explicit little-endian file replaced, its length put right."""
    found = list(
        re.finditer(rb"[\x02\x08\x10\x18\x20\x28\x50\x60]\x00..(US|DS|IS|CS|UI|FD|SS|LO|AT|DT|SQ)", data)
    )
    if not found or rng.random() < 0.2:
        return _bytes(data, rng)
    match = rng.choice(found)
    kind, at = match.group(1), match.end()
    if kind == b"SQ":
        return data[:at] + _bytes(data[at : at + 40], rng) + data[at + 40 :]
    (size,) = struct.unpack_from("<H", data, at)
    if kind in (b"US", b"SS"):
        value = struct.pack("<H", int(rng.choice(NUMBERS[:16])) & 0xFFFF) * rng.choice((0, 1, 1, 1, 2, 30))
    elif kind == b"FD":
        value = struct.pack("<d", float(rng.choice(NUMBERS))) * rng.choice((0, 1, 1, 2))
    else:
        words = [
            rng.choice((repr(rng.choice(NUMBERS)), rng.choice(WORDS)))
            for _ in range(rng.choice((1, 1, 2, 9)))
        ]
        value = "\\".join(words).encode("utf-8", "surrogatepass")[:60000]
        value += b" " * (len(value) % 2)
    return data[:at] + struct.pack("<H", len(value)) + value + data[at + 2 + size :]
