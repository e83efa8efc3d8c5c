"""What a run remembers of its input, and the way back to it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from splatomy.errors import InputError
from splatomy.io.case import is_case
from splatomy.io.options import InputOptions, options_from_record, options_record, relative_path
from splatomy.io.patient_words import PLACEHOLDER, patient_words, without_patient
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
    files = _files_of(path, run)
    words = patient_words(files)
    return [{"file": without_patient(p.name, words), "sha256": sha256_of(p)} for p in files]


def _files_of(path: Path, run: Path | None) -> list[Path]:
    own = None if run is None else run.resolve()
    # Of a case the masks are input; its runs, exports and lock come and go.
    place = path / "masks" if is_case(path) and path.is_dir() else path
    files = [path] if path.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
    return [p for p in files if own is None or own not in p.resolve().parents][:_MAX_FILES]


def input_record(folder: RunFolder, source: Path, options: InputOptions) -> dict[str, Any]:
    """The part of run.json that leads back to the input: where it lies seen from the run, and its options.

    Folders and files that are named after the patient of a DICOM input appear without the name; the way
    back to such an input must be given again.
    """
    given = options_record(options, folder.path)
    named = [p for p in vars(options).values() if isinstance(p, Path) and p.is_file()]
    words = patient_words([*_files_of(source, folder.path), *named])
    return {
        "input": file_hashes(source, folder.path),
        "input_path": without_patient(relative_path(source, folder.path), words),
        "input_options": {
            name: without_patient(given[name], words) if isinstance(value, Path) else given[name]
            for name, value in vars(options).items()
        },
        "input_models": [
            {"file": model.name, "sha256": sha256_of(model)}
            for model in (options.depth_model, options.mask_model, options.init)
            if model is not None
        ],
    }


def recorded_options(folder: RunFolder) -> InputOptions:
    """The input options that the run was made with; the defaults for runs that do not say.

    Raises:
        InputError: a file among them cannot be found again.
    """
    stored = folder.record().get("input_options")
    options = options_from_record(stored if isinstance(stored, Mapping) else {}, folder.path)
    for name, value in vars(options).items():
        if isinstance(value, Path) and PLACEHOLDER in value.as_posix() and not value.exists():
            raise InputError(
                f"The run does not keep where the file of its option {name} lies, since that names the "
                "patient: expected folders without names. Rename them and reconstruct again."
            )
    return options


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
    if not path.exists() and PLACEHOLDER in where:
        raise InputError(
            "The run does not keep where its input lies, since that names the patient: give it with --input."
        )
    if not path.exists():
        raise InputError("The run's input is no longer where it was: give it with --input.")
    now = Counter((entry["file"], entry["sha256"]) for entry in file_hashes(path, folder.path))
    before = Counter((entry.get("file"), entry.get("sha256")) for entry in hashes if isinstance(entry, dict))
    # Files added since do no harm; a changed or missing one does.
    if before - now:
        changed = sorted(str(name) for name, _ in before - now)[0]
        raise InputError(f"The run's input has changed since ({changed}): give the right one with --input.")
    return path
