"""`splatomy weights`: checks and converts the published weights that a user brings along."""

from __future__ import annotations

import json
import sys
from argparse import Namespace

from splatomy.errors import InputError
from splatomy.weights import CheckedFile, WeightsCheck, check, convert, licence_of


def weights(arguments: Namespace) -> None:
    """Lists a weights folder file by file, or makes safetensors of its pickled files.

    Raises:
        InputError: the folder cannot be used yet; the list was printed before.
    """
    if arguments.verb == "convert":
        if arguments.out is None:
            raise InputError(
                "`splatomy weights convert` needs --out DIR: the folder for the converted files."
            )
        found = _convert(arguments)
    else:
        found = check(arguments.folder)
    if arguments.json:
        sys.stdout.write(json.dumps(found.json()) + "\n")
    else:
        sys.stdout.write("".join(_line(file) + "\n" for file in found.files))
    if not found.complete:
        raise InputError(found.sentence)
    if not arguments.json:
        sys.stdout.write(found.sentence + "\n")


def _convert(arguments: Namespace) -> WeightsCheck:
    task, shown = convert(arguments.folder, arguments.out), ""
    while True:
        try:
            name = next(task)
        except StopIteration as stop:
            found: WeightsCheck = stop.value
            return found
        if name != shown:
            sys.stderr.write(name + "\n")
            shown = name


def _line(file: CheckedFile) -> str:
    state: str = file.state
    if file.need == "unused" and state != "missing":
        state = "found, not used"
    elif file.need != "required" and state == "missing":
        state = "missing, not needed"
    size = f"{file.facts.size_bytes / 1e6:10.1f} MB" if file.facts else " " * 13
    dtypes = ",".join(file.facts.dtypes) if file.facts else ""
    licence = licence_of(file.path).terms
    text = f"{state:<20}{size}  {dtypes:<8}  {file.path}  ({file.purpose}; {licence})"
    return f"{text}: {file.problem}" if file.problem else text
