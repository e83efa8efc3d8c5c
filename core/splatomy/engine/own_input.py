"""What a run remembers of its input, and the way back to it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from splatomy.errors import InputError
from splatomy.io.options import InputOptions, options_from_record, options_record, relative_path
from splatomy.io.run import RunFolder

_HASH_LIMIT_BYTES = 1 << 33
_MAX_FILES = 500


def sha256_of(path: Path) -> str | None:
    """The file's hash, or None for what is no file or too large to hash in reasonable time."""
    if not path.is_file() or path.stat().st_size > _HASH_LIMIT_BYTES:
        return None
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while block := source.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def file_hashes(path: Path, run: Path | None = None) -> list[dict[str, Any]]:
    """Hashes of an input's files; names only, since folders may carry a person's name.

    run: the run folder, which is no part of the input even where it lies inside it.
    """
    own = None if run is None else run.resolve()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    files = [p for p in files if own is None or own not in p.resolve().parents][:_MAX_FILES]
    return [{"file": p.name, "sha256": sha256_of(p)} for p in files]


def input_record(folder: RunFolder, source: Path, options: InputOptions) -> dict[str, Any]:
    """The part of run.json that leads back to the input: where it lies seen from the run, and its options."""
    return {
        "input": file_hashes(source, folder.path),
        "input_path": relative_path(source, folder.path),
        "input_options": options_record(options, folder.path),
    }


def recorded_options(folder: RunFolder) -> InputOptions:
    """The input options that the run was made with; the defaults for runs that do not say."""
    stored = folder.record().get("input_options")
    return options_from_record(stored if isinstance(stored, Mapping) else {}, folder.path)


def find_own_input(folder: RunFolder) -> Path:
    """The run's own input, if it is still there and still the same.

    Raises:
        InputError: it moved, changed, or was never recorded.
    """
    record = folder.record()
    where, hashes = record.get("input_path"), record.get("input")
    if not isinstance(where, str) or not isinstance(hashes, list):
        raise InputError("The run does not say where its input lies: give it with --input.")
    path = folder.path / where
    if not path.exists():
        raise InputError("The run's input is no longer where it was: give it with --input.")
    now = Counter((entry["file"], entry["sha256"]) for entry in file_hashes(path, folder.path))
    before = Counter((entry.get("file"), entry.get("sha256")) for entry in hashes if isinstance(entry, dict))
    # Files added since do no harm; a changed or missing one does.
    if before - now:
        changed = sorted(str(name) for name, _ in before - now)[0]
        raise InputError(f"The run's input has changed since ({changed}): give the right one with --input.")
    return path
