"""Files that announce more than they hold, or unpack to far more: one sentence, and little memory."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import resource
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import fuzz_seeds as seeds
import nibabel
import numpy as np
import pytest

from splatomy.errors import InputError
from splatomy.io.arrays import read_npy, read_npz
from splatomy.io.calibration import read_calibration
from splatomy.io.case import AUTOSAVE, recovered_case
from splatomy.io.detect import inspect_input
from splatomy.io.frames import read_picture
from splatomy.io.gaussians import read_gaussians
from splatomy.io.mesh import read_mesh
from splatomy.io.run import RunFolder
from splatomy.io.volume import read_volume
from splatomy.weights.files import read_facts

MORE_BYTES = 1 << 29
NRRD = "NRRD0004\ntype: float\nencoding: raw\nendian: little\n"
MHA = "ElementType = MET_FLOAT\nElementDataFile = LOCAL\n"


def outcome(read: Callable[[], object]) -> str:
    """What a reader says in a process that may take half a gigabyte more than it has."""
    inlet, outlet = os.pipe()
    child = os.fork()
    if child == 0:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MORE_BYTES,) * 2)
        text = "a value"
        try:
            read()
        except InputError as error:
            text = f"refused: {error}"
        except BaseException as error:  # noqa: BLE001 - the parent judges it
            text = f"{type(error).__name__}: {error}"
        os.write(outlet, text.encode("utf-8", "replace")[:4000])
        os._exit(0)
    os.close(outlet)
    with os.fdopen(inlet, "rb") as pipe:
        text = pipe.read().decode()
    assert os.waitpid(child, 0)[1] == 0, "the process died"
    return text


def refused(read: Callable[[], object], *words: str) -> None:
    text = outcome(read)
    assert text.startswith("refused: ") and all(word in text for word in words), text
    assert len(text) < 500 and text.isprintable()


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def nifti_header(shape: tuple[int, ...]) -> bytes:
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.float32)
    header.set_data_shape(shape)
    header["magic"], header["vox_offset"] = b"n+1", 352
    return bytes(header.binaryblock) + b"\0" * 4


@pytest.mark.parametrize(("shape", "word"), [((4000, 4000, 4000), "GiB"), ((900, 900, 400), "to its end")])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_volumes_that_announce_too_much(
    shape: tuple[int, ...], word: str, suffix: str, tmp_path: Path
) -> None:
    data = nifti_header(shape) + b"\0" * 999
    path = put(tmp_path, f"volume{suffix}", gzip.compress(data) if suffix == ".nii.gz" else data)
    refused(lambda: read_volume(path), word)


def test_a_gzip_bomb_is_unpacked_no_further_than_the_volume(tmp_path: Path) -> None:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    head = packer.compress(nifti_header((8, 8, 8))) + packer.flush(zlib.Z_FULL_FLUSH)
    # The same megabytes of zeros again and again: two gigabytes at once cost time to pack.
    zeros = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    path = put(tmp_path, "volume.nii.gz", head + 128 * zeros)
    assert outcome(lambda: read_volume(path)) == "a value"


@pytest.mark.parametrize(
    ("name", "header", "word"),
    [
        ("v.nrrd", NRRD + "dimension: 3\nsizes: 900 900 400\n\n", "to its end"),
        ("v.nrrd", NRRD + "dimension: 99\nsizes: 2 2 2\n\n", "header"),
        ("v.nrrd", NRRD + f"dimension: 3\nsizes: 2 2 {'9' * 400}\n\n", "header"),
        ("v.nrrd", NRRD + "dimension: 3\nsizes: 2 2 2\ncontent: " + "a" * 5000 + "\n\n", "header"),
        ("v.mha", "ObjectType = Image\nNDims = 3\nDimSize = 900 900 400\n" + MHA, "to its end"),
        ("v.mha", "ObjectType = Image\nNDims = 9999\nDimSize = 2 2 2\n" + MHA, "header"),
    ],
)  # fmt: skip
def test_text_headers_that_announce_too_much(name: str, header: str, word: str, tmp_path: Path) -> None:
    path = put(tmp_path, name, header.encode() + bytes(64))
    refused(lambda: read_volume(path), word)


def test_pictures_that_announce_too_much(tmp_path: Path) -> None:
    good = bytes(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    for width, height in ((2**31 - 1, 2**31 - 1), (30_000, 30_000), (1, 2**31 - 1), (0, 0)):
        head = b"IHDR" + struct.pack(">II", width, height) + good[24:29]
        path = put(tmp_path, "p.png", good[:12] + head + struct.pack(">I", zlib.crc32(head)) + good[33:])
        refused(lambda path=path: read_picture(path), "no readable picture")


@pytest.mark.parametrize("shape", ["(2147483647, 1000)", "(1000000000000000000000,)", "(-5,)", "('a',)"])
def test_arrays_that_announce_too_much(shape: str, tmp_path: Path) -> None:
    head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + bytes(80)
    path = put(tmp_path, "a.npy", data)
    assert outcome(lambda: read_npy(path)).startswith("ValueError: no readable array")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", data)
    assert outcome(lambda: read_npz(tmp_path / "a.npz")).startswith("ValueError: no readable set of arrays")


def test_objects_in_arrays_are_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([print], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", a=np.array([print], dtype=object), allow_pickle=True)
    for read in (lambda: read_npy(tmp_path / "a.npy"), lambda: read_npz(tmp_path / "a.npz")):
        with pytest.raises(ValueError, match="no readable"):
            read()


def test_a_bomb_of_arrays(tmp_path: Path) -> None:
    path = tmp_path / "cameras_sphere.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("a.npy", "w") as file,
    ):
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (2_000_000_000,)}
        )
        file.write(bytes(1 << 24))
    assert outcome(lambda: read_npz(path)).startswith("ValueError")


@pytest.mark.parametrize("frames", ["100000", "2147483647", "-3"])
def test_dicom_that_announces_too_many_frames(frames: str, tmp_path: Path) -> None:
    data = seeds.dicom_files()[0]["run.dcm"]
    at = data.index(b"\x28\x00\x08\x00IS")
    size = struct.unpack_from("<H", data, at + 6)[0]
    value = frames.encode().ljust(len(frames) + len(frames) % 2)
    put(
        tmp_path,
        "run.dcm",
        data[: at + 6] + struct.pack("<H", len(value)) + value + data[at + 8 + size :],
    )
    report = inspect_input(tmp_path / "run.dcm")
    assert not report.usable and "frames" in " ".join(report.problems)


def test_an_autosave_that_unpacks_to_gigabytes(tmp_path: Path) -> None:
    for name, data in seeds.case_folders()[1].items():
        put(tmp_path, name, data)
    record = json.loads((tmp_path / AUTOSAVE).read_text())
    packer = zlib.compressobj(1)
    first = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    bomb = first + 64 * (packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH))
    for layers in record["layers"].values():
        for name, packed in layers.items():
            layers[name] = packed and base64.b64encode(bomb).decode()
    put(tmp_path, AUTOSAVE, json.dumps(record).encode())
    refused(lambda: recovered_case(tmp_path), "damaged")


@pytest.mark.parametrize(
    "size", ["NumberOfPoints", "NumberOfPolys"], ids=["too many points", "too many polygons"]
)
@pytest.mark.parametrize("value", ["99999999999999", "-1", "x", "1000000000"])
def test_polygon_data_that_announces_too_much(size: str, value: str, tmp_path: Path) -> None:
    data = next(f["mesh.vtp"] for f in seeds.mesh_files() if "mesh.vtp" in f)
    path = put(tmp_path, "mesh.vtp", data.replace(f'{size}="4"'.encode(), f'{size}="{value}"'.encode()))
    refused(lambda: read_mesh(path), "mesh.vtp")


def test_small_files_with_large_claims(tmp_path: Path) -> None:
    ply = b"ply\nformat binary_little_endian 1.0\nelement vertex 190000000\nproperty float x\nend_header\n"
    refused(lambda: read_gaussians(put(tmp_path, "g.ply", ply)), "truncated")
    weights = struct.pack("<Q", 2**40) + b"{}"
    refused(lambda: read_facts(put(tmp_path, "w.safetensors", weights)), "header")
    entities = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 9))
    bomb = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a0 "aaaaaaaaaa">{entities}]><x>&a8;</x>'
    refused(lambda: read_calibration(put(tmp_path, "c.xml", bomb.encode())), "calibration")
    deep = io.BytesIO(b'{"schema": ' + b"[" * 300_000 + b"]" * 300_000 + b"}")
    refused(lambda: RunFolder(put(tmp_path, "run.json", deep.getvalue()).parent).record(), "run.json")
