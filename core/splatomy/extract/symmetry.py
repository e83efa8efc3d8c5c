"""The symmetry of an object of which a part was seen: a mirror plane or an axis of rotation, by a vote."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from splatomy.events import Progress, Task
from splatomy.geometry.rigid import rotation_from_vector

Float = NDArray[np.float64]
Look = Callable[[Float, Float], NDArray[np.int8]]
"""What views say of points (N, 3) with outward normals (N, 3): ``AGREES``, ``CONTRADICTS`` or ``UNSEEN``."""

AGREES, CONTRADICTS, UNSEEN = 1, -1, 0
_MOST = 700
"""Points that vote; every pair of them names one mirror plane."""
_SAME_TURN = np.cos(np.radians(20.0))
"""Cosine at which two normals are mirror images: those of noisy depth are good to some degrees."""
_LEAST_APART = 0.15
"""In sizes of the object; nearer points say little about the plane between them."""
_BOX_TURN, _BOX_SHIFT = np.radians(6.0), 0.022
"""Votes for planes this near (radians, sizes) are for one plane."""
_BASIN_TURN, _BASIN_SHIFT = np.radians(15.0), 0.05
"""Refinement moves starts this near (radians, sizes) to the same plane: one of them is enough. Were
they nearer to each other, all would go to the planes with most votes; few pairs vote for a plane of which
hardly more than one side was seen."""
_CANDIDATES, _SEEDS, _VOTES = 100, 1200, 10_000
_ANGLES = np.radians(np.arange(20.0, 360.0, 20.0))
_ROUNDS = 8
_TRIMS = (0.1, 0.015)
"""Distances (sizes) beyond which images match nothing, at the first and the last round of refinement."""
_NEIGHBOUR = 0.04
"""In sizes: the surface is never known more densely than this allows for."""
_STILL = 0.03
"""Images nearer (sizes) to their own point than this confirm nothing."""
_SAME_MAP = 0.02
_LEAST_SHARE = 0.25
"""Share of the points that move whose images must have been looked at and agree."""
_LEAST_AGREEMENT = 0.95
"""As a share of the agreement that the views reach among themselves. Measured on simulated bodies:
true planes reach 0.947 to 1, the best ones of 21 bodies without any 0.936 (one) and at most 0.77."""
_LEAST_OWN = 0.7
"""Views that agree less among themselves (poses or depth are off) cannot judge."""


@dataclass(frozen=True)
class Symmetry:
    """Maps of space that take an object onto itself.

    kind: "mirror" of one map, or "axis" of many. maps: (K, 4, 4). confidence: share of the images that lie
    where views look whose surface was seen there, over that of views among themselves. support: share of the
    points whose images were seen.
    """

    kind: Literal["mirror", "axis"]
    maps: Float
    confidence: float
    support: float


def mirror_map(normal: Float, level: float) -> Float:
    """(4, 4) reflection by the plane n . x = level, n (3,) of unit length."""
    made = np.eye(4)
    made[:3, :3] -= 2 * np.outer(normal, normal)
    made[:3, 3] = 2 * level * normal
    return made


def axis_maps(point: Float, direction: Float, angles_rad: Float) -> Float:
    """(K, 4, 4) rotations by angles (K,) about the line through a point along a unit direction."""
    made = np.tile(np.eye(4), (len(angles_rad), 1, 1))
    for k, angle in enumerate(angles_rad):
        made[k, :3, :3] = rotation_from_vector(angle * direction)
        made[k, :3, 3] = point - made[k, :3, :3] @ point
    return made


def find_symmetry(points: Float, normals: Float, look: Look, own_agreement: float) -> Task[Symmetry | None]:
    """The symmetry that explains the seen surface within the noise of the views, or None.

    points, normals: (N, 3) of the seen surface, evenly spread; normals of unit length. look: what the views
    say of places. own_agreement: share of AGREES among AGREES and CONTRADICTS of the points themselves, in
    views other than those that measured them; None is found below 0.7, where the views cannot judge.

    A mirror plane is voted for by pairs of points with mirrored normals, an axis is the line that all
    normals meet; both are refined on the surface and kept only where the images of what was seen agree with
    the views nearly as often as the points themselves.

    Source: Mitra, Guibas and Pauly 2006 (votes of pairs); Pottmann and Wallner 2001 (line of all normals).
    """
    if len(points) < 100 or own_agreement < _LEAST_OWN:
        return None
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(points))[:_MOST]
    middle = points.mean(0)
    size = float(np.linalg.norm(np.ptp(points, axis=0)))
    # Sizes and places of the vote are those of the object itself.
    at, facing = (points[chosen] - middle) / size, normals[chosen]
    surface = _Surface((points - middle) / size, normals)
    best: Symmetry | None = None
    starts = [*_axis_start(at, facing), *_mirror_starts(at, facing, rng)]
    tried: list[Float] = []
    for number, start in enumerate(starts):
        yield Progress("symmetry", number, len(starts))
        kind, maps = _refined(start, at, facing, surface)
        if any(np.abs(maps[0] - other).max() < _SAME_MAP for other in tried):
            continue
        tried.append(maps[0])
        maps = _unscaled(maps, middle, size)
        found = _judged(kind, maps, points, normals, look, own_agreement, _STILL * size)
        if found is not None and (best is None or _worth(found) > _worth(best)):
            best = found
    yield Progress("symmetry", len(starts), len(starts))
    return best


def _worth(found: Symmetry) -> tuple[bool, float]:
    # All planes through an axis are mirrors too: the axis says more.
    return found.kind == "axis", found.confidence * found.support


def _unscaled(maps: Float, middle: Float, size: float) -> Float:
    made = maps.copy()
    made[:, :3, 3] = size * maps[:, :3, 3] + middle - maps[:, :3, :3] @ middle
    return made


def _mirror_starts(at: Float, facing: Float, rng: np.random.Generator) -> Iterator[Float]:
    """Mirror planes (4,), normal and level, by falling number of votes."""
    i, j = np.triu_indices(len(at), 1)
    between = at[j] - at[i]
    apart = np.linalg.norm(between, axis=1)
    across = between / np.maximum(apart, 1e-12)[:, None]
    turned = facing[i] - 2 * (facing[i] * across).sum(1, keepdims=True) * across
    pairs = np.flatnonzero((apart > _LEAST_APART) & ((turned * facing[j]).sum(1) > _SAME_TURN))
    if not len(pairs):
        return
    normal = across[pairs]
    level = (0.5 * (at[i[pairs]] + at[j[pairs]]) * normal).sum(1)
    voting = rng.permutation(len(pairs))[:_VOTES]
    normal, level = normal[voting], level[voting]
    asked = np.arange(min(_SEEDS, len(voting)))
    cosine = normal[asked] @ normal.T
    near = np.abs(level * np.sign(cosine) - level[asked, None]) < _BOX_SHIFT
    votes = (near & (np.abs(cosine) > np.cos(_BOX_TURN))).sum(1)
    taken = np.zeros(len(asked), np.bool_)
    for _ in range(_CANDIDATES):
        if taken.all():
            return
        top = asked[int(np.argmax(np.where(taken, -1, votes)))]
        near = _near_plane(normal, level, normal[top], level[top], _BOX_TURN, _BOX_SHIFT)
        sign = np.sign(normal[near] @ normal[top])
        mean = (sign[:, None] * normal[near]).mean(0)
        yield np.append(mean / np.linalg.norm(mean), (sign * level[near]).mean())
        taken |= _near_plane(normal[asked], level[asked], normal[top], level[top], _BASIN_TURN, _BASIN_SHIFT)


def _near_plane(
    normal: Float, level: Float, other: Float, other_level: float, turn: float, shift: float
) -> NDArray[np.bool_]:
    cosine = normal @ other
    return np.asarray(
        (np.abs(cosine) > np.cos(turn)) & (np.abs(level * np.sign(cosine) - other_level) < shift)
    )


def _axis_start(at: Float, facing: Float) -> Iterator[Float]:
    """The axis (6,), direction and nearest point, that most normals meet; nothing if they meet none."""
    moments = np.cross(at, facing)
    lines = np.concatenate([moments, facing], 1)
    weight = np.ones(len(at))
    axis = np.zeros(6)
    for _ in range(_ROUNDS):
        # A line (d, m) meets a normal where d . (x cross n) + m . n = 0.
        axis = np.linalg.svd(lines * weight[:, None], full_matrices=False)[2][5]
        length = np.linalg.norm(axis[:3])
        if length < 1e-3:
            return
        axis = axis / length
        miss = np.abs(lines @ axis)
        weight = 1 / np.maximum(miss, 0.01)
    direction, moment = axis[:3], axis[3:]
    moment = moment - (moment @ direction) * direction
    yield np.concatenate([direction, np.cross(direction, moment)])


def _maps_of(start: Float) -> tuple[Literal["mirror", "axis"], Float]:
    if len(start) == 4:
        return "mirror", mirror_map(start[:3], float(start[3]))[None]
    return "axis", axis_maps(start[3:], start[:3], _ANGLES)


@dataclass(frozen=True)
class _Surface:
    """All points (N, 3) that images are compared with, and their normals (N, 3)."""

    points: Float
    normals: Float

    @cached_property
    def tree(self) -> cKDTree:
        return cKDTree(self.points)


def _refined(
    start: Float, at: Float, facing: Float, surface: _Surface
) -> tuple[Literal["mirror", "axis"], Float]:
    """The maps of a plane or axis, moved until images lie on the surface best (point to plane)."""
    for trim in np.geomspace(*_TRIMS, _ROUNDS):
        _, maps = _maps_of(start)
        images, turned = _images(maps, at, facing)
        gap, nearest = surface.tree.query(images)
        places, towards = surface.points[nearest], surface.normals[nearest]
        fits = (gap < max(2 * trim, _NEIGHBOUR)) & ((turned * towards).sum(1) > _SAME_TURN)
        fits &= np.abs(((images - places) * towards).sum(1)) < trim
        if fits.sum() < 20:
            break
        matched = (at, fits, places[fits], towards[fits])
        count, step = (3 if len(start) == 4 else 4), 1e-4
        now = _miss(start, *matched)
        moved = [_miss(_moved(start, step * unit), *matched) for unit in np.eye(count)]
        slope = (np.stack(moved, 1) - now[:, None]) / step
        start = _moved(start, np.asarray(-np.linalg.lstsq(slope, now, rcond=None)[0], np.float64))
    return _maps_of(start)


def _miss(start: Float, at: Float, fits: NDArray[np.bool_], on: Float, towards: Float) -> Float:
    """Distances (M,) of the images of points (N, 3) that fit to their planes on the surface."""
    _, maps = _maps_of(start)
    images, _ = _images(maps, at, at)
    return np.asarray(((images[fits] - on) * towards).sum(1))


def _moved(start: Float, shift: Float) -> Float:
    """A plane turned by two small angles and shifted, or an axis turned and shifted across itself."""
    along = start[:3]
    first = np.linalg.svd(along[None])[2][1]
    second = np.cross(along, first)
    turned = along + shift[0] * first + shift[1] * second
    turned = turned / np.linalg.norm(turned)
    if len(start) == 4:
        return np.append(turned, start[3] + shift[2])
    return np.concatenate([turned, start[3:] + shift[2] * first + shift[3] * second])


def _images(maps: Float, at: Float, facing: Float) -> tuple[Float, Float]:
    """Images (K N, 3) of points, and of their normals."""
    images = np.einsum("kij,nj->kni", maps[:, :3, :3], at) + maps[:, None, :3, 3]
    turned = np.einsum("kij,nj->kni", maps[:, :3, :3], facing)
    return images.reshape(-1, 3), turned.reshape(-1, 3)


def _judged(
    kind: Literal["mirror", "axis"],
    maps: Float,
    points: Float,
    normals: Float,
    look: Look,
    own_agreement: float,
    still: float,
) -> Symmetry | None:
    """The symmetry if what the views say of the images bears it out, else None."""
    images, turned = _images(maps, points, normals)
    told = look(images, turned).reshape(len(maps), len(points))
    moves = np.linalg.norm(images.reshape(len(maps), -1, 3) - points, axis=2) > still
    agrees, contradicts = ((told == which) & moves for which in (AGREES, CONTRADICTS))
    # Each map has to hold by itself.
    looked = (agrees | contradicts).sum(1)
    share = agrees.sum(1) / np.maximum(looked, 1)
    support = float(agrees.any(0).mean())
    holds = share[looked > 0.1 * len(points)]
    if not len(holds) or support < _LEAST_SHARE:
        return None
    confidence = float(holds.min() / own_agreement)
    return Symmetry(kind, maps, min(confidence, 1.0), support) if confidence > _LEAST_AGREEMENT else None
