"""The plane that an object stands on: nothing of the object lies beyond it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from splatomy.capture import Capture
from splatomy.events import Progress, Task

Float = NDArray[np.float64]

_TRIALS = 400
_THICK = 0.02
"""Points this near to a plane, in sizes of the object, lie on it."""
_SHARE = 0.35
"""Share of what was measured about the object that must lie on the plane."""
_BELOW, _ABOVE = 0.03, 0.25
"""The lowest visible part of the object may lie this far beyond the plane or before it, in sizes."""
_MOST = 4000


def support_plane(capture: Capture) -> Task[Float | None]:
    """The plane (4,): unit normal n towards the object and level, n . x >= level on the object; or None.

    It is sought among measured points of other things about the object. None unless the whole visible
    object lies on one side and comes near to it.

    Source: ours; RANSAC (Fischler and Bolles 1981) with a least-squares plane at the end.
    """
    thing, others = yield from _measured(capture)
    if len(thing) < 50 or len(others) < 200:
        return None
    size = float(np.linalg.norm(np.ptp(thing, axis=0)))
    middle = (thing.min(0) + thing.max(0)) / 2
    others = others[np.linalg.norm(others - middle, axis=1) < size]
    others = others[:: max(1, len(others) // _MOST)]
    if len(others) < 200:
        return None
    rng = np.random.default_rng(0)
    best, chosen = 0, np.zeros(len(others), np.bool_)
    for trial in range(_TRIALS):
        a, b, c = others[rng.choice(len(others), 3, replace=False)]
        normal = np.cross(b - a, c - a)
        if np.linalg.norm(normal) > 1e-3 * size**2:
            on = np.abs((others - a) @ (normal / np.linalg.norm(normal))) < _THICK * size
            if on.sum() > best:
                best, chosen = int(on.sum()), on
        if trial % 100 == 0:
            yield Progress("support plane", trial, _TRIALS)
    if best < _SHARE * len(others):
        return None
    centre = others[chosen].mean(0)
    normal = np.linalg.svd(others[chosen] - centre, full_matrices=False)[2][2]
    if np.median((thing - centre) @ normal) < 0:
        normal = -normal
    lowest = float(np.quantile((thing - centre) @ normal, 0.02))
    if not -_BELOW * size < lowest < _ABOVE * size:
        return None
    return np.append(normal, normal @ centre)


def _measured(capture: Capture) -> Task[tuple[Float, Float]]:
    """World points of the visible object (N, 3) and of everything else (M, 3), thinned in each view."""
    if capture.cameras is None or capture.depth_mm is None or capture.target is None:
        raise ValueError("a support plane needs cameras, masks and depth")
    parts: tuple[list[Float], list[Float]] = ([np.zeros((0, 3))], [np.zeros((0, 3))])
    for t in range(len(capture)):
        known = np.isfinite(capture.depth_mm[t])
        if capture.occluded is not None:
            known &= ~capture.occluded[t]
        for which, mask in enumerate((capture.target[t], ~capture.target[t])):
            row, column = np.nonzero(known & mask)
            step = max(1, len(row) // 2000)
            row, column = row[::step], column[::step]
            pixels = np.stack([column, row], 1).astype(np.float64)[None]
            parts[which].append(
                capture.cameras[t].unproject(pixels, capture.depth_mm[t][row, column][None])[0]
            )
        yield Progress("support plane", t + 1, len(capture))
    return np.concatenate(parts[0]), np.concatenate(parts[1])
