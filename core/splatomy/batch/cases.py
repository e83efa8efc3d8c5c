"""The cases of a batch: a list as CSV or JSON, or the files that a pattern matches."""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import json
import os
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from splatomy.errors import InputError
from splatomy.io.options import InputOptions
from splatomy.io.patient_words import patient_words, without_patient

MOST_CASES = 100_000
_MOST_LIST_BYTES = 1 << 28
_MOST_FILES_LOOKED_AT = 50
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_WHOLE_NUMBERS = ("replicas", "seed", "views")
_TEXTS = ("input", "name", "method", "preset", "device")
_OBJECTS = ("config", "options")
_KEYS = (*_TEXTS, *_OBJECTS, *_WHOLE_NUMBERS)


@dataclass(frozen=True)
class Case:
    """One run of a batch, as the job protocol names its parts. name: of its run folder."""

    name: str
    source: Path
    method: str | None = None
    preset: str = "standard"
    config: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    seed: int = 0
    views: int | None = None
    replicas: int = 1

    def job(self, out: Path) -> dict[str, Any]:
        """The job file of its run, without the word that resumes one."""
        # One process is left unsaid: the jobs of earlier versions, which know no replicas, stay the same.
        replicas = None if self.replicas == 1 else self.replicas
        given = {"method": self.method, "replicas": replicas, "views": self.views}
        return {
            "contract": 1,
            "input": str(self.source),
            "out": str(out),
            "preset": self.preset,
            "config": dict(self.config),
            "options": dict(self.options),
            "device": self.device,
            "seed": self.seed,
            **{name: value for name, value in given.items() if value is not None},
        }


def read_cases(words: str, defaults: Mapping[str, Any]) -> list[Case]:
    """The cases of a list (NAME.csv, NAME.json) or of a pattern such as ``STUDY/*/run``.

    defaults: values by key for what a case does not say itself; its config and options are put over them.

    Raises:
        InputError: the list cannot be read, a row is wrong, or there are no cases.
    """
    path = Path(words)
    if glob.has_magic(words) and not path.exists():
        rows = [{"input": str(p)} for p in _matches(words)]
        folder = Path.cwd()
    elif path.suffix.lower() in (".csv", ".json") and path.is_file():
        rows, folder = _rows(path), path.absolute().parent
    else:
        raise InputError(
            "The cases cannot be read: expected a list NAME.csv or NAME.json that exists, or a pattern in "
            f"quotes such as 'STUDY/*', got {path.name or words}. See `splatomy batch --help`."
        )
    if not rows or len(rows) > MOST_CASES:
        raise InputError(
            f"The batch has {len(rows)} cases: expected 1 to {MOST_CASES}. Check the list or the pattern."
        )
    cases = [_case(row, number, folder, defaults) for number, row in enumerate(rows, 1)]
    seen: set[str] = set()
    for number, case in enumerate(cases, 1):
        # Some file systems do not tell small letters from capitals.
        if case.name.lower() in seen:
            raise InputError(
                f"Case {number} has the name or the input of an earlier one: expected every name once. Give "
                "the cases different names in the column name."
            )
        seen.add(case.name.lower())
    return cases


def check_names(cases: Iterable[Case]) -> None:
    """Refuses names that a DICOM input's header gives as the patient's, since tables show names.

    Raises:
        InputError: a case is named after its patient.
    """
    for number, case in enumerate(cases, 1):
        if without_patient(case.name, patient_words(input_files(case.source))) != case.name:
            raise InputError(
                f"Case {number} is named after its patient, and tables show names: expected a pseudonym. "
                "Change its name in the list, or leave the column name out."
            )


def input_files(source: Path) -> list[Path]:
    """The first files of an input, to look into their headers."""
    if source.is_file():
        return [source]
    found: list[Path] = []
    for path in source.rglob("*"):
        if len(found) == _MOST_FILES_LOOKED_AT:
            break
        if path.is_file():
            found.append(path)
    return found


