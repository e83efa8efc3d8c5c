"""The object phantom on the command line."""

from __future__ import annotations

from pathlib import Path

from splatomy.events import Task
from splatomy.io.image_sets import write_object_folder, write_object_truth
from splatomy.io.mesh import read_mesh
from splatomy.phantoms.object import make_object


def written_object(case: Path, preset: str, seed: int, mesh_file: Path | None) -> Task[None]:
    """Simulates the views of an object and writes them as an RGB-D object folder, with truth/.

    mesh_file: a shape of the user's own, of any unit.

    Raises:
        InputError: no such preset, or the mesh cannot be read.
    """
    mesh = None if mesh_file is None else read_mesh(mesh_file)
    phantom = yield from make_object(preset, seed, mesh)
    yield from write_object_folder(
        case, phantom.images, phantom.cameras, phantom.target, phantom.occluder, phantom.depth_mm, "object"
    )
    description = {"provenance": list(phantom.provenance)}
    truth = case / "truth"
    yield from write_object_truth(truth, phantom.mesh, phantom.rgb, phantom.true_depth_mm, description)
