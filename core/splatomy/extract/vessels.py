"""Vessel label of a volume without truth: every vessel is cut at a share of its own lumen value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import ncx2

from splatomy.errors import InputError
from splatomy.extract._ridges import climb, direction_lengths, find_ridges
from splatomy.extract.threshold import Levels, measure_levels
from splatomy.scene import Volume

# Clumps of haze reach 8 noise deviations on phantoms.
_SEED_SIGMAS = 10.0
_SEED_SHARE = 0.06
# Pieces of the dimmest vessels peak at 6 to 9, but are long and slender as no clump is.
_SLENDER_SEED_RATIO = 0.6
_SLENDER_VOXELS = 6.0
_SLENDER_LENGTHS = 2.0
_MIN_VOXELS = 8
_CLIMB_STEPS = 12
# Fills just below the wall's value 1, so that the surface and the label always agree.
_OUTSIDE = np.float32(0.999)
_FULL = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class VesselLabel:
    """Where vessels are.

    label: (I, J, K) uint8, 1 = lumen.
    fill: (I, J, K) float32, value over the local wall level, both above background: >= 1 exactly in
        the label, so that its surface of level 1 is the sub-voxel wall; 0 far from vessels.
    affine_mm: (4, 4), voxel-centre index -> world mm.
    level_per_mm: the single level of the volume (``choose_threshold``), in the volume's unit.
    floor_per_mm: below it nothing was called a vessel.
    component_voxels: sizes of the connected pieces, (C,), largest first.
    """

    label: NDArray[np.uint8]
    fill: NDArray[np.float32]
    affine_mm: NDArray[np.float64]
    level_per_mm: float
    floor_per_mm: float
    component_voxels: NDArray[np.int64]

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """Voxel edge lengths, (3,) mm."""
        return np.asarray(np.linalg.norm(self.affine_mm[:3, :3], axis=0))

    @property
    def volume_ml(self) -> float:
        """Volume of all vessels, millilitres."""
        return float(self.label.sum() * abs(np.linalg.det(self.affine_mm[:3, :3])) / 1000)


def vessel_label(
    volume: Volume, level: float | None = None, *, min_length_mm: float = 3.0, local: bool = True
) -> VesselLabel:
    """The lumen of all vessels.

    Each voxel above a noise floor climbs to the ridge of its vessel and belongs to the lumen when it
    exceeds a share of that ridge's value: 1/2 for vessels wide against the blur, more for thin ones,
    whose peak is dimmed and whose profile is as wide as the blur. Pieces that are short or never
    rise clearly above the noise are dropped.

    Args:
        volume: attenuation in 1/mm, or any intensity that is high in vessels.
        level: one level for the whole volume instead of the above; None = found from the volume.
        min_length_mm: pieces whose bounding box has a shorter diagonal are dropped.
        local: False cuts at ``choose_threshold`` everywhere.

    Source: ours (half-maximum wall of a blurred cylinder; non-maximum suppression; watershed by
    steepest ascent). 4DRGS cuts at a fixed 0.008/mm.

    Raises:
        InputError: the volume has no contrast or no vessel.
    """
    values = np.nan_to_num(np.asarray(volume.values, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    levels = measure_levels(Volume(values, volume.affine_mm))
    excess = values - np.float32(levels.background)
    spacing = volume.grid.spacing_mm
    if level is not None or not local:
        single = levels.threshold if level is None else float(level)
        height = single - levels.background
        if height <= 0:
            raise InputError(
                f"The vessel level {single:.4g} is not above the background {levels.background:.4g}; "
                f"choose a higher one (suggested: {levels.threshold:.4g})."
            )
        wall = np.full(values.shape, height, dtype=np.float32)
        lumen, seed, floor = excess >= height, 0.0, single
    else:
        wall = _local_wall(excess, levels, spacing)
        lumen = (wall > 0) & (excess >= wall)
        seed = max(_SEED_SIGMAS * levels.noise, _SEED_SHARE * (levels.lumen - levels.background))
        # Where the background is tissue its spread is no noise: half the lumen is then seed enough.
        seed = min(seed, levels.threshold - levels.background)
        single, floor = levels.threshold, levels.floor
    label, sizes = _components(_filled(lumen), excess, seed, min_length_mm, spacing)
    if not sizes.size:
        raise InputError(
            f"No vessel was found: nothing above {floor:.4g} is {min_length_mm:g} mm long; "
            "give a lower level, or check that the volume is a vessel volume."
        )
    return VesselLabel(
        label.astype(np.uint8), _fill(excess, wall, label), volume.affine_mm, single, floor, sizes
    )


def label_of_mask(mask: Volume) -> VesselLabel:
    """A vessel label from somebody's binary mask (values > 0), its wall smoothed by half a voxel."""
    label = mask.values > 0
    pieces, _ = ndimage.label(label, _FULL)
    sizes = np.sort(np.bincount(pieces.ravel())[1:])[::-1]
    soft = 2 * ndimage.gaussian_filter(label.astype(np.float32), 0.5)
    fill = np.where(label, np.maximum(soft, 1.0), np.minimum(soft, _OUTSIDE)).astype(np.float32)
    return VesselLabel(label.astype(np.uint8), fill, mask.affine_mm, 0.5, 0.5, sizes.astype(np.int64))


