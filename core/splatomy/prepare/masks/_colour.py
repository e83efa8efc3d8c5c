"""Grey and bluish instruments before red tissue: evidence from colour, and highlights."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.prepare.masks._flow import Bool, Codes, Float32
from splatomy.prepare.masks._refine import touched_parts

_MOST_EVIDENCE = 4.0
"""Bound of the log-odds from one pixel's colour."""
_GREYEST_TISSUE = 14.0
"""An instrument's mean chroma lies below this; without instruments the lower component is pale tissue."""
_CLEAR_SEPARATION = 2.0
"""Distance of two means in units of their common deviation from which two modes are distinct (Ashman's D)."""
_PLAIN_CHROMA, _PLAIN_WIDTH = 8.0, 3.0
_BRIGHT_CODE = 178
_DARKNESS = 15.0
"""Lightness below which relative warmth is mostly noise."""
_WARM_SHARE, _WARM_WIDTH = 30.0, 4.0
"""Relative warmth beyond which even a dark place is tissue."""


def warmth(codes: Codes) -> tuple[Float32, Float32]:
    """How red or yellow a picture (H, W, 3) is, (H, W), and the same relative to its lightness in percent.

    The first is CIE-LAB chroma of which blue and green count nothing, so that a bluish shaft is as little
    tissue as a grey one; the second does not fall off in dark places, where all chroma is small.
    """
    lab = cv2.cvtColor(codes.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    warm = cv2.GaussianBlur(np.hypot(np.maximum(lab[..., 1], 0), np.maximum(lab[..., 2], 0)), (0, 0), 1.0)
    relative = 100 * warm / (cv2.GaussianBlur(lab[..., 0], (0, 0), 1.0) + _DARKNESS)
    return np.asarray(warm, dtype=np.float32), np.asarray(relative, dtype=np.float32)


@dataclass(frozen=True)
class ChromaModel:
    """Two normal distributions of warmth: (instrument, tissue) means, deviations and shares.

    clear: they are two distinct modes, and the first is grey.
    """

    means: tuple[float, float]
    deviations: tuple[float, float]
    shares: tuple[float, float]

    @property
    def separation(self) -> float:
        """Distance of the means in units of the root mean square deviation."""
        spread = np.sqrt((self.deviations[0] ** 2 + self.deviations[1] ** 2) / 2)
        return float((self.means[1] - self.means[0]) / max(spread, 1e-6))

    @property
    def clear(self) -> bool:
        """True if there is a grey mode apart from the tissue's."""
        return self.means[0] < _GREYEST_TISSUE and self.separation > _CLEAR_SEPARATION

    def log_odds(self, values: Float32, relative: Float32) -> Float32:
        """Log-odds of instrument against tissue for warmth and relative warmth, bounded."""
        veto = np.clip((_WARM_SHARE - relative) / _WARM_WIDTH, -_MOST_EVIDENCE, _MOST_EVIDENCE)
        return np.asarray(np.minimum(self._log_odds(values), veto), dtype=np.float32)

    def _log_odds(self, values: Float32) -> Float32:
        if not self.clear:
            return np.clip((_PLAIN_CHROMA - values) / _PLAIN_WIDTH, -_MOST_EVIDENCE, _MOST_EVIDENCE)
        terms = []
        for mean, deviation, share in zip(self.means, self.deviations, self.shares, strict=True):
            # Beyond its own mean a mode only becomes more certain: the wider one must not take both tails.
            outer = np.minimum(values, mean) if mean == self.means[1] else np.maximum(values, mean)
            terms.append(np.log(share / deviation) - 0.5 * np.square((outer - mean) / deviation))
        return np.asarray(np.clip(terms[0] - terms[1], -_MOST_EVIDENCE, _MOST_EVIDENCE), dtype=np.float32)


def fit_chroma(values: NDArray[np.floating]) -> ChromaModel:
    """Two modes of chroma by expectation maximisation, started at the 8th and 70th percentile."""
    x = np.sort(np.asarray(values, dtype=np.float64).ravel())
    # The order of samples is no matter: quantiles stand for all of them.
    x = x[np.linspace(0, len(x) - 1, min(len(x), 4096)).astype(np.int64)]
    means = np.percentile(x, [8.0, 70.0])
    deviations = np.full(2, max(0.25 * float(means[1] - means[0]), 0.5))
    shares = np.array([0.2, 0.8])
    for _ in range(60):
        density = shares / deviations * np.exp(-0.5 * np.square((x[:, None] - means) / deviations))
        belongs = density / np.maximum(density.sum(1, keepdims=True), 1e-300)
        weight = belongs.sum(0) + 1e-9
        means = (belongs * x[:, None]).sum(0) / weight
        deviations = np.sqrt((belongs * np.square(x[:, None] - means)).sum(0) / weight + 0.25)
        shares = np.maximum(weight / weight.sum(), 1e-3)
    low = int(np.argmin(means))
    order = [low, 1 - low]
    m, d, s = means[order].tolist(), deviations[order].tolist(), shares[order].tolist()
    return ChromaModel((m[0], m[1]), (d[0], d[1]), (s[0], s[1]))


def highlights(codes: Codes) -> Bool:
    """Pixels of (H, W, 3) that are bright and nearly white, with the glow about them, (H, W)."""
    brightest, darkest = codes.max(-1), codes.min(-1)
    counts = np.cumsum(np.bincount(brightest.ravel(), minlength=256))
    top = int(np.searchsorted(counts, 0.995 * counts[-1]))
    saturation = (brightest.astype(np.int16) - darkest) / np.maximum(brightest, 1)
    threshold = max(0.9 * top, _BRIGHT_CODE)
    peak = (brightest > threshold) & (saturation < 0.25)
    around = cv2.medianBlur(brightest, 31)
    peak |= (darkest > 1.3 * around) & (brightest > _BRIGHT_CODE // 2)
    glow = (brightest > 0.8 * threshold) & (saturation < 0.4)
    grown = touched_parts(glow | peak, peak)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    return np.asarray(cv2.dilate(grown.astype(np.uint8), kernel) > 0)
