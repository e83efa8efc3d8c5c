"""Centrelines of a vessel label: a forest of branches with sub-voxel radii."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree
from scipy.spatial import cKDTree
from skimage.morphology import skeletonize

from splatomy.errors import InputError
from splatomy.extract.vessels import VesselLabel
from splatomy.scene import Volume

_WALL_NEIGHBOURS = 24
_HALF_DIRECTIONS = [
    (i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1) if (i, j, k) > (0, 0, 0)
]


@dataclass(frozen=True)
class Centreline:
    """Middle lines of vessels as a forest; a parent always comes before its children.

    points_mm: (M, 3) world. radius_mm: largest sphere inside the wall, (M,).
    parent: (M,) int, the index of the point nearer to the root, -1 at a root.
    branch: (M,) int, the number of the branch; a branch ends at a junction or a tip.
    arrival_s: (M,) seconds, NaN = unknown, or None.
    """

    points_mm: NDArray[np.float64]
    radius_mm: NDArray[np.float64]
    parent: NDArray[np.int64]
    branch: NDArray[np.int64]
    arrival_s: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.points_mm)

    @property
    def num_branches(self) -> int:
        """How many branches there are."""
        return int(self.branch.max()) + 1 if len(self.branch) else 0

    @property
    def junctions(self) -> NDArray[np.int64]:
        """Points where branches part, (J,) indices."""
        return np.flatnonzero(_num_children(self.parent) > 1)

    @property
    def length_mm(self) -> float:
        """Total length of all branches."""
        return float(_step_lengths(self.points_mm, self.parent).sum())


def centrelines(vessels: VesselLabel, *, min_length_mm: float = 0.0) -> Centreline:
    """Centrelines of all vessels.

    The label is thinned on an isotropic grid, joined to the spanning tree that keeps to the middle
    (loops are cut where the vessel is thinnest), freed of spurs that do not leave their parent's
    lumen, and smoothed over about half a radius. Roots are the thickest ends.

    Args:
        vessels: the label and its sub-voxel wall.
        min_length_mm: pieces with a shorter total length are left out.

    Source: thinning of Lee et al. 1994 (scikit-image); the rest is ours.

    Raises:
        InputError: the label is empty.
    """
    if not vessels.label.any():
        raise InputError("The vessel label is empty, so it has no centreline; lower the vessel level.")
    mask, index_from_fine, step_mm = _isotropic(vessels)
    depth = (ndimage.distance_transform_edt(mask) * step_mm).astype(np.float32)
    voxels = np.argwhere(_thinned(mask)).astype(np.int64)
    if not len(voxels):
        raise InputError("The vessel label has no middle line; its vessels are thinner than a voxel.")
    thickness = depth[tuple(voxels.T)].astype(np.float64)
    parent = _forest(voxels, thickness, mask.shape, step_mm)
    points = voxels.astype(np.float64)
    points, thickness, parent = _prune(points, thickness, parent, step_mm)
    points, thickness, parent = _drop_short(points, thickness, parent, min_length_mm / step_mm)
    points = _centre(points, parent, depth / step_mm)
    points = _smooth(points, parent, thickness / step_mm)
    index = points @ index_from_fine[:3, :3].T + index_from_fine[:3, 3]
    world = index @ vessels.affine_mm[:3, :3].T + vessels.affine_mm[:3, 3]
    radius = _radii(world, parent, wall_points_mm(vessels), step_mm)
    return Centreline(world, radius, parent, _branches(parent))


def with_arrival(line: Centreline, arrival: Volume) -> Centreline:
    """The centreline with the arrival time (s) of the nearest known voxel within two voxels."""
    known = np.argwhere(np.isfinite(arrival.values))
    times = np.full(len(line), np.nan)
    if len(known) and len(line):
        world = known @ arrival.affine_mm[:3, :3].T + arrival.affine_mm[:3, 3]
        reach = 2 * float(arrival.grid.spacing_mm.max())
        distance, nearest = cKDTree(world).query(line.points_mm, distance_upper_bound=reach)
        near = np.isfinite(distance)
        times[near] = arrival.values[tuple(known[nearest[near]].T)]
    return replace(line, arrival_s=times)


def wall_points_mm(vessels: VesselLabel) -> NDArray[np.float64]:
    """World points (W, 3) mm where the lines between neighbouring voxel centres cross the wall."""
    fill = np.pad(vessels.fill, 1)
    found = []
    for axis in range(3):
        low = np.moveaxis(fill, axis, 0)[:-1]
        high = np.moveaxis(fill, axis, 0)[1:]
        at = np.nonzero((low >= 1) != (high >= 1))
        a, b = low[at].astype(np.float64), high[at].astype(np.float64)
        # Where the lumen ends exactly on the level the crossing is the voxel centre itself.
        share = np.clip((1 - a) / np.where(a == b, 1, b - a), 0, 1)
        index = np.stack(at, -1).astype(np.float64)
        index[:, 0] += share
        order = [axis, *[i for i in range(3) if i != axis]]
        found.append(index[:, np.argsort(order)] - 1)
    points = np.concatenate(found)
    return np.asarray(points @ vessels.affine_mm[:3, :3].T + vessels.affine_mm[:3, 3])


def _thinned(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The middle line of a mask; every piece keeps one.

    Thinning takes opposite sides in turn and can erase a piece of even width and perfect symmetry. Such
    a piece is thinned again with one layer off one side, which makes its width odd.
    """
    line = np.asarray(skeletonize(mask), dtype=bool)
    pieces, count = ndimage.label(mask, np.ones((3, 3, 3)))
    lost = mask.copy()
    for axis in range(3):
        found = np.zeros(count + 1, dtype=bool)
        found[pieces[line]] = True
        lost &= ~found[pieces]
        if not lost.any():
            break
        inner = np.zeros_like(lost)
        ahead, here = [slice(None)] * 3, [slice(None)] * 3
        ahead[axis], here[axis] = slice(1, None), slice(None, -1)
        inner[tuple(here)] = lost[tuple(here)] & lost[tuple(ahead)]
        lost = inner
        line |= np.asarray(skeletonize(lost), dtype=bool)
    return line


