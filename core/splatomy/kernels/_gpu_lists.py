"""Room for the GPU kernels' tile lists, guessed from the last call so that the host waits for nothing."""

from __future__ import annotations

import threading
from typing import NamedTuple

import torch
from torch import Tensor

LIST_LIMIT = 1 << 30
"""The kernels count list members up to this number."""
_MEMBERS_EACH = 16
_LEAST, _MOST = 1 << 12, 1 << 27
_demands: dict[tuple[str, torch.device, int], Tensor] = {}


def blocks_of(count: int, size: int) -> int:
    """How many blocks of ``size`` hold ``count``."""
    return -(-count // size)


def capacity_of(asked: int, num_records: int, most: int = _MOST) -> int:
    """Room for list members: the last demand and half of it, at least 16 a Gaussian, at most ``most``."""
    return max(min(max(asked + asked // 2, _MEMBERS_EACH * num_records), most), _LEAST)


def demand_of(kind: str, device: torch.device) -> Tensor:
    """Host memory into which the kernels of one kind write how many members they asked for, (1,) int32.

    Each thread has its own: another's demand would hide that a list was too short.
    """
    key = (kind, device, threading.get_ident())
    found = _demands.get(key)
    if found is None:
        found = torch.zeros(1, dtype=torch.int32, pin_memory=device.type == "cuda")
        _demands[key] = found
    return found


class Lists(NamedTuple):
    """Items of work (tile, first, end, number of the tile's items), cursors of the tiles, and members."""

    memory: Tensor
    """Owns all three; it starts with the items."""
    cursors: int
    members: int
    capacity: int
    item_size: int
    num_items: int
    """As many as there can be; how many there are stands in the second total."""


def make_lists(tiles: int, capacity: int, item_size: int, device: torch.device, words: int = 1) -> Lists:
    """Uninitialised lists of members of ``words`` 32-bit words for a number of tiles."""
    num_items = tiles + capacity // item_size
    # Even, so that members of two words lie on their own boundaries.
    cursors = tiles + tiles % 2
    memory = torch.empty(4 * num_items + cursors + words * capacity, dtype=torch.int32, device=device)
    start = memory.data_ptr()
    at_cursors = start + 16 * num_items
    return Lists(memory, at_cursors, at_cursors + 4 * cursors, capacity, item_size, num_items)
