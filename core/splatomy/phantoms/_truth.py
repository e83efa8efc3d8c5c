"""The exact truth of a vessel phantom on a voxel grid: shares, label, wall and time maps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

from splatomy.background import beside
from splatomy.capture import Grid
from splatomy.events import Progress, Task
from splatomy.phantoms import _bolus, _projector
from splatomy.phantoms._tree import Tree
from splatomy.scene import Mesh, Volume

Float = NDArray[np.float64]

_BRICK = 24
_BRICKS_AT_ONCE = 100


@dataclass(frozen=True)
class Truth:
    """Contrast as a sparse matrix (N occupied voxels, E elements) times the elements' curves."""

    grid: Grid
    voxels: NDArray[np.int64]
    occupancy: Any
    curves: _bolus.Transport

    def dense(self, values: NDArray[Any], outside: float = 0.0) -> Volume:
        """The grid with one value per occupied voxel (N,)."""
        out = np.full(int(np.prod(self.grid.shape)), outside, np.float32)
        out[self.voxels] = values
        return Volume(out.reshape(self.grid.shape), self.grid.affine_mm)


@numba.njit(cache=True)
def _occupy(elements: Any, index: Any, inflate: float, shape: Any) -> Any:
    """Pairs (flat voxel, element) whose voxel box may touch the element, by element.

    index: world-to-voxel affine (4, 4) of an axis-aligned grid. inflate: half a voxel diagonal, mm.
    """
    voxels, owners = [np.int64(0)], [np.int64(0)]
    voxels.clear()
    owners.clear()
    world = np.linalg.inv(index)
    for e in range(len(elements)):
        g = elements[e]
        lo, hi = np.empty(3, np.int64), np.empty(3, np.int64)
        for a in range(3):
            reach = abs(index[a, a])
            pa = index[a, a] * g[a] + index[a, 3]
            pb = index[a, a] * g[4 + a] + index[a, 3]
            lo[a] = max(0, math.floor(min(pa - g[3] * reach, pb - g[7] * reach)))
            hi[a] = min(shape[a] - 1, math.ceil(max(pa + g[3] * reach, pb + g[7] * reach)))
        for i in range(lo[0], hi[0] + 1):
            x = world[0, 0] * i + world[0, 3]
            for j in range(lo[1], hi[1] + 1):
                y = world[1, 1] * j + world[1, 3]
                for k in range(lo[2], hi[2] + 1):
                    if _projector.distance(g, x, y, world[2, 2] * k + world[2, 3]) <= inflate:
                        voxels.append(np.int64((i * shape[1] + j) * shape[2] + k))
                        owners.append(np.int64(e))
    return np.array(voxels), np.array(owners)


@numba.njit(cache=True, parallel=True)
def _owned_shares(
    elements: Any, voxels: Any, first: Any, owners: Any, world: Any, shape: Any, samples: int
) -> Any:
    """Shares of every voxel owned by its candidate elements, (pairs,), and whether its centre is inside.

    voxels: (N,) flat. first: (N + 1,) ranges of ``owners``, each in increasing order. world: voxel-to-world
    affine of an axis-aligned grid. samples: sub-voxel centres per axis.
    """
    shares = np.zeros(len(owners))
    inside = np.zeros(len(voxels), np.bool_)
    for n in numba.prange(len(voxels)):
        i, j, k = voxels[n] // (shape[1] * shape[2]), voxels[n] // shape[2] % shape[1], voxels[n] % shape[2]
        for s in range(samples**3 + 1):
            a, b, c = s // (samples * samples), s // samples % samples, s % samples
            x, y, z = float(i), float(j), float(k)
            if s < samples**3:
                x += (a + 0.5) / samples - 0.5
                y += (b + 0.5) / samples - 0.5
                z += (c + 0.5) / samples - 0.5
            x = world[0, 0] * x + world[0, 3]
            y = world[1, 1] * y + world[1, 3]
            z = world[2, 2] * z + world[2, 3]
            for q in range(first[n], first[n + 1]):
                if _projector.distance(elements[owners[q]], x, y, z) <= 0.0:
                    if s < samples**3:
                        shares[q] += 1.0 / samples**3
                    else:
                        inside[n] = True
                    break
    return shares, inside


