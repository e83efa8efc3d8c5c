"""Objects of ScanNet scenes: their instance masks, folders with one object each, and masks drawn for them.

A scene holds color/, depth/, pose/, intrinsic/, instance-filt/ and label-filt/; one level up lies
scannetv2-labels.combined.tsv. An object's folder is what ``image_sets.rgbd`` reads: origin_image/, image/
(the object before black), mask/, depth/, pose/, inst/, intrinsic/, semantic.txt, views renumbered from 0.
Source: the layout of O2-Recon's release (sheet, section 2).
"""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.checks import is_whole_number
from splatomy.errors import InputError
from splatomy.events import Progress, Task
from splatomy.io.atomic import write_bytes, write_json
from splatomy.io.frames import picture_files, read_picture, read_rgb, write_picture
from splatomy.io.mask_folder import foreground
from splatomy.io.poses import read_rows

Bool = NDArray[np.bool_]

_TABLE = "scannetv2-labels.combined.tsv"
_DRAWN = re.compile(r"^(\d+)_class_inpaint mask\.png$", re.IGNORECASE)
_BACKGROUND = frozenset({0, 1, 2, 8, 9, 11, 13, 16, 20, 22, 38})
"""NYU40 classes that are no objects: walls, floors, doors, windows, pictures and the like."""
_BACKGROUND_NAMES = frozenset({"fireplace"})
_LEAST_SHARE = 40_000 / (1296 * 968)
"""A view counts if the object covers this share of it: 40,000 px of the recorded size."""


@dataclass(frozen=True)
class SceneObject:
    """One instance of a scene.

    number: its instance id. name: its class. views: (V,) indices of the scene's pictures that show enough of
    it. pixels: (V,) how much. world_from_camera: (V, 4, 4), metres.
    """

    number: int
    name: str
    views: NDArray[np.int64]
    pixels: NDArray[np.int64]
    world_from_camera: NDArray[np.float64]


def is_instance_scene(folder: Path) -> bool:
    """True if a folder is a ScanNet scene with instance masks."""
    return folder.is_dir() and all((folder / n).is_dir() for n in ("color", "pose", "instance-filt"))


def list_objects(scene: Path, min_views: int = 20) -> Task[list[SceneObject]]:
    """The objects of a scene that at least ``min_views`` views show well enough.

    Raises:
        InputError: the folder is no scene with instance masks, or a file cannot be read.
    """
    if not is_instance_scene(scene):
        raise InputError(
            f"{scene.name} is no ScanNet scene with objects; expected color/, pose/ and instance-filt/ "
            "in it: choose another folder."
        )
    classes = _classes(scene)
    pictures = picture_files(scene / "color")
    instances = {p.stem: p for p in picture_files(scene / "instance-filt")}
    labels = (
        {p.stem: p for p in picture_files(scene / "label-filt")} if (scene / "label-filt").is_dir() else {}
    )
    shown: dict[int, list[tuple[int, int]]] = {}
    votes: dict[int, dict[int, int]] = {}
    poses: dict[int, NDArray[np.float64]] = {}
    for number, picture in enumerate(pictures):
        yield Progress("look for objects", number, len(pictures))
        path, pose = instances.get(picture.stem), _pose(scene / "pose" / f"{picture.stem}.txt")
        if path is None or pose is None:
            continue
        poses[number] = pose
        stored = read_picture(path)
        label = read_picture(labels[picture.stem]) if picture.stem in labels else None
        for instance in np.unique(stored[stored > 0]).tolist():
            mask = cleaned(stored == instance)
            if mask.sum() < _LEAST_SHARE * mask.size:
                continue
            shown.setdefault(instance, []).append((number, int(mask.sum())))
            if label is not None and label.shape == mask.shape:
                kinds, counts = np.unique(label[mask], return_counts=True)
                for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True):
                    tally = votes.setdefault(instance, {})
                    tally[kind] = tally.get(kind, 0) + count
    found = []
    for instance, views in sorted(shown.items()):
        tally = votes.get(instance, {})
        kind = max(tally, key=lambda k: tally[k]) if tally else -1
        name, general = classes.get(kind, ("object", -1))
        if len(views) < min_views or general in _BACKGROUND or name in _BACKGROUND_NAMES:
            continue
        numbers = np.array([v for v, _ in views], np.int64)
        matrices = np.stack([poses[int(n)] for n in numbers])
        found.append(SceneObject(instance, name, numbers, np.array([p for _, p in views]), matrices))
    return found


def cleaned(mask: Bool) -> Bool:
    """A mask eroded and dilated once, which takes away its thread-like rims."""
    kernel = np.ones((3, 3), np.uint8)
    return cv2.dilate(cv2.erode(mask.astype(np.uint8), kernel), kernel) > 0


def object_crops(scene: Path, thing: SceneObject) -> Task[list[NDArray[np.float32]]]:
    """Square pictures (S, S, 3) of the object before black, one for each of its views."""
    pictures = picture_files(scene / "color")
    crops = []
    for n, view in enumerate(thing.views.tolist()):
        picture, mask = _masked(scene, pictures[view], thing.number)
        rows, columns = np.nonzero(mask)
        top, left = int(rows.min()), int(columns.min())
        height, width = int(rows.max()) - top + 1, int(columns.max()) - left + 1
        side = max(height, width)
        square = np.zeros((side, side, 3), np.float32)
        part = (
            picture[top : top + height, left : left + width]
            * mask[top : top + height, left : left + width, None]
        )
        square[:height, :width] = part / np.float32(255)
        crops.append(square)
        yield Progress("cut out", n + 1, len(thing.views))
    return crops


