"""What the object's own symmetry says of its hidden parts: seen pixels, reflected to where no view looks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splatomy.events import Progress, Task
from splatomy.extract.symmetry import AGREES, CONTRADICTS, UNSEEN, Symmetry, find_symmetry
from splatomy.methods.completed_object.views import STEEPEST, Rays, Views, measured_surface
from splatomy.scene import Mesh

Float = NDArray[np.float64]

_ACROSS = 3.0
"""The views agree with a place up to this many times their median disagreement among themselves."""
_BEHIND = 0.12
"""A surface turned to the camera that lies up to this far (spheres) behind the measured one is not there."""
_TURNED = 0.3
_SPREAD_CELLS = 60
"""Points that vote are spread over cells this small: sphere over cells."""
_MOST_TAUGHT = 60_000
_FEW_TAUGHT = 200


@dataclass(frozen=True)
class Mirrored:
    """A symmetry of the object and the pixels that it carries to where no view shows anything.

    symmetry: of the unit sphere. on: (N, 4) view, row, column and map of object pixels whose images lie in
    the sphere where the views do not decide: none looks there, or as many agree as not. off: (M, 4) of pixels
    of something else. maps: (K, 4, 4). tolerance: distance (spheres) at which the views agree.
    """

    symmetry: Symmetry
    on: Tensor
    off: Tensor
    maps: Tensor
    tolerance: float

    def told(self) -> str:
        """One sentence for people."""
        what = "its own mirror image" if self.symmetry.kind == "mirror" else "the same all round an axis"
        return (
            f"Within the noise of the views the object is {what} ({self.symmetry.confidence:.0%} as sure as "
            f"the views are of each other, by {self.symmetry.support:.0%} of what was seen): hidden parts "
            "take the shape of their seen images, are no observation and stay marked."
        )

    def drawn(self, views: Views, count: int, generator: torch.Generator) -> Rays:
        """A random batch of reflected rays, two thirds of them on the object, weighted as the pixels are."""
        parts = []
        for places, number in ((self.on, count - count // 3), (self.off, count // 3)):
            if len(places):
                chosen = torch.randint(len(places), (number,), generator=generator)
                parts.append(places[chosen.to(places.device)])
        places = torch.cat(parts)
        rays = views.rays(places[:, :3])
        maps = self.maps[places[:, 3]]
        turn = maps[:, :3, :3]
        return replace(
            rays,
            origins=(turn @ rays.origins[..., None])[..., 0] + maps[:, :3, 3],
            directions=(turn @ rays.directions[..., None])[..., 0],
            normal=None,
        )

    def shows(self, views: Views, points: Float, normals: Float) -> NDArray[np.bool_]:
        """(N,) points of the sphere whose images the views show as surface."""
        shown = np.zeros(len(points), np.bool_)
        for one in self.symmetry.maps:
            back = np.linalg.inv(one)
            images, turned = points @ back[:3, :3].T + back[:3, 3], normals @ back[:3, :3].T
            shown |= look_at(views, images, turned, self.tolerance) == AGREES
        return shown


def find_mirrored(views: Views) -> Task[Mirrored | None]:
    """The symmetry of the seen surface and what it teaches, or None: none, nothing new, or no two views show
    the same part of the object, so that nobody can tell how well images should agree."""
    points, normals, places = yield from _seen(views)
    if len(points) < _FEW_TAUGHT:
        return None
    rng = np.random.default_rng(0)
    few = rng.permutation(len(points))[:4000]
    disagreement = _disagreement(views, points[few], places[few, 0])
    if disagreement is None:
        return None
    tolerance = _ACROSS * disagreement
    spread = _evenly(points, rng)
    own = look_at(views, points[spread], normals[spread], tolerance, places[spread, 0])
    agreement = float((own == AGREES).sum() / max((own != UNSEEN).sum(), 1))

    def look(images: Float, turned: Float) -> NDArray[np.int8]:
        return look_at(views, images, turned, tolerance)

    found = yield from find_symmetry(points[spread], normals[spread], look, agreement)
    if found is None:
        return None
    maps = found.maps
    total = len(points) * len(maps)
    pairs = rng.choice(total, min(total, 4 * _MOST_TAUGHT), replace=False)
    pixel, number = pairs % len(points), pairs // len(points)
    new = []
    for part in np.array_split(np.arange(len(pairs)), max(1, len(pairs) // _MOST_TAUGHT)):
        turn, shift = maps[number[part], :3, :3], maps[number[part], :3, 3]
        images = (turn @ points[pixel[part], :, None])[..., 0] + shift
        turned = (turn @ normals[pixel[part], :, None])[..., 0]
        within = np.linalg.norm(images, axis=1) < 1
        new.append(part[within & (look(images, turned) == UNSEEN)])
        yield Progress("symmetry", len(new), 4)
    kept = np.concatenate(new)[:_MOST_TAUGHT]
    if len(kept) < _FEW_TAUGHT:
        return None
    on = np.concatenate([places[pixel[kept]], number[kept, None]], 1)
    others = views.outside[:: max(1, len(views.outside) // _MOST_TAUGHT)].cpu().numpy()
    off = np.concatenate([others, rng.integers(len(maps), size=(len(others), 1))], 1)
    device = views.device
    return Mirrored(
        found,
        torch.as_tensor(on, device=device),
        torch.as_tensor(off, device=device),
        torch.as_tensor(maps.astype(np.float32), device=device),
        tolerance,
    )


def look_at(
    views: Views, points: Float, normals: Float, tolerance: float, own: NDArray[np.int64] | None = None
) -> NDArray[np.int8]:
    """(N,) what most views say of places on a surface (N, 3) of the sphere with outward normals (N, 3).

    own: (N,) views that measured the places themselves and so are not asked.
    """
    votes = np.zeros(len(points), np.int32)
    for t in range(len(views)):
        camera = views.placed[t]
        inside, row, column, z = _pixels(camera.project(points), views.host_depth.shape[1:])
        depth = views.host_depth[t][row, column] / views.frame.scale
        slope = views.facing[t][row, column]
        gap = (z - depth) * slope
        ray = points - camera.centres_mm[0]
        facing = -(ray * normals).sum(1) / np.linalg.norm(ray, axis=1).clip(1e-9)
        if own is not None:
            inside &= own != t
        seen = inside & views.real[t][row, column] & (depth > 0)
        agrees = seen & (np.abs(gap) < tolerance) & (facing > 0)
        # At rims, mostly steep, the slope is a guess: there the place's own must rule it out too.
        guessed = views.facing_guessed[t][row, column]
        sure = np.where(guessed, (z - depth) * np.minimum(slope, facing.clip(STEEPEST, 1)), gap)
        nowhere = seen & (sure < -tolerance)
        nowhere |= seen & (sure > tolerance) & (gap < _BEHIND) & (facing > _TURNED)
        blank = inside & views.blank[t][row, column]
        if not views.outlines_certain:
            # What else was seen may hide the place, unless it lies behind it.
            blank &= (depth > 0) & (z - depth < -tolerance)
        votes += agrees.astype(np.int32) - (nowhere | blank)
    return np.where(votes > 0, AGREES, np.where(votes < 0, CONTRADICTS, UNSEEN)).astype(np.int8)


def vertex_normals(mesh: Mesh) -> Float:
    """Outward unit normals (V, 3), weighted by area."""
    corners = mesh.vertices_mm.astype(np.float64)[mesh.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros((len(mesh.vertices_mm), 3))
    for corner in range(3):
        np.add.at(normals, mesh.faces[:, corner], cross)
    return np.asarray(normals / np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12))


def _pixels(
    projected: tuple[NDArray[np.floating], NDArray[np.floating]], size: tuple[int, ...]
) -> tuple[NDArray[np.bool_], NDArray[np.intp], NDArray[np.intp], Float]:
    """Whether places lie in a picture (H, W), their nearest pixels there, and their depth."""
    pixels, z = np.asarray(projected[0][0]), np.asarray(projected[1][0])
    with np.errstate(invalid="ignore"):
        inside = (z > 0) & (pixels > -0.5).all(1) & (pixels < (size[1] - 0.5, size[0] - 0.5)).all(1)
    column, row = np.rint(np.where(inside[:, None], pixels, 0)).astype(np.intp).T
    return inside, row, column, z


def _disagreement(views: Views, points: Float, own: NDArray[np.int64]) -> float | None:
    """Median distance (spheres) of measured points to what other views measured there, along the normal.

    own: (N,) the view that measured each point. None: no other view saw any of them.
    """
    gaps = []
    for t in range(len(views)):
        inside, row, column, z = _pixels(views.placed[t].project(points), views.host_depth.shape[1:])
        depth = views.host_depth[t][row, column] / views.frame.scale
        gap = (z - depth) * views.facing[t][row, column]
        there = inside & (own != t) & views.real[t][row, column] & (depth > 0)
        gaps.append(np.abs(gap[there & (np.abs(gap) < 0.1)]))
    found = np.concatenate(gaps)
    return max(float(np.median(found)), 1e-4) if len(found) else None


def _seen(views: Views) -> Task[tuple[Float, Float, NDArray[np.int64]]]:
    """Measured points (N, 3) of the object in the sphere, outward normals (N, 3), their pixels (N, 3)."""
    points, normals = [np.zeros((0, 3))], [np.zeros((0, 3))]
    places = [np.zeros((0, 3), np.int64)]
    for t in range(len(views)):
        on = views.real[t] & (views.host_depth[t] > 0)
        surface, normal, whole = measured_surface(views.host_depth[t], on, views.cameras.intrinsics[t])
        row, column = np.nonzero(whole)
        pose = views.cameras.camera_from_world[t]
        world = (surface[row, column] - pose[:3, 3]) @ pose[:3, :3]
        points.append((world - views.frame.centre) / views.frame.scale)
        # Towards the camera is outward.
        inward = (normal[row, column] * surface[row, column]).sum(1) > 0
        turned = np.where(inward[:, None], -normal[row, column], normal[row, column])
        normals.append(turned @ pose[:3, :3])
        places.append(np.stack([np.full(len(row), t), row, column], 1))
        yield Progress("symmetry", t + 1, len(views))
    return np.concatenate(points), np.concatenate(normals), np.concatenate(places)


def _evenly(points: Float, rng: np.random.Generator) -> NDArray[np.intp]:
    """Indices of one point of every cell."""
    order = rng.permutation(len(points))
    cells = np.floor(points[order] * _SPREAD_CELLS / 2).astype(np.int64)
    _, first = np.unique(cells, axis=0, return_index=True)
    return np.asarray(order[first], np.intp)
