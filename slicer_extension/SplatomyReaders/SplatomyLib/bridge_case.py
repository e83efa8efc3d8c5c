"""Whole runs and cases in a scene: everything of a folder at its place, in one hierarchy folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from SplatomyLib import (
    bridge_frames,
    bridge_markups,
    bridge_masks,
    bridge_models,
    bridge_tables,
    bridge_view_masks,
    bridge_volumes,
)
from SplatomyLib.bridge_nodes import RUN, folder, put_into, world_transform
from SplatomyLib.casefile import is_case, open_case
from SplatomyLib.files import RunFolder, UnusableFile, open_run, read_json
from SplatomyLib.geometry import World, world_of_run

INPUT, CASE = "Splatomy.Input", "Splatomy.Case"
_MAPS = {"arrival_s": "arrival", "peak_s": "peak", "transit_s": "transit"}
# More meshes than these take more memory than a scene bundle should.
_MOST_MESHES = 200
_MOST_BRANCHES = 12


@dataclass
class Loaded:
    """What a folder became: its item in the subject hierarchy, its transform, and nodes by what they are."""

    item: int
    world: World
    transform: Any = None
    nodes: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def all_nodes(self) -> list[Any]:
        """Every node, lists flattened."""
        found: list[Any] = []
        for value in (self.transform, *self.nodes.values()):
            found.extend(value if isinstance(value, list) else [value])
        return [node for node in found if node is not None]


def load_input(
    scene: Any, frames_folder: Path, name: str, case: Path | None = None, source: Path | None = None
) -> Loaded:
    """The frames of an input as a sequence, and its masks: those of the case, or those given with it.

    frames_folder: what ``splatomy frames`` wrote. source: the input itself, remembered for runs.

    Raises:
        UnusableFile: the folder cannot be used, or the case is about other frames.
    """
    about = read_json(frames_folder / "frames.json")
    world = world_of_run(about)
    loaded = Loaded(folder(scene, name), world, world_transform(scene, world, name))
    loaded.problems += [str(text) for text in about.get("problems", [])]
    browser = bridge_frames.load_frames(scene, frames_folder, name)
    browser.SetAttribute(INPUT, "" if source is None else str(source))
    browser.SetAttribute(CASE, "" if case is None else str(case))
    loaded.nodes["browser"] = browser
    loaded.nodes["frames"] = browser.GetMasterSequenceNode()
    loaded.nodes["picture"] = browser.GetProxyNode(loaded.nodes["frames"])
    if about["modality"] == "colour" and _is_still(about):
        masks = bridge_view_masks.load_view_masks(scene, frames_folder, about, name, browser)
        if masks is not None:
            loaded.nodes["view masks"], loaded.nodes["view mask"] = masks, browser.GetProxyNode(masks)
    elif about["modality"] == "colour":
        _load_clip_masks(scene, loaded, frames_folder, about, name, case)
    if (frames_folder / "views.json").is_file():
        loaded.nodes["cameras"] = bridge_frames.load_cameras(
            scene, frames_folder / "views.json", name, browser, world, loaded.transform
        )
    put_into(scene, loaded.item, loaded.all_nodes())
    return loaded


def _is_still(about: dict[str, Any]) -> bool:
    """True for the views of a still scene: all have one time."""
    return len(about["times_s"]) > 1 and len(set(about["times_s"])) == 1


def _load_clip_masks(
    scene: Any, loaded: Loaded, frames_folder: Path, about: dict[str, Any], name: str, case: Path | None
) -> None:
    shape = int(about["height_px"]), int(about["width_px"])
    count = len(about["times_s"])
    states: tuple[str, ...] = ("untouched",) * count
    if case is not None and is_case(case):
        opened = open_case(case)
        if opened.masks.shape != (count, *shape):
            raise UnusableFile(
                f"The case {opened.folder.name} is about other frames than {name}. Make it anew."
            )
        masks, states = opened.masks, opened.states
    elif about.get("masks"):
        files = [frames_folder / "occluded" / f"{number:06d}.png" for number in range(count)]
        masks = np.stack([bridge_frames.read_picture(file) > 0 for file in files])
        states = ("edited",) * count
    else:
        masks = np.zeros((count, *shape), bool)
    times = bridge_frames.distinct_times(about["times_s"])
    browser = loaded.nodes["browser"]
    loaded.nodes["masks"] = bridge_masks.load_masks(scene, masks, times, name, browser, states)
    loaded.nodes["mask"] = browser.GetProxyNode(loaded.nodes["masks"])


def load_run(scene: Any, path: Path, name: str | None = None) -> Loaded:
    """Everything of a run: volumes, maps, label, meshes, centrelines, Gaussians, views, figures, curves.

    What cannot be read is named in ``problems``; the rest is loaded.

    Raises:
        UnusableFile: no run folder.
    """
    run = open_run(path)
    title = name or run.name
    world = run.world
    loaded = Loaded(folder(scene, title), world, world_transform(scene, world, title))
    if not run.is_done:
        state = run.record.get("state", "unknown")
        loaded.problems.append(f"This run is not finished (state: {state}). It can be resumed.")
    for part in (_load_volumes, _load_surfaces, _load_renders, _load_figures):
        part(scene, run, loaded, title)
    put_into(scene, loaded.item, loaded.all_nodes())
    for node in loaded.all_nodes():
        node.SetAttribute(RUN, str(run.path))
    return loaded


def _tried(loaded: Loaded, key: str, load: Any, *arguments: Any) -> Any:
    """Loads one part; a part that is unusable becomes a problem, not the end of the others."""
    try:
        loaded.nodes[key] = load(*arguments)
    except UnusableFile as error:
        loaded.problems.append(str(error))
        return None
    return loaded.nodes[key]


def _load_volumes(scene: Any, run: RunFolder, loaded: Loaded, title: str) -> None:
    place = (loaded.world, loaded.transform)
    file = run.existing("volumes", "volume.nii.gz")
    if file is not None:
        volume = _tried(loaded, "volume", bridge_volumes.load_volume, scene, file, f"{title} volume", *place)
        if volume is not None:
            loaded.nodes["rendering"] = bridge_volumes.show_vessels(scene, volume)
    label = run.existing("volumes", "vessels.nii.gz")
    if label is not None:
        _tried(loaded, "vessels", bridge_volumes.load_label, scene, label, f"{title} vessels", *place)
    for stem, what in _MAPS.items():
        file = run.existing("volumes", f"{stem}.nii.gz")
        if file is not None:
            _tried(loaded, what, bridge_volumes.load_time_map, scene, file, f"{title} {what} time", *place)
    file = run.existing("volumes", "volume_4d.seq.nrrd")
    if file is not None:
        browser = _tried(
            loaded, "browser_4d", bridge_volumes.load_volume_4d, scene, file, f"{title} 4D", *place
        )
        if browser is not None:
            loaded.nodes["volume_4d"] = browser.GetMasterSequenceNode()
            loaded.nodes["volume_now"] = browser.GetProxyNode(loaded.nodes["volume_4d"])


def _load_surfaces(scene: Any, run: RunFolder, loaded: Loaded, title: str) -> None:
    place = (loaded.world, loaded.transform)
    mesh = run.existing("meshes", "mesh.ply")
    if mesh is not None:
        _tried(loaded, "mesh", bridge_models.load_mesh, scene, mesh, f"{title} surface", *place)
        if "mesh" in loaded.nodes and "vessels" in loaded.nodes:
            # Both are the wall; the mesh knows it between the voxels.
            loaded.nodes["vessels"].GetDisplayNode().SetVisibility3D(False)
    moving = run.meshes()
    if moving:
        step = -(-len(moving) // _MOST_MESHES)
        if step > 1:
            loaded.problems.append(f"Every {step}th of {len(moving)} meshes was loaded, to save memory.")
        browser = bridge_frames.new_browser(scene, f"{title} over time")
        loaded.nodes["browser"] = browser
        arguments = (scene, moving[::step], f"{title} surface", browser, *place)
        if _tried(loaded, "meshes", bridge_models.load_moving_mesh, *arguments) is not None:
            browser.SetPlaybackRateFps(bridge_frames.playback_fps([t for t, _ in moving[::step]]))
            loaded.nodes["mesh"] = browser.GetProxyNode(loaded.nodes["meshes"])
    lines = run.existing("volumes", "centreline.vtp")
    if lines is not None:
        name = f"{title} centrelines"
        model = _tried(loaded, "centreline", bridge_models.load_centreline, scene, lines, name, *place)
        if model is not None:
            loaded.nodes["branches"] = _longest_branches(scene, model, title, loaded)
    gaussians = run.existing("scene", "gaussians.ply")
    if gaussians is not None:
        name = f"{title} Gaussians"
        model = _tried(loaded, "gaussians", bridge_models.load_gaussians, scene, gaussians, name, *place)
        if model is not None:
            model.GetDisplayNode().SetVisibility(False)


def _load_renders(scene: Any, run: RunFolder, loaded: Loaded, title: str) -> None:
    cameras = run.existing("scene", "cameras.json")
    if cameras is None or run.existing("renders", "frame_0000.png") is None:
        return
    times = read_json(cameras).get("times_s") or []
    browser = loaded.nodes.get("browser")
    if browser is None:
        browser = loaded.nodes["browser"] = bridge_frames.new_browser(scene, f"{title} views")
        browser.SetPlaybackRateFps(bridge_frames.playback_fps(times))
    arguments = (run.path / "renders", times, f"{title} synthetic views", browser, loaded.world)
    if _tried(loaded, "renders", bridge_frames.load_renders, scene, *arguments) is not None:
        loaded.nodes["render"] = browser.GetProxyNode(loaded.nodes["renders"])


def _longest_branches(scene: Any, model: Any, title: str, loaded: Loaded) -> list[Any]:
    """Curves of the longest branches, hidden: a tree of hundreds would fill the scene."""
    lines = bridge_models.branches(model)
    lengths = [float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum()) for line in lines]
    curves = []
    for rank, number in enumerate(np.argsort(lengths)[::-1][:_MOST_BRANCHES]):
        curve = bridge_markups.curve_of_branch(
            scene, lines[number], f"{title} branch {rank + 1}", loaded.transform, loaded.world.unit
        )
        curve.GetDisplayNode().SetVisibility(False)
        curves.append(curve)
    return curves


def _load_figures(scene: Any, run: RunFolder, loaded: Loaded, title: str) -> None:
    figures: dict[str, Any] = {}
    for name in ("metrics.json", "evaluation.json"):
        file = run.existing(name)
        if file is not None:
            try:
                figures.update(read_json(file))
            except UnusableFile as error:
                loaded.problems.append(str(error))
    if figures:
        unit = loaded.world.unit
        loaded.nodes["metrics"] = bridge_tables.load_metrics(scene, figures, f"{title} figures", unit)
    events = run.existing("events.jsonl")
    curve = None if events is None else bridge_tables.training_curve(events)
    if curve is not None:
        steps, values, what = curve
        table, chart = bridge_tables.load_curve(scene, steps, values, ("step", what), f"{title} training")
        loaded.nodes["training"], loaded.nodes["training chart"] = table, chart
    browser = loaded.nodes.get("browser_4d")
    if browser is not None:
        times, mean = bridge_volumes.enhancement_curve(browser)
        titles = ("time (s)", "mean attenuation (1/mm)")
        table, chart = bridge_tables.load_curve(scene, times, mean, titles, f"{title} enhancement")
        loaded.nodes["enhancement"], loaded.nodes["enhancement chart"] = table, chart


def save_bundle(scene: Any, path: Path) -> None:
    """The whole scene as one .mrb file.

    Raises:
        UnusableFile: it cannot be written.
    """
    if path.suffix != ".mrb":
        raise ValueError("a scene bundle ends in .mrb")
    if not scene.WriteToMRB(str(path)):
        raise UnusableFile(f"{path.name} cannot be written. Check the folder and the space in it.")
