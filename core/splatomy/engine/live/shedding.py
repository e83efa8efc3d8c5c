"""What is left out when the machine does not keep up, step by step; the live picture never is."""

from __future__ import annotations

_DOWN_AFTER_FRAMES = 5
_UP_AFTER_S = 2.0

RUNGS = (
    "full service",
    "no mesh preview",
    "half the mapping steps",
    "fewer snapshots",
    "mask and depth models on every sixth frame",
    "deformation at keyframes only",
    "tracking in small pictures",
    "every second frame",
)


class Ladder:
    """The rung that a session stands on: 0 = full service.

    Source: the ladder of the sheet online-incremental, 10; one step down after five late frames in a row. A
    step up takes 2 s on time instead of 60 frames, so that slow machines recover as fast.
    """

    def __init__(self, late_after_s: float) -> None:
        self.late_after_s = late_after_s
        self.rung = 0
        self._late = 0
        self._on_time_since_s: float | None = None

    def took(self, latency_s: float, now_s: float) -> bool:
        """Hears how old a frame was when it was done with; True when the rung has changed."""
        if latency_s > self.late_after_s:
            self._on_time_since_s = None
            self._late += 1
            if self._late >= _DOWN_AFTER_FRAMES and self.rung < len(RUNGS) - 1:
                self.rung, self._late = self.rung + 1, 0
                return True
            return False
        self._late = 0
        if self._on_time_since_s is None:
            self._on_time_since_s = now_s
        if self.rung and now_s - self._on_time_since_s >= _UP_AFTER_S:
            self.rung, self._on_time_since_s = self.rung - 1, now_s
            return True
        return False

    @property
    def has_mesh(self) -> bool:
        """True if mesh previews are made."""
        return self.rung < 1

    def steps(self, planned: int) -> int:
        """Mapping steps after a frame."""
        return planned if self.rung < 2 else max(1, planned // 2)

    def snapshot_interval_s(self, planned: float) -> float:
        """Time between snapshots."""
        return planned if self.rung < 3 else 2.5 * planned

    @property
    def model_stride(self) -> int:
        """On every how many frames the mask and depth models run."""
        return 1 if self.rung < 4 else 6

    @property
    def bends_every_frame(self) -> bool:
        """True if the deformation is fitted to every frame."""
        return self.rung < 5

    @property
    def tracks_fine(self) -> bool:
        """True if the camera is tracked in the finest picture."""
        return self.rung < 6

    @property
    def frame_stride(self) -> int:
        """Every how many frames one is taken."""
        return 1 if self.rung < 7 else 2
