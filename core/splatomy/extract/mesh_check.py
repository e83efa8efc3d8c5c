"""Is a mesh closed, manifold and of one piece, and how much of it was really seen?"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist

from splatomy.scene import Mesh

_EXACT_LOOP = 1500
"""Longer rims have their diameter from their box."""


@dataclass(frozen=True)
class MeshFigures:
    """What is known of a mesh; lengths in its own unit.

    area, seen_area: of all faces, and weighted with their evidence. volume: enclosed, None unless closed.
    pieces: connected ones; largest_piece: its share of the area. holes: rims; largest_hole: its diameter.
    crowded_edges: with more than two faces. pinched_vertices: where surfaces touch in a point.
    turned_edges: whose two faces look to opposite sides. empty_faces: without an area.
    """

    vertices: int
    faces: int
    area: float
    seen_area: float
    volume: float | None
    pieces: int
    largest_piece: float
    open_edges: int
    holes: int
    largest_hole: float
    crowded_edges: int
    pinched_vertices: int
    turned_edges: int
    empty_faces: int

    @property
    def is_closed(self) -> bool:
        """True if every edge has two faces that agree on the outside."""
        return self.faces > 0 and not (self.open_edges or self.crowded_edges or self.turned_edges)

    @property
    def is_manifold(self) -> bool:
        """True if it is a surface everywhere, perhaps with rims."""
        return not (self.crowded_edges or self.pinched_vertices or self.turned_edges)

    def as_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return {**dataclasses.asdict(self), "closed": self.is_closed, "manifold": self.is_manifold}

    def rows(self, unit: str) -> dict[str, str]:
        """The figures for people: name -> value with the unit of length."""
        closed = "closed" if self.is_closed else f"open: {self.holes} rims, {self.open_edges} edges"
        if self.holes:
            closed += f", the widest {self.largest_hole:.3g} {unit} across"
        whole = "yes" if self.is_manifold else (
            f"no: {self.crowded_edges} edges of more than two faces, {self.pinched_vertices} pinched "
            f"vertices, {self.turned_edges} edges between faces turned apart"
        )  # fmt: skip
        rows = {
            "triangles": f"{self.faces} on {self.vertices} vertices",
            "area": f"{self.area:.4g} {unit}\N{SUPERSCRIPT TWO}",
            "really seen": f"{self.seen_area / max(self.area, 1e-12):.0%} of the area",
            "pieces": f"{self.pieces}, the largest with {self.largest_piece:.1%} of the area",
            "rims": closed,
            "manifold": whole,
        }
        if self.volume is not None:
            rows["enclosed volume"] = f"{self.volume:.4g} {unit}\N{SUPERSCRIPT THREE}"
        return rows


def face_areas(mesh: Mesh) -> NDArray[np.float64]:
    """Area of each face, (F,)."""
    corners = mesh.vertices_mm[mesh.faces].astype(np.float64)
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return np.asarray(np.linalg.norm(cross, axis=1) / 2)


def pieces_of(mesh: Mesh) -> tuple[int, NDArray[np.int32]]:
    """How many connected pieces the faces form, and the number of each face's piece, (F,)."""
    count = len(mesh.vertices_mm)
    rows, columns = mesh.faces.ravel(), np.roll(mesh.faces, -1, axis=1).ravel()
    graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(count, count))
    _, label = connected_components(graph, directed=False)
    _, piece = np.unique(label[mesh.faces[:, 0]], return_inverse=True)
    return int(piece.max()) + 1 if len(piece) else 0, piece.astype(np.int32)


def rims_of(mesh: Mesh) -> list[NDArray[np.int64]]:
    """The open rims: vertex numbers of each closed loop, in the direction of the faces beside it.

    Where several rims meet in a vertex they are parted as the walk comes along.
    """
    edges = _directed_edges(mesh)
    count = np.int64(len(mesh.vertices_mm))
    keys, back = edges[:, 0] * count + edges[:, 1], edges[:, 1] * count + edges[:, 0]
    open_edges = edges[~np.isin(keys, back)]
    after: dict[int, list[int]] = {}
    for a, b in open_edges.tolist():
        after.setdefault(a, []).append(b)
    loops = []
    for first in list(after):
        while after.get(first):
            loop, at = [first], after[first].pop()
            while at != first and after.get(at):
                loop.append(at)
                at = after[at].pop()
            if at == first and len(loop) > 2:
                loops.append(np.array(loop, np.int64))
    return loops


