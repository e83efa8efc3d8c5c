"""`splatomy export`: one product of a run as one file."""

from __future__ import annotations

import shutil
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from splatomy.background import beside
from splatomy.capture import Grid
from splatomy.cli.export_mesh import colour_mesh, has_mesh_options, written_mesh
from splatomy.cli.progress import drive
from splatomy.cli.render import grey_top, picture_of
from splatomy.cli.shots import (
    DEFAULT_SIZE_PX,
    Shot,
    check_c_arm,
    check_size,
    check_time,
    chosen_views,
    parse_angles,
    run_views,
    scaled,
    time_range,
)
from splatomy.engine import load_scene
from splatomy.engine.products import sequence_grid
from splatomy.errors import InputError
from splatomy.events import Notice, Progress, Task
from splatomy.extract.mesh import vessel_surface
from splatomy.extract.vessels import vessel_label
from splatomy.geometry.conebeam import cameras_at_angles
from splatomy.geometry.orbit import front_and_up, orbit
from splatomy.io.atomic import atomic_path
from splatomy.io.mesh import MESH_SUFFIXES, read_mesh
from splatomy.io.movie import captioned, open_movie
from splatomy.io.run import RunFolder
from splatomy.io.volume import read_volume, sequence_file, write_volume
from splatomy.scene import Scene, Volume

SUFFIXES = {
    "mesh": MESH_SUFFIXES,
    "volume": (".nii.gz", ".nii", ".nrrd", ".mha", ".seq.nrrd"),
    "gaussians": (".ply",),
    "video": (".mp4",),
}
FRAMES_PER_S = 20
_TURN_S, _LIFT_RAD = 8.0, np.radians(20.0)
_SEQUENCE_TIMES = 20
_FULLEST_SAMPLES = 12


def check_out(path: Path, what: str, force: bool) -> None:
    """Raises InputError for a name that cannot be written as the product, or a file that is there already."""
    if path.is_dir():
        raise InputError(f"{path} is a folder: expected the name of a file. Add one to --out.")
    if not path.name.lower().endswith(SUFFIXES[what]):
        raise InputError(
            f"A {what} file ends with {', '.join(SUFFIXES[what])}: expected such a name, got {path.name}. "
            "Rename --out."
        )
    if path.exists() and not force:
        raise InputError(f"{path} already exists. Use --force to overwrite it, or choose another --out.")


def _check_words(arguments: Namespace) -> None:
    """Raises InputError for options that the product does not have."""
    what = arguments.what
    if what != "video" and (arguments.turn or arguments.cameras or arguments.angles or arguments.size):
        raise InputError(f"--turn, --cameras, --angles and --size are for --what video, not for a {what}.")
    if what != "mesh" and has_mesh_options(arguments):
        raise InputError(f"--surface and the mesh tools are for --what mesh, not for {what}. Leave them out.")
    if what == "gaussians" and arguments.time is not None:
        raise InputError(
            "The Gaussians are exported with their mean over time: expected no --time. "
            "Export the volume instead."
        )
    if what == "video" and arguments.time is not None and not arguments.turn:
        raise InputError("A film plays all times: expected no --time. Add --turn for a turn at one time.")
    if arguments.turn and arguments.cameras:
        raise InputError("--turn moves the camera itself: expected no --cameras. Leave one of them out.")
    if arguments.time is not None and arguments.out.name.lower().endswith(".seq.nrrd"):
        raise InputError("A .seq.nrrd holds all times: expected no --time. Choose .nii.gz for one of them.")


def run_grid(folder: RunFolder) -> Grid:
    """The voxel grid of the run's volumes, also of a run that was stopped before it made them.

    Raises:
        InputError: the run knows none.
    """
    if "clip" in folder.record() or "views" in folder.record():
        raise InputError(
            f"{folder.path.name} was made from pictures in colour, which have surfaces and no volume: "
            "expected --what mesh, gaussians or video. Choose one of them."
        )
    made = folder.path / "volumes" / "volume.nii.gz"
    if made.exists():
        return read_volume(made).grid
    grid = run_views(folder).grid
    if grid is None:
        raise InputError(f"{folder.path.name} has no volume and no grid for one. Let the run finish first.")
    return grid


def volume_at(folder: RunFolder, time_s: float | None) -> Volume:
    """The run's volume at a time, or its mean.

    Raises:
        InputError: the time lies outside the run, or the run holds no scene.
    """
    made = folder.path / "volumes" / "volume.nii.gz"
    if time_s is None and made.exists():
        return read_volume(made)
    grid = run_grid(folder)
    scene = load_scene(folder)
    if time_s is not None:
        check_time(time_s, time_range(folder, scene))
    return scene.volume(grid, time_s)


