"""The monitoring unit: once a second it scores a frame before it is learnt, and says when things go wrong."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from splatomy.events import Notice

_EVERY_S = 1.0
_WINDOW = 60
_RECENT = 5
_FALL_DB = 3.0
_AGAIN_S = 30.0
_DEEP_RESIDUAL = 0.05


class Monitor:
    """Scores of the last minute, their trend, and latencies. All times are of the session's clock."""

    def __init__(self) -> None:
        self._due_s = 0.0
        self._scores: deque[Mapping[str, float]] = deque(maxlen=_WINDOW)
        self._latencies: deque[float] = deque(maxlen=2000)
        self._frames: deque[float] = deque(maxlen=200)
        self._told: dict[str, float] = {}
        self._stages: dict[str, tuple[int, float]] = {}
        self.count = 0
        self._sums: dict[str, float] = {}

    def is_due(self, now_s: float) -> bool:
        """True once a second."""
        if now_s < self._due_s:
            return False
        self._due_s = now_s + _EVERY_S
        return True

    def scored(self, found: Mapping[str, float], now_s: float) -> list[Notice]:
        """Takes the scores of a frame; what the user should be told."""
        if not found:
            return []
        self._scores.append(found)
        self.count += 1
        for name, value in found.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        notices = []
        series = [s["psnr"] for s in self._scores if "psnr" in s]
        if len(series) >= 3 * _RECENT:
            usual, now = float(np.median(series[:-_RECENT])), float(np.median(series[-_RECENT:]))
            if now < usual - _FALL_DB:
                text = (
                    f"The map foretells the picture worse than before ({now:.1f} dB after {usual:.1f} dB): "
                    "the tissue has changed, or the camera's place is off. Rewind, or look there again."
                )
                notices += self._once("quality-falls", text, now_s)
        deep = [s["depth_residual"] for s in self._scores if "depth_residual" in s][-_RECENT:]
        if len(deep) == _RECENT and float(np.median(deep)) > _DEEP_RESIDUAL:
            text = (
                f"Map and measured depth differ by {np.median(deep):.0%} of the depth: the tissue bends, or "
                "the depth is wrong. For moving tissue choose the deforming profile."
            )
            notices += self._once("depth-disagrees", text, now_s)
        return notices

    def _once(self, code: str, text: str, now_s: float) -> list[Notice]:
        if now_s - self._told.get(code, -np.inf) < _AGAIN_S:
            return []
        self._told[code] = now_s
        return [Notice("warning", code, text)]

    def processed(self, now_s: float) -> None:
        """A frame was tracked and learnt from."""
        self._frames.append(now_s)

    def published(self, latency_s: float) -> None:
        """A snapshot with a frame's content is there, that long after the frame was received."""
        self._latencies.append(latency_s)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Counts the time that a part of the work on a frame takes."""
        began_s = time.perf_counter()
        try:
            yield
        finally:
            self.took(stage, time.perf_counter() - began_s)

    def took(self, stage: str, seconds: float) -> None:
        """Counts the time that a part of the work on a frame took."""
        count, total = self._stages.get(stage, (0, 0.0))
        self._stages[stage] = count + 1, total + seconds

    def stages(self) -> dict[str, float]:
        """Mean times in ms of the parts of the work, each over the frames that it was done for."""
        return {f"{name}_ms": 1e3 * total / count for name, (count, total) in self._stages.items()}

    def trend(self) -> dict[str, float]:
        """The newest scores, and how much the PSNR changed over the window, dB."""
        if not self._scores:
            return {}
        found = dict(self._scores[-1])
        series = np.array([s["psnr"] for s in self._scores if "psnr" in s])
        if len(series) >= 4:
            found["psnr_trend_db"] = float(np.polyfit(np.arange(len(series)), series, 1)[0] * len(series))
        return found

    def rates(self) -> dict[str, float]:
        """Frames a second, and percentiles of the time from receipt to the published snapshot."""
        found: dict[str, float] = {}
        if len(self._frames) > 1:
            # The median, since pauses are no work.
            found["fps"] = 1 / max(float(np.median(np.diff(self._frames))), 1e-6)
        if self._latencies:
            for name, share in (("p50", 50), ("p95", 95), ("p99", 99)):
                found[f"latency_{name}_s"] = float(np.percentile(self._latencies, share))
        return found

    def means(self) -> dict[str, float]:
        """Mean scores of the whole session."""
        return {name: total / max(self.count, 1) for name, total in self._sums.items()}