def rim_diameter(mesh: Mesh, rim: NDArray[np.int64]) -> float:
    """The largest distance between two vertices of a rim; of very long ones the diagonal of their box."""
    points = mesh.vertices_mm[rim].astype(np.float64)
    if len(points) > _EXACT_LOOP:
        return float(np.linalg.norm(np.ptp(points, axis=0)))
    return float(pdist(points).max())


def mesh_figures(mesh: Mesh) -> MeshFigures:
    """All figures of a mesh."""
    area = face_areas(mesh)
    total = float(area.sum())
    evidence = np.ones(len(mesh.vertices_mm)) if mesh.evidence is None else mesh.evidence.astype(np.float64)
    seen = float((area * evidence[mesh.faces].mean(1)).sum()) if len(area) else 0.0
    pieces, piece = pieces_of(mesh)
    shares = np.bincount(piece, area, minlength=1) if len(area) else np.zeros(1)
    edges = _directed_edges(mesh)
    _, uses = np.unique(np.sort(edges, axis=1), axis=0, return_counts=True)
    _, same_way = np.unique(edges, axis=0, return_counts=True)
    turned = int((same_way > 1).sum())
    rims = rims_of(mesh)
    figures = MeshFigures(
        vertices=len(mesh.vertices_mm),
        faces=len(mesh.faces),
        area=total,
        seen_area=seen,
        volume=None,
        pieces=pieces,
        largest_piece=float(shares.max() / total) if total > 0 else 0.0,
        open_edges=int((uses == 1).sum()),
        holes=len(rims),
        largest_hole=max((rim_diameter(mesh, rim) for rim in rims), default=0.0),
        crowded_edges=int((uses > 2).sum()),
        pinched_vertices=_pinched(mesh),
        turned_edges=turned,
        empty_faces=int((area <= 0).sum()),
    )
    return dataclasses.replace(figures, volume=_volume(mesh)) if figures.is_closed else figures


def _directed_edges(mesh: Mesh) -> NDArray[np.int64]:
    """(3F, 2) edges in the direction of their faces."""
    f = mesh.faces.astype(np.int64)
    return np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]])


def _volume(mesh: Mesh) -> float:
    """Signed volume of a closed mesh, positive when its faces look outwards."""
    a, b, c = (mesh.vertices_mm[mesh.faces[:, i]].astype(np.float64) for i in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def _pinched(mesh: Mesh) -> int:
    """Vertices whose faces form more than one fan."""
    count = len(mesh.faces)
    if not count:
        return 0
    faces = mesh.faces.astype(np.int64)
    # A node for each corner; two corners at a vertex are one fan if their faces share an edge there.
    corner = np.arange(3 * count).reshape(count, 3)
    ends, owners = [], []
    for i in range(3):
        j = (i + 1) % 3
        ends.append(np.sort(faces[:, [i, j]], axis=1))
        flip = faces[:, i] > faces[:, j]
        low = np.where(flip, corner[:, j], corner[:, i])
        high = np.where(flip, corner[:, i], corner[:, j])
        owners.append(np.stack([low, high], 1))
    edge, owner = np.concatenate(ends), np.concatenate(owners)
    order = np.lexsort((edge[:, 1], edge[:, 0]))
    edge, owner = edge[order], owner[order]
    same = (edge[1:] == edge[:-1]).all(1)
    rows, columns = owner[:-1][same].ravel(), owner[1:][same].ravel()
    graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(3 * count, 3 * count))
    _, fan = connected_components(graph, directed=False)
    pairs = np.unique(np.stack([faces.ravel(), fan], 1), axis=0)
    return int((np.bincount(pairs[:, 0]) > 1).sum())
