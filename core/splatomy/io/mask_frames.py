"""Which frames of one run show no contrast yet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from splatomy.io.dsa import Window


def precontrast_frames(fill: NDArray[np.float32]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The frames before contrast darkens the vessels, and a sentence about the choice.

    The darkest percent of (frame / first frame) falls when contrast arrives; frames count as
    pre-contrast until it has fallen by 30 % of its largest fall.
    """
    if len(fill) < 3:
        return (), ()
    step = max(1, min(fill.shape[1:]) // 128)
    # Block means keep detector noise out of the percentile.
    small = Window(np.arange(len(fill)), (0, 0, fill.shape[2], fill.shape[1]), step).binned(fill)
    ratio = small / np.maximum(small[0], max(1e-3, float(small[0].max()) * 1e-2))
    fall = 1 - np.percentile(ratio.reshape(len(fill), -1), 1, axis=1)
    if not np.isfinite(fall).all():
        # Pixels that are no numbers are refused where all of them are checked.
        return (), ()
    peak = float(fall.max())
    if peak < 0.03:
        return (), ("No contrast arrival was found: no frame differs from the first by 3 % or more.",)
    late = np.flatnonzero(fall > 0.3 * peak)
    count = max(1, min(int(late[0]), len(fill) // 2))
    note = f"The first {count} of {len(fill)} frames, before the contrast arrives, serve as the mask."
    return tuple(range(count)), (note,)
