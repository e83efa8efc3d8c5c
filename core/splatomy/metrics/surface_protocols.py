"""Surface figures by the protocols of DTU, Tanks and Temples, and O2-Recon; always of points even by area."""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from splatomy.metrics.surface import icp, point_metrics, sample_surface
from splatomy.scene import Mesh

Float = NDArray[np.float64]

_DTU_SPACING_MM, _DTU_FARTHEST_MM, _DTU_MARGIN_MM = 0.2, 20.0, 60.0
_SAMPLES_PER_SPACING = 3.0
"""Area samples in a square of one spacing, before they are thinned."""
_MOST_SAMPLES = 8_000_000
_O2RECON_MM, _O2RECON_FARTHEST_MM = (20.0, 50.0, 100.0), 10_000.0
_RELATIVE = (0.005, 0.01, 0.02)
_ICP_POINTS = 4_000


def even_samples(mesh: Mesh, spacing: float, seed: int = 0) -> Float:
    """Points (P, 3) on the mesh, none nearer to another than ``spacing``, and none much farther."""
    corners = mesh.vertices_mm[mesh.faces].astype(np.float64)
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = float(np.linalg.norm(cross, axis=1).sum() / 2)
    count = int(np.clip(_SAMPLES_PER_SPACING * area / spacing**2, 1000, _MOST_SAMPLES))
    return thinned(sample_surface(mesh, count, seed), spacing, seed)


def thinned(points: Float, spacing: float, seed: int = 0) -> Float:
    """Some of the points (P, 3), in random order, so that none is nearer to another than ``spacing``."""
    order = np.random.default_rng(seed).permutation(len(points))
    shuffled = np.asarray(points, np.float64)[order]
    pairs = cKDTree(shuffled).query_pairs(spacing, output_type="ndarray")
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    start = np.searchsorted(both[:, 0], np.arange(len(points) + 1))
    return shuffled[_first_come(start, np.ascontiguousarray(both[:, 1]), len(points))]


@numba.njit(cache=True)
def _first_come(start, neighbour, count):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    kept = np.ones(count, np.bool_)
    for i in range(count):
        if kept[i]:
            for n in range(start[i], start[i + 1]):
                kept[neighbour[n]] = False
    return kept


def dtu_metrics(
    prediction: Mesh,
    truth_mm: Float,
    observed: NDArray[np.bool_] | None = None,
    low_mm: Float | None = None,
    high_mm: Float | None = None,
    spacing_mm: float = 1.0,
    plane: Float | None = None,
) -> dict[str, float]:
    """accuracy, completeness and chamfer by DTU's protocol, mm, with ``_dtu`` behind their names.

    truth_mm: (Q, 3) points of the scan. observed: (I, J, K) voxels that the scanner could see, from low_mm
    (3,) to high_mm (3,), spacing_mm apart; None = all space counts. plane: (4,), true points with a negative
    product lie under the table and do not count.

    The surface is sampled by area and thinned to 0.2 mm; distances of 20 mm and more are left out.

    Source: Jensen et al. 2014, and its usual Python port; no largest-piece filter and no alignment.
    """
    data = even_samples(prediction, _DTU_SPACING_MM)
    scored = inside = data
    if observed is not None and low_mm is not None and high_mm is not None:
        near = (data >= low_mm - _DTU_MARGIN_MM) & (data < high_mm + 2 * _DTU_MARGIN_MM)
        inside = data[near.all(1)]
        index = np.rint((inside - low_mm) / spacing_mm).astype(np.int64)
        within = ((index >= 0) & (index < observed.shape)).all(1)
        i, j, k = index[within].T
        scored = inside[within][observed[i, j, k]]
    above = truth_mm
    if plane is not None:
        above = truth_mm[truth_mm @ plane[:3] + plane[3] > 0]
    accuracy = _mean_below(scored, truth_mm, _DTU_FARTHEST_MM)
    completeness = _mean_below(above, inside, _DTU_FARTHEST_MM)
    return {
        "accuracy_dtu_mm": accuracy,
        "completeness_dtu_mm": completeness,
        "chamfer_mean_dtu_mm": (accuracy + completeness) / 2,
    }


def _mean_below(points: Float, others: Float, farthest: float) -> float:
    """Mean distance of points to others, over those nearer than ``farthest``; NaN if there is none."""
    if not len(points) or not len(others):
        return float("nan")
    distance, _ = cKDTree(others).query(points, workers=-1)
    near = distance < farthest
    return float(distance[near].mean()) if near.any() else float("nan")