@numba.njit(cache=True)
def _brick_distance(elements: Any, candidates: Any, low: Any, spacing: float, n: int, far: float) -> Any:
    """Signed distance (n, n, n) in mm to the union of the candidate elements at brick corner ``low``."""
    out = np.full((n, n, n), far, np.float32)
    for q in range(len(candidates)):
        g = elements[candidates[q]]
        lo, hi = np.empty(3, np.int64), np.empty(3, np.int64)
        for a in range(3):
            below = min(g[a] - g[3], g[4 + a] - g[7]) - far
            above = max(g[a] + g[3], g[4 + a] + g[7]) + far
            lo[a] = max(0, math.floor((below - low[a]) / spacing))
            hi[a] = min(n - 1, math.ceil((above - low[a]) / spacing))
        for i in range(lo[0], hi[0] + 1):
            for j in range(lo[1], hi[1] + 1):
                for k in range(lo[2], hi[2] + 1):
                    d = _projector.distance(
                        g, low[0] + i * spacing, low[1] + j * spacing, low[2] + k * spacing
                    )
                    if d < out[i, j, k]:
                        out[i, j, k] = d
    return out


def elements(tree: Tree) -> tuple[Float, NDArray[np.int64]]:
    """Round cones (E, 8) in mm of the tree, and the sample (E,) whose curve each one carries."""
    balls = np.column_stack([tree.points_mm, tree.radius_mm])
    start = np.where(tree.sac, np.arange(len(balls)), tree.parent)
    # A branch's first sample only repeats the end of its parent with another radius.
    apart = np.linalg.norm(tree.points_mm[start] - tree.points_mm, axis=1) > 1e-9
    samples = np.flatnonzero((tree.parent >= 0) & (apart | tree.sac))
    return np.column_stack([balls[start[samples]], balls[samples]]), samples


def tree_truth(
    elements: Float, curves: _bolus.Transport, grid: Grid, samples: int = 5
) -> tuple[Truth, NDArray[np.uint8]]:
    """Box averages with ``samples`` cubed points a voxel, and the label."""
    half = float(np.linalg.norm(grid.spacing_mm)) / 2
    shape = np.asarray(grid.shape)
    voxels, owners = _occupy(elements, np.linalg.inv(grid.affine_mm), half, shape)
    order = np.lexsort((owners, voxels))
    voxels, owners = voxels[order], owners[order]
    rows, first = np.unique(voxels, return_index=True)
    ranges = np.append(first, len(voxels))
    shares, inside = _owned_shares(elements, rows, ranges, owners, grid.affine_mm, shape, samples)
    occupancy = sparse.csr_matrix((shares, owners, ranges), shape=(len(rows), len(elements)))
    occupancy.eliminate_zeros()
    label = np.zeros(grid.shape, np.uint8)
    label.ravel()[rows[inside]] = 1
    return Truth(grid, rows, occupancy, curves), label


def tree_surface(elements: Float, spacing_mm: float) -> Task[Mesh]:
    """The zero level of the exact signed distance, from bricks whose shared faces are welded."""
    edge = _BRICK * spacing_mm
    low = np.floor(elements.reshape(-1, 4)[:, :3].min(0) / edge - 1.0)
    middle = (elements[:, :3] + elements[:, 4:7]) / 2
    reach = np.maximum(elements[:, 3], elements[:, 7]) + np.linalg.norm(middle - elements[:, :3], axis=1)
    high = np.ceil(elements.reshape(-1, 4)[:, :3].max(0) / edge + 1.0)
    bricks = np.stack(np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high)), indexing="ij"), -1)
    bricks = bricks.reshape(-1, 3)
    reached_mm = edge * np.sqrt(3) / 2 + 2.5 * spacing_mm
    near = cKDTree(middle).query_ball_point((bricks + 0.5) * edge, reached_mm + reach.max())
    found: list[tuple[Float, NDArray[np.int64]]] = []
    for start in range(0, len(bricks), _BRICKS_AT_ONCE):
        chosen = []
        for brick, close in zip(bricks[start:][:_BRICKS_AT_ONCE], near[start:]):
            gap = np.linalg.norm(middle[close] - (brick + 0.5) * edge, axis=1) - reach[close]
            chosen.append((brick, np.sort(np.asarray(close, dtype=np.int64)[gap < reached_mm])))
        yield Progress("surface", start, len(bricks))
        work = partial(_brick_surfaces, elements, chosen, spacing_mm)
        found += yield from beside("surface", start, len(bricks), work)
    done = len(bricks)
    return (yield from beside("surface", done, done, partial(_welded, found, spacing_mm)))


