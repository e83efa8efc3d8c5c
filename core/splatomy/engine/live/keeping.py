"""What a session leaves behind for later: frames with poses for an offline run, and the camera's path."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from queue import Full, Queue
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from splatomy.engine.tissue_products import eight_bit
from splatomy.geometry.rigid import inverse
from splatomy.io.atomic import write_text
from splatomy.io.run import RunFolder
from splatomy.io.session_frames import KeptFrame, close_folder, remove_frame, write_frame

_MOST_FRAMES = 2400
_WAITING = 8
_RANGE = 6.0
"""Depths up to this many times the typical one of the first frame fit into the pictures."""
_UNITS = 60_000


class Recorder:
    """Writes chosen frames to RUN/session in a thread of its own; when it cannot keep up, it leaves some out.

    Their number is bounded: beyond it every second one goes and the time between them doubles.
    """

    def __init__(self, folder: RunFolder, every_s: float) -> None:
        self.folder = folder.path / "session"
        self.every_s = every_s
        self.frames: list[KeptFrame] = []
        self.left_out = 0
        self.depth_scale: float | None = None
        self._last_s = -np.inf
        self._error: OSError | None = None
        self._queue: Queue[tuple[Any, ...] | None] = Queue(_WAITING)
        self._thread = threading.Thread(target=self._work, name="splatomy record", daemon=True)
        self._thread.start()

    def wants(self, time_s: float, is_keyframe: bool) -> bool:
        """Whether a frame is to be kept."""
        gap_s = time_s - self._last_s
        return gap_s >= (0.25 if is_keyframe else 1.0) * self.every_s

    def keep(
        self,
        index: int,
        time_s: float,
        image: NDArray[np.float32],
        depth: NDArray[np.float32] | None,
        occluded: NDArray[np.bool_],
        camera_from_world: NDArray[np.float64],
        part: int,
        typical: float,
    ) -> None:
        """Keeps a frame; lengths are those that came with it, before any scale the surgeon told.

        Raises:
            OSError: the disk refused an earlier one.
        """
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if self.depth_scale is None:
            self.depth_scale = _RANGE * typical / _UNITS
        name = f"{index:08d}"
        try:
            self._queue.put_nowait((name, eight_bit(image), depth, occluded, self.depth_scale))
        except Full:
            self.left_out += 1
            return
        self._last_s = time_s
        self.frames.append(KeptFrame(name, time_s, camera_from_world.copy(), part))
        if len(self.frames) > _MOST_FRAMES:
            for frame in self.frames[1::2]:
                remove_frame(self.folder, frame.name)
            self.frames, self.every_s = self.frames[::2], 2 * self.every_s

    def close(
        self,
        intrinsics: NDArray[np.float64],
        size_px: tuple[int, int],
        scale: float,
        typical: float,
        metric: bool,
    ) -> int:
        """Writes what waits and the geometry, in the session's final ``scale``; the number of frames kept.

        Of several maps that were never joined only the one with the most frames is an input.
        """
        self._queue.put(None)
        self._thread.join(30.0)
        if len(self.frames) < 2 or self.depth_scale is None:
            return 0
        main, _ = Counter(frame.part for frame in self.frames).most_common(1)[0]
        kept = []
        for frame in self.frames:
            if frame.part != main:
                remove_frame(self.folder, frame.name)
                continue
            pose = frame.camera_from_world.copy()
            pose[:3, 3] *= scale
            kept.append(replace(frame, camera_from_world=pose))
        close_folder(self.folder, kept, intrinsics, size_px, self.depth_scale * scale, typical, metric)
        return len(kept)

    def values(self) -> dict[str, Any]:
        """What was kept so far, as JSON values."""
        frames = [[f.name, f.time_s, f.part, f.camera_from_world.tolist()] for f in self.frames]
        return {"frames": frames, "every_s": self.every_s, "depth_scale": self.depth_scale}

    def take_over(self, values: Mapping[str, Any]) -> None:
        """Goes on from what ``values`` gave."""
        self.frames = [
            KeptFrame(str(name), float(time_s), np.array(pose), int(part))
            for name, time_s, part, pose in values["frames"]
        ]
        self.every_s, self.depth_scale = float(values["every_s"]), values["depth_scale"]
        self._last_s = self.frames[-1].time_s if self.frames else -np.inf

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            name, image, depth, occluded, depth_scale = item
            try:
                write_frame(self.folder, name, image, depth, occluded, depth_scale)
            except OSError as error:
                self._error = error


class CameraPath:
    """The camera's path: one row for each frame whose place is known."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, NDArray[np.float64]]] = []

    def add(self, time_s: float, camera_from_world: NDArray[np.float64]) -> None:
        """Takes the pose of a frame."""
        self.rows.append((time_s, camera_from_world.astype(np.float32)))

    def write(self, folder: RunFolder) -> None:
        """Writes trajectory.txt: time x y z qx qy qz qw of the camera, as TUM's tools read it."""
        lines = ["# time_s x y z qx qy qz qw (camera to world, OpenCV axes)"]
        if self.rows:
            world = inverse(np.stack([pose for _, pose in self.rows]))
            quats = Rotation.from_matrix(world[:, :3, :3]).as_quat()
            for (time_s, _), place, quat in zip(self.rows, world[:, :3, 3], quats, strict=True):
                numbers = " ".join(f"{v:.6f}" for v in (*place, *quat))
                lines.append(f"{time_s:.4f} {numbers}")
        write_text(folder.path / "trajectory.txt", "\n".join(lines) + "\n")
