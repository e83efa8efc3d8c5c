"""Pickled weights made into safetensors, without running anything that a file may carry."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from splatomy.errors import InputError
from splatomy.weights.files import read_facts
from splatomy.weights.layout import CheckedFile, WeightsCheck, check

_POLL_S = 0.1


@dataclass(frozen=True)
class ConvertLimits:
    """What one file may cost; memory counts the address space, of which PyTorch alone takes several GiB."""

    time_s: float = 600.0
    base_bytes: int = 12 << 30
    bytes_per_file_byte: float = 4.0


def convert(
    folder: Path, out: Path, limits: ConvertLimits | None = None
) -> Generator[str, None, WeightsCheck]:
    """A folder ``out`` with the layout's files as safetensors; yields the name of the file at work.

    Files that need no conversion are copied; with ``out`` = ``folder`` only the converted files are added.
    What is missing in ``folder`` stays missing and is named by the returned check of ``out``. Every file
    appears whole or not at all; closing the generator stops the work at once.

    Raises:
        InputError: a file is damaged, holds more than tensors, or needs more time or memory than allowed.
    """
    found = check(folder)
    damaged = [file for file in found.files if file.state == "damaged" and file.need != "unused"]
    if damaged:
        raise InputError(str(damaged[0].problem))
    same = out.resolve() == folder.resolve()
    for file in found.files:
        if file.need == "unused" or file.state == "missing":
            continue
        yield file.path
        if file.state == "pickled":
            yield from _converted(folder, out, file, limits or ConvertLimits())
        elif not same:
            yield from _copied(folder, out, file)
    return check(out)


def _temporary(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.with_name(f".{secrets.token_hex(4)}.{target.name}")


def _publish(temporary: Path, target: Path) -> None:
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(target)


def _copied(folder: Path, out: Path, file: CheckedFile) -> Generator[str, None, None]:
    target = out / file.path
    temporary = _temporary(target)
    try:
        with (folder / file.path).open("rb") as source, temporary.open("wb") as copy:
            while block := source.read(32 << 20):
                copy.write(block)
                yield file.path
        shutil.copystat(folder / file.path, temporary)
        _publish(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _converted(
    folder: Path, out: Path, file: CheckedFile, limits: ConvertLimits
) -> Generator[str, None, None]:
    source, target = folder / file.path, (out / file.path).with_suffix(".safetensors")
    size = file.facts.size_bytes if file.facts else 0
    allowed = limits.base_bytes + int(limits.bytes_per_file_byte * size)
    temporary = _temporary(target)
    words = [sys.executable, "-m", "splatomy.weights._unpickle", str(source), str(temporary), str(allowed)]
    child = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        start = time.monotonic()
        while child.poll() is None:
            if time.monotonic() - start > limits.time_s:
                raise InputError(
                    f"{source.name} was not converted within {limits.time_s:g} s, so it was given up: "
                    "get the safetensors variant of the file instead."
                )
            time.sleep(_POLL_S)
            yield file.path
        if child.returncode != 0:
            raise _refused(source, child.stderr.read() if child.stderr else "")
        read_facts(temporary)
        _publish(temporary, target)
    finally:
        if child.poll() is None:
            child.kill()
        child.communicate()
        temporary.unlink(missing_ok=True)


def _refused(source: Path, said: str) -> InputError:
    reason = said.strip().splitlines()[-1] if said.strip() else "its reader was stopped (too little memory?)"
    if "Weights only load failed" in reason or "UnpicklingError" in reason:
        reason = "it holds more than tensors, and running its code is not allowed"
    elif "MemoryError" in reason or "can't allocate" in reason or "Cannot allocate" in reason:
        reason = "it needs more memory than allowed"
    reason = reason.rstrip(". ")
    return InputError(
        f"{source.name} cannot be converted: {reason}; get the safetensors variant of the file instead."
    )
