"""A network's picture put into the hidden pixels of a filled clip, and nowhere else."""

from __future__ import annotations

import numpy as np

from splatomy.prepare.inpaint.fields import Bool, Float32
from splatomy.prepare.inpaint.provenance import SYNTHESISED, Inpainting

INVENTED = 0.05
"""Colour change from which a pixel counts as made up: the error at which a carried one is half trusted."""
MOST_TRUSTED = 0.1


def write_hidden(filled: Inpainting, frame: int, hidden: Bool, picture: Float32) -> None:
    """Writes a picture (H, W, 3) into the hidden pixels (H, W) of a frame, in place.

    Pixels that change by more than 0.05 count as made up from then on.
    """
    before = filled.images[frame][hidden]
    after = picture[hidden].clip(0, 1)
    filled.images[frame][hidden] = after
    invented = hidden.copy()
    invented[hidden] = np.abs(after - before).max(-1) > INVENTED
    filled.provenance[frame][invented] = SYNTHESISED
    filled.confidence[frame][invented] = np.minimum(filled.confidence[frame][invented], MOST_TRUSTED)


def own_copy(filled: Inpainting) -> Inpainting:
    """The same filling in arrays of its own."""
    return Inpainting(filled.images.copy(), filled.provenance.copy(), filled.confidence.copy())
