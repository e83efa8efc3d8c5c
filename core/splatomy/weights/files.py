"""What a weights file holds, read from its header without loading it."""

from __future__ import annotations

import json
import math
import operator
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splatomy.errors import InputError

_HEADER_LIMIT_BYTES = 100 << 20
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
}  # fmt: skip
PICKLED = (".bin", ".pth", ".pt", ".ckpt")


@dataclass(frozen=True)
class FileFacts:
    """size_bytes; of safetensors also dtypes, num_tensors and num_parameters (None = not known)."""

    size_bytes: int
    dtypes: tuple[str, ...] = ()
    num_tensors: int | None = None
    num_parameters: int | None = None


def read_facts(path: Path) -> FileFacts:
    """What a weights, JSON or text file holds.

    Raises:
        InputError: the file is empty, cut off, or not what its name says; the sentence names it.
    """
    try:
        size = path.stat().st_size
        if size == 0:
            raise _damaged(path, "the file is empty")
        if path.suffix == ".safetensors":
            return _safetensors(path, size)
        if path.suffix in PICKLED:
            _check_pickled(path)
        elif path.suffix == ".json":
            _json_object(path, path.read_bytes())
    except OSError as error:
        raise _damaged(path, error.strerror or "it cannot be read") from None
    return FileFacts(size)


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(f"{path.name} is damaged: {reason}; get the file again from where it was published.")


def _json_object(path: Path, data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise _damaged(path, "expected JSON, got something else") from None
    if not isinstance(value, dict):
        raise _damaged(path, f"expected a JSON object, got {type(value).__name__}")
    return value


def _safetensors(path: Path, size: int) -> FileFacts:
    """Checks that the tensors of the header fill the file exactly, without gap or overlap.

    Source: the format's description, github.com/huggingface/safetensors.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _HEADER_LIMIT_BYTES):
            raise _damaged(path, f"its header would have {length} bytes, the file has {size}")
        header = _json_object(path, file.read(length))
    header.pop("__metadata__", None)
    spans, dtypes, parameters = [], set(), 0
    for name, tensor in header.items():
        try:
            shape, dtype = tensor["shape"], tensor["dtype"]
            start, end = (operator.index(n) for n in tensor["data_offsets"])
            count = math.prod(int(n) for n in shape)
            fits = dtype not in _BITS or (end - start) * 8 == count * _BITS[dtype]
        except (KeyError, TypeError, ValueError, OverflowError):
            raise _damaged(path, f"the header's entry of tensor {name!r} is incomplete") from None
        if not fits:
            raise _damaged(path, f"tensor {name!r} has {end - start} bytes, not those of its shape")
        spans.append((start, end))
        dtypes.add(str(dtype))
        parameters += count
    at = 0
    for start, end in sorted(spans):
        if start != at or end < start:
            raise _damaged(path, "its tensors overlap or leave gaps")
        at = end
    if at != size - 8 - length:
        raise _damaged(
            path, f"expected {at} bytes of tensors, got {size - 8 - length} (an unfinished download?)"
        )
    return FileFacts(size, tuple(sorted(dtypes)), len(header), parameters)


def _check_pickled(path: Path) -> None:
    """Whether a PyTorch file is whole, without unpickling anything."""
    with path.open("rb") as file:
        start = file.read(2)
    if start == b"PK":
        try:
            with zipfile.ZipFile(path) as archive:
                if any(name.endswith("data.pkl") for name in archive.namelist()):
                    return
        except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError):
            raise _damaged(path, "the archive's end is missing (an unfinished download?)") from None
        raise _damaged(path, "it is an archive, but not one of PyTorch")
    # The format before PyTorch 1.6 is a bare pickle, which starts with its protocol.
    if start[:1] != b"\x80":
        raise _damaged(path, "it is not a PyTorch file")
