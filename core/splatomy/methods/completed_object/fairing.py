"""Hidden parts of a mesh as the smoothest surface that goes on from what was seen about them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, diags_array
from scipy.sparse.linalg import splu

Float = NDArray[np.float64]

SEEN, HIDDEN, NEVER, MIRRORED = 0, 1, 2, 3
"""What a vertex is: shown by a picture; turned to a camera but hidden there; turned to none; one of these
two, but shown as its image by the object's symmetry."""
_HOLD = 3.0
"""Pull of a seen vertex to its own place; that of a smooth surface is 1."""
_RINGS = 4
"""Neighbours of unseen vertices, rings of them, that may give way: one noisy rim would set the slope."""
_REACH = {HIDDEN: 0.15, NEVER: 0.05}
"""In spheres: over what distance an unseen vertex follows its surroundings rather than the field. The field
knows of outlines and of empty space where no camera looks, so that it is believed more there."""


def faired(vertices: Float, faces: NDArray[np.int32], kind: NDArray[np.integer]) -> Float:
    """Vertices (V, 3) in the unit sphere, those that no picture shows moved to bend the surface least.

    kind: (V,) of SEEN, HIDDEN, NEVER and MIRRORED. Minimises the squared umbrella Laplacian of all vertices
    and the weighted squared distance of each to its own place: a thin plate over the hidden part, clamped
    with its slope at the rim.

    Source: Botsch and Kobbelt 2004 (minimal bending as a boundary problem), with soft constraints.
    """
    unknown = (kind == HIDDEN) | (kind == NEVER)
    if not unknown.any() or unknown.all():
        return vertices
    count = len(vertices)
    a, b = faces.ravel(), np.roll(faces, -1, 1).ravel()
    links = coo_array((np.ones(2 * len(a)), (np.append(a, b), np.append(b, a))), shape=(count, count)).tocsr()
    links.data[:] = 1.0
    degree = np.maximum(np.asarray(links.sum(1)).ravel(), 1.0)
    umbrella = csr_array(diags_array(np.ones(count)) - diags_array(1 / degree) @ links)
    edge = float(np.median(np.linalg.norm(vertices[a] - vertices[b], axis=1)))
    pull = np.full(count, _HOLD)
    for which, reach in _REACH.items():
        pull[kind == which] = min(_HOLD, (edge / reach) ** 4)
    free = unknown
    for _ in range(_RINGS):
        free |= links @ free > 0
    inside, around = np.flatnonzero(free), np.flatnonzero(~free)
    bending = csr_array(umbrella.T @ umbrella)[inside]
    right = pull[inside, None] * vertices[inside] - bending[:, around] @ vertices[around]
    system = (bending[:, inside] + diags_array(pull[inside])).tocsc()
    moved = vertices.copy()
    moved[inside] = splu(system).solve(np.asarray(right))
    return moved
