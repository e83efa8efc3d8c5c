"""Holes with a known truth, cut out of the clip itself: what the clip's own network learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from splatomy.events import Progress, Task
from splatomy.prepare.inpaint.fields import Bool, Float32
from splatomy.prepare.inpaint.gate import Inpainter, Transplant
from splatomy.prepare.inpaint.provenance import Inpainting

Float16 = NDArray[np.float16]

NUM_PLANES = 6
"""Colour (3), hidden, doubt, age."""
_OLDEST_FRAMES = 32


@dataclass(frozen=True)
class Examples:
    """Frames with transplanted holes, filled by propagation.

    planes: (S, 6, H, W), see ``planes_of``. truth: (S, 3, H, W) sRGB as recorded. known: (S, H, W), True =
    transplanted, so that the truth is known and the filling was needed.
    """

    BYTES_PER_PIXEL: ClassVar[int] = 2 * (NUM_PLANES + 3) + 1

    planes: Float16
    truth: Float16
    known: Bool

    def __len__(self) -> int:
        return len(self.planes)


def planes_of(filled: Inpainting, occluded: Bool, frame: int, origin: int = 0) -> Float32:
    """What the network is told of one frame, (6, H, W).

    Filled sRGB colour; 1 = hidden; doubt = 1 - confidence; age = distance in time to the frame that the
    colour comes from, 1 = 32 frames or more, or made up.

    occluded: (T, H, W). origin: the number of the first frame, where the provenance counts from elsewhere.
    """
    source = np.asarray(filled.provenance[frame], np.int64)
    age = np.abs(source - 1 - origin - frame) / _OLDEST_FRAMES
    age = np.where(source > 0, age.clip(0, 1), (source < 0).astype(np.float64))
    planes = np.empty((NUM_PLANES, *source.shape), np.float32)
    planes[:3] = np.moveaxis(np.asarray(filled.images[frame]), -1, 0)
    planes[3] = occluded[frame]
    planes[4] = 1 - filled.confidence[frame]
    planes[5] = age
    return planes


def without_trials(occluded: Bool, trials: Sequence[Transplant]) -> Bool:
    """The masks (T, H, W) with everything hidden on which inpainters will be judged."""
    hidden = occluded.copy()
    for trial in trials:
        hidden[trial.frames] |= trial.extra
    return hidden


def collected(
    images: Float32, occluded: Bool, trials: Sequence[Transplant], inpainter: Inpainter
) -> Task[Examples]:
    """Examples from transplanted holes.

    images: (T, H, W, 3); what ``occluded`` (T, H, W) hides is never looked at. inpainter: fills the holes.
    """
    total = sum(len(trial.scored) for trial in trials)
    shape = occluded.shape[1:]
    planes = np.zeros((total, NUM_PLANES, *shape), np.float16)
    truth = np.zeros((total, 3, *shape), np.float16)
    known = np.zeros((total, *shape), np.bool_)
    done = 0
    for trial in trials:
        hidden = occluded[trial.frames] | trial.extra
        recorded = np.asarray(images[trial.frames], np.float32)
        emptied = np.where(hidden[..., None], np.float32(0), recorded)
        filled = yield from inpainter(emptied, hidden, trial.scored)
        for place in trial.scored:
            planes[done] = planes_of(filled, hidden, int(place))
            truth[done] = np.moveaxis(recorded[place], -1, 0)
            known[done] = trial.extra[place] & ~occluded[trial.frames[place]]
            done += 1
            yield Progress("learn the clip", 0, 1)
    return Examples(planes, truth, known)