def _matches(pattern: str) -> list[Path]:
    # Unlike Path.glob it takes absolute patterns, and leaves hidden files out.
    return [Path(p).absolute() for p in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207


def _rows(path: Path) -> list[dict[str, Any]]:
    if path.stat().st_size > _MOST_LIST_BYTES:
        raise InputError(f"The list {path.name} is too large: expected at most 256 MiB. Split it.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = (
            list(csv.DictReader(io.StringIO(text, newline="")))
            if path.suffix.lower() == ".csv"
            else _json(text)
        )
    except (ValueError, csv.Error, RecursionError):
        raise InputError(
            f"The list {path.name} cannot be read: expected UTF-8 text as CSV with a header line, or strict "
            "JSON."
        ) from None
    if isinstance(rows, dict) and set(rows) <= {"contract", "cases"}:
        rows = rows.get("cases")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(
            f'The list {path.name}: expected a list of objects, or {{"contract": 1, "cases": [...]}}, got '
            "something else. See `splatomy batch --help`."
        )
    return [_row(row, number) for number, row in enumerate(rows, 1)]


def _json(text: str) -> Any:
    def refuse(word: str) -> Any:
        raise ValueError(word)

    return json.loads(text, parse_constant=refuse)


def _row(row: Mapping[Any, Any], number: int) -> dict[str, Any]:
    """A row with empty cells left out and columns such as config.steps put into their objects."""
    read: dict[str, Any] = {}
    inner: list[tuple[str, str, Any]] = []
    for key, value in row.items():
        if value is None or value == "":
            continue
        group, dot, name = str(key).strip().partition(".")
        if key is None or group not in (_OBJECTS if dot else _KEYS):
            raise InputError(
                f"Case {number} has {'more cells than columns' if key is None else f'a column {key!r}'}: "
                f"expected some of {', '.join(_KEYS)}, config.SETTING, options.OPTION. Correct the list."
            )
        if dot:
            inner.append((group, name, _value(value)))
        else:
            read[group] = _checked(group, _value(value) if group not in _TEXTS else value, number)
    for group, name, value in inner:
        read[group] = {**read.get(group, {}), name: value}
    return read


def _value(cell: Any) -> Any:
    """A cell of a CSV as JSON where it is JSON, as text otherwise; values of JSON lists as they are."""
    if not isinstance(cell, str):
        return cell
    try:
        return _json(cell)
    except (ValueError, RecursionError):
        return cell


def _checked(name: str, value: Any, number: int) -> Any:
    kind = str if name in _TEXTS else dict if name in _OBJECTS else int
    if type(value) is not kind:
        wanted = {str: "a text", dict: "a JSON object", int: "a whole number"}[kind]
        raise InputError(f"Case {number}, {name}: expected {wanted}, got {str(value)[:60]!r}. Correct it.")
    if name == "replicas" and isinstance(value, int) and value < 1:
        raise InputError(f"Case {number}, replicas: expected 1 or more processes, got {value}. Correct it.")
    return value


def _case(row: Mapping[str, Any], number: int, folder: Path, defaults: Mapping[str, Any]) -> Case:
    if not row.get("input"):
        raise InputError(f"Case {number} has no input: expected the path of a file or folder. Add it.")
    source = _path(row["input"], folder)
    name = row.get("name") or f"case_{hashlib.sha256(str(source).encode()).hexdigest()[:10]}"
    if not _NAME.fullmatch(name) or name.endswith("."):
        raise InputError(
            f"The name of case {number} cannot be that of a folder: expected up to 80 letters, digits, "
            "points, dashes and underscores, a letter or digit first. Choose another."
        )
    merged = {**defaults, **row}
    for group in _OBJECTS:
        merged[group] = {**defaults.get(group, {}), **row.get(group, {})}
    merged["options"] = _with_whole_paths(merged["options"], folder)
    given = {key: merged[key] for key in _KEYS if key in merged and key not in ("name", "input")}
    return Case(name, source, **given)


def _with_whole_paths(options: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    kinds = typing.get_type_hints(InputOptions)
    return {
        name: str(_path(value, folder))
        if isinstance(value, str) and Path in typing.get_args(kinds.get(name))
        else value
        for name, value in options.items()
    }


def _path(text: str, folder: Path) -> Path:
    """The absolute path; in a list, paths are seen from the list's folder."""
    try:
        path = (folder / Path(text).expanduser()).absolute()
        os.fsencode(path)
    except (RuntimeError, ValueError):
        raise InputError(
            f"The path {text[:60]!r} names no file: expected letters that a file name can have, and a user's "
            "folder that exists after ~. Correct it."
        ) from None
    return path
