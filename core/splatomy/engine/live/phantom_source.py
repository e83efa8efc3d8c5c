"""The simulated stream as a live source, so that everything can be tried without a scope."""

from __future__ import annotations

import time

from splatomy.io.live_sources import LiveFrame, LiveSource, Rate, SourceInfo, open_live_source
from splatomy.io.options import InputOptions
from splatomy.phantoms.stream import StreamPhantom

PREFIX = "phantom:"


class PhantomSource:
    """Frames of a stream phantom, made when they are due; at the real rate late ones are left out."""

    def __init__(
        self, phantom: StreamPhantom, rate: Rate, frames: int | None = None, masks: bool = True
    ) -> None:
        self.phantom, self.rate, self.masks = phantom, rate, masks
        self.frames = phantom.num_frames if frames is None else frames
        self._next = 0
        self._start_s: float | None = None
        self._dropped = 0

    def describe(self) -> SourceInfo:
        """What the frames are."""
        p = self.phantom.preset
        return SourceInfo(
            "stream phantom", p.width_px, p.height_px, p.fps, self.phantom.intrinsics,
            None, True, False, frames=self.frames,
        )  # fmt: skip

    def read(self, timeout_s: float) -> LiveFrame | None:
        """The next frame; at the real rate the one whose time has come."""
        fps = self.phantom.preset.fps
        if self.rate == "real":
            now_s = time.monotonic()
            if self._start_s is None:
                self._start_s = now_s
            due = int((now_s - self._start_s) * fps)
            if due < self._next:
                wait_s = self._start_s + self._next / fps - now_s
                time.sleep(max(0.0, min(wait_s, timeout_s)))
                if wait_s > timeout_s:
                    return None
                due = self._next
            self._dropped += max(0, min(due, self.frames) - self._next)
            self._next = due
        if self.ended:
            return None
        made = self.phantom.frame(self._next)
        self._next += 1
        received_s = time.monotonic() if self.rate == "real" else made.time_s
        hidden = made.occluded if self.masks else None
        return LiveFrame(
            made.number, made.time_s, received_s, made.image, depth_mm=made.depth_mm, occluded=hidden
        )

    @property
    def ended(self) -> bool:
        """True after the last frame."""
        return self._next >= self.frames

    @property
    def interrupted(self) -> bool:
        """A phantom is never interrupted."""
        return False

    @property
    def dropped(self) -> int:
        """Frames whose time had passed."""
        return self._dropped

    @property
    def problems(self) -> tuple[str, ...]:
        """A phantom has none."""
        return ()

    def close(self) -> None:
        """Nothing is held."""


def open_source(text: str, options: InputOptions, rate: Rate, seed: int) -> LiveSource:
    """The source that a user names: phantom:PRESET, or any of ``open_live_source``.

    Raises:
        InputError: it cannot be opened.
    """
    if text.startswith(PREFIX):
        return PhantomSource(StreamPhantom(text.removeprefix(PREFIX), seed), rate)
    return open_live_source(text, options, rate)
