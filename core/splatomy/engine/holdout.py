"""Which frames are held out, and how well the scene predicts them."""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from splatomy.background import beside
from splatomy.capture import Capture
from splatomy.errors import InputError
from splatomy.events import Progress, Task
from splatomy.metrics.endoscopy import flicker, visible_metrics
from splatomy.metrics.image import image_metrics
from splatomy.scene import Scene

NumViews = int | Literal["endonerf"] | None
"""How many frames to train on, by which protocol, or None = all of them."""
_MOST_MEASURED = 240
"""Pictures of longer clips that are held in memory to be measured."""


def training_frames(num_frames: int, num_views: NumViews) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices to train on, floor(i T / N) for i < N, and all the others; None trains on everything.

    "endonerf" holds out the frames i with (i - 1) mod 8 = 0, as EndoNeRF and its followers do.

    Raises:
        InputError: more views are asked for than there are frames, or fewer than 2.
    """
    everything = np.arange(num_frames)
    if num_views is None:
        return everything, everything[:0]
    if num_views == "endonerf":
        if num_frames < 4:
            raise InputError(
                f"--views endonerf holds out every 8th frame: expected 4 or more, got {num_frames}. "
                "Leave it out."
            )
        held = (everything - 1) % 8 == 0
        return everything[~held], everything[held]
    if not 2 <= num_views <= num_frames:
        raise InputError(
            f"--views expects 2 to {num_frames} (the input's frames), got {num_views}. Choose fewer views."
        )
    train = np.arange(num_views) * num_frames // num_views
    return train, np.setdiff1d(everything, train)


def holdout_metrics(scene: Scene, capture: Capture, held: NDArray[np.intp]) -> Task[dict[str, float]]:
    """Image figures on the held-out frames of the input itself (which are noisy); empty without any."""
    if len(held) == 0 or capture.cameras is None:
        return {}
    held = spread_over(held, _MOST_MEASURED)
    is_colour = capture.images.shape[-1] == 3
    rendered = []
    for n, frame in enumerate(held):
        image = scene.render(capture.cameras[int(frame)], float(capture.times_s[frame]))
        rendered.append(image.colour[0] if is_colour else image.colour[0, ..., 0])
        yield Progress("hold-out", n + 1, len(held))
    if is_colour:
        observed = np.asarray(capture.images[held])
        hidden = np.zeros(observed.shape[:3], np.bool_)
        if capture.occluded is not None:
            hidden = capture.occluded[held]
        colour_work = partial(visible_metrics, np.stack(rendered), observed, hidden)
        return (yield from beside("hold-out", len(held), len(held), colour_work))
    seen = None if capture.occluded is None else ~capture.occluded[held]
    work = partial(image_metrics, np.stack(rendered), capture.images[held, ..., 0], seen)
    return (yield from beside("hold-out", len(held), len(held), work))


def steadiness(rendered: NDArray[np.floating], capture: Capture, first: int) -> Task[dict[str, float]]:
    """``flicker`` inside the holes of consecutive rendered frames (N, H, W, 3) from frame ``first`` on."""
    if capture.occluded is None or len(rendered) < 2:
        return {}
    hidden = capture.occluded[first : first + len(rendered)]
    value = yield from beside("flicker", 0, 1, partial(flicker, rendered, hidden, capture.outside))
    return {"flicker": value} if np.isfinite(value) else {}


def spread_over(frames: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    """Up to ``most`` of the frames, spread evenly."""
    if len(frames) <= most:
        return frames
    return frames[np.unique(np.linspace(0, len(frames) - 1, most).astype(np.intp))]
