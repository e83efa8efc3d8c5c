"""Files that another file names."""

from __future__ import annotations

from pathlib import Path


def listed_file(folder: Path, name: str) -> Path | None:
    """The file that a list names, seen from a folder; None when it is not there or lies outside of it.

    Links are followed first, so that none leads out either.
    """
    try:
        base = folder.resolve()
        path = (base / name).resolve()
        return path if path.is_relative_to(base) and path.is_file() else None
    except (OSError, ValueError, RuntimeError):
        # Names that no file can have: too long, with a zero byte, links in a circle.
        return None
