"""Arrival, time-to-peak and mean-transit maps of contrast curves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splatomy.checks import check_shapes
from splatomy.extract.vessels import VesselLabel

_CHUNK = 200_000


@dataclass(frozen=True)
class TimeMaps:
    """Maps of time, (I, J, K) float32 seconds on the grid affine_mm (4, 4); NaN outside vessels."""

    arrival_s: NDArray[np.float32]
    peak_s: NDArray[np.float32]
    transit_s: NDArray[np.float32]
    affine_mm: NDArray[np.float64]


def time_maps(
    curves: NDArray[np.floating], times_s: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Arrival, peak and mean transit, each (V,) seconds, of attenuation curves.

    arrival: the first time, linear between samples, at which the curve reaches half of its maximum;
        the first sample's time when the curve starts above it (the bolus came before the recording).
    peak: the vertex of the parabola through the largest sample and its two neighbours, kept between
        them; the sample itself at either end of the recording.
    transit: sum(t c w) / sum(c w) - arrival, with c the curve's positive part and w the trapezoidal
        sample widths: the curve's centre of mass counted from its arrival. A recording that ends
        before the washout makes it too short.

    A curve without a positive or with a non-finite sample gives NaN.

    Args:
        curves: (V, T) attenuation, any unit.
        times_s: (T,) strictly increasing; steps may differ.

    Source: the usual definitions of time-density analysis (colour-coded DSA); half maximum, because
    the foot of a curve drowns in noise.

    Raises:
        ValueError: the shapes disagree or the times do not increase.
    """
    check_shapes(curves=(curves, "V T"), times_s=(times_s, "T"))
    times = np.asarray(times_s, dtype=np.float64)
    if len(times) < 2 or not (np.diff(times) > 0).all():
        raise ValueError("times_s must hold at least two strictly increasing times")
    parts = [
        _maps_of(np.asarray(curves[i : i + _CHUNK], dtype=np.float64), times)
        for i in range(0, max(len(curves), 1), _CHUNK)
    ]
    arrival, peak, transit = (np.concatenate(p) for p in zip(*parts, strict=True))
    return arrival, peak, transit


def vessel_time_maps(frames: Iterable[tuple[float, NDArray[np.floating]]], vessels: VesselLabel) -> TimeMaps:
    """The time maps of all lumen voxels.

    Args:
        frames: (time_s, values (I, J, K)) in order of time; one volume is held at a time.
        vessels: the label.

    Raises:
        ValueError: a volume's shape differs from the label's, or there are fewer than two.
    """
    inside = vessels.label > 0
    times, rows = [], []
    for time_s, values in frames:
        if values.shape != inside.shape:
            raise ValueError(f"values must have shape {inside.shape} like the label, got {values.shape}")
        times.append(time_s)
        rows.append(np.asarray(values[inside], dtype=np.float32))
    if len(times) < 2:
        raise ValueError("time maps need at least two volumes")
    maps = time_maps(np.stack(rows, axis=1), np.asarray(times))

    def spread(value: NDArray[np.float64]) -> NDArray[np.float32]:
        out = np.full(inside.shape, np.nan, dtype=np.float32)
        out[inside] = value
        return out

    arrival, peak, transit = (spread(m) for m in maps)
    return TimeMaps(arrival, peak, transit, vessels.affine_mm)


def _maps_of(
    curves: NDArray[np.float64], times: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    usable = np.asarray(np.isfinite(curves).all(1) & (curves > 0).any(1))
    curves = np.where(usable[:, None], curves, 1.0)
    arrival = _arrival(curves, times)
    peak = _peak(curves, times)
    weight = np.maximum(curves, 0) * np.gradient(times)
    # np.gradient gives the ends a full step; the trapezoid gives them half of one.
    weight[:, [0, -1]] *= 0.5
    transit = (weight @ times) / weight.sum(1) - arrival
    out = tuple(np.where(usable, m, np.nan) for m in (arrival, peak, transit))
    return out[0], out[1], out[2]


def _arrival(curves: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    half = 0.5 * curves.max(1)
    after = np.argmax(curves >= half[:, None], axis=1)
    row = np.arange(len(curves))
    before = np.maximum(after - 1, 0)
    low, high = curves[row, before], curves[row, after]
    share = np.where(after > 0, (half - low) / np.where(high > low, high - low, 1), 0.0)
    return np.asarray(times[before] + share * (times[after] - times[before]))


def _peak(curves: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    top = np.argmax(curves, axis=1)
    if len(times) < 3:
        return times[top]
    row, mid = np.arange(len(curves)), np.clip(top, 1, len(times) - 2)
    t0, t1, t2 = times[mid - 1], times[mid], times[mid + 1]
    c0, c1, c2 = curves[row, mid - 1], curves[row, mid], curves[row, mid + 1]
    left, right = (c1 - c0) / (t1 - t0), (c2 - c1) / (t2 - t1)
    bend = (right - left) / (t2 - t0)
    vertex = 0.5 * (t0 + t1) - left / (2 * np.where(bend < 0, bend, 1))
    inner = (top == mid) & (bend < 0)
    return np.asarray(np.where(inner, np.clip(vertex, t0, t2), times[top]))
