"""Colour and depth of the hidden parts: carried over from views that show the place, else spread smoothly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, diags_array
from scipy.sparse.linalg import spsolve

from splatomy.capture import Capture
from splatomy.events import Progress, Task
from splatomy.geometry.visibility import first_hits
from splatomy.prepare.hidden_parts.project import HiddenParts
from splatomy.prepare.inpaint import OBSERVED, SYNTHESISED
from splatomy.prepare.inpaint.provenance import provenance_type
from splatomy.scene import Mesh

Bool = NDArray[np.bool_]
Float = NDArray[np.float64]
Float32 = NDArray[np.float32]

_SAME_SURFACE = 0.03
"""A view shows a place if its measured depth is that near, in sizes of the shape."""
_GRAZING = 0.15
"""Least cosine at which a view may lend its colours."""
_STIFF = 1e-6


@dataclass(frozen=True)
class Filled:
    """Views with their hidden parts filled.

    images: (T, H, W, 3). depth_mm: (T, H, W). provenance: (T, H, W) as in ``prepare.inpaint``: OBSERVED,
    k + 1 = carried over from view k, SYNTHESISED.
    """

    images: Float32
    depth_mm: Float32
    provenance: NDArray[np.signedinteger]


def fill_views(capture: Capture, mesh: Mesh, hidden: HiddenParts) -> Task[Filled]:
    """Hidden parts with the shape's depth and with colours that agree between views.

    A place that some view shows takes its colour from the two that show it best; all others take a colour
    that spreads over the shape from those that are known, so that every view gets the same.

    Source: ours; harmonic interpolation over the mesh (Zhu, Ghahramani and Lafferty 2003).
    """
    if capture.cameras is None or capture.target is None:
        raise ValueError("filling needs cameras and masks of the visible object")
    lender = _Lender(capture, mesh)
    vertices = mesh.vertices_mm.astype(np.float64)
    yield Progress("fill hidden parts", 0, len(capture))
    known, colours, _ = yield from lender.colours(vertices, lender.normals, None)
    spread = _spread(mesh, colours, known)
    images = np.array(capture.images, np.float32)
    depth = np.full(capture.target.shape, np.nan, np.float32)
    if capture.depth_mm is not None:
        depth = np.array(capture.depth_mm, np.float32)
    provenance = np.full(capture.target.shape, OBSERVED, provenance_type(len(capture)))
    height, width = capture.target.shape[1:]
    for t in range(len(capture)):
        mask = hidden.masks[t]
        if mask.any():
            k, pose = capture.cameras.intrinsics[t], capture.cameras.camera_from_world[t]
            _, face, share = first_hits(vertices, mesh.faces, k, pose, height, width)
            on = mask & (face >= 0)
            corners, part = mesh.faces[face[on]], share[on][..., None]
            points, normals = (vertices[corners] * part).sum(1), (lender.normals[corners] * part).sum(1)
            lent, colour, source = yield from lender.colours(points, normals, t)
            smooth = (spread[corners] * part).sum(1)
            images[t][on] = np.where(lent[:, None], colour, smooth)
            provenance[t][on] = np.where(lent, source + 1, SYNTHESISED)
            depth[t][mask] = hidden.depth_mm[t][mask]
            beyond = mask & ~on
            if beyond.any():
                images[t] = _nearest_filled(images[t], beyond, capture.target[t] | on)
                provenance[t][beyond] = SYNTHESISED
        yield Progress("fill hidden parts", t + 1, len(capture))
    return Filled(images, depth, provenance)


def with_given(
    filled: Filled, hidden: HiddenParts, pictures: Mapping[int, Float32], depths: Mapping[int, Float32]
) -> tuple[Filled, list[int]]:
    """The views with what somebody else filled into their hidden parts, and the numbers of these views.

    pictures: (H, W, 3) by view; depths: (H, W) by view; NaN where nothing was filled in. What other views
    show of a place stays as it is; a given depth stands even there.
    """
    images, depth, provenance = filled.images.copy(), filled.depth_mm.copy(), filled.provenance.copy()
    taken = set()
    for t, picture in pictures.items():
        place = hidden.masks[t] & (provenance[t] == SYNTHESISED) & np.isfinite(picture).all(-1)
        images[t][place] = picture[place]
        if place.any():
            taken.add(t)
    for t, given in depths.items():
        place = hidden.masks[t] & np.isfinite(given)
        depth[t][place] = given[place]
        provenance[t][place] = SYNTHESISED
        if place.any():
            taken.add(t)
    return Filled(images, depth, provenance), sorted(taken)


class _Lender:
    """Colours of places on the object, as the views that show them see them."""

    def __init__(self, capture: Capture, mesh: Mesh) -> None:
        if capture.cameras is None or capture.target is None:
            raise ValueError("colours need cameras and masks of the visible object")
        self.capture, self.mesh, self.cameras = capture, mesh, capture.cameras
        self.vertices = mesh.vertices_mm.astype(np.float64)
        self.near = _SAME_SURFACE * float(np.linalg.norm(np.ptp(self.vertices, axis=0)))
        self.normals = _vertex_normals(self.vertices, mesh.faces)
        seen = capture.target if capture.occluded is None else capture.target & ~capture.occluded
        self.shows = [cv2.erode(s.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0 for s in seen]

    def colours(
        self, points: Float, normals: Float, besides: int | None
    ) -> Task[tuple[Bool, Float, NDArray[np.int64]]]:
        """(N,) whether any view shows a point (N, 3), its colour (N, 3), and the view that shows it best.

        besides: a view that is not asked.
        """
        best, second = np.zeros(len(points)), np.zeros(len(points))
        one, two = np.zeros((len(points), 3)), np.zeros((len(points), 3))
        source = np.zeros(len(points), np.int64)
        for s in range(len(self.shows)):
            if s == besides or not self.shows[s].any():
                continue
            weight, colour = self._seen_by(s, points, normals)
            first = weight > best
            then = ~first & (weight > second)
            second = np.where(first, best, np.where(then, weight, second))
            two = np.where(first[:, None], one, np.where(then[:, None], colour, two))
            best, source = np.where(first, weight, best), np.where(first, s, source)
            one = np.where(first[:, None], colour, one)
            yield Progress("fill hidden parts", s + 1, len(self.shows))
        total = (best + second).clip(1e-12)[:, None]
        return best > 0, (best[:, None] * one + second[:, None] * two) / total, source

    def _seen_by(self, s: int, points: Float, normals: Float) -> tuple[Float, Float]:
        """How well (N,) a view shows points, 0 = not at all, and the colours (N, 3) that it has there."""
        height, width = self.shows[s].shape
        pixels, z = self.cameras[s].project(points)
        with np.errstate(invalid="ignore"):
            inside = (z[0] > 0) & (pixels[0] >= 0).all(1) & (pixels[0] <= (width - 1, height - 1)).all(1)
        place = np.where(inside[:, None], pixels[0], 0)
        column, row = np.rint(place).astype(int).T
        ray = points - self.cameras.centres_mm[s]
        far = np.linalg.norm(ray, axis=1)
        cosine = -(ray * normals).sum(1) / np.maximum(far, 1e-9)
        shown = inside & self.shows[s][row, column] & (cosine > _GRAZING)
        depth = np.full(len(points), np.nan)
        if self.capture.depth_mm is not None:
            depth = self.capture.depth_mm[s][row, column].astype(np.float64)
        if np.isnan(depth[shown]).any():
            k, pose = self.cameras.intrinsics[s], self.cameras.camera_from_world[s]
            hit, _, _ = first_hits(self.vertices, self.mesh.faces, k, pose, height, width)
            depth = np.where(np.isnan(depth), hit[row, column], depth)
        shown &= np.abs(depth - z[0]) < self.near
        picture = np.ascontiguousarray(self.capture.images[s], np.float32)
        x, y = place.astype(np.float32).T
        colour = np.zeros((len(points), 3))
        # OpenCV's maps may not be longer than 2^15 rows.
        for start in range(0, len(points), 1 << 14):
            span = slice(start, start + (1 << 14))
            taken = cv2.remap(picture, x[span, None], y[span, None], cv2.INTER_LINEAR)
            colour[span] = taken.reshape(-1, 3)
        return np.where(shown, cosine**2 / np.maximum(far, 1e-9) ** 2, 0.0), colour


def _spread(mesh: Mesh, colours: Float, known: Bool) -> Float:
    """Colours (V, 3) that are those of known vertices, and the mean of their neighbours elsewhere."""
    if known.all() or not known.any():
        return colours
    count = len(mesh.vertices_mm)
    a, b = mesh.faces.ravel(), np.roll(mesh.faces, -1, 1).ravel()
    links = coo_array((np.ones(2 * len(a)), (np.append(a, b), np.append(b, a))), shape=(count, count)).tocsr()
    links.data[:] = 1.0
    degree = np.asarray(links.sum(1)).ravel()
    laplacian = csr_array(diags_array(degree + _STIFF) - links)
    free = np.flatnonzero(~known)
    right = -(laplacian[free][:, np.flatnonzero(known)] @ colours[known])
    right += _STIFF * colours[known].mean(0)
    out = colours.copy()
    solved = spsolve(laplacian[free][:, free].tocsc(), right)
    out[free] = np.asarray(solved).reshape(len(free), 3)
    return out


def _vertex_normals(vertices: Float, faces: NDArray[np.int32]) -> Float:
    """Outward unit normals (V, 3), weighted by area."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    cross = np.cross(b - a, c - a)
    normals = np.zeros_like(vertices)
    for i in range(3):
        np.add.at(normals, faces[:, i], cross)
    return np.asarray(normals / np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12))


def _nearest_filled(picture: Float32, holes: Bool, known: Bool) -> Float32:
    """The picture with holes in the colour of the nearest known pixel."""
    from scipy.ndimage import distance_transform_edt

    if not known.any():
        return picture
    _, index = distance_transform_edt(~known, return_indices=True)
    out = picture.copy()
    out[holes] = picture[index[0][holes], index[1][holes]]
    return out
