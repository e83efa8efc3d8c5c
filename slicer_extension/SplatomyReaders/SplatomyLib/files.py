"""Mesh files and run folders of the engine, read without the engine."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from SplatomyLib.geometry import World, world_of_run

_SCALARS = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "<i2", "int16": "<i2",
    "ushort": "<u2", "uint16": "<u2", "int": "<i4", "int32": "<i4", "uint": "<u4", "uint32": "<u4",
    "float": "<f4", "float32": "<f4", "double": "<f8", "float64": "<f8",
}  # fmt: skip
_HEADER_LINES = 400
_NIFTI_FLOAT32 = 16
GAUSSIAN_PROPERTIES = {"opacity", "scale_0", "scale_1", "rot_0", "rot_1", "rot_2", "rot_3"}


class UnusableFile(ValueError):
    """A file cannot be used; the text says what was expected, what was found, and what to do."""


@dataclass(frozen=True)
class Ply:
    """Vertex properties by name, each (N,), and triangles (F, 3)."""

    vertex: np.ndarray
    faces: np.ndarray

    @property
    def points(self) -> np.ndarray:
        """(N, 3) float32."""
        return np.stack([self.vertex[name] for name in "xyz"], -1).astype(np.float32)

    def has(self, *names: str) -> bool:
        """True if all the vertex properties are there."""
        return set(names) <= set(self.vertex.dtype.names or ())


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    properties: tuple[tuple[str, str], ...]
    list_types: tuple[str, str] | None = None


def read_json(path: Path) -> dict[str, Any]:
    """The object of a JSON file.

    Raises:
        UnusableFile: missing, unreadable or no object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnusableFile(f"{path.name} cannot be read: {error.strerror}. Choose another folder.") from None
    except (ValueError, RecursionError):
        raise UnusableFile(f"{path.name} is damaged: expected JSON. Write it again.") from None
    if not isinstance(value, dict):
        raise UnusableFile(f"{path.name} is damaged: expected a JSON object. Write it again.")
    return value


def read_ply(path: Path) -> Ply:
    """A binary little-endian PLY with every vertex property, and its triangles if it has some.

    VTK's reader drops properties that it does not know, such as ``evidence``.

    Raises:
        UnusableFile: another kind of file, or truncated.
    """
    with path.open("rb") as source:
        elements = _ply_header(source, path.name)
        body = source.read()
    vertex, faces = None, np.empty((0, 3), np.int64)
    for element in elements:
        kind = _row_type(element)
        if len(body) < element.count * kind.itemsize:
            raise UnusableFile(f"{path.name} is truncated: expected {element.count} of {element.name}.")
        table = np.frombuffer(body, dtype=kind, count=element.count)
        body = body[element.count * kind.itemsize :]
        if element.name == "vertex":
            vertex = table
        elif element.name == "face":
            if len(table) and (table["count"] != 3).any():
                raise UnusableFile(f"{path.name} has faces that are no triangles. Export it as triangles.")
            faces = table["corners"].astype(np.int64).reshape(-1, 3)
    if vertex is None or not {"x", "y", "z"} <= set(vertex.dtype.names or ()):
        raise UnusableFile(f"{path.name} has no vertices with x, y and z. Export it again.")
    if len(faces) and not 0 <= faces.min() <= faces.max() < len(vertex):
        raise UnusableFile(f"{path.name} is damaged: faces name vertices that do not exist.")
    return Ply(vertex, faces)


def is_gaussian_ply(path: Path) -> bool:
    """True if the header names the properties of Gaussians."""
    try:
        with path.open("rb") as source:
            elements = _ply_header(source, path.name)
    except (OSError, UnusableFile):
        return False
    return any(
        element.name == "vertex" and {name for name, _ in element.properties} >= GAUSSIAN_PROPERTIES
        for element in elements
    )


