"""Where every pixel of an inpainted clip came from, and how far it may be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splatomy.capture import Capture

Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

OBSERVED, SYNTHESISED = 0, -1
"""Values of a provenance map; k + 1 = taken from frame k."""


@dataclass(frozen=True)
class Inpainting:
    """A clip with its hidden pixels filled; pixels that were visible are bit-equal to the input.

    images: (T, H, W, 3) sRGB in [0, 1].
    provenance: (T, H, W) whole numbers; OBSERVED = visible in its own frame, k + 1 = real tissue carried
        over from frame k along the motion (the frame that weighs most where several were blended),
        SYNTHESISED = shown by no frame within reach and made up.
    confidence: (T, H, W) in [0, 1]; 1 = observed, at most 0.1 = synthesised; in between it falls with the
        expected colour error: 1 / (1 + (error / 0.05)^2).
    """

    images: Float32
    provenance: NDArray[np.signedinteger]
    confidence: Float32

    def __len__(self) -> int:
        return len(self.images)

    @property
    def synthetic(self) -> Bool:
        """(T, H, W), True = made up. Propagated pixels are not: they are real, moved observations."""
        return np.asarray(self.provenance == SYNTHESISED)

    @property
    def shares(self) -> dict[str, float]:
        """Shares of all pixels: observed, propagated, synthesised."""
        size = max(self.provenance.size, 1)
        synthesised = float(np.count_nonzero(self.provenance == SYNTHESISED)) / size
        propagated = float(np.count_nonzero(self.provenance > 0)) / size
        return {
            "observed": 1.0 - propagated - synthesised,
            "propagated": propagated,
            "synthesised": synthesised,
        }

    def applied(self, capture: Capture) -> Capture:
        """The capture with filled images and ``synthetic`` set; ``occluded`` still says what was hidden."""
        note = "inpainted: {propagated:.1%} of the pixels propagated, {synthesised:.1%} synthesised"
        return capture.prepared(note.format(**self.shares), images=self.images, synthetic=self.synthetic)


def provenance_type(frames: int) -> type[np.signedinteger]:
    """The smallest integer type that can name every one of ``frames`` frames."""
    return np.int16 if frames < np.iinfo(np.int16).max else np.int32
