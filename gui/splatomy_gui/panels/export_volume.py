"""What can be written for a vessel volume that was opened without a run."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from splatomy.errors import InputError
from splatomy.events import Progress, Task
from splatomy_gui.command import run_command


def vessel_folder(source: Path, out: Path) -> Task[Path]:
    """The folder ``out`` with label, surface, centrelines, and time maps of a volume over time.

    Raises:
        InputError: no volume, or it cannot be measured.
    """
    yield from run_command("vessels", str(source), "--out", str(out))
    return out


def volume_file(source: Path, out: Path, time_s: float | None) -> Task[Path]:
    """A volume in another format. time_s: of a volume over time the moment, None = its mean.

    Raises:
        InputError: the file cannot be read.
    """
    from splatomy.io.volume import is_volume_4d, read_volume, read_volume_4d, write_volume
    from splatomy.scene import Volume

    yield Progress("volume", 0, 2)
    if is_volume_4d(source):
        values, times_s, grid = read_volume_4d(source)
        chosen = values.mean(0) if time_s is None else values[int(np.abs(times_s - time_s).argmin())]
        volume = Volume(np.asarray(chosen, dtype=np.float32), grid.affine_mm)
    else:
        volume = read_volume(source)
    yield Progress("volume", 1, 2)
    write_volume(out, volume)
    return out


def sequence_file_of(source: Path, out: Path) -> Task[Path]:
    """A volume over time as a sequence of 3D Slicer.

    Raises:
        InputError: the file cannot be read.
    """
    from splatomy.io.volume import read_volume_4d, sequence_file

    yield Progress("volume", 0, 1)
    values, times_s, grid = read_volume_4d(source)
    yield from sequence_file(out, iter(values), times_s, grid)
    return out


def surface_file(source: Path, out: Path, time_s: float | None) -> Task[Path]:
    """The vessels' surface as a mesh. time_s: as of ``volume_file``.

    Raises:
        InputError: the volume cannot be read, or shows no vessel.
    """
    from splatomy.io.mesh import read_mesh, write_mesh

    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        still, made = Path(folder) / "volume.nii.gz", Path(folder) / "vessels"
        yield from volume_file(source, still, time_s)
        yield from vessel_folder(still, made)
        mesh = made / "meshes" / "mesh.ply"
        if not mesh.is_file():
            raise InputError(
                f"{source.name} shows no vessel, so it has no surface; expected values that are high in "
                "vessels: choose another time, or another volume."
            )
        write_mesh(out, read_mesh(mesh))
    return out
