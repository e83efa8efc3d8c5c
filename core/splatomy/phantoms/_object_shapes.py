"""Closed surfaces with exact geometry for the phantom ``object``, and what stands around them."""

from __future__ import annotations

import numba
import numpy as np
import trimesh
from numpy.typing import NDArray

from splatomy.scene import Mesh

Float = NDArray[np.float64]

_FINE = 6
"""Subdivisions of the icosahedron: 40,962 vertices."""


def bumpy_body(rng: np.random.Generator, radius_mm: float) -> Mesh:
    """A closed body whose distance from its middle varies smoothly, with a waist and some ridges."""
    sphere = trimesh.creation.icosphere(subdivisions=_FINE)
    directions = np.asarray(sphere.vertices, np.float64)
    radius = np.ones(len(directions))
    for wave, share in ((2, 0.12), (4, 0.07), (8, 0.03), (15, 0.012)):
        for _ in range(5):
            axis = rng.normal(size=3)
            axis /= np.linalg.norm(axis)
            radius += share / np.sqrt(5) * np.cos(wave * np.arccos(directions @ axis) + rng.uniform(0, 6.3))
    squeeze = rng.uniform(0.75, 1.15, 3)
    vertices = directions * radius[:, None] * radius_mm * squeeze
    return Mesh(vertices.astype(np.float32), np.asarray(sphere.faces, np.int32))


def bumpy_ring(rng: np.random.Generator, radius_mm: float) -> Mesh:
    """A bent tube that closes on itself (one hole), of changing thickness."""
    along, around = 360, 120
    s, t = np.meshgrid(
        np.arange(along) * 2 * np.pi / along, np.arange(around) * 2 * np.pi / around, indexing="ij"
    )
    phase = rng.uniform(0, 2 * np.pi, 4)
    tube = 0.30 + 0.06 * np.cos(3 * s + phase[0]) + 0.02 * np.cos(7 * s + 3 * t + phase[1])
    middle = 0.70 + 0.06 * np.cos(2 * s + phase[2])
    lift = 0.14 * np.cos(2 * s + phase[3])
    flat = middle + tube * np.cos(t)
    points = np.stack([flat * np.cos(s), flat * np.sin(s), tube * np.sin(t) + lift], -1) * radius_mm
    i, j = np.meshgrid(np.arange(along), np.arange(around), indexing="ij")
    a, b = i * around + j, (i + 1) % along * around + j
    c, d = (i + 1) % along * around + (j + 1) % around, i * around + (j + 1) % around
    faces = np.concatenate([np.stack(f, -1).reshape(-1, 3) for f in ((a, b, c), (a, c, d))])
    return Mesh(points.reshape(-1, 3).astype(np.float32), faces.astype(np.int32))


def fitted(mesh: Mesh, radius_mm: float) -> Mesh:
    """A mesh of any unit, its box centred on the origin and its farthest vertex ``radius_mm`` away."""
    vertices = np.asarray(mesh.vertices_mm, np.float64)
    vertices = vertices - (vertices.min(0) + vertices.max(0)) / 2
    vertices *= radius_mm / np.linalg.norm(vertices, axis=1).max()
    # Files split vertices along texture seams; one position is one vertex.
    merged = trimesh.Trimesh(vertices, mesh.faces, process=False)
    merged.merge_vertices(merge_tex=True, merge_norm=True)
    return Mesh(np.asarray(merged.vertices, np.float32), np.asarray(merged.faces, np.int32))


def box(low_mm: Float, high_mm: Float, rotation: Float | None = None) -> Mesh:
    """A box between two corners, turned about its middle."""
    shape = trimesh.creation.box(extents=np.asarray(high_mm) - low_mm)
    vertices = np.asarray(shape.vertices, np.float64)
    if rotation is not None:
        vertices = vertices @ rotation.T
    middle = (np.asarray(low_mm) + high_mm) / 2
    return Mesh((vertices + middle).astype(np.float32), np.asarray(shape.faces, np.int32))


def joined(parts: list[Mesh]) -> tuple[Float, NDArray[np.int32], NDArray[np.int32]]:
    """Vertices (V, 3), faces (F, 3) and the part (F,) that each face belongs to."""
    vertices = np.concatenate([np.asarray(p.vertices_mm, np.float64) for p in parts])
    starts = np.cumsum([0, *(len(p.vertices_mm) for p in parts)])
    faces = np.concatenate([p.faces + starts[i] for i, p in enumerate(parts)]).astype(np.int32)
    owner = np.concatenate([np.full(len(p.faces), i, np.int32) for i, p in enumerate(parts)])
    return vertices, faces, owner


@numba.njit(cache=True, parallel=True)
def _waves(points, wave, phase, amount):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    out = np.zeros((len(points), 2))
    for n in numba.prange(len(points)):
        for w in range(len(wave)):
            at = phase[w]
            for i in range(3):
                at += points[n, i] * wave[w, i]
            value = np.cos(at)
            out[n, 0] += value * amount[w, 0]
            out[n, 1] += value * amount[w, 1]
    return out


class SolidTexture:
    """Colour as a smooth function of the place in space, with detail at several sizes."""

    def __init__(self, rng: np.random.Generator, size_mm: float, colours: Float) -> None:
        """size_mm: wavelength of the coarsest pattern. colours: (3, 3) linear, mixed by the pattern."""
        count = 48
        self._wave = rng.normal(size=(count, 3))
        self._wave /= np.linalg.norm(self._wave, axis=1, keepdims=True)
        # Short waves are weak, as in natural pictures.
        octave = np.repeat(2.0 ** np.arange(4), count // 4)
        self._wave *= (2 * np.pi / size_mm * octave * rng.uniform(0.7, 1.4, count))[:, None]
        self._phase = rng.uniform(0, 2 * np.pi, count)
        self._amount = rng.normal(size=(count, 2)) / octave[:, None] ** 0.6
        self._colours = np.asarray(colours, np.float64)

    def __call__(self, points_mm: Float) -> Float:
        """Linear albedo (N, 3) at points (N, 3)."""
        pattern = np.tanh(0.5 * _waves(points_mm, self._wave, self._phase, self._amount))
        mix = 0.5 + 0.5 * pattern
        first, second, third = self._colours
        flat = first + mix[:, :1] * (second - first)
        return np.clip(flat + 0.5 * mix[:, 1:] * (third - flat), 0.02, 0.95)
