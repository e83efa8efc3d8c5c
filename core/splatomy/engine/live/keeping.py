"""What a session leaves behind for later: frames with poses for an offline run, and the camera's path."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
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
from splatomy.methods.live_scene.parts import Part

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
        self._error: OSError | MemoryError | None = None
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
            OSError: the disk refused an earlier one. MemoryError: there was no memory for it.
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

    def follow(self, path: CameraPath) -> None:
        """Takes the poses as the path tells them now."""
        known = dict(path.rows)
        self.frames = [
            replace(f, camera_from_world=known.get(f.time_s, f.camera_from_world).astype(np.float64))
            for f in self.frames
        ]

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
            except (OSError, MemoryError) as error:
                self._error = error


class CameraPath:
    """The camera's path: one row for each frame whose place is known.

    The camera's motion and a breath of the tissue are told apart better when more breaths were seen: so what
    is learnt later corrects the rows that it was learnt from. Older rows stay as they were last.
    """

    def __init__(self) -> None:
        self.rows: list[tuple[float, NDArray[np.float32]]] = []
        """Times in s and poses (4, 4), with lengths as they came, before any scale the surgeon told."""
        self._open: deque[tuple[int, NDArray[np.float64]]] = deque()
        """Numbers of rows that may still be corrected, with the pose against the tissue."""
        self._part: Part | None = None

    def add(
        self, time_s: float, camera_from_tissue: NDArray[np.float64], part: Part, scale: float = 1.0
    ) -> None:
        """Takes the pose (4, 4) of a frame in the present map. scale: of its lengths over those that came."""
        self._settle(part, scale)
        pose = camera_from_tissue.copy()
        pose[:3, 3] /= scale
        self._open.append((len(self.rows), pose))
        self.rows.append((time_s, _placed(pose, time_s, part, scale)))

    def _settle(self, part: Part, scale: float) -> None:
        """Corrects the rows a last time that nothing will correct any more."""
        if self._part is not None and self._part is not part:
            self._correct(scale)
            self._open.clear()
        self._part = part
        if part.breathing is None:
            self._open.clear()
            return
        while self._open and self.rows[self._open[0][0]][0] < part.breathing.since_s:
            number, pose = self._open.popleft()
            time_s = self.rows[number][0]
            self.rows[number] = time_s, _placed(pose, time_s, part, scale)

    def _correct(self, scale: float) -> None:
        """Brings the rows to what is known of the breathing now."""
        part = self._part
        if part is None or part.breathing is None:
            return
        for number, pose in self._open:
            time_s = self.rows[number][0]
            self.rows[number] = time_s, _placed(pose, time_s, part, scale)

    def write(self, folder: RunFolder, scale: float = 1.0) -> None:
        """Writes trajectory.txt: time x y z qx qy qz qw of the camera, as TUM's tools read it."""
        self._correct(scale)
        lines = ["# time_s x y z qx qy qz qw (camera to world, OpenCV axes)"]
        if self.rows:
            world = inverse(np.stack([pose for _, pose in self.rows]))
            quats = Rotation.from_matrix(world[:, :3, :3]).as_quat()
            for (time_s, _), place, quat in zip(self.rows, scale * world[:, :3, 3], quats, strict=True):
                numbers = " ".join(f"{v:.6f}" for v in (*place, *quat))
                lines.append(f"{time_s:.4f} {numbers}")
        write_text(folder.path / "trajectory.txt", "\n".join(lines) + "\n")

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything needed to go on."""
        return {
            "times_s": np.array([t for t, _ in self.rows]),
            "poses": _stacked([pose for _, pose in self.rows]),
            "open": np.array([number for number, _ in self._open], np.int64),
            "tissue": _stacked([pose for _, pose in self._open]),
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]], part: Part) -> None:
        """Takes over what ``state`` gave; ``part``: the present map as it was then."""
        rows = zip(arrays["times_s"], arrays["poses"], strict=True)
        self.rows = [(float(t), pose) for t, pose in rows]
        if "open" in arrays:
            still = zip(arrays["open"], arrays["tissue"], strict=True)
            self._open = deque((int(number), pose) for number, pose in still)
        self._part = part


def _placed(pose: NDArray[np.float64], time_s: float, part: Part, scale: float) -> NDArray[np.float32]:
    """The pose (4, 4) in the world, of that in a map whose lengths are ``scale`` times as large."""
    larger = pose.copy()
    larger[:3, 3] *= scale
    out = part.in_world(larger, time_s).copy()
    out[:3, 3] /= scale
    return out.astype(np.float32)


def _stacked(poses: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return np.stack(poses) if poses else np.zeros((0, 4, 4))