def _ply_header(source: Any, name: str) -> list[_Element]:
    if source.readline(16).strip() != b"ply":
        raise UnusableFile(f"{name} is no PLY file. Choose a .ply that the engine wrote.")
    elements: list[_Element] = []
    for _ in range(_HEADER_LINES):
        words = source.readline(1024).decode("ascii", "replace").split()
        if words[:1] == ["end_header"]:
            return elements
        if words[:1] == ["format"] and words[1:2] != ["binary_little_endian"]:
            raise UnusableFile(f"{name} is {' '.join(words[1:2])}: expected a binary little-endian PLY.")
        if words[:1] == ["element"] and len(words) == 3 and words[2].isdigit():
            elements.append(_Element(words[1], int(words[2]), ()))
        elif words[:1] == ["property"] and elements:
            last = elements[-1]
            if len(words) == 5 and words[1] == "list" and {words[2], words[3]} <= _SCALARS.keys():
                elements[-1] = _Element(last.name, last.count, (), (_SCALARS[words[2]], _SCALARS[words[3]]))
            elif len(words) == 3 and words[1] in _SCALARS:
                properties = (*last.properties, (words[2], _SCALARS[words[1]]))
                elements[-1] = _Element(last.name, last.count, properties)
            else:
                raise UnusableFile(f"{name} has a property that is not read: {' '.join(words[1:])}.")
    raise UnusableFile(f"{name} has a header without an end. Export it again.")


def _row_type(element: _Element) -> np.dtype:
    if element.list_types is None:
        return np.dtype(list(element.properties))
    count, item = element.list_types
    return np.dtype([("count", count), ("corners", item, (3,))])


def read_nifti_floats(path: Path) -> np.ndarray:
    """The voxels (K, J, I) float32 of a NIfTI-1 file of floats, NaN kept: ITK's reader makes zeros of them.

    Raises:
        UnusableFile: another kind of file, or truncated.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
        (size,) = struct.unpack_from("<i", data, 0)
        dimensions = struct.unpack_from("<8h", data, 40)
        (kind,) = struct.unpack_from("<h", data, 70)
        (start,) = struct.unpack_from("<f", data, 108)
        shape = dimensions[3:0:-1]
        if size != 348 or kind != _NIFTI_FLOAT32 or min(shape) < 1:
            raise ValueError
        return np.frombuffer(data, "<f4", int(np.prod(shape)), int(start)).reshape(shape)
    except (OSError, EOFError, ValueError, struct.error, zlib.error):
        raise UnusableFile(
            f"{path.name} is no NIfTI volume of floats, or is truncated. Make it again."
        ) from None


@dataclass(frozen=True)
class RunFolder:
    """A run's folder and its run.json."""

    path: Path
    record: dict[str, Any]

    @property
    def world(self) -> World:
        """The frame of every file in it."""
        return world_of_run(self.record)

    @property
    def is_done(self) -> bool:
        """True if the engine finished it."""
        return self.record.get("state") == "done"

    @property
    def name(self) -> str:
        """The folder's name; never a patient's, the engine writes none."""
        return self.path.name

    def existing(self, *parts: str) -> Path | None:
        """A file of it, None when this run has none."""
        path = self.path.joinpath(*parts)
        return path if path.is_file() else None

    def meshes(self) -> list[tuple[float, Path]]:
        """(time in s, file) of the meshes of a clip, in order; empty for a run with one mesh or none."""
        about = self.existing("meshes", "meshes.json")
        if about is None:
            return []
        listed = read_json(about)
        files = [(float(t), self.path / "meshes" / f"frame_{int(n):04d}.ply")
                 for t, n in zip(listed["times_s"], listed["frames"])]  # fmt: skip
        return [(t, path) for t, path in files if path.is_file()]


def open_run(path: Path) -> RunFolder:
    """The run of a folder, or of the run.json in one.

    Raises:
        UnusableFile: no run, or one of a newer contract.
    """
    folder = path.parent if path.name == "run.json" else path
    record = read_json(folder / "run.json")
    if record.get("contract") != 1:
        raise UnusableFile(
            f"The run {folder.name} has contract {record.get('contract')!r}: expected 1. Use matching "
            "versions of the extension and the engine."
        )
    return RunFolder(folder.absolute(), record)


def is_run(path: Path) -> bool:
    """True for a run folder or its run.json."""
    return path.name == "run.json" or (path / "run.json").is_file()


def is_view_folder(path: Path) -> bool:
    """True for the folders of image sets with cameras, or the transforms.json in one, that are no DSA run."""
    folder = path.parent if path.name == "transforms.json" else path
    if is_dsa_folder(folder):
        return False
    files = ("transforms.json", "cameras_sphere.npz")
    return any((folder / name).is_file() for name in files) or any(
        all((folder / name).is_dir() for name in names) for names in (("sparse",), ("pose", "intrinsic"))
    )


def is_dsa_folder(path: Path) -> bool:
    """True for the DSA folder layouts, or the transforms.json in one."""
    folder = path.parent if path.name == "transforms.json" else path
    runs = ("fill_run.nii.gz", "DSA.nii.gz")
    return (folder / "transforms.json").is_file() and any((folder / name).is_file() for name in runs)
