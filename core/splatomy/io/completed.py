"""RUN/prepared/completed.npz: the hidden parts of an object as they were filled, without loss."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.io.arrays import read_npz
from splatomy.io.atomic import atomic_path

_NAME = "completed.npz"


@dataclass(frozen=True)
class CompletedParts:
    """What was filled in T views.

    key: of the input that it was derived from. masks: (T, H, W) the hidden part. synthetic: (T, H, W) pixels
    that were made up or decided by a drawn mask. colours (N, 3), depth_mm (N,), provenance (N,): of the N
    pixels of ``masks`` in order. record: JSON values.
    """

    key: str
    masks: NDArray[np.bool_]
    synthetic: NDArray[np.bool_]
    colours: NDArray[np.float32]
    depth_mm: NDArray[np.float32]
    provenance: NDArray[np.signedinteger]
    record: Mapping[str, Any]


def write_completed(folder: Path, parts: CompletedParts) -> None:
    """Keeps the parts in a folder."""
    arrays: dict[str, Any] = {
        "shape": np.array(parts.masks.shape),
        "masks": np.packbits(parts.masks),
        "synthetic": np.packbits(parts.synthetic),
        "colours": parts.colours,
        "depth_mm": parts.depth_mm,
        "provenance": parts.provenance,
        "told": np.frombuffer(json.dumps([parts.key, dict(parts.record)]).encode(), np.uint8),
    }
    with atomic_path(folder / _NAME) as temporary:
        np.savez_compressed(temporary, **arrays)


def read_completed(folder: Path, key: str) -> CompletedParts | None:
    """The parts that a folder keeps for an input, or None: it has none, or others, or they are damaged."""
    path = folder / _NAME
    if not path.is_file():
        return None
    try:
        arrays = read_npz(path)
        found, record = json.loads(arrays["told"].tobytes())
        if found != key or not isinstance(record, dict):
            return None
        shape = tuple(int(n) for n in arrays["shape"])
        masks, synthetic = (_unpacked(arrays[name], shape) for name in ("masks", "synthetic"))
        return CompletedParts(
            key, masks, synthetic, arrays["colours"], arrays["depth_mm"], arrays["provenance"], record
        )
    except (KeyError, ValueError, TypeError, OverflowError, RecursionError, OSError):
        return None


def _unpacked(bits: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The booleans of ``shape`` that were packed.

    Raises:
        ValueError: they have another number.
    """
    count = math.prod(shape)
    if bits.dtype != np.uint8 or bits.ndim != 1 or len(bits) != -(-count // 8) or min(shape, default=-1) < 0:
        raise ValueError(f"{bits.shape} packed values are not {shape}")
    return np.unpackbits(bits, count=count).reshape(shape).astype(np.bool_)
