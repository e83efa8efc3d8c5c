"""Pictures with depth and poses: 7-Scenes, ScanNet (and objects cut from it, as O2-Recon keeps them), TUM.

Poses are camera-to-world in metres with OpenCV axes in all of them.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.geometry.rigid import inverse
from splatomy.io.frames import natural_key, picture_files, read_picture
from splatomy.io.image_sets.source import ImageSetSource, View
from splatomy.io.listed import listed_file
from splatomy.io.options import InputOptions
from splatomy.io.poses import quaternion_matrices, read_rows

_METRES = 1000.0
_SEVEN_SCENES = re.compile(r"frame-\d+\.color\.(png|jpe?g)$")
_SEVEN_SCENES_FOCAL = 585.0
_TUM_LENSES = {
    "freiburg1": (517.3, 516.5, 318.6, 255.3),
    "freiburg2": (520.9, 521.0, 325.1, 249.7),
    "freiburg3": (535.4, 539.2, 320.1, 247.6),
}
_TUM_DEPTH = 1 / 5000
_TUM_APART_S = 0.02
_TUM_PAIRS = ("associations.txt", "association.txt", "associated.txt", "associate.txt", "assoc.txt")
_COLOURS = ("color", "image", "origin_image", "rgb")


def is_seven_scenes(folder: Path) -> bool:
    """True if a folder holds frame-N.color, .depth and .pose files."""
    colour = next((p for p in folder.iterdir() if _SEVEN_SCENES.match(p.name)), None)
    return colour is not None and (folder / (colour.name.split(".")[0] + ".pose.txt")).is_file()


def is_scannet(folder: Path) -> bool:
    """True if a folder holds color (or image), depth, pose and intrinsic."""
    wanted = all((folder / name).is_dir() for name in ("depth", "pose", "intrinsic"))
    return wanted and any((folder / name).is_dir() for name in _COLOURS)


def is_tum(folder: Path) -> bool:
    """True if a folder holds groundtruth.txt, and rgb.txt with depth.txt or a list that pairs them."""
    if not (folder / "groundtruth.txt").is_file():
        return False
    lists = all((folder / name).is_file() for name in ("rgb.txt", "depth.txt"))
    return lists or _pairs_file(folder) is not None


def _pairs_file(folder: Path) -> Path | None:
    """The list of pictures with their depth maps, as TUM's associate.py writes it."""
    return next((folder / name for name in _TUM_PAIRS if (folder / name).is_file()), None)


def _pose(path: Path) -> NDArray[np.float64] | None:
    """camera_from_world (4, 4) of a file with a camera-to-world matrix; None where tracking was lost."""
    try:
        rows = read_rows(path)
    except (InputError, OSError):
        return None
    if rows.shape not in ((4, 4), (3, 4)) or not np.isfinite(rows).all():
        return None
    rotation = rows[:3, :3]
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > 0.02 or np.linalg.det(rotation) < 0:
        return None
    matrix = np.eye(4)
    matrix[:3] = rows[:3]
    return inverse(matrix)


def _intrinsics(path: Path) -> NDArray[np.float64]:
    rows = read_rows(path) if path.is_file() else np.zeros((0, 0))
    if rows.ndim != 2 or min(rows.shape, default=0) < 3 or not (rows[0, 0] > 0 and rows[1, 1] > 0):
        raise InputError(f"{path.name} holds no 3x3 lens matrix in px: copy it again.")
    matrix = np.eye(3)
    matrix[:2] = rows[:2, :3]
    return matrix


def _source(
    layout: str, views: list[View], lost: int, depth_unit: float, no_depth: tuple[float, ...], **more: object
) -> ImageSetSource:
    if not views:
        raise InputError(
            f"The {layout} holds no picture with a readable pose; expected 4x4 camera-to-world matrices in "
            "metres: copy it again."
        )
    with_depth = sum(v.depth is not None for v in views)
    problems = (f"{lost} pictures without a pose are left out.",) if lost else ()
    return ImageSetSource(
        layout=layout,
        views=tuple(views),
        unit_mm=_METRES,
        depth_unit=depth_unit,
        no_depth=no_depth,
        axes="camera-to-world, opencv axes, metres",
        found=(f"{len(views)} pictures", f"{with_depth} depth maps"),
        problems=problems,
        **more,  # type: ignore[arg-type]
    )


def seven_scenes_source(folder: Path, options: InputOptions) -> ImageSetSource:
    """The views of a 7-Scenes folder; its depth maps are millimetres, 0 and 65535 = unknown."""
    files = sorted((p for p in folder.iterdir() if _SEVEN_SCENES.match(p.name)), key=lambda p: p.name)
    lens_file = folder / "camera-intrinsics.txt"
    assumed: tuple[str, ...] = ()
    if lens_file.is_file():
        lens = _intrinsics(lens_file)
    else:
        focal = _SEVEN_SCENES_FOCAL
        lens = np.array([[focal, 0, 320.0], [0, focal, 240.0], [0, 0, 1]])
        assumed = (f"the lens of the 7-Scenes camera ({focal:g} px)",)
    views, lost = [], 0
    for file in files:
        stem = file.name.split(".")[0]
        pose = _pose(folder / f"{stem}.pose.txt")
        if pose is None:
            lost += 1
            continue
        depth = folder / f"{stem}.depth.png"
        views.append(View(file, lens, pose, depth=depth if depth.is_file() else None))
    return _source(
        "7-Scenes folder", views, lost, 1 / _METRES, (0.0, 65535.0), assumed=assumed,
        input_files=(lens_file,) if lens_file.is_file() else (),
    )  # fmt: skip