def _isotropic(vessels: VesselLabel) -> tuple[NDArray[np.bool_], NDArray[np.float64], float]:
    """Label on a nearly cubic grid, the matrix (4, 4) index <- fine index, and the step in mm."""
    box = ndimage.find_objects(vessels.label)[0]
    # An empty rim of one voxel closes vessels that leave the volume.
    fill = np.pad(vessels.fill[box], 1)
    start = np.array([s.start - 1 for s in box], dtype=np.float64)
    spacing = vessels.spacing_mm
    step = float(spacing.min())
    matrix = np.eye(4)
    matrix[:3, 3] = start
    if spacing.max() > 1.1 * step:
        scale = step / spacing
        shape = tuple(int(n) for n in np.floor((np.array(fill.shape) - 1) / scale) + 1)
        fill = ndimage.affine_transform(fill, np.diag(scale), output_shape=shape, order=1)
        matrix[:3, :3] = np.diag(scale)
    # Linear interpolation between lumen voxels is safe from the rounding of exact ones.
    return fill >= 1 - 1e-4, matrix, step


def _forest(
    voxels: NDArray[np.int64], thickness_mm: NDArray[np.float64], shape: tuple[int, ...], step_mm: float
) -> NDArray[np.int64]:
    """Parents (M,) of skeleton voxels (M, 3) in a spanning tree per piece that prefers thick passages."""
    number = np.full([n + 2 for n in shape], -1, dtype=np.int64)
    number[tuple(voxels.T + 1)] = np.arange(len(voxels))
    rows, columns, costs = [], [], []
    for direction in _HALF_DIRECTIONS:
        other = number[tuple((voxels + 1 + np.array(direction)).T)]
        here = np.flatnonzero(other >= 0)
        there = other[here]
        rows.append(here)
        columns.append(there)
        thin = np.minimum(thickness_mm[here], thickness_mm[there])
        costs.append(np.linalg.norm(direction) * step_mm / np.maximum(thin, 0.1 * step_mm))
    edges = (np.concatenate(costs), (np.concatenate(rows), np.concatenate(columns)))
    count = len(voxels)
    tree = minimum_spanning_tree(coo_array(edges, shape=(count, count)).tocsr()).tocoo()
    _, piece = connected_components(tree, directed=False)
    degree = np.bincount(tree.row, minlength=count) + np.bincount(tree.col, minlength=count)
    # The thickest end of each piece; a ring has none, then its thickest voxel.
    rank = np.lexsort((-thickness_mm, degree != 1, piece))
    roots = rank[np.unique(piece[rank], return_index=True)[1]]
    # One more node above all roots makes a single search of the whole forest.
    top = np.full(len(roots), count)
    joined = coo_array(
        (
            np.ones(len(tree.row) + len(roots)),
            (np.concatenate([tree.row, top]), np.concatenate([tree.col, roots])),
        ),
        shape=(count + 1, count + 1),
    ).tocsr()
    _, before = breadth_first_order(joined, count, directed=False)
    parent = before[:count].astype(np.int64)
    parent[parent == count] = -1
    return parent


