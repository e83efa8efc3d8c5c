"""Which frames are held out, and how well the scene predicts them."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from splatomy.capture import Capture
from splatomy.engine.background import beside
from splatomy.errors import InputError
from splatomy.events import Progress, Task
from splatomy.metrics.image import image_metrics
from splatomy.scene import Scene


def training_frames(num_frames: int, num_views: int | None) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices to train on, floor(i T / N) for i < N, and all the others; None trains on everything.

    Raises:
        InputError: more views are asked for than there are frames, or fewer than 2.
    """
    everything = np.arange(num_frames)
    if num_views is None:
        return everything, everything[:0]
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
    rendered = []
    for n, frame in enumerate(held):
        image = scene.render(capture.cameras[int(frame)], float(capture.times_s[frame]))
        rendered.append(image.colour[0, ..., 0])
        yield Progress("hold-out", n + 1, len(held))
    seen = None if capture.occluded is None else ~capture.occluded[held]
    work = partial(image_metrics, np.stack(rendered), capture.images[held, ..., 0], seen)
    return (yield from beside("hold-out", len(held), len(held), work))