def _local_wall(
    excess: NDArray[np.float32], levels: Levels, spacing_mm: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Wall level above background, (I, J, K); 0 where no vessel can be."""
    floor = np.float32(levels.floor - levels.background)
    # A padded copy lets ridges reach the volume's faces, where vessels enter.
    padded = np.pad(excess, 1, mode="edge")
    inside = np.zeros(padded.shape, dtype=bool)
    inside[1:-1, 1:-1, 1:-1] = excess >= floor
    candidates = np.argwhere(inside).astype(np.int32)
    ridge = candidates[find_ridges(padded, candidates)]
    wall = np.zeros(padded.shape, dtype=np.float32)
    if not len(ridge):
        return wall[1:-1, 1:-1, 1:-1]
    at = tuple(ridge.T)
    blurred = _blur(padded)
    # The mean along a ridge is steadier against noise than single maxima.
    on_ridge = np.zeros(padded.shape, dtype=np.float32)
    on_ridge[at] = 1
    weight = _blur(on_ridge)[at]
    on_ridge[at] = padded[at]
    peak = _blur(on_ridge)[at] / weight
    on_ridge[at] = np.clip(blurred[at] / padded[at], 0.01, 1.2)
    flatness = _blur(on_ridge)[at] / weight
    share = _wall_share(flatness, _blur_of_flatness(flatness[peak > 2.0 * floor]))
    on_ridge[at] = np.maximum(share * peak, floor)
    # The climb carries the ridge's wall level; a peak without a ridge is noise in a lumen.
    reached = climb(padded, candidates, on_ridge, direction_lengths(spacing_mm), _CLIMB_STEPS)
    wall[tuple(candidates.T)] = reached
    return wall[1:-1, 1:-1, 1:-1]


def _blur(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(ndimage.gaussian_filter(values, 1.0, truncate=3.0))


def _blur_of_flatness(flatness: NDArray[np.float32]) -> float:
    """Standard deviation of the volume's blur in voxels, from the flatness of its thinnest vessels.

    A point-like vessel under a blur s has flatness s^2 / (s^2 + 1) after one more voxel of blur. The
    thinnest vessels seen are not points but about a voxel in radius, which adds about 0.35 voxel^2
    (measured on phantoms); the result is bounded because a volume may hold wide vessels alone.
    """
    if flatness.size < 20:
        return 0.8
    thin = min(float(np.percentile(flatness, 5)), 0.95)
    return float(np.sqrt(np.clip(thin / (1 - thin) - 0.35, 0.5**2, 1.1**2)))


def _wall_share(flatness: NDArray[np.float32], blur: float) -> NDArray[np.float32]:
    """Wall value over peak value of a blurred cylinder of the given flatness.

    flatness: peak after one more voxel of blur over the peak, (R,). blur: in voxels.

    A disc of radius r under a Gaussian of deviation s has the value P(chi'^2_2(d^2/s^2) < r^2/s^2)
    at distance d (a non-central chi-squared distribution).
    """
    radius = np.geomspace(0.2, 15, 120)
    peak = -np.expm1(-(radius**2) / (2 * blur**2))
    flat = -np.expm1(-(radius**2) / (2 * (blur**2 + 1))) / peak
    share = ncx2.cdf((radius / blur) ** 2, 2, (radius / blur) ** 2) / peak
    # Above 0.7 a share selects single voxels and tears thin vessels apart.
    return np.clip(np.interp(flatness, flat, share), 0.45, 0.7).astype(np.float32)


def _filled(lumen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The lumen with its enclosed cavities, which are noise: blood has no islands."""
    pieces, _ = ndimage.label(np.pad(~lumen, 1, constant_values=True))
    outside = pieces[0, 0, 0]
    return np.asarray(pieces[1:-1, 1:-1, 1:-1] != outside)


def _components(
    lumen: NDArray[np.bool_],
    excess: NDArray[np.float32],
    seed: float,
    min_length_mm: float,
    spacing_mm: NDArray[np.float64],
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """The pieces that are long enough and reach the seed value, with their sizes, largest first."""
    pieces, count = ndimage.label(lumen, _FULL)
    keep = np.zeros(count + 1, dtype=bool)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    highest = np.zeros(count + 1, dtype=np.float32)
    np.maximum.at(highest, pieces[lumen], excess[lumen])
    for piece, box in enumerate(ndimage.find_objects(pieces), start=1):
        extent = np.linalg.norm([(s.stop - s.start) * h for s, h in zip(box, spacing_mm, strict=True)])
        steps = extent / float(spacing_mm.min())
        slender = sizes[piece] < _SLENDER_VOXELS * steps and extent >= _SLENDER_LENGTHS * min_length_mm
        wanted = seed * (_SLENDER_SEED_RATIO if slender else 1.0)
        keep[piece] = extent >= min_length_mm and sizes[piece] >= _MIN_VOXELS and highest[piece] >= wanted
    return keep[pieces], np.sort(sizes[keep])[::-1].astype(np.int64)


def _fill(
    excess: NDArray[np.float32], wall: NDArray[np.float32], label: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Value over the local wall level in the label and a rim of two voxels, else 0."""
    rim = ndimage.binary_dilation(label, _FULL, iterations=2) & ~label
    # Rim voxels take the wall level of the lumen they touch: their own may be a neighbour's or none.
    weight = ndimage.uniform_filter(label.astype(np.float32), 5)
    nearby = ndimage.uniform_filter(np.where(label, wall, 0), 5)
    level = np.where(label, wall, nearby / np.maximum(weight, 1e-6))
    fill = np.zeros(excess.shape, dtype=np.float32)
    some = (rim | label) & (level > 0)
    fill[some] = np.maximum(excess[some] / level[some], 0)
    fill[label] = np.maximum(fill[label], 1)
    fill[~label] = np.minimum(fill[~label], _OUTSIDE)
    return fill
