"""Live sessions: what the engine tells in words, and the growing surface, block by block."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from SplatomyLib.files import UnusableFile, read_json

_TYPES = {"F32": np.float32, "U8": np.uint8, "I32": np.int32, "F64": np.float64, "I64": np.int64}
_LONGEST_HEADER = 1 << 20
_STATES = {
    "ok": "tracking",
    "relocalised": "found again",
    "degraded": "weak: hold the scope still or go back a little",
    "lost": "lost: go back to a place that was seen before",
    "paused": "paused: smoke, darkness, or out of the body",
}


def live_text(event: Mapping[str, Any]) -> str:
    """One line about a session from the engine's event: state, delay, and honest counts."""
    numbers = event.get("metrics") if isinstance(event.get("metrics"), dict) else {}
    state = str(event.get("state", ""))
    parts = [f"Live, {_STATES.get(state, state)}"]
    for name, words in (("latency_p95_s", "95 % of the delays below {:.2f} s"), ("fps", "{:.1f} frames/s"),
                        ("dropped", "{:.0f} frames dropped"), ("surfels", "{:.0f} points")):  # fmt: skip
        value = numbers.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            parts.append(words.format(value))
    rung = event.get("rung")
    if isinstance(rung, int) and rung > 0:
        parts.append(f"load shed, step {rung}")
    return ", ".join(parts)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file; Slicer's Python has no reader of that format.

    Source: the format's description: length of the header (8 bytes), header as JSON, raw values.

    Raises:
        UnusableFile: it is no such file, or incomplete.
    """
    data = path.read_bytes()
    try:
        (length,) = struct.unpack("<Q", data[:8])
        if length > _LONGEST_HEADER:
            raise ValueError("header")
        header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
        found = {}
        for name, about in header.items():
            if name == "__metadata__":
                continue
            start, stop = about["data_offsets"]
            kind = np.dtype(_TYPES[about["dtype"]]).newbyteorder("<")
            found[name] = np.frombuffer(body[start:stop], kind).reshape(about["shape"])
    except (ValueError, KeyError, TypeError, struct.error):
        raise UnusableFile(f"{path.name} cannot be read: expected arrays of the engine.") from None
    return found


@dataclass
class LivePoints:
    """The points of the newest snapshot; only blocks whose files are new are read."""

    record: dict[str, Any] = field(default_factory=dict)
    _blocks: dict[str, tuple[str, dict[str, np.ndarray]]] = field(default_factory=dict)
    reads: int = 0

    def take(self, path: Path) -> None:
        """Goes to a snapshot.

        Raises:
            UnusableFile: it or one of its blocks cannot be read; what was there stays.
            OSError: it is gone, since a newer one is there.
        """
        record = read_json(path)
        blocks = {}
        try:
            for entry in record["blocks"]:
                key, name = str(entry["key"]), str(entry["file"])
                known = self._blocks.get(key)
                if known is None or known[0] != name:
                    known = (name, read_arrays(path.with_name(Path(name).name)))
                    self.reads += 1
                blocks[key] = known
        except (KeyError, TypeError):
            raise UnusableFile(f"{path.name} is no snapshot of a live session: expected blocks.") from None
        self.record, self._blocks = record, blocks

    def arrays(self, name: str, width: int) -> np.ndarray:
        """All points' values of one name, (N, width)."""
        parts = [arrays[name] for _, arrays in self._blocks.values()]
        return np.concatenate(parts) if parts else np.zeros((0, width), np.float32)

    @property
    def metric(self) -> bool:
        """True if lengths are millimetres."""
        return self.record.get("metric") is True

    def marks(self) -> list[tuple[str, np.ndarray]]:
        """Names and places (3,) of the marks."""
        found = []
        for mark in self.record.get("marks") or []:
            place = np.asarray(mark.get("position"), dtype=np.float64)
            if place.shape == (3,):
                found.append((str(mark.get("name", "")), place))
        return found
