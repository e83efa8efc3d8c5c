"""Gaussians as the PLY that 3D Gaussian splatting programs read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.io.atomic import atomic_path

_SCALARS = {"float": "<f4", "float32": "<f4", "double": "<f8", "float64": "<f8", "uchar": "u1", "uint8": "u1"}
_MAX_GAUSSIANS = 200_000_000


def gaussians_among(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays of a scene's state that describe its Gaussians, by their plain names; empty without any.

    A scene of several parts names them "surfels.means_mm" and so on. Those that live in a frame of their own
    come with "world_from_surfels" (4, 4), a scale and a shift, and are returned in the world.
    """
    surfels = {n.removeprefix("surfels."): a for n, a in arrays.items() if n.startswith("surfels.")}
    found = surfels or dict(arrays)
    motion = arrays.get("world_from_surfels")
    if motion is not None and "means_mm" in found:
        scale = float(motion[0, 0])
        found["means_mm"] = found["means_mm"] * scale + motion[:3, 3]
        found["log_scales"] = found["log_scales"] + np.log(scale)
    return found if "means_mm" in found else {}


def write_gaussians(path: Path, arrays: Mapping[str, NDArray[Any]], metric: bool = True) -> None:
    """Writes means_mm (N, 3), quats_wxyz (N, 4), log_scales (N, 3) and density_per_mm (N,) or opacity_logit.

    Surfels have log_scales (N, 2); sh (N, K, 3) is written when there is one. metric: False = no unit.

    Attribute names are the usual ones (x y z, opacity, scale_0.., rot_0.., f_dc_0..), raw values. For X-ray
    Gaussians ``opacity`` holds the time-mean density in 1/mm, as the header's comment says.
    """
    density = arrays.get("density_per_mm")
    opacity = density if density is not None else arrays["opacity_logit"]
    columns = {
        **{n: arrays["means_mm"][:, i] for i, n in enumerate("xyz")},
        "opacity": opacity,
        **{f"scale_{i}": arrays["log_scales"][:, i] for i in range(arrays["log_scales"].shape[1])},
        **{f"rot_{i}": arrays["quats_wxyz"][:, i] for i in range(4)},
    }
    sh = arrays.get("sh")
    if sh is not None:
        # The usual order: the mean colour, then all higher coefficients of red, of green, of blue.
        columns |= {f"f_dc_{c}": sh[:, 0, c] for c in range(3)}
        higher = [sh[:, k, c] for c in range(3) for k in range(1, sh.shape[1])]
        columns |= {f"f_rest_{i}": values for i, values in enumerate(higher)}
    table = np.empty(len(opacity), dtype=[(name, "<f4") for name in columns])
    for name, values in columns.items():
        table[name] = values
    meaning = "attenuation in 1/mm" if density is not None else "logit"
    unit = "mm" if metric else "an unknown unit"
    header = ["ply", "format binary_little_endian 1.0", f"comment opacity is {meaning}; lengths in {unit}"]
    header += [f"element vertex {len(table)}", *(f"property float {name}" for name in columns), "end_header"]
    with atomic_path(path) as temporary:
        temporary.write_bytes(("\n".join(header) + "\n").encode() + table.tobytes())


def read_gaussians(path: Path) -> dict[str, NDArray[np.float32]]:
    """The vertex attributes of a binary little-endian Gaussian PLY by name, each (N,).

    Raises:
        InputError: not such a file, or truncated.
    """

    def problem(found: str) -> InputError:
        return InputError(
            f"{path.name} is no Gaussian PLY: expected binary little-endian vertices with float "
            f"properties, found {found}. Export it again as a 3DGS PLY."
        )

    with path.open("rb") as source:
        if source.readline().strip() != b"ply":
            raise problem("another kind of file")
        count, fields, inside = -1, [], False
        for _ in range(400):
            words = source.readline().decode("ascii", "replace").split()
            if words[:1] == ["format"] and words[1:2] != ["binary_little_endian"]:
                raise problem(f"format {' '.join(words[1:2])}")
            is_vertex = words[:2] == ["element", "vertex"] and len(words) == 3
            if is_vertex and re.fullmatch(r"[0-9]{1,12}", words[2]):
                count, inside = int(words[2]), True
            elif words[:1] == ["element"]:
                inside = False
            elif words[:1] == ["property"] and inside:
                if len(words) != 3 or words[1] not in _SCALARS:
                    raise problem(f"a property {' '.join(words[1:])}")
                fields.append((words[2], _SCALARS[words[1]]))
            elif words == ["end_header"]:
                break
        else:
            raise problem("a header without end")
        if not 0 <= count <= _MAX_GAUSSIANS or not fields:
            raise problem(f"{count} vertices")
        if len({name for name, _ in fields}) < len(fields):
            raise problem("a property that is there twice")
        kind = np.dtype(fields)
        if path.stat().st_size - source.tell() < count * kind.itemsize:
            raise problem(f"fewer bytes than {count} vertices need; the file is truncated")
        table = np.frombuffer(source.read(count * kind.itemsize), dtype=kind)
    return {name: table[name].astype(np.float32) for name, _ in fields}