def _export_mesh(folder: RunFolder, arguments: Namespace) -> Task[None]:
    """The run's own mesh in the wanted format, or the surface at one time; of a clip the first one."""
    made = folder.path / "meshes" / "mesh.ply"
    if "clip" in folder.record() or "views" in folder.record():
        mesh = yield from colour_mesh(folder, arguments)
    elif arguments.surface in ("tsdf", "poisson", "pulled"):
        raise InputError(
            f"--surface {arguments.surface} is made of a scene's depth, which {folder.path.name} does not "
            "have: expected a run of pictures in colour. Leave it out."
        )
    elif arguments.time is None and made.exists():
        mesh = read_mesh(made)
    else:
        volume = volume_at(folder, arguments.time)
        mesh = yield from beside("mesh", 0, 1, lambda: vessel_surface(vessel_label(volume)))
    yield from written_mesh(folder, mesh, arguments)


def _export_volume(folder: RunFolder, arguments: Namespace) -> Task[None]:
    if arguments.out.name.lower().endswith(".seq.nrrd"):
        yield from _export_sequence(folder, arguments.out)
    else:
        write_volume(arguments.out, volume_at(folder, arguments.time))
    yield Progress("volume", 1, 1)


def _export_sequence(folder: RunFolder, out: Path) -> Task[None]:
    """The 4D volume: the run's own file, or made from its scene."""
    made = folder.path / "volumes" / "volume_4d.seq.nrrd"
    if made.exists():
        with atomic_path(out) as temporary:
            shutil.copyfile(made, temporary)
        return
    whole = run_grid(folder)
    scene = load_scene(folder)
    times = np.linspace(*scene.time_range_s, _SEQUENCE_TIMES)
    grid = sequence_grid(whole, len(times))
    coarse = grid.binned(4)
    first = scene.volume(coarse, float(times[0])).values
    if all(np.array_equal(first, scene.volume(coarse, float(t)).values) for t in times[1:]):
        raise InputError(f"{folder.path.name} is static: it has no 4D volume. Export it as .nii.gz.")
    yield from sequence_file(out, (scene.volume(grid, float(t)).values for t in times), times, grid)


def _export_gaussians(folder: RunFolder, arguments: Namespace) -> Task[None]:
    source = folder.path / "scene" / "gaussians.ply"
    if not source.exists():
        raise InputError(f"{folder.path.name} has no Gaussians: its method makes voxels. Export the volume.")
    with atomic_path(arguments.out) as temporary:
        shutil.copyfile(source, temporary)
    yield Progress("gaussians", 1, 1)


