"""The truth folder that comes with a phantom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.io.arrays import read_npy
from splatomy.io.atomic import atomic_path, write_json
from splatomy.io.mesh import read_mesh, write_mesh
from splatomy.io.volume import read_volume, write_volume
from splatomy.scene import Mesh, Volume


@dataclass(frozen=True)
class Truth:
    """What is known exactly of a DSA input; None = not given.

    volume: time mean, 1/mm. label: 1 = vessel. arrival: s. projections: (T, H, W) noise-free.
    points_mm (M, 3), radius_mm (M,): centreline samples.
    """

    volume: Volume | None = None
    label: Volume | None = None
    arrival: Volume | None = None
    mesh: Mesh | None = None
    projections: NDArray[np.float32] | None = None
    points_mm: NDArray[np.float64] | None = None
    radius_mm: NDArray[np.float64] | None = None


def write_truth(folder: Path, truth: Truth, description: dict[str, object]) -> None:
    """Writes volumes, mesh.ply, projections.npy, centreline.npy and truth.json, each if known."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, volume in (
        ("volume.nii.gz", truth.volume),
        ("vessels.nii.gz", truth.label),
        ("arrival_s.nii.gz", truth.arrival),
    ):
        if volume is not None:
            write_volume(folder / name, volume)
    if truth.mesh is not None and len(truth.mesh.faces):
        write_mesh(folder / "mesh.ply", truth.mesh)
    if truth.projections is not None:
        with atomic_path(folder / "projections.npy") as temporary:
            np.save(temporary, truth.projections)
    if truth.points_mm is not None and truth.radius_mm is not None and len(truth.points_mm):
        with atomic_path(folder / "centreline.npy") as temporary:
            np.save(temporary, np.column_stack([truth.points_mm, truth.radius_mm]))
    write_json(folder / "truth.json", {"contract": 1, **description})


def _load(path: Path, shape: tuple[int | None, ...]) -> NDArray[np.float64] | None:
    if not path.exists():
        return None
    try:
        array: NDArray[np.float64] = read_npy(path)
    except ValueError:
        raise InputError(
            f"{path.name} of the truth folder cannot be read: expected a plain NumPy array. Write it again."
        ) from None
    if array.ndim != len(shape) or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True)):
        told = ", ".join("any" if n is None else str(n) for n in shape)
        raise InputError(
            f"{path.name} of the truth folder has the shape {array.shape}: expected ({told}). Write it again."
        )
    return array


def read_truth(folder: Path) -> Truth:
    """The truth of a folder.

    Raises:
        InputError: it does not exist or a file in it cannot be read.
    """
    if not folder.is_dir():
        raise InputError(
            f"There is no truth folder {folder}: expected one with vessels.nii.gz, mesh.ply or "
            "projections.npy."
        )

    def volume(name: str) -> Volume | None:
        return read_volume(folder / name) if (folder / name).exists() else None

    line = _load(folder / "centreline.npy", (None, 4))
    projections = _load(folder / "projections.npy", (None, None, None))
    mesh_file = folder / "mesh.ply"
    return Truth(
        volume("volume.nii.gz"),
        volume("vessels.nii.gz"),
        volume("arrival_s.nii.gz"),
        read_mesh(mesh_file) if mesh_file.exists() else None,
        None if projections is None else projections.astype(np.float32),
        None if line is None else line[:, :3],
        None if line is None else line[:, 3],
    )