def scannet_source(folder: Path, options: InputOptions) -> ImageSetSource:
    """The views of a ScanNet scene or of one object of it; depth maps are millimetres.

    An object's folder has mask/ (the object) and semantic.txt (its class); ours may have occluder/ (what
    hides it).
    """
    colour = next(folder / name for name in _COLOURS if (folder / name).is_dir())
    if colour.name == "image" and (folder / "origin_image").is_dir():
        # In an object's folder image/ has a black background; the recorded picture is the honest one.
        colour = folder / "origin_image"
    lens, depth_lens = _scannet_lenses(folder)
    pictures = picture_files(colour)
    poses = {p.stem: p for p in (folder / "pose").glob("*.txt")}
    depths = {p.stem: p for p in picture_files(folder / "depth")}
    masks, occluders = (
        {p.stem: p for p in picture_files(folder / name)} if (folder / name).is_dir() else {}
        for name in ("mask", "occluder")
    )
    views, lost = [], 0
    for picture in pictures:
        pose = _pose(poses[picture.stem]) if picture.stem in poses else None
        if pose is None:
            lost += 1
            continue
        depth = depths.get(picture.stem)
        views.append(
            View(
                picture,
                lens,
                pose,
                mask=masks.get(picture.stem),
                occluder=occluders.get(picture.stem),
                depth=depth,
                depth_intrinsics=depth_lens,
            )
        )
    words = folder / "semantic.txt"
    name = words.read_text(encoding="utf-8", errors="replace").strip()[:80] if words.is_file() else None
    layout = "ScanNet scene" if not masks else "ScanNet object"
    return _source(layout, views, lost, 1 / _METRES, (0.0, 65535.0), name=name or None)


def _scannet_lenses(folder: Path) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Lens of the pictures, and that of the depth maps if it differs."""
    where = folder / "intrinsic"
    colour, depth = where / "intrinsic_color.txt", where / "intrinsic_depth.txt"
    if not colour.is_file():
        colour = depth
    lens = _intrinsics(colour)
    own = _intrinsics(depth) if depth.is_file() else lens
    return lens, None if np.allclose(own, lens) else own


def tum_source(folder: Path, options: InputOptions) -> ImageSetSource:
    """The views of a TUM sequence: each picture with the depth map and the pose nearest in time (20 ms)."""
    colours, depths = _tum_files(folder)
    truth = read_rows(folder / "groundtruth.txt")
    if truth.ndim != 2 or truth.shape[1] != 8:
        raise InputError("groundtruth.txt must hold rows of time, translation and quaternion: copy it again.")
    matrices = inverse(quaternion_matrices(truth[:, 1:4], truth[:, 4:8], folder / "groundtruth.txt"))
    depth_times = np.array([t for t, _ in depths])
    lens, assumed = _tum_lens(folder)
    views, lost = [], 0
    for time, picture in colours:
        nearest = int(np.abs(truth[:, 0] - time).argmin())
        if abs(truth[nearest, 0] - time) > _TUM_APART_S:
            lost += 1
            continue
        depth = None
        if len(depth_times):
            at = int(np.abs(depth_times - time).argmin())
            depth = depths[at][1] if abs(depth_times[at] - time) <= _TUM_APART_S else None
        views.append(View(picture, lens, matrices[nearest], depth=depth))
    if colours and not views:
        raise InputError(
            f"No picture has a pose within {1000 * _TUM_APART_S:g} ms: the pictures' times run from "
            f"{colours[0][0]:.3f} to {colours[-1][0]:.3f} s, those of groundtruth.txt from "
            f"{truth[:, 0].min():.3f} to {truth[:, 0].max():.3f} s; expected one clock: copy the poses of "
            "this sequence."
        )
    return _source("TUM sequence", views, lost, _TUM_DEPTH, (0.0,), assumed=assumed)


def _tum_files(folder: Path) -> tuple[list[tuple[float, Path]], list[tuple[float, Path]]]:
    """Times and files of the pictures and of the depth maps, of two lists or of one that pairs them."""
    lists = [folder / "rgb.txt", folder / "depth.txt"]
    pairs = _pairs_file(folder)
    if all(path.is_file() for path in lists) or pairs is None:
        return _listed(folder, lists[0], 0), _listed(folder, lists[1], 0)
    first, second = _listed(folder, pairs, 0), _listed(folder, pairs, 2)
    # Either may come first; the folder's name tells.
    turned = any("depth" in path.parent.name.lower() for _, path in first[:1])
    return (second, first) if turned else (first, second)


def _listed(folder: Path, file: Path, column: int) -> list[tuple[float, Path]]:
    """Times and files of a list, from a column on; files that are missing or lie elsewhere are left out."""
    found = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if len(words) < column + 2 or words[0].startswith("#"):
            continue
        path = listed_file(folder, words[column + 1])
        if path is not None:
            try:
                found.append((float(words[column]), path))
            except ValueError:
                continue
    return sorted(found, key=lambda item: (item[0], natural_key(item[1].name)))


def _tum_lens(folder: Path) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    for name in ("intrinsics.txt", "camera-intrinsics.txt"):
        if (folder / name).is_file():
            return _intrinsics(folder / name), ()
    for name, (fx, fy, cx, cy) in _TUM_LENSES.items():
        if name in folder.name.lower():
            return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]), (f"the lens published for {name}",)
    picture = next(iter(picture_files(folder / "rgb")), None) if (folder / "rgb").is_dir() else None
    height, width = read_picture(picture).shape[:2] if picture else (480, 640)
    focal = 525.0 * width / 640
    lens = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])
    return lens, (f"a depth camera's usual lens ({focal:g} px), since there is no intrinsics.txt",)
