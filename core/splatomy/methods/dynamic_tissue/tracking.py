"""Where the tissue of one frame is in all others: optical flow lifted to three dimensions by the depths."""

from __future__ import annotations

from collections.abc import Iterator
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
    for frame in range(len(known)):
        yield Progress("track", 0, len(known))
        known[frame] = footage.depth_known(frame)[1][::4, ::4].mean()
    middle = np.abs(np.arange(len(known)) - (len(known) - 1) / 2) / len(known)
    return int(np.argmax(known - 0.1 * middle))


def track(footage: Footage, spacing: float, follow: bool) -> Task[Tracks]:
    """Nodes every ``spacing`` image widths and their paths; with ``follow`` off they all stay in place."""
    reference = yield from reference_frame(footage)
    step = max(3.0, spacing * footage.width_px)
    columns = np.linspace(0, footage.width_px - 1, max(2, round((footage.width_px - 1) / step) + 1))
    rows = np.linspace(0, footage.height_px - 1, max(2, round((footage.height_px - 1) / step) + 1))
    x, y = (a.ravel().astype(np.float32) for a in np.meshgrid(columns, rows))
    depth, known = footage.bare_depth(reference)
    at = np.stack([x, y], -1)[None]
    nodes = footage.cameras[reference].unproject(at, read_at(depth, x, y)[None])[0]
    spacing_mm = step * footage.typical_mm / float(footage.cameras.intrinsics[reference, 0, 0])
    displacement = np.zeros((len(nodes), len(footage), 3), np.float32)
    weight = np.zeros((len(nodes), len(footage)), np.float32)
    weight[:, reference] = 1.0
    if follow:
        lifted = _Lifted(footage, reference, depth, known)
        for direction in (1, -1):
            for frame, moved, share in lifted.walk(direction):
                # A node stands for its surroundings: their mean is far less noisy than one depth.
                sigma = max(1.0, 0.35 * step * lifted.scale)
                mean, mass = spread(moved, share, sigma)
                whole = completed(np.where(mass[..., None] > 0.05, mean, 0), (mass > 0.05).astype(np.float32))
                place = ((x + 0.5) * lifted.scale - 0.5, (y + 0.5) * lifted.scale - 0.5)
                displacement[:, frame] = read_at(whole, *place)
                weight[:, frame] = read_at(mass, *place).clip(0.02, 1)
                yield Progress("track", frame, len(footage))
    return Tracks(reference, nodes.astype(np.float32), displacement, weight, spacing_mm)


class _Lifted:
    """Displacements (h, w, 3) mm of the reference frame's tissue at every other frame, at a reduced size."""

    def __init__(self, footage: Footage, reference: int, depth: Float32, known: Float32) -> None:
        self._footage, self._reference = footage, reference
        height, width = depth.shape
        self.scale = min(1.0, _SIZE_PX / max(height, width))
        self._size = (max(8, round(width * self.scale)), max(8, round(height * self.scale)))
        self._motion = Motion(Recent(self._small, 6), 6)
        rows, columns = np.indices(self._size[::-1], dtype=np.float32)
        self._x, self._y = (columns + 0.5) / self.scale - 0.5, (rows + 0.5) / self.scale - 0.5
        self._rest = self._world(reference, depth, self._x, self._y)
        self._known = read_at(known, self._x.ravel(), self._y.ravel()).reshape(rows.shape)

    def _small(self, frame: int) -> SmallFrame:
        filled = self._footage.capture.synthetic is not None
        hidden = ~self._footage.seen(frame)
        if filled and self._footage.capture.synthetic is not None:
            # Propagated tissue moves as tissue does; only what was made up would mislead the search.
            hidden = self._footage.capture.synthetic[frame]
        return small_frame(self._footage.capture.images[frame], hidden, self._size)

    def _world(self, frame: int, depth: Float32, x: Float32, y: Float32) -> Float32:
        z = read_at(depth, x.ravel(), y.ravel())
        at = np.stack([x.ravel(), y.ravel()], -1)[None]
        points = self._footage.cameras[frame].unproject(at, z[None])[0]
        return points.reshape(*x.shape, 3).astype(np.float32)

    def walk(self, direction: int) -> Iterator[tuple[int, Float32, Float32]]:
        """Frame, displacements and weights (h, w), one frame after the other from the reference on."""
        flow = np.zeros((*self._x.shape, 2), np.float32)
        frame = self._reference + direction
        while 0 <= frame < len(self._footage):
            flow = composed(flow, self._motion.step((frame - direction, frame)))
            flow, seen = self._motion.refined(self._reference, frame, flow)
            depth, known = self._footage.bare_depth(frame)
            x, y = self._x + flow[..., 0] / self.scale, self._y + flow[..., 1] / self.scale
            share = cv2.erode(known, np.ones((3, 3), np.uint8))
            share = read_at(share, x.ravel(), y.ravel(), outside=0.0).reshape(x.shape)
            yield frame, self._world(frame, depth, x, y) - self._rest, seen * share * self._known
            frame += direction
