"""The quality strip: how sharp, smoky, over-exposed and new every frame of a clip is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.io.frame_source import Frame
from splatomy.io.picture_analysis import grey

_SIZE_PX = 320
_BURNT = 245
_DARK = 0.06
_BLUR_SHARE = 0.35
_DUPLICATE_SHARE = 0.2
_DUPLICATE_GREY = 0.5
_JUMP_SHARE = 4.0
_JUMP_GREY = 8.0
_UNRELATED_GREY = 35.0
_SMOKE = 0.45
_BURNT_SHARE = 0.1


@dataclass(frozen=True)
class FrameQuality:
    """Figures of every frame, each (T,), all measured on pictures of about 320 px width.

    sharpness: standard deviation of the Laplacian over the mean grey level.
    smoke: mean dark channel, 0 to 1: smoke lifts the darkest colour of every neighbourhood.
    over_exposed: share of burnt-out pixels. brightness: mean, 0 to 1.
    change: mean absolute difference from the frame before, grey levels; NaN where there is none.
    Source: dark channel prior, He et al., CVPR 2009.
    """

    frames: NDArray[np.int64]
    sharpness: NDArray[np.float64]
    smoke: NDArray[np.float64]
    over_exposed: NDArray[np.float64]
    brightness: NDArray[np.float64]
    change: NDArray[np.float64]

    @property
    def blurred(self) -> NDArray[np.bool_]:
        """Far less sharp than the clip is as a rule."""
        return np.asarray(self.sharpness < _BLUR_SHARE * np.median(self.sharpness))

    @property
    def smoky(self) -> NDArray[np.bool_]:
        """A grey veil."""
        return np.asarray(self.smoke > max(_SMOKE, float(np.median(self.smoke)) + 0.15))

    @property
    def burnt(self) -> NDArray[np.bool_]:
        """A tenth of the picture or more is burnt out."""
        return np.asarray(self.over_exposed > _BURNT_SHARE)

    @property
    def dark(self) -> NDArray[np.bool_]:
        """No light."""
        return np.asarray(self.brightness < _DARK)

    @property
    def duplicate(self) -> NDArray[np.bool_]:
        """Repeats the frame before it, up to compression."""
        moving = self.change[np.isfinite(self.change)]
        # The upper half, because in a doubled clip every second change is none at all.
        usual = float(np.quantile(moving, 0.75)) if len(moving) else 0.0
        return np.asarray(self.change < min(max(_DUPLICATE_SHARE * usual, 1e-3), _DUPLICATE_GREY))

    @property
    def jump(self) -> NDArray[np.bool_]:
        """Differs from the frame before far more than frames do as a rule: a cut."""
        fresh = self.change[np.isfinite(self.change) & ~self.duplicate]
        usual = float(np.median(fresh)) if len(fresh) else 0.0
        return np.asarray(self.change > max(_JUMP_SHARE * usual, _JUMP_GREY))

    def notes(self) -> tuple[str, ...]:
        """What a user should know, one sentence each."""
        texts = (
            (self.blurred, "blurred"),
            (self.smoky, "smoky"),
            (self.burnt, "over-exposed"),
            (self.dark, "dark"),
            (self.duplicate, "a repetition of the frame before"),
        )
        total = len(self.frames)
        out = [
            f"{int(flags.sum())} of {total} examined frames are {text} (first: frame "
            f"{self.frames[flags.argmax()]})."
            for flags, text in texts
            if flags.any()
        ]
        moving = self.change[np.isfinite(self.change)]
        if len(moving) and np.median(moving) > _UNRELATED_GREY:
            out.append(
                f"Neighbouring frames differ by {np.median(moving):.0f} grey levels as a rule: these are "
                "single "
                "pictures and no continuous video."
            )
        cuts = self.frames[self.jump].tolist()
        if cuts:
            shown = ", ".join(map(str, cuts[:5])) + (" ..." if len(cuts) > 5 else "")
            out.append(
                f"The picture jumps at frame {shown}: use --frames to keep one continuous part, for example "
                f"--frames 0:{cuts[0]}."
            )
        return tuple(out)

    def as_json(self) -> dict[str, Any]:
        """The strip as a JSON object: figures and flags per examined frame."""
        figures = ("sharpness", "smoke", "over_exposed", "brightness", "change")
        flags = ("blurred", "smoky", "burnt", "dark", "duplicate", "jump")
        out: dict[str, Any] = {"frames": self.frames.tolist()}
        for name in figures:
            values = getattr(self, name).tolist()
            out[name] = [round(v, 4) if np.isfinite(v) else None for v in values]
        return out | {name: self.frames[getattr(self, name)].tolist() for name in flags}


class QualityMeter:
    """Measures frames one at a time, in increasing order, without keeping them."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, ...]] = []
        self._previous: tuple[int, NDArray[np.float32]] | None = None

    def add(self, number: int, frame: Frame) -> None:
        """Measures frame ``number``, (H, W, 3)."""
        if frame.dtype == np.uint16:
            frame = (frame >> 8).astype(np.uint8)
        scale = min(1.0, _SIZE_PX / frame.shape[1])
        size = (max(8, round(frame.shape[1] * scale)), max(8, round(frame.shape[0] * scale)))
        small = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        picture = grey(small)
        darkest = np.minimum(np.minimum(small[..., 0], small[..., 1]), small[..., 2])
        brightness = float(picture.mean())
        sharp = float(cv2.Laplacian(picture, cv2.CV_32F).std()) / max(brightness, 1.0)
        dark_channel = cv2.erode(darkest, np.ones((15, 15), np.uint8))
        burnt = float((darkest >= _BURNT).mean())
        change = np.nan
        if self._previous is not None and self._previous[0] == number - 1:
            change = float(np.abs(picture - self._previous[1]).mean())
        self._previous = (number, picture)
        smoke = float(dark_channel.mean()) / 255
        self._rows.append((number, sharp, smoke, burnt, brightness / 255, change))

    def result(self) -> FrameQuality | None:
        """The strip of all frames added, or None without frames."""
        if not self._rows:
            return None
        table = np.array(self._rows, dtype=np.float64).T
        return FrameQuality(table[0].astype(np.int64), *table[1:])


def frame_quality(frames: Iterable[tuple[int, Frame]]) -> FrameQuality | None:
    """The quality strip of (number, frame (H, W, 3)) pairs, or None without frames."""
    meter = QualityMeter()
    for number, frame in frames:
        meter.add(number, frame)
    return meter.result()
