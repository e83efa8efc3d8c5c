"""Vessel label of a volume without truth: every vessel is cut at a share of its own lumen value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from splatomy.errors import InputError
from splatomy.extract.threshold import Levels, measure_levels
from splatomy.scene import Volume

# Clumps of haze reach 8 noise deviations on phantoms.
_SEED_SIGMAS = 10.0
_SEED_SHARE = 0.06
# Pieces of the dimmest vessels peak at 6 to 9, but are long and slender as no clump is. A volume of Gaussians
# may be exactly zero between them, and tell of no noise: what is short there is a vessel if it is bright.
_SLENDER_SEED_RATIO = 0.6
_SLENDER_VOXELS = 6.0
_SLENDER_LENGTHS = 2.0
_SHORT_SEED_SHARE = 0.3
_MIN_VOXELS = 8
# A contrast volume has one plateau, so that its wall level is mostly global; where tissue surrounds the
# vessels, brightness differs from vessel to vessel and the level is local.
_LOCAL = 0.2
_TISSUE_NOISE_SHARE = 0.05
# The brightness-weighted mean at a wall, over the plateau behind it.
_NEAR_OVER_PLATEAU = 0.82
_DIM_SHARE = np.float32(0.9)
_WINDOW_VOXELS = 1.5
# Shares of the plateau tried as wall, and the blocks in which label and volume must hold the same mass. Thin
# vessels alone show no plateau: they ask for a share beyond the bounds, and half is then as good as any.
_SHARES = np.arange(0.36, 0.6401, 0.02)
_BLOCK_VOXELS = 8
_SUPPORT_VOXELS = 3
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

    A voxel belongs to the lumen when it exceeds a share of the lumen's value about it. Dropped are pieces
    shorter than ``min_length_mm``, those that never rise clearly above the noise, and of pieces less than
    twice as long those that never reach 0.3 of the lumen.

    Args:
        volume: attenuation in 1/mm, or any intensity that is high in vessels.
        level: one level for the whole volume instead of the above; None = found from the volume.
        min_length_mm: pieces whose bounding box has a shorter diagonal are dropped.
        local: False cuts at ``choose_threshold`` everywhere.

    Source: ours (wall at a share of the local lumen). 4DRGS cuts at a fixed 0.008/mm.

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
        lumen, floor = excess >= height, single
        seed = short_seed = 0.0
    else:
        wall = _local_wall(excess, levels)
        lumen = (wall > 0) & (excess >= wall)
        seed = max(_SEED_SIGMAS * levels.noise, _SEED_SHARE * (levels.lumen - levels.background))
        # Where the background is tissue its spread is no noise: half the lumen is then seed enough.
        seed = min(seed, levels.threshold - levels.background)
        single, floor = levels.threshold, levels.floor
        short_seed = max(seed, _SHORT_SEED_SHARE * (levels.lumen - levels.background))
    label, sizes = _components(_filled(lumen), excess, (seed, short_seed), min_length_mm, spacing)
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


def _local_wall(excess: NDArray[np.float32], levels: Levels) -> NDArray[np.float32]:
    """Wall level above background, (I, J, K); 0 where no vessel can be.

    The local lumen is the brightness-weighted mean about each voxel, which neither the dark outside
    nor a single bright voxel rules. It never moves the wall so far that a dim vessel would vanish.
    """
    lumen = np.float32(levels.lumen - levels.background)
    floor = np.float32(levels.floor - levels.background)
    positive = np.maximum(excess, 0)
    near = _blur(positive**2) / np.maximum(_blur(positive), np.float32(1e-12) * lumen)
    in_tissue = levels.noise > _TISSUE_NOISE_SHARE * lumen
    local = 1.0 if in_tissue else _LOCAL
    plain = 0.5 if in_tissue else _matched_share(positive, float(lumen))
    share = np.float32(plain / _NEAR_OVER_PLATEAU**local)
    wall = share * near ** np.float32(local) * lumen ** np.float32(1 - local)
    wall = np.maximum(np.minimum(wall, _DIM_SHARE * near), floor)
    return np.where(excess >= floor, wall, 0).astype(np.float32)


def _matched_share(positive: NDArray[np.float32], lumen: float) -> float:
    """The share of the lumen at which a label, filled evenly, holds the volume's mass block by block.

    A reconstruction may blur walls and pile attenuation up in the middle of a vessel, both without
    moving mass from one block to another; half of the plateau is then the wrong level, this is not.
    """
    core = (positive >= np.float32(0.5 * lumen)).astype(np.float32)
    support = ndimage.uniform_filter(core, 2 * _SUPPORT_VOXELS + 1) > 0.5 / (2 * _SUPPORT_VOXELS + 1) ** 3
    index = np.argwhere(support) // _BLOCK_VOXELS
    if not len(index):
        return 0.5
    values = positive[support]
    _, block = np.unique(np.ravel_multi_index(tuple(index.T), positive.shape), return_inverse=True)
    mass = np.bincount(block, values)
    misfit = []
    for share in _SHARES:
        filled = np.bincount(block, values >= share * lumen)
        explained = (mass @ filled) ** 2 / max(float(filled @ filled), 1.0)
        misfit.append(1 - explained / float(mass @ mass))
    best = int(np.argmin(misfit))
    return 0.5 if best in (0, len(_SHARES) - 1) else float(_SHARES[best])


def _blur(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(ndimage.gaussian_filter(values, _WINDOW_VOXELS, truncate=3.0))


def _filled(lumen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The lumen with its enclosed cavities, which are noise: blood has no islands."""
    pieces, _ = ndimage.label(np.pad(~lumen, 1, constant_values=True))
    outside = pieces[0, 0, 0]
    return np.asarray(pieces[1:-1, 1:-1, 1:-1] != outside)


def _components(
    lumen: NDArray[np.bool_],
    excess: NDArray[np.float32],
    seeds: tuple[float, float],
    min_length_mm: float,
    spacing_mm: NDArray[np.float64],
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """The pieces that are long enough and reach a seed value, with their sizes, largest first.

    seeds: of long pieces and of short ones.
    """
    pieces, count = ndimage.label(lumen, _FULL)
    keep = np.zeros(count + 1, dtype=bool)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    highest = np.zeros(count + 1, dtype=np.float32)
    np.maximum.at(highest, pieces[lumen], excess[lumen])
    for piece, box in enumerate(ndimage.find_objects(pieces), start=1):
        extent = np.linalg.norm([(s.stop - s.start) * h for s, h in zip(box, spacing_mm, strict=True)])
        steps = extent / float(spacing_mm.min())
        is_long = extent >= _SLENDER_LENGTHS * min_length_mm
        is_slender = is_long and sizes[piece] < _SLENDER_VOXELS * steps
        wanted = seeds[0] * (_SLENDER_SEED_RATIO if is_slender else 1.0) if is_long else seeds[1]
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
