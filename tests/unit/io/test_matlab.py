"""MATLAB files as DTU's observation masks are, and damaged ones."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from splatomy.errors import InputError
from splatomy.io.matlab import read_matlab

VALUES = {
    "ObsMask": np.arange(60).reshape(3, 4, 5).astype(np.uint8) % 2,
    "BB": np.array([[-1.5, 2, 3], [4, 5, 6e30]]),
    "Res": np.array([[0.4]], np.float32),
    "count": np.array([[-3, 70000]], np.int32),
    "none": np.zeros((0, 3)),
}


@pytest.mark.parametrize("packed", [False, True])
def test_arrays_come_back_as_they_were(packed: bool, tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {**VALUES, "text": "words", "parts": {"x": 1}}, do_compression=packed)
    read = read_matlab(tmp_path / "a.mat")
    assert set(read) == set(VALUES)
    for name, value in VALUES.items():
        assert read[name].dtype == value.dtype and np.array_equal(read[name], value), name


def element(kind: int, content: bytes) -> bytes:
    filled = content + b"\0" * (-len(content) % 8)
    return kind.to_bytes(4, "little") + len(content).to_bytes(4, "little") + filled


def matrix(number_type: int, values: bytes, shape: tuple[int, ...] = (2, 2)) -> bytes:
    sides = b"".join(side.to_bytes(4, "little", signed=True) for side in shape)
    parts = [(6, bytes([9, 0, 0, 0, 0, 0, 0, 0])), (5, sides), (1, b"ObsMask"), (number_type, values)]
    return element(14, b"".join(element(kind, content) for kind, content in parts))


def written(folder: Path, body: bytes, mark: bytes = b"IM") -> Path:
    (folder / "ObsMask1.mat").write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1" + mark + body)
    return folder / "ObsMask1.mat"


def test_the_parts_of_a_matrix(tmp_path: Path) -> None:
    read = read_matlab(written(tmp_path, matrix(2, b"\1\2\3\4")))
    assert read["ObsMask"].tolist() == [[1, 3], [2, 4]]


@pytest.mark.parametrize(
    "body",
    [
        # A number type beyond the table ended SciPy's reader, and the process with it.
        matrix(0x1D000000, b"\1\2\3\4"),
        matrix(99, b"\1\2\3\4"),
        matrix(2, b"\1\2\3"),
        matrix(2, b"\1\2\3\4", (-2, -2)),
        matrix(2, b"\1\2\3\4", (4,)),
        matrix(2, b"\1\2\3\4", (2**31 - 1, 2**31 - 1)),
        matrix(2, b"\1\2\3\4")[:-12],
        element(14, b""),
        element(15, b"no stream"),
        element(15, zlib.compress(b"")),
        element(15, zlib.compress(matrix(0x1D000000, b"\1\2\3\4"))),
    ],
)
def test_what_is_damaged_is_said(body: bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="damaged"):
        read_matlab(written(tmp_path, body))


def test_another_version_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="-v7"):
        read_matlab(written(tmp_path, b"", b"\x89H"))
