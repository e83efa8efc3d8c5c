"""Writing views as an RGB-D object folder (the layout that ``rgbd`` reads), and the truth beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.events import Progress, Task
from splatomy.geometry.cameras import Cameras
from splatomy.geometry.rigid import inverse
from splatomy.io.atomic import atomic_path, write_bytes, write_json
from splatomy.io.depth_folder import write_depth_png
from splatomy.io.frames import write_picture
from splatomy.io.mesh import write_mesh
from splatomy.scene import Mesh

_MM_PER_METRE = 1000.0


def write_object_folder(
    folder: Path,
    images: NDArray[np.floating],
    cameras: Cameras,
    target: NDArray[np.bool_],
    occluder: NDArray[np.bool_],
    depth_mm: NDArray[np.floating] | None,
    name: str,
) -> Task[None]:
    """Writes color/, pose/ (camera-to-world, metres), intrinsic/, mask/, occluder/, depth/ and semantic.txt.

    images: (T, H, W, 3) sRGB in [0, 1]. target, occluder: (T, H, W), True = the object, what hides it.
    depth_mm: (T, H, W), NaN = none, kept as whole millimetres; None = no depth sensor.
    """
    world_from_camera = inverse(cameras.camera_from_world)
    world_from_camera[:, :3, 3] /= _MM_PER_METRE
    lens = np.eye(4)
    lens[:3, :3] = cameras.intrinsics[0]
    for part in ("color", "pose", "intrinsic", "mask", "occluder", "depth"):
        if part != "depth" or depth_mm is not None:
            (folder / part).mkdir(parents=True, exist_ok=True)
    for part in ("color", "depth"):
        _write_matrix(folder / "intrinsic" / f"intrinsic_{part}.txt", lens)
    write_bytes(folder / "semantic.txt", name.encode())
    if depth_mm is None:
        (folder / "depth").mkdir(exist_ok=True)
    for view in range(len(images)):
        codes = np.rint(np.clip(images[view], 0, 1) * 255).astype(np.uint8)
        write_picture(folder / "color" / f"{view}.png", codes)
        _write_matrix(folder / "pose" / f"{view}.txt", world_from_camera[view])
        write_picture(folder / "mask" / f"{view}.png", target[view].astype(np.uint8) * 255)
        write_picture(folder / "occluder" / f"{view}.png", occluder[view].astype(np.uint8) * 255)
        if depth_mm is not None:
            write_depth_png(folder / "depth" / f"{view}.png", depth_mm[view], 1.0)
        yield Progress("write", view + 1, len(images))


def write_object_truth(
    folder: Path,
    mesh: Mesh,
    rgb: NDArray[np.floating],
    depth_mm: NDArray[np.floating],
    description: dict[str, Any],
) -> Task[None]:
    """Writes mesh.ply (evidence: 1 = seen in a view), rgb/ and depth/ of the object alone, truth.json."""
    for part in ("rgb", "depth"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    write_mesh(folder / "mesh.ply", mesh)
    for view in range(len(rgb)):
        codes = np.rint(np.clip(rgb[view], 0, 1) * 255).astype(np.uint8)
        write_picture(folder / "rgb" / f"{view:06d}.png", codes)
        with atomic_path(folder / "depth" / f"{view:06d}.npy") as temporary:
            np.save(temporary, np.asarray(depth_mm[view], np.float32))
        yield Progress("write", view + 1, len(rgb))
    write_json(folder / "truth.json", {"contract": 1, "kind": "object", **description})


def _write_matrix(path: Path, matrix: NDArray[np.float64]) -> None:
    rows = "\n".join(" ".join(f"{x:.9g}" for x in row) for row in matrix)
    write_bytes(path, (rows + "\n").encode())
