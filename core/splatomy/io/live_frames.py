"""The one form in which frames arrive from any live source, and what every source can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Rate = Literal["real", "max"]
"""A recording at its own speed, or as fast as its frames are taken."""


@dataclass(frozen=True)
class LiveFrame:
    """One frame as it arrived.

    index: number of the frame in its stream; frames that were dropped leave a gap.
    time_s: when it was taken, seconds from the first frame; it only ever grows within a stream.
    received_s: ``time.monotonic()`` when it was whole, or ``time_s`` of a recording at rate "max", whose
        clock is simulated.
    image: (H, W, 3) float32 sRGB in [0, 1]. right: the same of the right eye of a rectified pair.
    depth_mm: (H, W) float32 along the optical axis, NaN = unknown; scene units when the source is not metric.
    occluded: (H, W) bool, True = hidden. camera_from_world: (4, 4), a pose given from outside.
    """

    index: int
    time_s: float
    received_s: float
    image: NDArray[np.float32]
    right: NDArray[np.float32] | None = None
    depth_mm: NDArray[np.float32] | None = None
    occluded: NDArray[np.bool_] | None = None
    camera_from_world: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class SourceInfo:
    """What is known of a source before its first frame is taken.

    name: for the user, without folders. width_px, height_px: of every frame. fps: nominal.
    intrinsics: (3, 3) px of every frame, pixel centres at integers; assumed when not ``intrinsics_known``.
    baseline_mm: distance of the eyes of a rectified pair whose right eye comes with every frame, or None.
    metric: lengths are millimetres. live: the frames are being made now, so that none can be asked for again.
    outside: (H, W) bool, True = no frame shows anything there. frames: how many there will be, if known.
    found, assumed, problems: sentences for the user.
    """

    name: str
    width_px: int
    height_px: int
    fps: float
    intrinsics: NDArray[np.float64]
    baseline_mm: float | None
    metric: bool
    live: bool
    outside: NDArray[np.bool_] | None = None
    intrinsics_known: bool = True
    frames: int | None = None
    found: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class LiveSource(Protocol):
    """Frames of one stream, in the order of their times."""

    def describe(self) -> SourceInfo:
        """What the frames are."""

    def read(self, timeout_s: float) -> LiveFrame | None:
        """The next frame, or None if none came within ``timeout_s`` seconds or the stream has ended."""

    @property
    def ended(self) -> bool:
        """True when ``read`` will never give a frame again."""

    @property
    def interrupted(self) -> bool:
        """True while frames stay away that should come; the source goes on trying."""

    @property
    def dropped(self) -> int:
        """Frames that nobody took in time, that came too late, twice or damaged."""

    @property
    def problems(self) -> tuple[str, ...]:
        """Sentences for the user on what went wrong so far, oldest first."""

    def close(self) -> None:
        """Lets the source go; frames that were not taken are dropped."""
