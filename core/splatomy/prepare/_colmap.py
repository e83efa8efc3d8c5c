"""Structure from motion by COLMAP (pycolmap) in a process of its own, which may hang or crash."""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.capture import Capture
from splatomy.events import Progress, Task
from splatomy.prepare._self_rectify import grey_codes

Float = NDArray[np.float64]

_POLL_S = 0.3


def colmap_installed() -> bool:
    """True if pycolmap can be imported."""
    return importlib.util.find_spec("pycolmap") is not None


@dataclass(frozen=True)
class ColmapModel:
    """What COLMAP found of M of the frames, in a world of arbitrary scale.

    frames: (M,) their numbers. camera_from_world: (M, 4, 4). lens: focal length, principal point x and y (px,
    pixel centres at integers) and one radial coefficient. points: (P, 3), colours: (P, 3) in [0, 1].
    """

    frames: NDArray[np.int64]
    camera_from_world: Float
    lens: tuple[float, float, float, float]
    points: Float
    colours: Float


def _solve(folder: str, intrinsics: Float, refine: bool, sender: Connection) -> None:
    """In the child process: sends the parts of a ColmapModel of the largest model, or None."""
    import pycolmap

    pycolmap.logging.minloglevel = 3
    pycolmap.set_random_seed(0)
    root = Path(folder)
    fx, fy, cx, cy = intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]
    # COLMAP's pixel centres lie at halves.
    known = f"{fx},{fy},{cx + 0.5},{cy + 0.5}"
    reader = pycolmap.ImageReaderOptions(
        camera_model="SIMPLE_RADIAL" if refine else "PINHOLE",
        camera_params=f"{fx},{cx + 0.5},{cy + 0.5},0" if refine else known,
        mask_path=str(root / "masks"),
    )
    database = root / "database.db"
    pycolmap.extract_features(
        database, root / "images", camera_mode=pycolmap.CameraMode.SINGLE, reader_options=reader
    )
    # With several threads the result depends on which of them is first.
    matching, verification = pycolmap.FeatureMatchingOptions(), pycolmap.TwoViewGeometryOptions()
    matching.num_threads, verification.ransac.random_seed = 1, 0
    pycolmap.match_exhaustive(database, matching, verification_options=verification)
    options = pycolmap.IncrementalPipelineOptions(
        ba_refine_focal_length=refine, ba_refine_principal_point=False, ba_refine_extra_params=refine
    )
    options.num_threads, options.random_seed = 1, 0
    (root / "models").mkdir()
    models = pycolmap.incremental_mapping(database, root / "images", root / "models", options)
    if not models:
        sender.send(None)
        return
    largest = max(models.values(), key=lambda model: model.num_reg_images())
    numbers, poses = [], []
    for image in sorted(largest.images.values(), key=lambda image: image.name):
        if image.has_pose:
            numbers.append(int(Path(image.name).stem))
            poses.append(image.cam_from_world().matrix())
    params = next(iter(largest.cameras.values())).params
    found = params if refine else (fx, cx + 0.5, cy + 0.5, 0.0)
    lens = (float(found[0]), float(found[1]) - 0.5, float(found[2]) - 0.5, float(found[3]))
    points = [p.xyz for _, p in sorted(largest.points3D.items())]
    colours = [p.color for _, p in sorted(largest.points3D.items())]
    sender.send(
        (
            np.array(numbers), np.array(poses), lens, np.array(points).reshape(-1, 3),
            np.array(colours).reshape(-1, 3) / 255,
        )
    )  # fmt: skip


def colmap_poses(capture: Capture, frames: NDArray[np.int64], timeout_s: float) -> Task[Float | None]:
    """Poses camera_from_world (T, 4, 4), NaN for frames without one; None on failure or time-out.

    frames: which of the capture's frames are given to COLMAP. Hidden pixels give no features. The scale
    is arbitrary.
    """
    if capture.cameras is None:
        raise ValueError("structure from motion needs intrinsics")
    model = yield from colmap_model(capture, frames, capture.cameras.intrinsics[0], False, timeout_s)
    if model is None:
        return None
    poses = np.full((len(capture), 4, 4), np.nan)
    poses[model.frames] = model.camera_from_world
    return poses


def colmap_model(
    capture: Capture, frames: NDArray[np.int64], intrinsics: Float, refine: bool, timeout_s: float
) -> Task[ColmapModel | None]:
    """The largest model of the given frames; None on failure or time-out. Hidden pixels give no features.

    intrinsics: (3, 3) px of all frames. refine: they are a guess, and the lens may be distorted.
    """
    with tempfile.TemporaryDirectory() as folder:
        images, masks = Path(folder) / "images", Path(folder) / "masks"
        images.mkdir()
        masks.mkdir()
        for step, t in enumerate(frames.tolist()):
            cv2.imwrite(str(images / f"{t:06d}.png"), grey_codes(np.asarray(capture.images[t])))
            mask = np.full(capture.images.shape[1:3], 255, np.uint8)
            if capture.occluded is not None:
                mask[np.asarray(capture.occluded[t])] = 0
            cv2.imwrite(str(masks / f"{t:06d}.png.png"), mask)
            yield Progress("hand over frames", step + 1, len(frames))
        answer = yield from _answer_of_child(folder, intrinsics, refine, timeout_s)
    if answer is None:
        return None
    numbers, poses, lens, points, colours = answer
    whole = np.tile(np.eye(4), (len(numbers), 1, 1))
    whole[:, :3] = poses
    return ColmapModel(numbers, whole, lens, points, colours)


def _answer_of_child(folder: str, intrinsics: Float, refine: bool, timeout_s: float) -> Task[Any]:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_solve, args=(folder, intrinsics, refine, sender), daemon=True)
    child.start()
    sender.close()
    end = time.monotonic() + timeout_s
    answer = None
    try:
        while time.monotonic() < end:
            if receiver.poll(_POLL_S):
                # A child that died closes its end, which reads as the end of the file.
                with contextlib.suppress(EOFError):
                    answer = receiver.recv()
                child.join(1.0)
                break
            yield Progress("structure from motion", 0, 1)
    finally:
        # It holds nothing but temporary files, and COLMAP would write a long trace about a milder signal.
        if child.is_alive():
            child.kill()
        child.join(1.0)
        receiver.close()
    return answer
