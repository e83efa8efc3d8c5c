"""Structure from motion by COLMAP (pycolmap) in a process of its own, which may hang or crash."""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

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


def _solve(folder: str, intrinsics: Float, sender: Connection) -> None:
    """In the child process: sends (frame numbers, camera_from_world (N, 3, 4)) of the largest model."""
    import pycolmap

    pycolmap.logging.minloglevel = 3
    root = Path(folder)
    fx, fy, cx, cy = intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]
    # COLMAP's pixel centres lie at halves.
    reader = pycolmap.ImageReaderOptions(
        camera_model="PINHOLE",
        camera_params=f"{fx},{fy},{cx + 0.5},{cy + 0.5}",
        mask_path=str(root / "masks"),
    )
    database = root / "database.db"
    pycolmap.extract_features(
        database, root / "images", camera_mode=pycolmap.CameraMode.SINGLE, reader_options=reader
    )
    pycolmap.match_exhaustive(database)
    options = pycolmap.IncrementalPipelineOptions(
        ba_refine_focal_length=False, ba_refine_principal_point=False, ba_refine_extra_params=False
    )
    (root / "models").mkdir()
    models = pycolmap.incremental_mapping(database, root / "images", root / "models", options)
    if not models:
        sender.send(None)
        return
    largest = max(models.values(), key=lambda model: model.num_reg_images())
    numbers, poses = [], []
    for image in largest.images.values():
        if image.has_pose:
            numbers.append(int(Path(image.name).stem))
            poses.append(image.cam_from_world().matrix())
    sender.send((np.array(numbers), np.array(poses)))


def colmap_poses(capture: Capture, frames: NDArray[np.int64], timeout_s: float) -> Task[Float | None]:
    """Poses camera_from_world (T, 4, 4), NaN for frames without one; None on failure or time-out.

    frames: which of the capture's frames are given to COLMAP. Hidden pixels give no features. The scale
    is arbitrary.
    """
    if capture.cameras is None:
        raise ValueError("structure from motion needs intrinsics")
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
        answer = yield from _answer_of_child(folder, capture.cameras.intrinsics[0], timeout_s)
    if answer is None:
        return None
    poses = np.full((len(capture), 4, 4), np.nan)
    poses[answer[0], :3] = answer[1]
    poses[answer[0], 3] = [0, 0, 0, 1]
    return poses


def _answer_of_child(folder: str, intrinsics: Float, timeout_s: float) -> Task[tuple[Float, Float] | None]:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_solve, args=(folder, intrinsics, sender), daemon=True)
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
        if child.is_alive():
            child.terminate()
        child.join(1.0)
        if child.is_alive():
            child.kill()
        receiver.close()
    return answer
