"""What a file or folder is, and which part of the extension takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer

from SplatomyLib import bridge_case, bridge_models
from SplatomyLib.casefile import is_case
from SplatomyLib.files import is_dsa_folder, is_gaussian_ply, is_run, is_view_folder
from SplatomyLib.geometry import World

RUN, CASE, DSA, GAUSSIANS, VIEWS = "run", "case", "dsa", "gaussians", "views"
_MODULES = {CASE: "SplatomyEndoscopy", DSA: "SplatomyAngiography", VIEWS: "SplatomySurface"}


def kind_of(path: Path) -> str:
    """One of ``RUN``, ``CASE``, ``DSA``, ``VIEWS``, ``GAUSSIANS``, or "" for everything else."""
    if path.is_dir() or path.name in ("run.json", "case.json", "transforms.json"):
        for kind, is_kind in (
            (CASE, is_case), (RUN, is_run), (DSA, is_dsa_folder), (VIEWS, is_view_folder)
        ):  # fmt: skip
            if is_kind(path):
                return kind
        return ""
    return GAUSSIANS if path.suffix.lower() == ".ply" and is_gaussian_ply(path) else ""


def load_into(scene: Any, path: Path) -> list[Any]:
    """Loads a file or folder of a known kind; the nodes that are there at once.

    Runs and Gaussians are read here. Cases, DSA folders and image sets need the engine: their module opens,
    and the frames come when the engine has read them.

    Raises:
        UnusableFile: damaged.
        ValueError: of no known kind.
    """
    kind = kind_of(path)
    folder = path if path.is_dir() else path.parent
    if kind == RUN:
        return bridge_case.load_run(scene, folder).all_nodes()
    if kind == GAUSSIANS:
        return [bridge_models.load_gaussians(scene, path, path.stem, world_beside(path))]
    if kind in _MODULES:
        open_in_module(_MODULES[kind], folder)
        return []
    raise ValueError(f"{path.name} is nothing that Splatomy reads")


def world_beside(path: Path) -> World:
    """The world of RUN/scene/FILE or RUN/live/FILE; of any other file: first camera, without a unit."""
    run = path.parent.parent
    if is_run(run):
        return bridge_case.open_run(run).world
    return World("first camera", metric=False)


def open_in_module(name: str, path: Path) -> None:
    """Shows a module of ours and lets it load an input."""
    slicer.util.selectModule(name)
    slicer.util.getModuleWidget(name).open_run(path)
