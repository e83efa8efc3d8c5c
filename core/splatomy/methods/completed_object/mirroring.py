"""What the object's own symmetry says of its hidden parts: seen pixels, reflected to where no view looks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splatomy.events import Progress, Task
from splatomy.extract.symmetry import AGREES, CONTRADICTS, UNSEEN, Symmetry, find_symmetry
from splatomy.methods.completed_object.views import Rays, Views, measured_surface
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

    symmetry: of the unit sphere. on: (N, 4) view, row, column and map of object pixels whose images no view
    shows or contradicts. off: (M, 4) of pixels of something else. tolerance: distance (spheres) at which the
    views agree.
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
        """A random batch of reflected rays, two thirds of them on the object."""
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
            weight=torch.ones_like(rays.weight),
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
    """The symmetry of the seen surface and what it teaches, or None: none, or nothing new."""
    points, normals, places = yield from _seen(views)
    if len(points) < _FEW_TAUGHT:
        return None
    rng = np.random.default_rng(0)
    few = rng.permutation(len(points))[:4000]
    tolerance = _ACROSS * _disagreement(views, points[few])
    spread = _evenly(points, rng)
    own = look_at(views, points[spread], normals[spread], tolerance)
    agreement = float((own == AGREES).sum() / max((own != UNSEEN).sum(), 1))

    def look(images: Float, turned: Float) -> NDArray[np.int8]:
        return look_at(views, images, turned, tolerance)

    found = yield from find_symmetry(points[spread], normals[spread], look, agreement)
    if found is None:
        return None
    maps = found.maps
    pairs = rng.permutation(len(points) * len(maps))[: 4 * _MOST_TAUGHT]
    pixel, number = pairs % len(points), pairs // len(points)
    new = []
    for part in np.array_split(np.arange(len(pairs)), max(1, len(pairs) // _MOST_TAUGHT)):
        turn, shift = maps[number[part], :3, :3], maps[number[part], :3, 3]
        images = (turn @ points[pixel[part], :, None])[..., 0] + shift
        turned = (turn @ normals[pixel[part], :, None])[..., 0]
        new.append(part[look(images, turned) == UNSEEN])
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


def look_at(views: Views, points: Float, normals: Float, tolerance: float) -> NDArray[np.int8]:
    """(N,) what most views say of places on a surface (N, 3) of the sphere with outward normals (N, 3)."""
    votes = np.zeros(len(points), np.int32)
    for t in range(len(views)):
        camera = views.placed[t]
        inside, row, column, z = _pixels(camera.project(points), views.host_depth.shape[1:])
        depth = views.host_depth[t][row, column] / views.frame.scale
        gap = (z - depth) * views.facing[t][row, column]
        ray = points - camera.centres_mm[0]
        facing = -(ray * normals).sum(1) / np.linalg.norm(ray, axis=1).clip(1e-9)
        seen = inside & views.real[t][row, column] & (depth > 0)
        agrees = seen & (np.abs(gap) < tolerance) & (facing > 0)
        nowhere = seen & (gap < -tolerance)
        nowhere |= seen & (gap > tolerance) & (gap < _BEHIND) & (facing > _TURNED)
        if views.outlines_certain:
            nowhere |= inside & views.blank[t][row, column]
        votes += agrees.astype(np.int32) - nowhere
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


def _disagreement(views: Views, points: Float) -> float:
    """Median distance (spheres) of measured points to what other views measured there, along the normal."""
    gaps = []
    for t in range(len(views)):
        inside, row, column, z = _pixels(views.placed[t].project(points), views.host_depth.shape[1:])
        depth = views.host_depth[t][row, column] / views.frame.scale
        gap = (z - depth) * views.facing[t][row, column]
        gaps.append(np.abs(gap[inside & views.real[t][row, column] & (np.abs(gap) < 0.1) & (depth > 0)]))
    return max(float(np.median(np.concatenate(gaps))), 1e-4)


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
