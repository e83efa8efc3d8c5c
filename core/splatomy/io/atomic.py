"""Files that appear whole or not at all: written under a temporary name, flushed, then renamed."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_LITTLE_ROOM_BYTES = 1 << 20
_TEMPORARY = re.compile(r"\.[0-9a-f]{8}\..+")


@contextmanager
def atomic_path(path: Path | str, durable: bool = True) -> Iterator[Path]:
    """A temporary path in the same folder that becomes ``path`` when the block ends without an error.

    The temporary name keeps the extension, because image writers choose their format by it. durable: False
    leaves it to the system when the file reaches the disk, for what is worth nothing after a crash.

    Raises:
        OSError: the disk is full, or may not be written to (it names ``path``, which is as it was).
    """
    target = Path(path)
    # The leading dot keeps folder scans (ours and other people's) from picking up a half-written file.
    temporary = target.with_name(f".{secrets.token_hex(4)}.{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if durable:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        temporary.replace(target)
        if durable:
            _flush_folder(target.parent)
    except OSError as error:
        raise unwritable(target, error) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def unwritable(path: Path, cause: Exception) -> OSError:
    """The error of a file that cannot be written, with its name and reason, whatever library met it."""
    number, reason = getattr(cause, "errno", None), getattr(cause, "strerror", None)
    if not isinstance(cause, OSError):
        # Image and tensor libraries hide the reason in texts of their own, or do not know it.
        told = re.search(r"os error (\d+)", str(cause))
        full = shutil.disk_usage(path.parent).free < _LITTLE_ROOM_BYTES
        number = int(told[1]) if told else errno.ENOSPC if full else errno.EIO
        reason = os.strerror(number)
    return OSError(number or errno.EIO, reason or str(cause), str(path))


def is_remnant(path: Path) -> bool:
    """True for the name of a temporary file, which a killed process may have left."""
    return _TEMPORARY.match(path.name) is not None


def remove_remnants(folder: Path, *, below: bool = True) -> None:
    """Removes the temporary files that a killed process left in a folder, and below it unless told."""
    for path in folder.rglob(".*") if below else folder.glob(".*"):
        if is_remnant(path) and path.is_file():
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Makes the rename itself durable where the system lets a folder be opened (not on Windows)."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path | str, data: bytes, durable: bool = True) -> None:
    """Writes ``data`` to ``path`` atomically."""
    with atomic_path(path, durable) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path | str, text: str) -> None:
    """Writes UTF-8 ``text`` to ``path`` atomically, with line ends as given."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path | str, value: Any) -> None:
    """Writes ``value`` to ``path`` as strict JSON (no NaN) atomically."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
