"""Where the tissue of one frame is in all others: optical flow lifted to three dimensions by the depths."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.events import Progress, Task
from splatomy.methods.dynamic_tissue.footage import Footage
from splatomy.prepare.inpaint.fields import composed, read_at, spread
from splatomy.prepare.inpaint.motion import Motion, Recent, SmallFrame, completed, small_frame

Float32 = NDArray[np.float32]
_SIZE_PX = 320
"""Longer side of the pictures in which motion is searched."""
_MOST_WORKERS = 8
"""Both ways have one frame after the other in work, and beside it what comes before and after: more have
nothing to do."""
_AHEAD = 4
"""Frames of which the motion since the neighbour is searched before their turn."""
_WAIT_S = 0.25


@dataclass(frozen=True)
class Tracks:
    """Nodes on the tissue and where they go.

    reference: the frame in which they rest. nodes_mm: (M, 3) world. displacement_mm: (M, T, 3).
    weight: (M, T) in [0, 1], the share of the node's surroundings that was really followed.
    spacing_mm: typical distance of neighbours.
    """

    reference: int
    nodes_mm: Float32
    displacement_mm: Float32
    weight: Float32
    spacing_mm: float


def reference_frame(footage: Footage) -> Task[int]:
    """The frame that shows most tissue of known depth; among near ties the one nearest the middle."""
    known = np.zeros(len(footage))
    for frame, (_, weight) in enumerate(footage.depths_known()):
        yield Progress("track", 0, len(known))
        known[frame] = weight[::4, ::4].mean()
    middle = np.abs(np.arange(len(known)) - (len(known) - 1) / 2) / len(known)
    return int(np.argmax(known - 0.1 * middle))


def track(footage: Footage, spacing: float, follow: bool) -> Task[Tracks]:
    """Nodes every ``spacing`` image widths and their paths; with ``follow`` off they all stay in place."""
    reference = yield from reference_frame(footage)
    step = max(3.0, spacing * footage.width_px)
    columns = np.linspace(0, footage.width_px - 1, max(2, round((footage.width_px - 1) / step) + 1))
    rows = np.linspace(0, footage.height_px - 1, max(2, round((footage.height_px - 1) / step) + 1))
    x, y = (a.ravel().astype(np.float32) for a in np.meshgrid(columns, rows))
    depth, _ = footage.bare_depth(reference)
    at = np.stack([x, y], -1)[None]
    nodes = footage.cameras[reference].unproject(at, read_at(depth, x, y)[None])[0]
    spacing_mm = step * footage.typical_mm / float(footage.cameras.intrinsics[reference, 0, 0])
    displacement = np.zeros((len(nodes), len(footage), 3), np.float32)
    weight = np.zeros((len(nodes), len(footage)), np.float32)
    weight[:, reference] = 1.0
    if follow:
        lifted = _Lifted(footage, reference)
        # A node stands for its surroundings: their mean is far less noisy than one depth.
        sigma = max(1.0, 0.35 * step * lifted.scale)
        place = ((x + 0.5) * lifted.scale - 0.5, (y + 0.5) * lifted.scale - 0.5)

        def look(frame: int, flow: Float32, seen: Float32) -> tuple[Float32, Float32]:
            mean, mass = spread(*lifted.moved(frame, flow, seen), sigma)
            whole = completed(np.where(mass[..., None] > 0.05, mean, 0), (mass > 0.05).astype(np.float32))
            return read_at(whole, *place), read_at(mass, *place).clip(0.02, 1)

        done = 0
        for found in _both_ways(lifted, reference, len(footage), look):
            if found is not None:
                frame, (displacement[:, frame], weight[:, frame]) = found
                done += 1
            yield Progress("track", done, len(footage))
    return Tracks(reference, nodes.astype(np.float32), displacement, weight, spacing_mm)


Look = Callable[[int, Float32, Float32], tuple[Float32, Float32]]


def _both_ways(
    lifted: _Lifted, reference: int, num_frames: int, look: Look
) -> Iterator[tuple[int, tuple[Float32, Float32]] | None]:
    """Every other frame with what ``look`` makes of it, as they come; None when none came in a while.

    Each way from the reference on, a frame waits for the one before it. Meanwhile other threads search the
    motion between the neighbours to come, and look at the frames that are done. The results do not depend on
    the number of threads.
    """
    pool = ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_WORKERS), "track")
    links: dict[Future[tuple[Float32, Float32]], tuple[int, int]] = {}
    looks: dict[Future[tuple[Float32, Float32]], int] = {}

    def prepare(frame: int, direction: int) -> None:
        if 0 <= frame < num_frames:
            pool.submit(lifted.step, frame - direction, frame)

    def go_on(flow: Float32, frame: int, direction: int) -> None:
        if 0 <= frame < num_frames:
            links[pool.submit(lifted.link, flow, frame - direction, frame)] = frame, direction
            prepare(frame + _AHEAD, direction)

    try:
        for distance in range(1, _AHEAD + 1):
            for direction in (1, -1):
                prepare(reference + distance * direction, direction)
        for direction in (1, -1):
            go_on(lifted.still(), reference + direction, direction)
        while links or looks:
            done, _ = wait([*links, *looks], _WAIT_S, FIRST_COMPLETED)
            for future in done & links.keys():
                frame, direction = links.pop(future)
                flow, seen = future.result()
                go_on(flow, frame + direction, direction)
                looks[pool.submit(look, frame, flow, seen)] = frame
            for future in done & looks.keys():
                yield looks.pop(future), future.result()
            if not done:
                yield None
    finally:
        pool.shutdown(cancel_futures=True)


class _Lifted:
    """Displacements (h, w, 3) mm of the reference frame's tissue at every other frame, at a reduced size."""

    def __init__(self, footage: Footage, reference: int) -> None:
        self._footage, self._reference = footage, reference
        height, width = footage.height_px, footage.width_px
        self.scale = min(1.0, _SIZE_PX / max(height, width))
        self._size = (max(8, round(width * self.scale)), max(8, round(height * self.scale)))
        kept = 2 * (_AHEAD + 2) + 1
        self._motion = Motion(Recent(self._small, kept), kept)
        rows, columns = np.indices(self._size[::-1], dtype=np.float32)
        self._x, self._y = columns, rows
        depth, self._known = footage.bare_depth(reference, size=self._size)
        self._rest = self._world(reference, depth, columns, rows)

    def _small(self, frame: int) -> SmallFrame:
        filled = self._footage.capture.synthetic is not None
        hidden = ~self._footage.seen(frame)
        if filled and self._footage.capture.synthetic is not None:
            # Propagated tissue moves as tissue does; only what was made up would mislead the search.
            hidden = self._footage.capture.synthetic[frame]
        return small_frame(self._footage.capture.images[frame], hidden, self._size)

    def _world(self, frame: int, depth: Float32, x: Float32, y: Float32) -> Float32:
        """World points (h, w, 3) of places x, y (h, w) in a small depth map (h, w)."""
        z = read_at(depth, x.ravel(), y.ravel())
        at = (np.stack([x.ravel(), y.ravel()], -1)[None] + 0.5) / self.scale - 0.5
        points = self._footage.cameras[frame].unproject(at, z[None])[0]
        return points.reshape(*x.shape, 3).astype(np.float32)

    def still(self) -> Float32:
        """The flow (h, w, 2) of the reference frame to itself."""
        return np.zeros((*self._x.shape, 2), np.float32)

    def step(self, before: int, frame: int) -> Float32:
        """Flow (h, w, 2) between neighbours; kept for a while."""
        return self._motion.step((before, frame))

    def link(self, flow: Float32, before: int, frame: int) -> tuple[Float32, Float32]:
        """Flow (h, w, 2) from the reference to a frame, given that to its neighbour, and where seen."""
        return self._motion.refined(self._reference, frame, composed(flow, self.step(before, frame)))

    def moved(self, frame: int, flow: Float32, seen: Float32) -> tuple[Float32, Float32]:
        """Displacements (h, w, 3) mm to a frame and their weights (h, w)."""
        depth, known = self._footage.bare_depth(frame, size=self._size)
        x, y = self._x + flow[..., 0], self._y + flow[..., 1]
        share = cv2.erode(known, np.ones((3, 3), np.uint8))
        share = read_at(share, x.ravel(), y.ravel(), outside=0.0).reshape(x.shape)
        return self._world(frame, depth, x, y) - self._rest, seen * share * self._known
