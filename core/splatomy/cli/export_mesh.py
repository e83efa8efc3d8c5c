"""`splatomy export --what mesh`: whose surface, and which tools it goes through."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from splatomy.background import beside
from splatomy.cli.shots import check_time, run_views, time_range
from splatomy.engine import load_scene
from splatomy.engine.tissue_surface import pulled_tissue_mesh
from splatomy.errors import InputError
from splatomy.events import Notice, Progress, Task
from splatomy.extract.mesh_tools import MeshTools, mesh_figures, tidied
from splatomy.extract.open3d_baselines import poisson_mesh, tsdf_mesh
from splatomy.geometry.cameras import Cameras
from splatomy.io.frames import read_picture
from splatomy.io.mesh import read_mesh, write_mesh
from splatomy.io.run import RunFolder
from splatomy.scene import Mesh

_MOST_VIEWS = 80
TOOLS = ("trim_views", "keep_largest", "fill_holes_mm", "smooth", "decimate")


def has_mesh_options(arguments: Namespace) -> bool:
    """True if an option was given that only a mesh has."""
    return arguments.surface is not None or any(getattr(arguments, name) for name in TOOLS)


def tools_of(arguments: Namespace) -> MeshTools:
    """The tools that were asked for.

    Raises:
        InputError: a value is impossible.
    """
    return MeshTools(
        trim_views=arguments.trim_views,
        keep_largest=arguments.keep_largest,
        fill_holes=arguments.fill_holes_mm,
        smooth=arguments.smooth,
        decimate=arguments.decimate,
    )


def colour_mesh(folder: RunFolder, arguments: Namespace) -> Task[Mesh]:
    """The surface of a run of pictures in colour, at a time; of a clip without one the first.

    Raises:
        InputError: there is none.
    """
    scene = load_scene(folder)
    if arguments.surface in ("tsdf", "poisson"):
        cameras = run_views(folder).cameras
        some = np.unique(np.linspace(0, len(cameras) - 1, min(_MOST_VIEWS, len(cameras))).astype(int))
        make = tsdf_mesh if arguments.surface == "tsdf" else poisson_mesh
        return (yield from make(scene, cameras[some]))
    made = folder.path / "meshes" / "mesh.ply"
    if "views" in folder.record() and made.exists() and arguments.surface != "pulled":
        return read_mesh(made)
    if "surface" not in scene.abilities:
        raise InputError(f"{folder.path.name} holds no surface yet. Let the run finish with --resume.")
    time_s = scene.time_range_s[0] if arguments.time is None else arguments.time
    check_time(time_s, time_range(folder, scene))
    if arguments.surface == "pulled":
        return (yield from pulled_tissue_mesh(scene, time_s))
    return scene.surface(time_s)


def written_mesh(folder: RunFolder, mesh: Mesh, arguments: Namespace) -> Task[None]:
    """Writes the mesh after the chosen tools; what each did, and what the mesh is then, comes as a Notice."""
    tools = tools_of(arguments)
    if tools != MeshTools():
        cameras = hidden = None
        if tools.trim_views:
            cameras, hidden = run_views(folder).cameras, _hidden(folder, run_views(folder).cameras)
        mesh, steps = yield from tidied(mesh, tools, cameras, hidden)
        for step in steps:
            yield Notice("info", "mesh-tool", f"{step.text()}.")
        figures = yield from beside("mesh tools", 1, 1, lambda: mesh_figures(mesh))
        unit = "mm" if folder.record().get("metric", True) is not False else "units"
        rows = "; ".join(f"{name} {value}" for name, value in figures.rows(unit).items())
        yield Notice("info", "mesh-figures", f"The mesh: {rows}.")
    yield from beside("mesh", 0, 1, lambda: write_mesh(arguments.out, mesh))
    yield Progress("mesh", 1, 1)


def _hidden(folder: RunFolder, cameras: Cameras) -> NDArray[np.bool_] | None:
    """Pixels (T, H, W) of the views that show something else, as the run kept them; None = none."""
    files: list[Path] = sorted((folder.path / "prepared" / "occluded").glob("*.png"))
    if len(files) != len(cameras):
        return None
    return np.stack([np.asarray(read_picture(file)) > 127 for file in files])
