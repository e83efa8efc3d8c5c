"""The truth folder of an endoscopic clip: bare tissue, its depth, its mesh in every frame, and the masks.

truth/rgb/000000.png      sRGB without instruments, 8 bit        truth/depth/000000.npy   z depth, float32 mm
truth/masks/000000.png    255 = an instrument hides it           truth/never_seen/*.png   255 = hidden always
truth/meshes/frame_0000.ply   one topology, mm, ``evidence`` per vertex      truth/truth.json
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.events import Progress, Task
from splatomy.geometry.cameras import Cameras
from splatomy.io.arrays import read_npy
from splatomy.io.atomic import write_json
from splatomy.io.frames import natural_key, picture_files, read_picture, read_rgb, write_picture
from splatomy.io.geometry_files import read_json
from splatomy.io.mesh import write_mesh
from splatomy.io.picture import write_array
from splatomy.scene import Mesh

Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class TissueTruth:
    """What is known exactly of an endoscopic clip; None = not given.

    rgb: (T, H, W, 3) sRGB in [0, 1] without instruments. depth_mm: (T, H, W) of the tissue, NaN = unknown.
    occluded: (T, H, W). never_seen: (T, H, W), True = no frame shows this piece of tissue.
    mesh_files: the tissue's mesh of every frame, in order; read each with ``io.mesh.read_mesh``.
    """

    rgb: Float32 | None = None
    depth_mm: Float32 | None = None
    occluded: Bool | None = None
    never_seen: Bool | None = None
    mesh_files: tuple[Path, ...] = ()


def write_tissue_truth(
    folder: Path,
    rgb: Float32,
    depth_mm: Float32,
    occluded: Bool,
    never_seen: Bool,
    surface: Mesh,
    vertices_mm: Float32,
    cameras: Cameras,
    times_s: NDArray[np.float64],
    description: dict[str, object],
) -> Task[None]:
    """Writes the truth of a clip, frame by frame; truth.json comes last.

    rgb, depth_mm, occluded, never_seen: as in ``TissueTruth``. surface: faces, colours and evidence of all
    frames. vertices_mm: (T, V, 3) its places. cameras, times_s: of the frames.
    """
    count = len(rgb)
    for name, array in (("depth_mm", depth_mm), ("occluded", occluded), ("never_seen", never_seen)):
        if array.shape != rgb.shape[:3]:
            raise ValueError(f"{name} must have shape {rgb.shape[:3]}, got {array.shape}")
    if not len(vertices_mm) == len(cameras) == len(times_s) == count:
        raise ValueError(f"{count} frames need as many meshes, cameras and times")
    for t in range(count):
        yield Progress("truth", t, count)
        name = f"{t:06d}"
        colours = np.clip(np.rint(rgb[t] * 255), 0, 255).astype(np.uint8)
        write_picture(folder / "rgb" / f"{name}.png", colours)
        write_array(folder / "depth" / f"{name}.npy", depth_mm[t].astype(np.float32))
        write_picture(folder / "masks" / f"{name}.png", occluded[t].astype(np.uint8) * 255)
        write_picture(folder / "never_seen" / f"{name}.png", never_seen[t].astype(np.uint8) * 255)
        moved = Mesh(vertices_mm[t], surface.faces, surface.colours, surface.evidence)
        write_mesh(folder / "meshes" / f"frame_{t:04d}.ply", moved)
    record: dict[str, Any] = {
        "contract": 1,
        "world": "first camera",
        "masks_mean": "hidden",
        "times_s": [float(t) for t in times_s],
        "intrinsics": cameras.intrinsics.tolist(),
        "camera_from_world": cameras.camera_from_world.tolist(),
    }
    write_json(folder / "truth.json", {**record, **description})
    yield Progress("truth", count, count)


def is_tissue_truth(folder: Path) -> bool:
    """True if a folder holds truth of an endoscopic clip."""
    return (folder / "rgb").is_dir() or (folder / "depth").is_dir()


def read_tissue_truth(folder: Path) -> TissueTruth:
    """The truth of a folder; any part may be missing.

    depth/ holds .npy files in mm, or 16-bit PNG with ``depth_scale_mm`` in truth.json (0 = unknown).

    Raises:
        InputError: it does not exist, holds nothing, or a file cannot be read or does not fit the others.
    """
    if not folder.is_dir():
        raise InputError(
            f"There is no truth folder {folder}: expected one with rgb/, depth/ or meshes/. Check the path."
        )
    record = read_json(folder / "truth.json") if (folder / "truth.json").is_file() else {}
    pictures = picture_files(folder / "rgb") if (folder / "rgb").is_dir() else []
    rgb = None
    if pictures:
        frames = [np.asarray(read_rgb(path)) for path in pictures]
        _one_size("rgb", frames)
        white = 255 if frames[0].dtype == np.uint8 else 65535
        rgb = np.stack([frame.astype(np.float32) for frame in frames]) / np.float32(white)
    meshes = sorted((folder / "meshes").glob("frame_*.ply"), key=lambda path: natural_key(path.name))
    truth = TissueTruth(
        rgb=rgb,
        depth_mm=_depths(folder / "depth", record),
        occluded=_masks(folder / "masks"),
        never_seen=_masks(folder / "never_seen"),
        mesh_files=tuple(meshes),
    )
    counts = {name: len(part) for name, part in vars(truth).items() if part is not None and len(part)}
    if not counts:
        raise InputError(
            f"{folder.name} holds no truth of an endoscopic clip: expected pictures in rgb/, .npy in depth/ "
            "or frame_*.ply in meshes/. Give the truth folder of this input."
        )
    if len(set(counts.values())) > 1:
        raise InputError(
            f"The parts of {folder.name} have different numbers of frames ({counts}): expected one file per "
            "frame in each. Write the truth again."
        )
    return truth


def _depths(folder: Path, record: dict[str, Any]) -> Float32 | None:
    if not folder.is_dir():
        return None
    arrays = sorted(folder.glob("[!.]*.npy"), key=lambda path: natural_key(path.name))
    pictures = [] if arrays else picture_files(folder)
    if pictures and not isinstance(record.get("depth_scale_mm"), int | float):
        raise InputError(
            "The depth pictures of the truth have no unit: expected a number depth_scale_mm (mm per step) in "
            "truth.json. Add it."
        )
    frames = [_plain_array(path) for path in arrays]
    for path in pictures:
        steps = np.asarray(read_picture(path), np.float32)
        frames.append(np.where(steps > 0, steps * np.float32(record["depth_scale_mm"]), np.float32(np.nan)))
    if not frames:
        return None
    _one_size("depth", frames)
    return np.stack(frames).astype(np.float32)


def _plain_array(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = read_npy(path)
    except ValueError:
        raise InputError(
            f"{path.name} of the truth's depth cannot be read: expected a plain NumPy array. Write it again."
        ) from None
    return array


def _masks(folder: Path) -> Bool | None:
    if not folder.is_dir() or not (files := picture_files(folder)):
        return None
    frames = [np.asarray(read_picture(path)) > 127 for path in files]
    _one_size(folder.name, frames)
    return np.stack(frames)


def _one_size(name: str, frames: list[Any]) -> None:
    sizes = {frame.shape[:2] for frame in frames}
    if len(sizes) > 1 or any(frame.ndim not in (2, 3) for frame in frames):
        raise InputError(
            f"The files in {name}/ of the truth have different sizes: expected one for the whole clip. "
            "Write the truth again."
        )
