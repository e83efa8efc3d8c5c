"""How well an inpainter does on this very clip: holes of other frames cut into tissue that is visible.

There the truth is known, so the error in such a transplanted hole is what to expect of the real ones, and two
inpainters can be compared without any other data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splatomy.checks import check_shapes
from splatomy.events import Notice, Task
from splatomy.prepare.inpaint.fields import Bool, Float32, grown
from splatomy.prepare.inpaint.provenance import Inpainting

Inpainter = Callable[[Float32, Bool, NDArray[np.integer] | None], Task[Inpainting]]
"""images (T, H, W, 3), what is hidden (T, H, W), which frames are wanted (None = all) -> the filled clip."""

_RIM_PX = 3
_LEAST_SHARE = 0.002
"""Share of a frame's pixels from which a transplanted hole is worth scoring."""


@dataclass(frozen=True)
class HoleError:
    """What to expect in the holes of a clip.

    psnr_db: over all transplanted pixels, NaN when nothing could be transplanted. psnr_per_frame_db: (F,)
    in the order of ``frames`` (F,). num_pixels: scored ones.
    """

    psnr_db: float
    psnr_per_frame_db: NDArray[np.float64]
    frames: NDArray[np.int64]
    num_pixels: int


@dataclass(frozen=True)
class Verdict:
    """Which of two inpainters is better on a clip, with both errors; chosen: 0 or 1."""

    chosen: int
    errors: tuple[HoleError, HoleError]

    @property
    def text(self) -> str:
        """The decision in one sentence."""
        first, second = (error.psnr_db for error in self.errors)
        taken = ("first", "second")[self.chosen]
        return (
            f"Held-out holes: {first:.2f} dB with the first, {second:.2f} dB with the second; {taken} kept."
        )


def transplants(occluded: Bool, num_frames: int = 6, seed: int = 0) -> Bool:
    """Holes (T, H, W) cut into visible tissue of ``num_frames`` frames, shaped as those of other frames.

    The donor is the frame whose hole covers most visible tissue of the receiving one, among a few drawn
    from the clip. The rims of real holes are left out: they are not pure tissue. Other frames are
    untouched, so that the tissue remains to be found there, as in a real hole.

    Source: held-out test with foreign masks, as in the video inpainting literature; the choice is ours.
    """
    check_shapes(occluded=(occluded, "T H W"))
    cut = np.zeros(occluded.shape, np.bool_)
    if not occluded.any() or len(occluded) < 2:
        return cut
    generator = np.random.default_rng(seed)
    wanted = min(num_frames, len(occluded))
    centres = (np.arange(wanted) + 0.5) * len(occluded) / wanted
    for frame in np.unique(centres.astype(int)):
        open_tissue = ~grown(occluded[frame], _RIM_PX)
        donors = generator.choice(len(occluded), min(12, len(occluded)), replace=False)
        covered = [np.count_nonzero(occluded[donor] & open_tissue) for donor in donors]
        donor = donors[int(np.argmax(covered))]
        hole = occluded[donor] & open_tissue
        if np.count_nonzero(hole) >= _LEAST_SHARE * hole.size:
            cut[frame] = hole
    return cut


def hole_error(images: Float32, inpainted: Float32, cut: Bool) -> HoleError:
    """The error of an inpainted clip (T, H, W, 3) in holes (T, H, W) whose truth ``images`` shows."""
    frames = np.flatnonzero(cut.any((1, 2)))
    squared = [((inpainted[t][cut[t]] - images[t][cut[t]]) ** 2).mean(-1, dtype=np.float64) for t in frames]
    if not squared:
        return HoleError(float("nan"), np.zeros(0), frames.astype(np.int64), 0)
    per_frame = np.array([_db(float(values.mean())) for values in squared])
    everything = np.concatenate(squared)
    return HoleError(_db(float(everything.mean())), per_frame, frames.astype(np.int64), everything.size)


def _db(mean_squared: float) -> float:
    return float(-10 * np.log10(mean_squared)) if mean_squared > 0 else float("inf")


def expected_hole_error(
    images: Float32, occluded: Bool, inpainter: Inpainter, num_frames: int = 6, seed: int = 0
) -> Task[HoleError]:
    """The error to expect in the holes of a clip with an inpainter, from transplanted holes.

    images: (T, H, W, 3). occluded: (T, H, W).
    """
    cut = transplants(occluded, num_frames, seed)
    if not cut.any():
        yield Notice(
            "warning", "no-transplants", "No hole could be tried on visible tissue; its error is unknown."
        )
        return hole_error(images, images, cut)
    # What lies under a transplant is taken away, lest an inpainter looks at it.
    emptied = np.where(cut[..., None], np.float32(0), images)
    found = yield from inpainter(emptied, occluded | cut, np.flatnonzero(cut.any((1, 2))))
    return hole_error(images, found.images, cut)


def better_inpainter(
    images: Float32,
    occluded: Bool,
    first: Inpainter,
    second: Inpainter,
    gain_db: float = 0.2,
    num_frames: int = 6,
    seed: int = 0,
) -> Task[Verdict]:
    """The better of two inpainters on the same transplanted holes of a clip.

    The second is chosen only when it is better by at least ``gain_db``; the first, which should be the
    simpler one, also when nothing can be measured.
    """
    errors = []
    for inpainter in (first, second):
        errors.append((yield from expected_hole_error(images, occluded, inpainter, num_frames, seed)))
    chosen = int(errors[1].psnr_db >= errors[0].psnr_db + gain_db)
    verdict = Verdict(chosen, (errors[0], errors[1]))
    yield Notice("info", "inpainter-chosen", verdict.text)
    return verdict