def tnt_metrics(
    prediction: Mesh,
    truth_mm: Float,
    tau_mm: float,
    polygon: Float | None = None,
    axis: int = 2,
    low_mm: float = -np.inf,
    high_mm: float = np.inf,
) -> dict[str, float]:
    """precision, recall and fscore within tau by the protocol of Tanks and Temples, ``_tnt`` behind them.

    prediction: in the scan's frame. truth_mm: (Q, 3) points of the scan. polygon (P, 3), axis, low_mm and
    high_mm: the part that counts, of both. Both clouds are thinned to half of tau. ``_tnt_icp``: the same
    after a rigid alignment of the prediction, which hides errors of the poses.

    Source: Knapitsch et al. 2017.
    """
    points = even_samples(prediction, tau_mm / 2)
    reference = thinned(np.asarray(truth_mm, np.float64), tau_mm / 2)

    def cropped(cloud: Float) -> Float:
        return cloud if polygon is None else cloud[in_prism(cloud, polygon, axis, low_mm, high_mm)]

    reference = cropped(reference)
    found: dict[str, float] = {"tau_mm": tau_mm}
    moved = points
    if len(cropped(points)) >= 10 and len(reference) >= 10:
        part = cropped(points)
        motion = icp(part[:: max(1, len(part) // _ICP_POINTS)], reference)
        moved = points @ motion[:3, :3].T + motion[:3, 3]
    for name, cloud in (("tnt", cropped(points)), ("tnt_icp", cropped(moved))):
        figures = {"precision": 0.0, "recall": 0.0, "fscore": 0.0}
        if len(cloud) and len(reference):
            made = point_metrics(cloud, reference, (tau_mm,))
            figures = {key: made[f"{key}_{tau_mm:g}mm"] for key in figures}
        found |= {f"{key}_{name}": value for key, value in figures.items()}
    return found


def in_prism(points: Float, polygon: Float, axis: int, low: float, high: float) -> NDArray[np.bool_]:
    """(P,) points between low and high along an axis (0 to 2), inside the polygon (N, 3) across it."""
    across = [a for a in range(3) if a != axis]
    x, y = points[:, across].T
    inside = np.zeros(len(points), np.bool_)
    corners = polygon[:, across]
    # A ray to the right crosses the outline an odd number of times from inside.
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if ay != by:
            inside ^= ((ay > y) != (by > y)) & (x < (bx - ax) * (y - ay) / (by - ay) + ax)
    return np.asarray(inside & (points[:, axis] >= low) & (points[:, axis] <= high))


def o2recon_metrics(prediction: Mesh, truth: Mesh | Float, *, count: int = 100_000) -> dict[str, float]:
    """accuracy, completeness, chamfer, and precision, recall and F at 20, 50 and 100 mm by O2-Recon.

    Points by area carry ``_o2recon``; those of bare vertices, as the released evaluation takes them, carry
    ``_o2recon_vertices``. Distances over 10 m are left out.

    Source: O2-Recon (AAAI 2024), released evaluation.
    """
    by_area = truth if isinstance(truth, np.ndarray) else sample_surface(truth, count, 1)
    bare = truth if isinstance(truth, np.ndarray) else truth.vertices_mm.astype(np.float64)
    clouds = {
        "o2recon": (sample_surface(prediction, count), by_area),
        "o2recon_vertices": (prediction.vertices_mm.astype(np.float64), bare),
    }
    found: dict[str, float] = {}
    for name, (points, reference) in clouds.items():
        accuracy = _mean_below(points, reference, _O2RECON_FARTHEST_MM)
        completeness = _mean_below(reference, points, _O2RECON_FARTHEST_MM)
        figures = {
            "accuracy_mm": accuracy,
            "completeness_mm": completeness,
            "chamfer_mean_mm": (accuracy + completeness) / 2,
        }
        made = point_metrics(points, reference, _O2RECON_MM)
        figures |= {k: v for k, v in made.items() if k.startswith(("precision", "recall", "fscore"))}
        found |= {f"{key}_{name}": value for key, value in figures.items()}
    return found


def part_metrics(prediction: Mesh, truth: Mesh, *, count: int = 100_000) -> dict[str, float]:
    """completeness_seen_mm and completeness_hidden_mm: of the truth that a view shows, and of the rest.

    truth: its evidence says which vertices a view shows. A part that does not exist is left out.
    """
    if truth.evidence is None:
        return {}
    points = sample_surface(prediction, count)
    found = {}
    seen = (truth.evidence > 0)[truth.faces].mean(1) > 0.5
    for name, faces in (("seen", seen), ("hidden", ~seen)):
        if not faces.any():
            continue
        part = Mesh(truth.vertices_mm, truth.faces[faces])
        distance, _ = cKDTree(points).query(sample_surface(part, count // 2, 1), workers=-1)
        found[f"completeness_{name}_mm"] = float(distance.mean())
    return found


def without_unit(
    prediction: Mesh, truth: Mesh | Float, shares: Sequence[float] = _RELATIVE, *, count: int = 100_000
) -> dict[str, float]:
    """The plain figures of a scene without scale: lengths in units, thresholds by the truth's size.

    Size is the diagonal of the truth's box. Names end in ``_units`` and ``_<percent>pct`` in place of mm.
    """
    reference = truth if isinstance(truth, np.ndarray) else sample_surface(truth, count, 1)
    diagonal = float(np.linalg.norm(np.ptp(reference, axis=0)))
    thresholds = [share * diagonal for share in shares]
    made = point_metrics(sample_surface(prediction, count), reference, thresholds)
    found = {
        key.removesuffix("_mm") + "_units": value
        for key, value in made.items()
        if key.endswith("_mm") and not key.startswith(("precision", "recall", "fscore"))
    }
    for share, threshold in zip(shares, thresholds, strict=True):
        for kind in ("precision", "recall", "fscore"):
            found[f"{kind}_{100 * share:g}pct"] = made[f"{kind}_{threshold:g}mm"]
    return found