def write_object(
    scene: Path, thing: SceneObject, chosen: Sequence[int], out: Path, scores: Sequence[float] | None = None
) -> Task[Path]:
    """Writes the folder of one object with the chosen of its views, and returns it.

    chosen: indices into ``thing.views``. scores: of the chosen views, kept in clip_scores.json.
    """
    folder = out / f"{scene.name}_obj_{thing.number}"
    for part in ("image", "origin_image", "mask", "depth", "pose", "inst", "intrinsic"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for file in sorted((scene / "intrinsic").glob("*.txt")) if (scene / "intrinsic").is_dir() else ():
        write_bytes(folder / "intrinsic" / file.name, file.read_bytes())
    pictures = picture_files(scene / "color")
    for n, which in enumerate(chosen):
        path = pictures[int(thing.views[which])]
        picture, mask = _masked(scene, path, thing.number)
        shutil.copyfile(path, folder / "origin_image" / f"{n}{path.suffix}")
        write_picture(folder / "image" / f"{n}.png", picture * mask[..., None])
        write_picture(folder / "mask" / f"{n}.png", mask.astype(np.uint8) * 255)
        shutil.copyfile(scene / "pose" / f"{path.stem}.txt", folder / "pose" / f"{n}.txt")
        for source, target in (("depth", "depth"), ("instance-filt", "inst")):
            file = scene / source / f"{path.stem}.png"
            if file.is_file():
                shutil.copyfile(file, folder / target / f"{n}.png")
        yield Progress("write object", n + 1, len(chosen))
    if scores is not None:
        write_json(folder / "clip_scores.json", {str(n): round(float(s), 6) for n, s in enumerate(scores)})
    write_bytes(folder / "semantic.txt", thing.name.encode())
    return folder


def drawn_masks(folder: Path, details: Mapping[str, Any], height_px: int, width_px: int) -> dict[int, Bool]:
    """A user's masks of an object's hidden part, (H, W) by view of the opened capture; empty without any.

    They lie in the object's folder, in its inpaint_masks/, or in the published "only-seg-XXXX-objK" beside,
    and are named "N_class_inpaint mask.png" by the number of the view in the folder. Without any, the whole
    objects of the released preprocessing (mask_filled/N.png) stand for them.

    Raises:
        InputError: a mask cannot be read.
    """
    files = _drawn_files(folder)
    frames = details.get("frames")
    x, y, width, height = details.get("crop", (0, 0, width_px, height_px))
    names = [str(name) for name in details.get("names", [])]
    masks: dict[int, Bool] = {}
    for position, name in enumerate(names):
        number = (
            int(name) if is_whole_number(name) else int(frames[position]) if frames is not None else position
        )
        if number not in files:
            continue
        mask: NDArray[Any] = foreground(read_picture(files[number])).astype(np.uint8)
        # Masks of the recorded size are cut as the pictures were; smaller copies show the whole picture.
        if mask.shape[0] >= y + height and mask.shape[1] >= x + width:
            mask = mask[y : y + height, x : x + width]
        sized = cv2.resize(mask, (width_px, height_px), interpolation=cv2.INTER_NEAREST) > 0
        if sized.any():
            masks[position] = sized
    return masks


def _drawn_files(folder: Path) -> dict[int, Path]:
    places = [folder, folder / "inpaint_masks"]
    named = re.match(r"scene(\d{4})_\d\d.*_obj_(\d+)", folder.name)
    if named:
        places.append(folder.parent / f"only-seg-{named[1]}-obj{named[2]}")
    found: dict[int, Path] = {}
    for place in places:
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            match = _DRAWN.match(path.name)
            if match:
                found.setdefault(int(match[1]), path)
    if not found and (folder / "mask_filled").is_dir():
        # What the released preprocessing made of such masks: the whole object in every view.
        found = {int(p.stem): p for p in picture_files(folder / "mask_filled") if is_whole_number(p.stem)}
    return found


def _masked(scene: Path, picture: Path, instance: int) -> tuple[NDArray[np.uint8], Bool]:
    """A recorded picture (H, W, 3) and the instance's mask at its size."""
    stored = np.asarray(read_rgb(picture), np.uint8)
    mask = cleaned(read_picture(scene / "instance-filt" / f"{picture.stem}.png") == instance).astype(np.uint8)
    size = (stored.shape[1], stored.shape[0])
    return stored, cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) > 0


def _pose(path: Path) -> NDArray[np.float64] | None:
    """world_from_camera (4, 4), or None where tracking was lost."""
    try:
        rows = read_rows(path)
    except (InputError, OSError):
        return None
    return rows if rows.shape == (4, 4) and np.isfinite(rows).all() else None


def _classes(scene: Path) -> dict[int, tuple[str, int]]:
    """Name and NYU40 class of every label, from the table beside the scenes; empty without it."""
    path = next((p / _TABLE for p in (scene.parent, scene) if (p / _TABLE).is_file()), None)
    if path is None:
        return {}
    classes = {}
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            number, general = row.get("id") or "", row.get("nyu40id") or ""
            if is_whole_number(number):
                name = row.get("category") or row.get("raw_category") or "object"
                classes[int(number)] = (name, int(general) if is_whole_number(general) else -1)
    return classes
