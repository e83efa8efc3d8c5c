"""Levels of a sparse vessel volume, found without any truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.scene import Volume

_MAX_SAMPLES = 4_000_000
# 3.5 noise deviations keep dim vessels that longer connected pieces then confirm (vessels.py).
_NOISE_SIGMAS = 3.5
_LUMEN_SHARE = 0.5
_FLOOR_SHARE = 0.04


@dataclass(frozen=True)
class Levels:
    """Typical values of a vessel volume, all in the volume's unit (1/mm, or any other).

    background: value outside vessels. noise: its robust standard deviation (0 when most voxels are empty).
    lumen: value inside well-filled vessels. floor: below it nothing is called a vessel.
    threshold: the best single level.
    """

    background: float
    noise: float
    lumen: float
    floor: float
    threshold: float


def choose_threshold(volume: Volume) -> float:
    """The single level, in the volume's unit (1/mm), that best separates vessels from the rest.

    It lies half-way between background and lumen, where a blurred wall of a wide vessel is crossed.
    Thin vessels are dimmed by the partial-volume effect and need the local criterion of
    ``vessels.vessel_label``.

    Source: ours; it replaces the fixed 0.008/mm of 4DRGS, which assumes one scanner's calibration.
    """
    return measure_levels(volume).threshold


def measure_levels(volume: Volume) -> Levels:
    """Background, noise, lumen, floor and threshold of a volume in which vessels are the bright few per cent.

    Raises:
        InputError: the volume has no finite voxel or no contrast.
    """
    flat = volume.values.reshape(-1)
    sample = flat[:: max(1, flat.size // _MAX_SAMPLES)].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if not sample.size or sample.max() <= sample.min():
        raise InputError(
            "The volume holds one value only (or no finite value), so no vessel can be separated; "
            "check that the reconstruction is not empty."
        )
    background = float(np.median(sample))
    # The lower half is free of vessels, so that its spread is the noise even in dense vasculature.
    noise = 1.4826 * float(background - np.median(sample[sample <= background]))
    signal = sample[sample > background + _NOISE_SIGMAS * noise] - background
    if signal.size < 8:
        signal = np.sort(sample[sample > background])[-max(8, sample.size // 1000) :] - background
    lumen = background + _lumen(signal)
    floor = background + max(_NOISE_SIGMAS * noise, _FLOOR_SHARE * (lumen - background))
    threshold = max(
        background + _LUMEN_SHARE * (lumen - background), min(floor, background + 0.9 * (lumen - background))
    )
    return Levels(background, noise, lumen, min(floor, threshold), threshold)


def _lumen(signal: NDArray[np.float64]) -> float:
    """The mean of the values above a level L that is itself half that mean (the fixed point).

    Wide vessels hold most voxels near their plateau; blurred walls and haze lie below half of it.
    Starting from the top keeps low haze, however large its volume, out of the mean.
    """
    ordered = np.sort(signal)[::-1]
    sums = np.cumsum(ordered)
    level = float(ordered[min(len(ordered) - 1, len(ordered) // 200)]) * _LUMEN_SHARE
    mean = float(ordered[0])
    for _ in range(100):
        count = int(np.searchsorted(-ordered, -level, side="right"))
        mean = float(sums[max(count, 1) - 1] / max(count, 1))
        if abs(_LUMEN_SHARE * mean - level) < 1e-4 * mean:
            break
        level = _LUMEN_SHARE * mean
    return mean
