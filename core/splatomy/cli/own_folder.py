"""Folders that a command makes anew without ever removing anything that is not its own."""

from __future__ import annotations

import shutil
from pathlib import Path

from splatomy.errors import InputError


def own_folder(path: Path, force: bool, own: tuple[str, ...], what: str) -> None:
    """Makes the folder ready; only what an earlier run of the same command made is ever removed.

    Raises:
        InputError: the folder holds something else, or an earlier result that must not be replaced.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file: expected a folder. Choose another --out.")
    found = sorted(entry.name for entry in path.iterdir()) if path.exists() else []
    foreign = [name for name in found if name not in own]
    if foreign:
        raise InputError(
            f"{path} holds other things than {what} ({foreign[0]}): nothing is written there. "
            "Choose another --out."
        )
    if found and not force:
        raise InputError(f"{path} is not empty. Use --force to overwrite it, or choose another --out.")
    for name in found:
        entry = path / name
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    path.mkdir(parents=True, exist_ok=True)
