"""Whether an MPEG stream was broken off, which its headers do not tell: they hold no length."""

from __future__ import annotations

from pathlib import Path

_TAIL_BYTES = 4 << 20
"""A program stream of 40 Mbit/s has a pack header every 0.7 s."""
_PREFIX, _PACK, _END = b"\0\0\1", b"\0\0\1\xba", 0xB9
_SYNC, _PACKET_SIZES, _LOOKED_AT = 0x47, ((188, 0), (192, 4), (204, 0)), 5
"""Of transport streams: the byte that begins a packet, (packet size, bytes before that byte), packets."""


def breaks_off(path: Path, container: str) -> bool:
    """True if a program or transport stream ends within a packet; False for all else.

    One that was cut exactly between two packets looks whole. container: its name by FFmpeg.
    """
    if container == "mpegts":
        return _transport_breaks_off(path)
    return container == "mpeg" and _program_breaks_off(path)


def _program_breaks_off(path: Path) -> bool:
    """Follows the packets by their lengths (ISO 11172-1, 13818-1) from a pack header near the end."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        tail = file.read()
    start = tail.find(_PACK)
    while start >= 0:
        place = start
        while place + 4 <= len(tail) and tail.startswith(_PREFIX, place) and tail[place + 3] >= _END:
            place += _length(tail[place : place + 14])
        if place > len(tail):
            return True
        # What followed was no header: padding, or what looked like a pack header was none.
        start = tail.find(_PACK, max(place, start + 1))
    return False


def _length(head: bytes) -> int:
    """The bytes of what ``head`` begins, a pack header or packet; at least its header's if that is cut."""
    if head[3] == _END:
        return 4
    if not head.startswith(_PACK):
        return 6 + int.from_bytes(head[4:6], "big")
    is_mpeg2 = len(head) < 5 or head[4] >> 6 == 1
    return 14 + (head[13] & 7 if len(head) == 14 else 0) if is_mpeg2 else 12


def _transport_breaks_off(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_LOOKED_AT * max(size for size, _ in _PACKET_SIZES))
        for size, before in _PACKET_SIZES:
            marks = head[before::size][:_LOOKED_AT]
            if len(marks) == _LOOKED_AT and set(marks) == {_SYNC}:
                file.seek(path.stat().st_size // size * size)
                rest = file.read(size)
                return len(rest) < size and rest[before : before + 1] == bytes([_SYNC])
    return False