def _prune(
    points: NDArray[np.float64], thickness_mm: NDArray[np.float64], parent: NDArray[np.int64], step_mm: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """The forest without end branches that hardly leave the lumen of the vessel they part from."""
    for _ in range(4):
        children = _num_children(parent)
        steps = _step_lengths(points, parent) * step_mm
        ends = []
        for tip in np.flatnonzero(children == 0):
            node, length, path = int(tip), 0.0, []
            while parent[node] >= 0:
                path.append(node)
                length += steps[node]
                node = int(parent[node])
                if children[node] > 1:
                    # Two steps of length are the noise of a wall's thinning.
                    if length < 1.2 * thickness_mm[node] + 2 * step_mm:
                        ends.append((length, node, path))
                    break
        keep = np.ones(len(parent), dtype=bool)
        for _, junction, path in sorted(ends, key=lambda e: e[0]):
            # The last branch of a junction stays: it is the vessel's own continuation.
            if children[junction] > 1:
                children[junction] -= 1
                keep[path] = False
        points, thickness_mm, parent = _subset(points, thickness_mm, parent, keep)
        if keep.all():
            break
    return points, thickness_mm, parent


def _drop_short(
    points: NDArray[np.float64],
    thickness_mm: NDArray[np.float64],
    parent: NDArray[np.int64],
    min_steps: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """The forest without pieces of less total length than ``min_steps``, in breadth-first order."""
    order = np.argsort(_depth(parent), kind="stable")
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    above = parent[order]
    parent = np.where(above >= 0, position[above], -1)
    points, thickness_mm = points[order], thickness_mm[order]
    root = _roots(parent)
    length = np.bincount(root, _step_lengths(points, parent), minlength=len(parent))
    return _subset(points, thickness_mm, parent, length[root] >= min_steps)


def _subset(
    points: NDArray[np.float64],
    thickness_mm: NDArray[np.float64],
    parent: NDArray[np.int64],
    keep: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """The kept points, whose parents are all kept, renumbered."""
    number = np.cumsum(keep) - 1
    old = parent[keep]
    return points[keep], thickness_mm[keep], np.where(old >= 0, number[old], -1)


def _centre(
    points: NDArray[np.float64], parent: NDArray[np.int64], depth_steps: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Points moved across the vessel to the ridge of the wall distance: thinning stops a voxel beside it."""
    # Blurred, the ridge has a slope on either side that vanishes on it.
    soft = ndimage.gaussian_filter(depth_steps, 1.0)
    slopes = [ndimage.correlate1d(soft, [-0.5, 0, 0.5], axis=a) for a in range(3)]
    out = _smooth(points, parent, np.zeros(len(points)))
    for _ in range(8):
        slope = np.stack([ndimage.map_coordinates(s, out.T, order=1) for s in slopes], -1).astype(np.float64)
        tangent = _tangents(out, parent)
        slope -= (slope * tangent).sum(1, keepdims=True) * tangent
        out = out + 0.4 * slope
    return out


def _tangents(points: NDArray[np.float64], parent: NDArray[np.int64]) -> NDArray[np.float64]:
    """Unit directions (M, 3) along the forest, away from the root; 0 at lone points."""
    ahead = points.copy()
    linked = np.flatnonzero(parent >= 0)
    single = linked[_num_children(parent)[parent[linked]] == 1]
    ahead[parent[single]] = points[single]
    tangent = ahead - np.where((parent >= 0)[:, None], points[parent], points)
    return np.asarray(tangent / np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9))


def _smooth(
    points: NDArray[np.float64], parent: NDArray[np.int64], radius_steps: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Points diffused along the forest over a width that grows with the radius; tips stay."""
    children = _num_children(parent)
    inner = (children > 0) & (parent >= 0)
    # A diffusion step of weight 1/2 adds a variance of 1/2 step^2.
    rounds = np.ceil(2 * np.clip(0.5 * radius_steps, 1.5, 5.0) ** 2).astype(int)
    linked = np.flatnonzero(parent >= 0)
    out = points.copy()
    for k in range(int(rounds.max(initial=0))):
        total = np.zeros_like(out)
        np.add.at(total, parent[linked], out[linked])
        total[linked] += out[parent[linked]]
        mean = total / np.maximum(children + (parent >= 0), 1)[:, None]
        moving = inner & (k < rounds)
        out[moving] = 0.5 * (out[moving] + mean[moving])
    return out


def _radii(
    points_mm: NDArray[np.float64], parent: NDArray[np.int64], wall_mm: NDArray[np.float64], step_mm: float
) -> NDArray[np.float64]:
    """Distance (M,) mm of the wall, across the vessel: a low quartile of the nearest wall points."""
    tangent = _tangents(points_mm, parent)
    count = min(_WALL_NEIGHBOURS, len(wall_mm))
    distance, nearest = cKDTree(wall_mm).query(points_mm, k=count, workers=-1)
    offset = wall_mm[nearest.reshape(len(points_mm), count)] - points_mm[:, None]
    along = np.abs(np.einsum("mkc,mc->mk", offset, tangent))
    across = np.sqrt(np.maximum((offset**2).sum(-1) - along**2, 0))
    # Wall points beside the point, not ahead of it: a thin vessel's ring holds only a few.
    across[along > 0.75 * step_mm] = np.nan
    few = np.isfinite(across).sum(1) < 4
    across[few] = distance.reshape(len(points_mm), count)[few]
    radius = np.nanquantile(across, 0.25, axis=1)
    return _mean_along(radius, parent)


def _mean_along(values: NDArray[np.float64], parent: NDArray[np.int64]) -> NDArray[np.float64]:
    """Values (M,) averaged with their neighbours in the forest, twice."""
    linked = np.flatnonzero(parent >= 0)
    degree = _num_children(parent) + (parent >= 0)
    out = values
    for _ in range(2):
        total = np.bincount(parent[linked], out[linked], minlength=len(out)).astype(np.float64)
        total[linked] += out[parent[linked]]
        out = 0.5 * out + 0.5 * np.where(degree > 0, total / np.maximum(degree, 1), out)
    return out


def _branches(parent: NDArray[np.int64]) -> NDArray[np.int64]:
    """Branch numbers (M,); needs parents before children."""
    first = (parent < 0) | (_num_children(parent)[parent] > 1)
    branch = np.cumsum(first) - 1
    for i in np.flatnonzero(~first):
        branch[i] = branch[parent[i]]
    return branch


def _num_children(parent: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.bincount(parent[parent >= 0], minlength=len(parent)).astype(np.int64)


def _step_lengths(points: NDArray[np.float64], parent: NDArray[np.int64]) -> NDArray[np.float64]:
    """Distance (M,) of each point from its parent, 0 at roots, in the points' unit."""
    return np.asarray(np.where(parent >= 0, np.linalg.norm(points - points[parent], axis=1), 0.0))


def _depth(parent: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of steps (M,) from each point to its root."""
    depth, node = np.zeros(len(parent), dtype=np.int64), parent.copy()
    # Pointer doubling: log2(depth) rounds instead of one per step.
    depth[parent >= 0] = 1
    while (node >= 0).any():
        alive = node >= 0
        up = node[alive]
        depth[alive] += depth[up]
        node[alive] = node[up]
    return depth


def _roots(parent: NDArray[np.int64]) -> NDArray[np.int64]:
    """Root (M,) of each point."""
    root = np.where(parent >= 0, parent, np.arange(len(parent)))
    while True:
        up = root[root]
        if np.array_equal(up, root):
            return np.asarray(root)
        root = up