def _brick_surfaces(
    elements: Float, bricks: list[tuple[NDArray[np.int64], NDArray[np.int64]]], spacing_mm: float
) -> list[tuple[Float, NDArray[np.int64]]]:
    """Points in units of ``spacing_mm`` and faces in each brick (its place and its elements) with a wall."""
    found = []
    for brick, chosen in bricks:
        if not len(chosen):
            continue
        low_mm, far_mm = brick * (_BRICK * spacing_mm), 2.5 * spacing_mm
        field_mm = _brick_distance(elements, chosen, low_mm, spacing_mm, _BRICK + 1, far_mm)
        if field_mm.min() >= 0 or field_mm.max() <= 0:
            continue
        points, triangles, _, _ = marching_cubes(field_mm, 0.0, gradient_direction="descent")
        found.append((points.astype(np.float64) + brick * _BRICK, triangles))
    return found


def _welded(parts: list[tuple[Float, NDArray[np.int64]]], spacing_mm: float) -> Mesh:
    """One mesh of all parts, their points at one place joined."""
    points = np.concatenate([part[0] for part in parts])
    starts = np.cumsum([0, *(len(part[0]) for part in parts)])
    faces = np.concatenate([part[1] + start for part, start in zip(parts, starts)])
    _, kept, weld = np.unique(
        np.round(points * 1024).astype(np.int64), axis=0, return_index=True, return_inverse=True
    )
    triangles = weld.ravel()[faces]
    a, b, c = triangles.T
    triangles = triangles[(a != b) & (b != c) & (a != c)]
    return Mesh((points[kept] * spacing_mm).astype(np.float32), triangles.astype(np.int32))


def volume_truth(
    volume: Volume, grid: Grid, bolus: _bolus.BolusSettings
) -> Task[tuple[Truth, NDArray[np.uint8], Mesh]]:
    """Truth, label and iso-surface (at half of the median contrast) of a given volume."""
    contrast = _bolus.contrast_of(volume.values)
    curves, number = yield from _bolus.volume_transport(contrast, grid.affine_mm, bolus)
    yield Progress("surface", 0, 1)
    voxels = np.flatnonzero(contrast)
    values = contrast.ravel()[voxels]
    occupancy = sparse.csr_matrix(
        (values, (np.arange(len(voxels)), number.ravel()[voxels])), shape=(len(voxels), len(curves.start_s))
    )
    points, faces, _, _ = marching_cubes(
        np.pad(contrast, 1), 0.5 * float(np.median(values)), gradient_direction="ascent"
    )
    world = (points - 1.0) @ grid.affine_mm[:3, :3].T + grid.affine_mm[:3, 3]
    if np.linalg.det(grid.affine_mm[:3, :3]) < 0:
        faces = faces[:, ::-1]
    mesh = Mesh(world.astype(np.float32), faces.astype(np.int32))
    return Truth(grid, voxels, occupancy, curves), (contrast > 0).astype(np.uint8), mesh


def averages(truth: Truth, label: NDArray[np.uint8], per_element: Float) -> Volume:
    """A quantity of the elements averaged over each labelled voxel, NaN elsewhere."""
    weight = np.asarray(truth.occupancy.sum(1)).ravel()
    mean = (truth.occupancy @ per_element) / np.maximum(weight, 1e-12)
    return truth.dense(np.where(label.ravel()[truth.voxels] > 0, mean, np.nan), np.nan)
