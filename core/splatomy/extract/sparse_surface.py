"""The zero set of a field that is costly to evaluate: block by block, and only where it can lie."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

from splatomy.events import Progress, Task
from splatomy.scene import Mesh

Float = NDArray[np.float64]
Evaluate = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Distances (N,) at points (N, 3), both in the same unit."""

BLOCK = 48
"""Cells of a block's side: its values and their evaluation fit into any memory."""
_COARSE = 4
_SAME_PLACE = 1e-3
"""In cells."""
_STEEPEST = 1.6
"""Learnt distances are not exact: slopes up to this are allowed for."""


def sparse_surface(
    evaluate: Evaluate, low_mm: Float, high_mm: Float, cells: int, level: float = 0.0, block: int = BLOCK
) -> Task[Mesh]:
    """The surface where a field equals ``level``, faces turned to larger values; empty if there is none.

    low_mm, high_mm: (3,) corners of the box. cells: along its longest side; they are cubes. block: cells
    along a block; smaller ones for a field that takes long, since the task cannot stop inside one.
    Memory is that of one block, whatever the number of cells.

    Source: marching cubes (Lewiner et al. 2003, scikit-image), on the blocks that a coarse grid leaves.
    """
    cell = float((high_mm - low_mm).max()) / cells
    shape = np.maximum(1, np.ceil((high_mm - low_mm) / cell - 1e-9).astype(int))
    starts = [np.arange(0, size, block) for size in shape]
    blocks = np.stack(np.meshgrid(*starts, indexing="ij"), -1).reshape(-1, 3)
    vertices, faces, count = [], [], 0
    for number, start in enumerate(blocks):
        stop = np.minimum(start + block, shape)
        if _may_hold(evaluate, low_mm, start, stop, cell, level):
            values = _values(evaluate, low_mm, start, stop + 1, cell, 1)
            if values.min() < level < values.max():
                v, f, _, _ = marching_cubes(values, level, gradient_direction="descent")
                vertices.append(v + start)
                faces.append(f + count)
                count += len(v)
        yield Progress("mesh", number + 1, len(blocks))
    if not vertices:
        return Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    merged, triangles = _merged(np.concatenate(vertices), np.concatenate(faces), block)
    return Mesh((merged * cell + low_mm).astype(np.float32), triangles)


def _values(
    evaluate: Evaluate,
    low_mm: Float,
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    cell: float,
    step: int,
) -> NDArray[np.float32]:
    """Values at lattice points start, start + step, ... < stop."""
    axes = [np.arange(a, b, step) for a, b in zip(start, stop, strict=True)]
    lattice = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    points = (lattice.reshape(-1, 3) * cell + low_mm).astype(np.float32)
    return np.asarray(evaluate(points), np.float32).reshape(lattice.shape[:3])


def _may_hold(
    evaluate: Evaluate,
    low_mm: Float,
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    cell: float,
    level: float,
) -> bool:
    """True unless every coarse point of a block is farther from the level than its neighbours reach."""
    coarse = _values(evaluate, low_mm, start, stop + _COARSE, cell, _COARSE)
    reach = _STEEPEST * _COARSE * cell * np.sqrt(3) / 2
    return bool((np.abs(coarse - level) < reach).any() or coarse.min() < level < coarse.max())


def _merged(vertices: Float, faces: NDArray[np.int64], block: int) -> tuple[Float, NDArray[np.int32]]:
    """Vertices (V, 3), in cells, joined where they lie at the same place; slivers are dropped.

    On the faces between blocks the same vertex comes twice, and a field need not give the same value to the
    last digit when it is asked with other points: there places within a tolerance are the same.
    """
    keys = np.round(vertices * 4096).astype(np.int64)
    _, first, number = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    places, number = vertices[first], number.reshape(-1)
    border = np.flatnonzero((places % block == 0).any(1))
    pairs = np.zeros((0, 2), np.int64)
    if len(border):
        pairs = cKDTree(places[border]).query_pairs(_SAME_PLACE, output_type="ndarray")
    if len(pairs):
        size = (len(border),) * 2
        graph = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=size)
        count, piece = connected_components(graph, directed=False)
        leader = np.zeros(count, np.int64)
        leader[piece[::-1]] = border[::-1]
        target = np.arange(len(places))
        target[border] = leader[piece]
        kept, target = np.unique(target, return_inverse=True)
        places, number = places[kept], target.reshape(-1)[number]
    joined = number[faces]
    whole = (joined[:, 0] != joined[:, 1]) & (joined[:, 1] != joined[:, 2]) & (joined[:, 2] != joined[:, 0])
    return places, joined[whole].astype(np.int32)
