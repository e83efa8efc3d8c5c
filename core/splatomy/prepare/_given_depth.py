"""Depth that came with a clip: is it plausible, complete and steady?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from splatomy.capture import Capture
from splatomy.errors import InputError
from splatomy.events import Notice, Progress, Task

Image = NDArray[np.float32]
Bool = NDArray[np.bool_]

_PLAUSIBLE_MM = (8.0, 400.0)
_JUMP = 0.15
_DRIFT = 0.35
_FEW = 0.02


def cleaned(depth: Image, hidden: Bool | None) -> Image:
    """Depth (H, W) with holes (zero, negative, not finite) and hidden pixels as NaN."""
    with np.errstate(invalid="ignore"):
        wrong = ~np.isfinite(depth) | (depth <= 0)
    if hidden is not None:
        wrong = wrong | hidden
    return np.where(wrong, np.float32(np.nan), depth).astype(np.float32)


def check_given_depth(capture: Capture, out: Image) -> Task[None]:
    """Fills ``out`` (T, H, W) with the capture's usable depth and says what is odd about it.

    Raises:
        InputError: no usable depth at all, or one whose unit cannot be millimetres.
    """
    given = capture.depth_mm
    if given is None:
        raise ValueError("check_given_depth needs depth_mm")
    medians = np.full(len(capture), np.nan)
    change = np.zeros(len(capture))
    before: Image | None = None
    for t in range(len(capture)):
        depth = cleaned(given[t], None if capture.occluded is None else capture.occluded[t])
        out[t] = depth
        known = np.isfinite(depth)
        if known.mean() > _FEW:
            medians[t] = np.median(depth[known])
            if before is not None:
                with np.errstate(invalid="ignore"):
                    ratio = np.log(depth / before)
                both = np.isfinite(ratio)
                change[t] = np.median(ratio[both]) if both.mean() > _FEW else 0.0
            before = depth
        yield Progress("check depth", t + 1, len(capture))
    usable = np.isfinite(medians)
    if not usable.any():
        raise InputError(
            "The given depth holds no usable value on visible tissue; expected positive numbers: check the "
            "files and the meaning of the masks, or go without --depth."
        )
    if capture.metric:
        _check_unit(float(np.median(medians[usable])))
    yield from _oddities(out, medians, change)


def _check_unit(median_mm: float) -> None:
    low, high = _PLAUSIBLE_MM
    if low <= median_mm <= high:
        return
    scales = [s for s in (1000.0, 100.0, 10.0, 0.1, 0.01, 0.001) if low <= median_mm * s <= high]
    advice = f" (perhaps {scales[0]:g})" if scales else ""
    raise InputError(
        f"The given depth has a median of {median_mm:.4g} mm; expected {low:g} to {high:g} mm for an "
        f"endoscope: state its unit with --depth-scale-mm{advice}."
    )


def _oddities(depth: Image, medians: NDArray[np.float64], change: NDArray[np.float64]) -> list[Notice]:
    usable = np.isfinite(medians)
    found = []
    if not usable.all():
        count, first = int((~usable).sum()), int(np.argmin(usable))
        text = f"{count} of {len(medians)} frames have no given depth (first: {first})."
        found.append(Notice("warning", "depth-missing", text))
    holes = float(np.mean([np.isnan(frame).mean() for frame in depth[usable]]))
    if holes > 0.3:
        text = f"{100 * holes:.0f} % of the given depth is unknown or hidden."
        found.append(Notice("warning", "depth-holes", text))
    jumps = np.flatnonzero(np.abs(change) > _JUMP)
    if len(jumps):
        text = (
            f"The given depth jumps by up to {100 * np.expm1(np.abs(change[jumps]).max()):.0f} % between "
            f"neighbouring frames ({len(jumps)} times, first at frame {int(jumps[0])}): its scale may differ "
            "from frame to frame."
        )
        found.append(Notice("warning", "depth-jumps", text))
    wander = np.cumsum(change)
    if len(jumps) == 0 and np.ptp(wander) > _DRIFT:
        text = f"The given depth's scale drifts by {100 * np.expm1(np.ptp(wander)):.0f} % over the clip."
        found.append(Notice("warning", "depth-drift", text))
    return found