def playback_shots(folder: RunFolder, scene: Scene, arguments: Namespace) -> list[Shot]:
    """The frames of a film in real time; without a choice of camera, from the middle input view.

    Raises:
        InputError: the words name no camera, or the run has one time only.
    """
    check_size(arguments.size)
    start, end = scene.time_range_s
    if end <= start:
        raise InputError("The run has one time only, so nothing moves. Use --turn to turn around it instead.")
    arguments.size = arguments.size or DEFAULT_SIZE_PX
    if arguments.cameras is None and arguments.angles is None:
        own = run_views(folder).cameras
        cameras, own_times = scaled(own[len(own) // 2], arguments.size), None
    else:
        views = chosen_views(folder, arguments)
        cameras, own_times = views.cameras, views.times_s
    if own_times is None and len(cameras) > 1:
        raise InputError(
            f"The file holds {len(cameras)} cameras without times: expected one camera, or times_s for all. "
            "Add them."
        )
    shots = []
    for time_s in np.arange(start, end + 0.5 / FRAMES_PER_S, 1 / FRAMES_PER_S).clip(max=end).tolist():
        n = 0 if own_times is None else int(np.argmin(np.abs(own_times - time_s)))
        shots.append(Shot(f"t = {time_s:.2f} s", cameras[n], time_s))
    return shots


def turn_shots(folder: RunFolder, scene: Scene, arguments: Namespace) -> list[Shot]:
    """The frames of one full turn of the C-arm at one time: the given one, or that of most contrast.

    Raises:
        InputError: the angles or the time cannot be used.
    """
    if "views" in folder.record():
        return _round_shots(folder, scene, arguments)
    check_c_arm(folder, "--turn")
    own = run_views(folder)
    primary, secondary = parse_angles(arguments.angles or "0,0", own.positioner_angles)
    check_size(arguments.size)
    size = arguments.size or DEFAULT_SIZE_PX
    if arguments.time is None:
        small = cameras_at_angles(own.cameras, primary, secondary, 64)
        times = np.linspace(*scene.time_range_s, _FULLEST_SAMPLES)
        # Squared, because vessels are few and dark and haze is wide and faint.
        contrast = [np.square(scene.render(small, float(t)).colour).sum() for t in times]
        time_s = float(times[np.argmax(contrast)])
    else:
        time_s = arguments.time
        check_time(time_s, time_range(folder, scene))
    turns = np.arange(round(_TURN_S * FRAMES_PER_S)) / round(_TURN_S * FRAMES_PER_S) * 2 * np.pi
    cameras = cameras_at_angles(own.cameras, primary + turns, np.full(len(turns), secondary), size)
    return [
        Shot(f"t = {time_s:.2f} s, turned {np.degrees(turn):.0f} deg", cameras[n], time_s)
        for n, turn in enumerate(turns)
    ]


def _round_shots(folder: RunFolder, scene: Scene, arguments: Namespace) -> list[Shot]:
    """The frames of one walk around a still scene.

    Raises:
        InputError: angles are given, which only a C-arm has.
    """
    if arguments.angles:
        raise InputError("--angles are a C-arm's: expected none for a still scene. Leave them out.")
    check_size(arguments.size)
    size = arguments.size or DEFAULT_SIZE_PX
    corners = np.stack(np.meshgrid(*scene.bounds_mm.T, indexing="ij"), -1).reshape(-1, 3)
    middle, reach = corners.mean(0), float(np.linalg.norm(np.ptp(corners, axis=0))) / 2
    front, up = front_and_up(run_views(folder).cameras, middle)
    turns = np.arange(round(_TURN_S * FRAMES_PER_S)) / round(_TURN_S * FRAMES_PER_S) * 2 * np.pi
    lifts = np.full(len(turns), _LIFT_RAD)
    # A box's corners are mostly empty, so its half diagonal would leave the thing small.
    cameras = orbit(front, up, middle, 0.75 * reach, turns, lifts, size)
    return [Shot(f"turned {np.degrees(turn):.0f} deg", cameras[n], 0.0) for n, turn in enumerate(turns)]


def _pictures(scene: Scene, shots: list[Shot]) -> Iterator[NDArray[np.uint8]]:
    """The captioned frames, one grey scale for all; a colour scene keeps its colours."""
    top: float | None = None
    for shot in shots:
        made = scene.render(shot.camera, shot.time_s).colour[0]
        if top is None:
            top = grey_top(scene, shots) if made.shape[-1] == 1 else 1.0
        image = picture_of("colour", made, top)
        yield captioned(image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2), shot.name)


def _check_moves(scene: Scene, shots: list[Shot], name: str) -> None:
    """Raises InputError if a film would be one picture repeated."""
    some = [shots[n] for n in np.linspace(0, len(shots) - 1, 6).astype(int)]
    images = [scene.render(scaled(s.camera, 64), s.time_s).colour for s in some]
    if all(np.array_equal(images[0], image) for image in images[1:]):
        raise InputError(f"{name} is static, so nothing moves. Use --turn to go round it instead.")


def _export_video(folder: RunFolder, arguments: Namespace) -> Task[None]:
    """A film of synthetic DSA pictures: all times in real time, or one turn of the C-arm."""
    scene = load_scene(folder)
    shots = (turn_shots if arguments.turn else playback_shots)(folder, scene, arguments)
    _check_moves(scene, shots, folder.path.name)
    yield Progress("video", 0, len(shots))
    camera = shots[0].camera
    with open_movie(arguments.out, camera.width_px, camera.height_px, FRAMES_PER_S) as movie:
        if not movie.is_h264:
            yield Notice(
                "warning", "no-h264", "There is no H.264 encoder here: the film is written as MPEG-4 part 2."
            )
        for n, picture in enumerate(_pictures(scene, shots)):
            movie.add(picture)
            yield Progress("video", n + 1, len(shots))


_TASKS = {
    "mesh": _export_mesh,
    "volume": _export_volume,
    "gaussians": _export_gaussians,
    "video": _export_video,
}


def export(arguments: Namespace) -> None:
    """Writes one product of a run to one file."""
    check_out(arguments.out, arguments.what, arguments.force)
    _check_words(arguments)
    folder = RunFolder(arguments.run)
    folder.record()
    drive(_TASKS[arguments.what](folder, arguments))
    sys.stdout.write(f"Written: {arguments.out}\n")
