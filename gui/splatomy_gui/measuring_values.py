"""The numbers behind measurements; points (N, 3) in one unit, values in that unit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SAMPLES = 8


def polyline_length(points: NDArray[np.float64]) -> float:
    """Sum of the straight pieces."""
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


def angle_deg(points: NDArray[np.float64]) -> float:
    """Angle at the second of three points, 0 to 180 degrees."""
    one, other = points[0] - points[1], points[2] - points[1]
    # The arc tangent stays exact for small and straight angles, where the cosine is flat.
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(one, other)), one @ other)))


def circle_diameter(points: NDArray[np.float64]) -> float:
    """Diameter of the circle through three points; infinite on a line.

    Source: the circumradius abc / (4 area).
    """
    sides = [float(np.linalg.norm(points[i] - points[i - 1])) for i in range(3)]
    area = np.linalg.norm(np.cross(points[1] - points[0], points[2] - points[0])) / 2
    return float(np.prod(sides) / (2 * area)) if area > 0 else float("inf")


def polygon_area(points: NDArray[np.float64]) -> float:
    """Area of the polygon, of its projection on its mean plane where it is not plane (Newell's method)."""
    following = np.roll(points, -1, axis=0)
    return float(np.linalg.norm(np.cross(points, following).sum(0)) / 2)


def _inside(polygon: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether places (M, 2) lie in a polygon (N, 2), by the even-odd rule."""
    inside = np.zeros(len(places), np.bool_)
    x, y = places[:, 0], places[:, 1]
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        crosses = (y0 > y) != (y1 > y)
        inside ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return inside


def surface_area_in(
    polygon: NDArray[np.float64], vertices: NDArray[np.floating], faces: NDArray[np.integer]
) -> float:
    """Area of the part of a surface that lies inside a polygon drawn on it.

    The polygon is laid onto its mean plane and cuts the surface at right angles to it; of several layers,
    the one within the polygon's own size of the plane counts. Triangles on the border count by the share of
    sample points inside.
    """
    centre = polygon.mean(0)
    _, _, axes = np.linalg.svd(polygon - centre)
    outline = (polygon - centre) @ axes[:2].T
    places = (np.asarray(vertices, np.float64) - centre) @ axes.T
    reach = float(np.abs(outline).max())
    low, high = outline.min(0), outline.max(0)
    flat, away = places[:, :2][faces], np.abs(places[:, 2])[faces].min(1)
    near = (flat.max(1) >= low).all(1) & (flat.min(1) <= high).all(1) & (away <= reach)
    flat, corners = flat[near], places[faces[near]]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(across, axis=1) / 2
    # Sample points at the middles of equal small triangles.
    steps = (np.arange(_SAMPLES) + 1 / 3) / _SAMPLES
    u, v = np.meshgrid(steps, steps)
    kept = u + v < 1
    weights = np.stack([u[kept], v[kept], 1 - u[kept] - v[kept]], -1)
    samples = np.einsum("sk,fkc->fsc", weights, flat)
    inside = _inside(outline, samples.reshape(-1, 2)).reshape(samples.shape[:2])
    return float((area * inside.mean(1)).sum())
