"""Settings and tensors of a checked weights folder; pickled files are never opened here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splatomy.errors import InputError
from splatomy.weights.layout import CheckedFile, WeightsCheck, check
from splatomy.weights.licences import licence_of

_BLOCK_BYTES = 32 << 20


@dataclass(frozen=True)
class WeightsFolder:
    """A complete weights folder, whose files can be read by their purpose in the layout."""

    folder: Path
    found: WeightsCheck

    def file(self, purpose: str) -> CheckedFile:
        """The file of a purpose.

        Raises:
            ValueError: the layout has no such purpose.
        """
        for file in self.found.files:
            if file.purpose == purpose:
                return file
        raise ValueError(f"the layout has no {purpose}")

    def has(self, purpose: str) -> bool:
        """Whether an optional file is there."""
        return self.file(purpose).state == "present"

    def settings(self, purpose: str) -> dict[str, Any]:
        """The content of a JSON file."""
        value: dict[str, Any] = json.loads((self.folder / self.file(purpose).path).read_bytes())
        return value

    def tensors(self, purpose: str) -> dict[str, Any]:
        """The named tensors of a safetensors file, on the CPU.

        Raises:
            InputError: the file changed or was damaged since it was checked.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.folder / self.file(purpose).path
        try:
            return dict(load_file(path))
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"{path.name} cannot be read ({str(error).splitlines()[0][:200]}): expected the tensors that "
                "its header names; get the file again from where it was published."
            ) from None

    def record(self) -> Generator[str, None, list[dict[str, Any]]]:
        """What a run says of the files it used: path, hash and licence; yields while it reads them."""
        made = []
        for file in self.found.files:
            if file.need == "unused" or file.state != "present":
                continue
            digest = hashlib.sha256()
            with (self.folder / file.path).open("rb") as source:
                while block := source.read(_BLOCK_BYTES):
                    digest.update(block)
                    yield file.path
            licence = licence_of(file.path)
            made.append(
                {
                    "file": file.path,
                    "sha256": digest.hexdigest(),
                    "name": licence.name,
                    "licence": licence.terms,
                }
            )
        return made


def open_weights(folder: Path) -> WeightsFolder:
    """The folder, ready to be read.

    Raises:
        InputError: something is missing, damaged or still pickled; the sentence says what to do.
    """
    found = check(folder)
    if not found.complete:
        raise InputError(found.sentence)
    return WeightsFolder(folder, found)
