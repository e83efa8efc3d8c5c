"""How well a scene's shadow lies on the vessels of each static view."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from splatomy.capture import Capture
from splatomy.events import Progress, Task
from splatomy.metrics.volume import mask_overlap
from splatomy.scene import Scene

_LEVEL = 0.25


def view_overlap(scene: Scene, capture: Capture) -> Task[dict[str, float]]:
    """dice, precision and recall of the rendered vessels against each static view's vessel mask.

    A rendered pixel is vessel from a quarter of the view's typical line integral in its vessels on. Keys
    end in ``_view<n>``, with ``_given`` behind where the masks came with the input (the found ones are
    the default). One run of many frames counts as one view, taken at its fullest frame. Empty for a capture
    that is not of static views.
    """
    curves = capture.details.get("image_curves")
    if curves is None or capture.target is None or capture.cameras is None:
        return {}
    frames: list[int] = list(range(len(capture)))
    if np.ptp(capture.times_s) > 0:
        frames = [int(capture.target.sum((1, 2)).argmax())]
    given: NDArray[np.bool_] | None = capture.details.get("given_target")
    found: dict[str, float] = {}
    for view, frame in enumerate(frames):
        mask = capture.target[frame]
        image = scene.render(capture.cameras[frame], float(capture.times_s[frame])).colour[0, ..., 0]
        values = capture.images[frame, ..., 0][mask]
        shadow = image > _LEVEL * float(np.median(values)) if values.size else np.zeros(mask.shape, bool)
        pairs = [("", mask)] if given is None else [("", mask), ("_given", given[frame])]
        for suffix, truth in pairs:
            overlap = mask_overlap(shadow, truth)
            found |= {f"{name}_view{view}{suffix}": value for name, value in overlap.items()}
        yield Progress("overlap", view + 1, len(frames))
    return found
