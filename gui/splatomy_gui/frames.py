"""The frames of an opened input as pictures to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    # Their readers are slow to load and not needed before something is opened.
    from splatomy.io.dsa import DsaInput
    from splatomy.io.endoscopy import EndoscopyInput
    from splatomy.io.image_sets import ImageSetInput

Picture = NDArray[np.uint8]


class Frames(Protocol):
    """Frames by number; a picture is (H, W, 3) RGB or (H, W) grey, uint8."""

    @property
    def count(self) -> int: ...

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""

    @property
    def times_s(self) -> NDArray[np.float64]: ...

    @property
    def mirrored(self) -> bool:
        """True if the pictures are to be turned over, left to right, to be seen as readers know them."""

    def picture(self, frame: int) -> Picture: ...

    def caption(self, frame: int, number: int) -> str:
        """What to write on the frame: its number in the recording, time, angles, or name of a view."""


class ClipFrames:
    """The left eye of an endoscopic clip."""

    def __init__(self, clip: EndoscopyInput) -> None:
        self.clip = clip

    @property
    def count(self) -> int:
        return len(self.clip)

    @property
    def size_px(self) -> tuple[int, int]:
        _, height, width, _ = self.clip.images.shape
        return width, height

    @property
    def times_s(self) -> NDArray[np.float64]:
        return self.clip.times_s

    @property
    def mirrored(self) -> bool:
        return False

    def picture(self, frame: int) -> Picture:
        codes = self.clip.images.codes(frame)
        return np.asarray(codes if codes.dtype == np.uint8 else np.rint(codes / 257), dtype=np.uint8)

    def caption(self, frame: int, number: int) -> str:
        return f"frame {number}   {self.clip.times_s[frame]:.2f} s"


class ViewFrames:
    """The views of a still scene, in their order; a view has no time, and its place stands for it."""

    def __init__(self, views: ImageSetInput) -> None:
        self.views = views

    @property
    def count(self) -> int:
        return len(self.views.numbers)

    @property
    def size_px(self) -> tuple[int, int]:
        _, height, width, _ = self.views.images.shape
        return width, height

    @property
    def times_s(self) -> NDArray[np.float64]:
        return np.arange(self.count, dtype=np.float64)

    @property
    def mirrored(self) -> bool:
        return False

    def picture(self, frame: int) -> Picture:
        codes = self.views.images.codes(frame)
        return np.asarray(codes if codes.dtype == np.uint8 else np.rint(codes / 257), dtype=np.uint8)

    def caption(self, frame: int, number: int) -> str:
        name = self.views.names[frame]
        # A picture that is named by its number alone needs no second one.
        plain = name.isdigit() and int(name) == number
        return f"view {number}" if plain else f"view {number}   {name}"


class RunFrames:
    """A DSA run: subtracted line integrals, or the pixels as recorded; vessels dark on bright."""

    def __init__(
        self,
        run: DsaInput,
        line_integrals: NDArray[np.float32] | None,
        angles_deg: NDArray[np.float64] | None,
    ) -> None:
        """line_integrals: (T, H, W). angles_deg: (T, 2) primary and secondary angle."""
        self.run = run
        self.line_integrals = line_integrals
        self.angles_deg = angles_deg
        self.subtracted = line_integrals is not None
        self.inverted = False
        self._windows: dict[bool, tuple[float, float]] = {}

    @property
    def count(self) -> int:
        return len(self.run.fill_run)

    @property
    def size_px(self) -> tuple[int, int]:
        height, width = self.run.fill_run.shape[1:]
        return width, height

    @property
    def times_s(self) -> NDArray[np.float64]:
        return np.asarray(self.run.times_s, dtype=np.float64)

    @property
    def mirrored(self) -> bool:
        # The engine looks from the source; readers know the view from the detector's side.
        return self.run.mirrored

    @property
    def shown(self) -> NDArray[np.float32]:
        """The images on show, (T, H, W)."""
        if self.subtracted and self.line_integrals is not None:
            return self.line_integrals
        return self.run.fill_run

    @property
    def window(self) -> tuple[float, float]:
        """The values that become the two ends of the grey scale."""
        if self.subtracted not in self._windows:
            images = self.shown
            step = max(1, images.size // 400_000)
            values = images.reshape(-1)[::step]
            low, high = np.nanpercentile(values, (0.5, 99.8))
            self._windows[self.subtracted] = (float(low), float(max(high, low + 1e-6)))
        return self._windows[self.subtracted]

    def set_window(self, low: float, high: float) -> None:
        """Another grey scale."""
        self._windows[self.subtracted] = (low, max(high, low + 1e-6))

    def picture(self, frame: int) -> Picture:
        low, high = self.window
        grey = np.nan_to_num((self.shown[frame] - low) * (255 / (high - low)))
        np.clip(grey, 0, 255, out=grey)
        # Line integrals are high in vessels, which a reader expects dark; recorded intensity is low there.
        dark = self.subtracted != self.inverted
        return np.asarray(255 - grey if dark else grey).astype(np.uint8)

    def caption(self, frame: int, number: int) -> str:
        text = f"frame {number}   {self.times_s[frame]:.2f} s"
        if self.angles_deg is not None:
            # Adding zero makes -0.0 a plain zero.
            primary, secondary = np.round(self.angles_deg[frame], 1) + 0.0
            text += f"   {primary:+.1f} / {secondary:+.1f} deg"
        return text
