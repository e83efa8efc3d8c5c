"""Transport of a contrast bolus: when it reaches each piece of vessel and how it spreads.

Source: the gamma-variate indicator-dilution curve (Thompson et al., Circ. Res. 14, 1964), in the
form normalised by its peak (Madsen, Phys. Med. Biol. 37, 1992); velocity and dispersion laws are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse import csgraph
from scipy.special import lambertw
from skimage.filters import threshold_otsu

from splatomy.errors import InputError
from splatomy.events import Progress, Task
from splatomy.phantoms._tree import Tree

Float = NDArray[np.float64]


@dataclass(frozen=True)
class BolusSettings:
    """How the contrast flows."""

    onset_s: float = 0.2
    """Start of the injection at the root."""
    rise_s: float = 1.2
    """Time from the first contrast to the peak, at the root."""
    spread_per_s: float = 0.2
    """Growth of the time to peak per second of transit."""
    alpha: float = 1.5
    """Exponent of the gamma variate; low, as for an injection that lasts most of the spin."""
    peak_per_mm: float = 0.026
    """Peak attenuation at the root, 1/mm."""
    speed_mm_s: float = 300.0
    """Velocity in the thickest vessel; it falls with the cube root of the radius."""
    late_s: float = 0.5
    """Extra delay of parts of a given volume that no path joins to the main vessel."""


@dataclass(frozen=True)
class Transport:
    """Contrast curves of E elements.

    start_s: first contrast, (E,). rise_s: time from there to the peak, (E,). peak_per_mm: (E,).

    The curve is ``peak * (x * exp(1 - x)) ** alpha`` with ``x = (t - start) / rise`` for x > 0.
    """

    start_s: Float
    rise_s: Float
    peak_per_mm: Float
    alpha: float

    def attenuation(self, times_s: NDArray[np.floating] | float) -> Float:
        """Attenuation in 1/mm, (T, E), at times (T,) or a scalar."""
        t = np.atleast_1d(np.asarray(times_s, dtype=np.float64))
        x = np.maximum((t[:, None] - self.start_s) / self.rise_s, 0.0)
        return np.asarray(self.peak_per_mm * (x * np.exp(1.0 - x)) ** self.alpha)

    @property
    def arrival_s(self) -> Float:
        """First time at which each curve reaches half of its own maximum, (E,) s."""
        # x exp(1 - x) = h has the rising solution x = -W0(-h / e).
        half = float(-lambertw(-(0.5 ** (1.0 / self.alpha)) / np.e).real)
        return self.start_s + half * self.rise_s

    @property
    def mean_time_s(self) -> Float:
        """First moment of each curve over all time, (E,) s."""
        return self.start_s + self.rise_s * (1.0 + 1.0 / self.alpha)


def _curves(delay_s: Float, s: BolusSettings) -> Transport:
    """Curves after a transit of ``delay_s`` (E,): dispersion widens them and lowers their peak."""
    rise = s.rise_s + s.spread_per_s * delay_s
    # The square root lies between a constant peak and a constant area under the curve.
    return Transport(s.onset_s + delay_s, rise, s.peak_per_mm * np.sqrt(s.rise_s / rise), s.alpha)


def tree_transport(tree: Tree, s: BolusSettings) -> Transport:
    """Curves of every centreline sample, (M,); aneurysms fill late and wash out slowly."""
    delay = np.zeros(len(tree.points_mm))
    speed = s.speed_mm_s * np.cbrt(np.minimum(tree.radius_mm / 2.5, 1.0))
    step = np.linalg.norm(tree.points_mm - tree.points_mm[tree.parent], axis=1) / speed
    for i, parent in enumerate(tree.parent):
        if parent >= 0:
            delay[i] = delay[parent] + (0.12 if tree.sac[i] else step[i])
    out = _curves(delay, s)
    rise = np.where(tree.sac, 1.8 * out.rise_s, out.rise_s)
    return Transport(out.start_s, rise, np.where(tree.sac, 0.9, 1.0) * out.peak_per_mm, s.alpha)


def contrast_of(values: NDArray[np.floating]) -> Float:
    """Peak contrast (I, J, K) in 1/mm made of any vessel volume or mask; 0 = no vessel.

    A mask becomes 0.02/mm. Anything else is cut at Otsu's threshold (again within the kept part while
    that is more than a tenth of the volume) and scaled so that the 99th percentile is 0.025/mm.

    Raises:
        InputError: the volume is constant or not finite.
    """
    v = np.nan_to_num(np.asarray(values, dtype=np.float64))
    low, high = float(v.min()), float(v.max())
    if not high > low:
        raise InputError("The volume is constant; expected vessels brighter than their surroundings.")
    if np.isin(v, (0.0, high)).all():
        return np.where(v > 0, 0.02, 0.0)
    kept = v > low
    level = threshold_otsu(v)
    for _ in range(4):
        kept = v > level
        if kept.mean() < 0.1 or len(np.unique(v[kept][:1000])) < 3:
            break
        level = threshold_otsu(v[kept])
    floor = float(np.median(v[~kept]))
    top = float(np.percentile(v[kept], 99))
    scaled = np.clip(0.025 * (v - floor) / max(top - floor, 1e-12), 0.0, 0.03)
    return np.where(kept, scaled, 0.0)


def _vessel_graph(mask: NDArray[np.bool_], slowness: Float, spacing_mm: Float) -> sparse.csr_matrix:
    """Travel times in s between neighbouring vessel voxels (26-neighbourhood), (N, N) symmetric."""
    number = np.full(np.array(mask.shape) + 2, -1, np.int64)
    inner = number[1:-1, 1:-1, 1:-1]
    inner[mask] = np.arange(int(mask.sum()))
    where = np.argwhere(mask) + 1
    rows, columns, times = [], [], []
    for offset in np.ndindex(3, 3, 3):
        step = np.array(offset) - 1
        if tuple(step) <= (0, 0, 0):
            continue
        other = number[tuple((where + step).T)]
        here = np.flatnonzero(other >= 0)
        rows.append(here)
        columns.append(other[here])
        pace = 0.5 * (slowness[here] + slowness[other[here]])
        times.append(pace * np.linalg.norm(step * spacing_mm))
    half = (np.concatenate(times), (np.concatenate(rows), np.concatenate(columns)))
    graph = sparse.csr_matrix(half, shape=(len(where), len(where)))
    return sparse.csr_matrix(graph + graph.T)


def _seeds(parts: NDArray[np.int64], thick: Float, height: Float) -> tuple[NDArray[np.int64], int]:
    """Entry voxel of every component (C,), and the number of the largest component."""
    order = np.lexsort((thick, parts))
    seeds = order[np.cumsum(np.bincount(parts)) - 1]
    main = int(np.argmax(np.bincount(parts)))
    body = np.flatnonzero(parts == main)
    low = body[height[body] <= np.quantile(height[body], 0.1)]
    seeds[main] = low[np.argmax(thick[low])]
    return seeds, main


def volume_transport(
    contrast: Float, affine_mm: Float, s: BolusSettings, bins: int = 512
) -> Task[tuple[Transport, NDArray[np.int64]]]:
    """Curves of arrival bins and the bin of every voxel of a given volume.

    Returns the transport of ``bins`` elements, with peaks relative to the root's, and bin numbers
    (I, J, K), -1 outside. The contrast enters the largest component at the thickest voxel of its lowest
    tenth in world z and takes the quickest way inside the vessels; other components start ``late_s``
    later at their thickest voxel.
    """
    mask = contrast > 0
    spacing = np.linalg.norm(affine_mm[:3, :3], axis=0)
    yield Progress("bolus", 0, 3)
    thick = ndimage.distance_transform_edt(mask, sampling=spacing)[mask]
    speed = s.speed_mm_s * np.cbrt(np.clip(thick / float(thick.max()), 0.05, 1.0))
    yield Progress("bolus", 1, 3)
    graph = _vessel_graph(mask, 1.0 / speed, spacing)
    _, parts = csgraph.connected_components(graph, directed=False)
    yield Progress("bolus", 2, 3)
    seeds, main = _seeds(parts.astype(np.int64), thick, np.argwhere(mask) @ affine_mm[2, :3])
    # The components do not touch, so one search from all their seeds serves every one.
    delay = csgraph.dijkstra(graph, indices=seeds, min_only=True)
    delay = delay + np.where(parts == main, 0.0, s.late_s)
    longest = max(float(delay.max()), 1e-9)
    number = np.full(contrast.shape, -1, np.int64)
    number[mask] = np.minimum((delay / longest * bins).astype(np.int64), bins - 1)
    curves = _curves((np.arange(bins) + 0.5) * longest / bins, s)
    peak = curves.peak_per_mm / s.peak_per_mm
    return Transport(curves.start_s, curves.rise_s, peak, s.alpha), number
