"""Arrival, time-to-peak and mean-transit maps of contrast curves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from splatomy.checks import check_shapes
from splatomy.extract.vessels import VesselLabel

_CHUNK = 200_000
_SMOOTH_MM = 0.8
_PASSES = 6
"""Together 2 mm, which contrast passes in about 20 ms; along a vessel earlier and later voxels cancel."""
_MOST_STEPS = 2


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

    arrival: the time, linear between samples, at which the curve last rises through half of its maximum
        before it; the first sample's time when it starts above that (the bolus came before the recording).
        An earlier spike, as reconstructions have at the ends of time, is no arrival.
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
    """The time maps of all lumen voxels, from curves that are averaged over the lumen around each.

    The noise of single voxels would raise their maxima, and with them the time at which half is reached.

    Args:
        frames: (time_s, values (I, J, K)) in order of time; one volume is held at a time.
        vessels: the label.

    Raises:
        ValueError: a volume's shape differs from the label's, or there are fewer than two.
    """
    inside = vessels.label > 0
    around = _around(inside, np.linalg.norm(vessels.affine_mm[:3, :3], axis=0))
    times, rows = [], []
    for time_s, values in frames:
        if values.shape != inside.shape:
            raise ValueError(f"values must have shape {inside.shape} like the label, got {values.shape}")
        times.append(time_s)
        rows.append(np.asarray(values[inside], dtype=np.float32))
    if len(times) < 2:
        raise ValueError("time maps need at least two volumes")
    curves = np.stack(rows, axis=1)
    for _ in range(_PASSES):
        curves = around @ curves
    maps = time_maps(curves, np.asarray(times))

    def spread(value: NDArray[np.float64]) -> NDArray[np.float32]:
        out = np.full(inside.shape, np.nan, dtype=np.float32)
        out[inside] = value
        return out

    arrival, peak, transit = (spread(m) for m in maps)
    return TimeMaps(arrival, peak, transit, vessels.affine_mm)


def _around(inside: NDArray[np.bool_], spacing_mm: NDArray[np.float64]) -> csr_array:
    """Weights (V, V), rows summing to one, of a Gaussian over the lumen voxels about each of them.

    Steps go through the lumen alone, so that vessels apart by a voxel or more do not mix.
    """
    where = np.argwhere(inside)
    count = len(where)
    number = np.full(np.array(inside.shape) + 2 * _MOST_STEPS, -1, np.int32)
    number[tuple((where + _MOST_STEPS).T)] = np.arange(count)
    rows, columns, weights = [], [], []
    reach = np.minimum(_MOST_STEPS, np.ceil(2 * _SMOOTH_MM / spacing_mm)).astype(int)
    for offset in np.ndindex(*(2 * reach + 1)):
        step = np.array(offset) - reach
        distance = float(np.linalg.norm(step * spacing_mm))
        if distance > 2 * _SMOOTH_MM:
            continue
        # A step of two is allowed only through a voxel of the lumen.
        middle = number[tuple((where + _MOST_STEPS + np.sign(step) * (np.abs(step) > 1)).T)]
        other = number[tuple((where + _MOST_STEPS + step).T)]
        linked = np.flatnonzero((other >= 0) & (middle >= 0))
        rows.append(linked.astype(np.int32))
        columns.append(other[linked])
        weights.append(np.full(len(linked), np.exp(-0.5 * (distance / _SMOOTH_MM) ** 2), np.float32))
    table = csr_array(
        (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), shape=(count, count)
    )
    total = np.asarray(table.sum(axis=1)).ravel()
    table.data /= np.repeat(total, np.diff(table.indptr)).astype(np.float32)
    return table


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
    number = np.arange(curves.shape[1])
    rising = (curves < half[:, None]) & (number < np.argmax(curves, axis=1)[:, None])
    after = np.where(rising, number, -1).max(1) + 1
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
