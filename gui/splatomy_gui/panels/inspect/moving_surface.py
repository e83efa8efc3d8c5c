"""The moving surface of a run: meshes of one topology at some times, and what lies between them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.events import Progress, Task
from splatomy.io.geometry_files import read_json
from splatomy.io.mesh import read_mesh
from splatomy.scene import Mesh
from splatomy_gui.measuring import Anchor, Point

OBSERVED = 0.5
"""Where less than this share of what is shown was observed, it counts as made up."""


@dataclass(frozen=True)
class MovingSurface:
    """A surface over time. vertices: (M, V, 3) world, at times_s (M,), ascending. mesh: the first one."""

    mesh: Mesh
    vertices: NDArray[np.float32]
    times_s: NDArray[np.float64]

    @property
    def evidence(self) -> NDArray[np.float32]:
        """Share of real observations at each vertex, (V,), 1 where nothing is known to be made up."""
        found = self.mesh.evidence
        return np.ones(len(self.mesh.vertices_mm), np.float32) if found is None else found

    @property
    def unobserved(self) -> Mesh | None:
        """The faces with a corner that was not observed, on all vertices; None without any."""
        hidden = (self.evidence < OBSERVED)[self.mesh.faces].any(1)
        return Mesh(self.vertices[0], self.mesh.faces[hidden]) if hidden.any() else None

    def at(self, time_s: float) -> NDArray[np.float32]:
        """Vertices (V, 3) at a time: straight between the two meshes around it."""
        place = float(np.interp(time_s, self.times_s, np.arange(len(self.times_s))))
        first = min(int(place), max(0, len(self.times_s) - 2))
        share = np.float32(place - first)
        if share <= 0 or len(self.times_s) == 1:
            return self.vertices[first]
        return np.asarray((1 - share) * self.vertices[first] + share * self.vertices[first + 1], np.float32)

    def normals(self, vertices: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit normals (V, 3) of the surface with these vertices, weighted by the faces' areas."""
        faces = self.mesh.faces
        corner = vertices[faces[:, 0]]
        across = np.cross(vertices[faces[:, 1]] - corner, vertices[faces[:, 2]] - corner)
        index = faces.T.ravel()
        sums = [np.bincount(index, np.tile(across[:, axis], 3), len(vertices)) for axis in range(3)]
        out = np.stack(sums, -1).astype(np.float32)
        out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)
        return out

    def anchor(self, vertices: NDArray[np.float32], point: Point) -> Anchor:
        """The place of the surface with these vertices that is nearest to a point."""
        place = np.asarray(point, np.float64)
        nearest = int(np.argmin(((vertices - place.astype(np.float32)) ** 2).sum(1)))
        around = np.flatnonzero((self.mesh.faces == nearest).any(1))
        best, found = np.inf, (0, 1.0, 0.0, 0.0)
        for face in around.tolist():
            corners = vertices[self.mesh.faces[face]].astype(np.float64)
            shares = _barycentric(corners, place)
            distance = float(np.linalg.norm(shares @ corners - place))
            if distance < best:
                one, two, three = (float(s) for s in shares)
                best, found = distance, (face, one, two, three)
        return found

    def place(self, vertices: NDArray[np.float32], anchor: Anchor) -> Point:
        """Where an anchor lies on the surface with these vertices."""
        face, *shares = anchor
        corners = vertices[self.mesh.faces[min(face, len(self.mesh.faces) - 1)]].astype(np.float64)
        x, y, z = np.asarray(shares) @ corners
        return float(x), float(y), float(z)

    def value(self, anchor: Anchor, values: NDArray[np.floating]) -> float:
        """A value of the vertices, (V,), at an anchor."""
        face, *shares = anchor
        return float(np.asarray(shares) @ values[self.mesh.faces[min(face, len(self.mesh.faces) - 1)]])


def _barycentric(corners: NDArray[np.float64], place: NDArray[np.float64]) -> NDArray[np.float64]:
    """Barycentric coordinates (3,) of the nearest point of a triangle's plane, brought into the triangle."""
    one, other, to = corners[1] - corners[0], corners[2] - corners[0], place - corners[0]
    a, b, c, d, e = one @ one, one @ other, other @ other, to @ one, to @ other
    below = a * c - b * b
    if below <= 0:
        return np.array([1.0, 0.0, 0.0])
    v, w = (c * d - b * e) / below, (a * e - b * d) / below
    shares = np.clip([1 - v - w, v, w], 0, None)
    return np.asarray(shares / shares.sum())


def read_moving_surface(run: Path) -> Task[MovingSurface]:
    """The meshes of a run; that of a still scene is one at 0 s.

    Raises:
        InputError: there are none, or they are not of one topology.
    """
    folder = run / "meshes"
    files = sorted(folder.glob("frame_*.ply"))
    still = folder / "mesh.ply"
    if not files and not still.is_file():
        raise InputError(
            f"The run {run.name} has no surface: expected meshes/frame_*.ply or mesh.ply. Reconstruct again."
        )
    times = _times_s(folder, files) if files else np.zeros(1)
    files = files or [still]
    first, vertices = read_mesh(files[0]), []
    for number, path in enumerate(files):
        mesh = read_mesh(path)
        if mesh.faces.shape != first.faces.shape or mesh.vertices_mm.shape != first.vertices_mm.shape:
            raise InputError(
                f"{path.name} has another topology than {files[0].name}: expected one for all times. "
                "Reconstruct again."
            )
        vertices.append(mesh.vertices_mm)
        yield Progress("meshes", number + 1, len(files))
    return MovingSurface(first, np.stack(vertices).astype(np.float32), times)


def _times_s(folder: Path, files: list[Path]) -> NDArray[np.float64]:
    """The meshes' times; a run without a list of them is taken to have one a second."""
    path = folder / "meshes.json"
    value: Any = read_json(path) if path.is_file() else {}
    times = value.get("times_s") if isinstance(value, dict) else None
    if isinstance(times, list) and len(times) == len(files):
        return np.asarray(times, dtype=np.float64)
    return np.arange(len(files), dtype=np.float64)
