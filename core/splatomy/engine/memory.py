"""How much memory this process holds."""

from __future__ import annotations

import sys
from pathlib import Path

_PAGES = Path("/proc/self/statm")


def resident_mb() -> float:
    """The memory that the process holds now, MiB; its peak where the system does not tell, 0 if neither."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    try:
        pages = int(_PAGES.read_text().split()[1])
        return pages * resource.getpagesize() / 2**20
    except (OSError, IndexError, ValueError):
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
