"""How much memory a mesh or a grid takes, said before it is made."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from splatomy.errors import InputError

_GIB = 1 << 30
_CONTAINER = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
_VERTICES_PER_FACE_OF_THE_BOX = 1.3
_BYTES_PER_VERTEX = 330
"""Of a mesh while it is put together: places, keys to join blocks by and their order, two triangles."""


def grid_bytes(shape: Sequence[int], bytes_per_value: int = 4) -> int:
    """Bytes of a dense grid of that many points along each axis, exactly."""
    total = bytes_per_value
    for size in shape:
        total *= int(size)
    return total


def surface_bytes(cells: int) -> int:
    """Bytes for the mesh of a closed surface that fills a box of that many cells a side.

    Surfaces are extracted block by block, so that only the mesh itself grows, with the square of the cells.
    """
    return int(6 * cells**2 * _VERTICES_PER_FACE_OF_THE_BOX * _BYTES_PER_VERTEX)


def free_bytes() -> int | None:
    """Memory that this process may still take: of the machine, its container or its limit; None = unknown."""
    found = _left_of_limit()
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    if not found and hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for limit, used in _CONTAINER:
        # "max" stands for no limit.
        with contextlib.suppress(OSError, ValueError):
            found.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
    return max(0, min(found)) if found else None


def _left_of_limit() -> list[int]:
    """What `ulimit -v` leaves of the address space, in bytes; empty without such a limit."""
    with contextlib.suppress(ImportError, OSError, ValueError, IndexError):
        import resource

        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most != resource.RLIM_INFINITY:
            taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            return [most - taken]
    return []


def check_room(wanted_bytes: int, what: str, instead: str, free: int | None = None) -> None:
    """Raises InputError if something would take more memory than there is.

    what: the thing, as the sentence's subject. instead: what to choose then. free: bytes that are free;
    None = asked of the system.
    """
    there = free_bytes() if free is None else free
    if there is not None and wanted_bytes > there:
        raise InputError(
            f"{what} would take {wanted_bytes / _GIB:.1f} GiB of memory; expected at most the "
            f"{there / _GIB:.1f} GiB that are free: choose {instead}."
        )
