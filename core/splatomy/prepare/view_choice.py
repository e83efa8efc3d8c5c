"""Which views of an object to keep: from all sides, and of each side the one that shows it best."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.spatial.transform import Rotation

Float = NDArray[np.float64]

_FEWEST, _MOST, _PER_VIEW = 20, 40, 10
_ROUNDS = 30


def choose_views(world_from_camera: Float, scores: Float, seed: int = 0) -> NDArray[np.int64]:
    """Indices, rising, of the best view of every cluster of poses.

    world_from_camera: (V, 4, 4). scores: (V,) how well each shows the object: CLIP's likeness to its name, or
    the pixels that it covers. There are V / 10 clusters, at least 20 and at most 40.

    Source: O2-Recon, view selection: k-means on translations and quaternions; here both are scaled to a
    like spread, and quaternions share one hemisphere, since q and -q turn alike.
    """
    count = len(world_from_camera)
    wanted = int(np.clip(count // _PER_VIEW, _FEWEST, _MOST))
    if count <= wanted:
        return np.arange(count, dtype=np.int64)
    place = world_from_camera[:, :3, 3]
    place = (place - place.mean(0)) / max(float(place.std()), 1e-9)
    quats = Rotation.from_matrix(world_from_camera[:, :3, :3]).as_quat()
    quats = np.where((quats @ quats[0])[:, None] < 0, -quats, quats)
    quats = (quats - quats.mean(0)) / max(float(quats.std()), 1e-9)
    _, cluster = kmeans2(
        np.concatenate([place, quats], 1), wanted, iter=_ROUNDS, minit="++", rng=np.random.default_rng(seed)
    )
    best = [int(np.flatnonzero(cluster == c)[scores[cluster == c].argmax()]) for c in np.unique(cluster)]
    return np.array(sorted(best), np.int64)
