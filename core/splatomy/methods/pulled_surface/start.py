"""Where the object lies, and the first points on it: from depth, sparse points, silhouettes or matches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from splatomy.errors import InputError
from splatomy.events import Notice, Progress, Task
from splatomy.gaussians.init import GaussianCloud
from splatomy.geometry.cameras import Cameras
from splatomy.methods.pulled_surface.views import HALF, Frame, Pictures

Float = NDArray[np.float64]

_FILL = 0.85
"""The object's box takes this share of the working cube."""
_FEWEST = 200
_HULL_CELLS = 80
_LEAST_PIECE = 0.1
_OUTLIERS = 0.01
_FAINTEST = 0.05
_SHOWN_SHARES = (0.6, 0.2)
"""Views that must show a place of the object, if any place is shown by so many."""
_FACING = 0.3


@dataclass(frozen=True)
class Cloud:
    """Oriented, coloured points in the world: (P, 3) each, and where they come from, for the user.

    near: they lie on the surface as far as is known, not just somewhere about it.
    """

    points: Float
    normals: Float
    colours: Float
    source: str
    near: bool = False


def start_cloud(pictures: Pictures, most: int, seed: int) -> Task[tuple[Cloud, Frame]]:
    """First points on the scene and the working cube about it.

    Raises:
        InputError: nothing tells where the scene is.
    """
    rng = np.random.default_rng([seed, 3])
    details = pictures.capture.details
    bounds = details.get("bounds_mm")
    yield Progress("start", 0, 3)
    cloud = None
    if pictures.depth is not None:
        cloud = yield from _from_depth(pictures, most, rng)
    yield Progress("start", 1, 3)
    sparse = details.get("points_mm")
    if cloud is None and sparse is not None and len(sparse) >= _FEWEST:
        colours = details.get("point_colours")
        cloud = _from_points(pictures, np.asarray(sparse, np.float64), colours, bounds)
    if cloud is None and pictures.masked:
        cloud = yield from _from_silhouettes(pictures, bounds)
    if cloud is None and bounds is not None:
        cloud = yield from _inside_box(pictures, np.asarray(bounds, np.float64), most, rng)
    if cloud is None:
        raise InputError(
            "Nothing tells where the scene is: expected depth, sparse points (COLMAP), masks of the object "
            "(--target), or a box. Give one of them."
        )
    inside, frame = framed(cloud.points, bounds)
    cloud = _chosen(cloud, inside)
    if len(cloud.points) > most:
        cloud = _chosen(cloud, _thinned(cloud.points, most, rng))
    yield Notice("info", "start", f"{len(cloud.points)} points to start from: {cloud.source}.")
    yield Progress("start", 3, 3)
    return cloud, frame


def start_gaussians(pictures: Pictures, init: GaussianCloud, most: int) -> Task[tuple[GaussianCloud, Frame]]:
    """A user's Gaussians that belong to the object, the most solid ones of too many, and the cube about them.

    Raises:
        InputError: hardly any lies where the pictures look.
    """
    points = np.asarray(init.means_mm, np.float64)
    wanted = init.opacity > _FAINTEST
    if pictures.masked:
        wanted &= yield from _in_silhouettes(pictures, points)
    else:
        looks = np.zeros(len(points), np.int32)
        for t in range(len(pictures)):
            looks += pixels_of(pictures.cameras[t], points)[2]
            yield Progress("start", 0, 1)
        wanted &= looks >= min(2, len(pictures))
    if wanted.sum() < _FEWEST:
        raise InputError(
            f"Only {int(wanted.sum())} of the {len(init)} given Gaussians lie where the pictures show the "
            f"object; expected at least {_FEWEST}: check that the PLY was trained on these poses."
        )
    index = np.flatnonzero(wanted)
    inside, frame = framed(points[index], pictures.capture.details.get("bounds_mm"))
    index = index[inside]
    if len(index) > most:
        index = np.sort(index[np.argsort(-init.opacity[index], kind="stable")[:most]])
    yield Notice("info", "start", f"{len(index)} of {len(init)} given Gaussians to start from.")
    rows = (init.means_mm, init.quats_wxyz, init.scales_mm, init.opacity, init.sh)
    return GaussianCloud(*(row[index] for row in rows)), frame


def framed(points: Float, bounds: object) -> tuple[NDArray[np.intp], Frame]:
    """The points in the box, where one is given and holds enough of them, and the working cube about it."""
    everything = np.arange(len(points))
    if bounds is not None:
        low, high = np.asarray(bounds, np.float64)
        inside = np.flatnonzero(((points > low) & (points < high)).all(1))
        if len(inside) >= _FEWEST:
            everything = inside
    else:
        low, high = (np.quantile(points, q, axis=0) for q in (_OUTLIERS, 1 - _OUTLIERS))
        margin = 0.06 * (high - low).max()
        low, high = low - margin, high + margin
    return everything, Frame((low + high) / 2, float((high - low).max()) / (2 * HALF * _FILL))


def _chosen(cloud: Cloud, index: NDArray[np.intp]) -> Cloud:
    return Cloud(cloud.points[index], cloud.normals[index], cloud.colours[index], cloud.source, cloud.near)


def _thinned(points: Float, most: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """At most ``most`` points, one of each small cell as far as that goes, so that they lie evenly."""
    order = rng.permutation(len(points))
    size = float(np.ptp(points, axis=0).max()) / 2048
    while True:
        keys = np.floor(points[order] / size).astype(np.int64)
        _, first = np.unique(keys, axis=0, return_index=True)
        if len(first) <= most:
            return np.asarray(order[first], np.intp)
        size *= 1.15 if len(first) < 2 * most else 1.5


def _from_depth(pictures: Pictures, most: int, rng: np.random.Generator) -> Task[Cloud | None]:
    """Points of all depth maps, with the maps' own normals."""
    if pictures.depth is None:
        return None
    parts = []
    each = max(200, 6 * most // len(pictures))
    for t in range(len(pictures)):
        depth = pictures.depth[t].astype(np.float64)
        camera = pictures.cameras[t]
        normal, solid = _depth_normals(depth, camera)
        rows, columns = np.nonzero(solid)
        if len(rows) > each:
            pick = rng.choice(len(rows), each, replace=False)
            rows, columns = rows[pick], columns[pick]
        pixels = np.stack([columns, rows], -1).astype(np.float64)
        points = camera.unproject(pixels[None], depth[rows, columns][None])[0]
        normals = normal[rows, columns] @ camera.camera_from_world[0, :3, :3]
        parts.append((points, normals, pictures.images[t][rows, columns].astype(np.float64)))
        yield Progress("start", 0, 3)
    points, normals, colours = (np.concatenate(p) for p in zip(*parts, strict=True))
    if len(points) < _FEWEST:
        return None
    return Cloud(points, normals, colours, "depth maps", near=True)


def _depth_normals(depth: Float, camera: Cameras) -> tuple[Float, NDArray[np.bool_]]:
    """Normals (H, W, 3) in the camera's axes, turned to it, and where they can be trusted."""
    k = camera.intrinsics[0]
    rows, columns = np.indices(depth.shape)
    smooth = ndimage.gaussian_filter(np.nan_to_num(depth), 1.0)
    share = ndimage.gaussian_filter(np.isfinite(depth).astype(np.float64), 1.0)
    z = smooth / np.maximum(share, 1e-6)
    points = np.stack([(columns - k[0, 2]) / k[0, 0] * z, (rows - k[1, 2]) / k[1, 1] * z, z], -1)
    across, down = np.gradient(points, axis=1), np.gradient(points, axis=0)
    normal = np.cross(down, across)
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    normal = normal / np.maximum(length, 1e-12)
    towards = -points / np.maximum(np.linalg.norm(points, axis=-1, keepdims=True), 1e-12)
    cosine = (normal * towards).sum(-1)
    normal = np.where(cosine[..., None] < 0, -normal, normal)
    # At the edges of things a depth map jumps, and its slope is no surface.
    solid = np.isfinite(depth) & (share > 0.95) & (np.abs(cosine) > 0.25)
    return normal, solid


def _from_points(pictures: Pictures, points: Float, colours: object, bounds: object) -> Cloud:
    """Sparse points, turned to the nearest camera that may see them."""
    good = np.isfinite(points).all(1)
    points = points[good]
    centres = pictures.cameras.centres_mm
    nearest = np.linalg.norm(points[:, None] - centres[None], axis=-1).argmin(1)
    towards = centres[nearest] - points
    normals = towards / np.maximum(np.linalg.norm(towards, axis=1, keepdims=True), 1e-12)
    shown = np.full((len(points), 3), 0.5) if colours is None else np.asarray(colours, np.float64)[good]
    return Cloud(points, normals, shown, "sparse points of the input")


def _from_silhouettes(pictures: Pictures, bounds: object) -> Task[Cloud | None]:
    """The visual hull's surface: coarse about the cameras' common middle, then fine in its box.

    Source: Laurentini, PAMI 1994.
    """
    if bounds is not None:
        low, high = np.asarray(bounds, np.float64)
    else:
        middle, reach = _common_view(pictures.cameras)
        low, high = middle - reach, middle + reach
    for cells in (40, _HULL_CELLS):
        hull, cell = yield from _hull(pictures, low, high, cells)
        where = np.argwhere(hull > 0.5)
        if len(where) < 8:
            return None
        if bounds is None:
            first = low
            low, high = first + (where.min(0) - 1.5) * cell, first + (where.max(0) + 2.5) * cell
    hull, cell = yield from _hull(pictures, low, high, _HULL_CELLS)
    smooth = ndimage.gaussian_filter(hull.astype(np.float64), 1.2)
    rim = (hull > 0.5) & ~ndimage.binary_erosion(hull > 0.5, border_value=0)
    where = np.argwhere(rim)
    if len(where) < _FEWEST:
        return None
    slope = np.stack(np.gradient(smooth), -1)[tuple(where.T)]
    normals = -slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-9)
    points = low + (where + 0.5) * cell
    hidden = yield from _faces_what_hides_it(pictures, points, normals)
    points, normals = points[~hidden], normals[~hidden]
    if len(points) < _FEWEST:
        return None
    colours = yield from _seen_colours(pictures, points, normals)
    return Cloud(points, normals, colours, "silhouettes of the object")


def _common_view(cameras: Cameras) -> tuple[Float, float]:
    """The point nearest to all optical axes, and half the width that every camera sees there."""
    axes, centres = cameras.camera_from_world[:, 2, :3], cameras.centres_mm
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    middle = np.linalg.lstsq(across.sum(0), (across @ centres[..., None]).sum(0)[:, 0], rcond=None)[0]
    depth = ((middle - centres) * axes).sum(1)
    k = cameras.intrinsics
    wide = np.maximum(cameras.width_px / k[:, 0, 0], cameras.height_px / k[:, 1, 1]) / 2
    ahead = depth > 0
    if not ahead.any():
        raise InputError(
            "The cameras look away from each other's view, so their axes meet behind them: check the poses' "
            "axes (--poses-convention)."
        )
    return middle, float(np.median(depth[ahead] * wide[ahead]))


def _hull(pictures: Pictures, low: Float, high: Float, cells: int) -> Task[tuple[NDArray[np.float32], float]]:
    """Cells (I, J, K) that no silhouette excludes (1) or one does (0), and their size."""
    cell = float((high - low).max()) / cells
    shape = np.maximum(1, np.ceil((high - low) / cell).astype(int))
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1).reshape(-1, 3)
    inside = yield from _in_silhouettes(pictures, low + (index + 0.5) * cell)
    hull = inside.reshape(tuple(shape))
    piece, count = ndimage.label(hull)
    if count > 1:
        sizes = np.bincount(piece.ravel())[1:]
        hull &= np.isin(piece, 1 + np.flatnonzero(sizes >= _LEAST_PIECE * sizes.max()))
    return hull.astype(np.float32), cell


def _in_silhouettes(pictures: Pictures, points: Float) -> Task[NDArray[np.bool_]]:
    """(P,) points that enough views show, each of them within the object's silhouette."""
    inside, shown = np.ones(len(points), np.bool_), np.zeros(len(points), np.int32)
    for t in np.flatnonzero(pictures.has_target):
        if pictures.target is None:
            break
        column, row, within = pixels_of(pictures.cameras[int(t)], points)
        within &= pictures.weight[t][row, column] > 0
        # A pixel at the rim may belong to the object for the most part and not be marked.
        wide = ndimage.grey_dilation(pictures.target[t], size=3) > 0.5
        inside &= ~within | wide[row, column]
        shown += within
        yield Progress("start", 1, 3)
    # What something hides in most views is never carved away, and is not the object for that.
    for share in _SHOWN_SHARES:
        found = np.asarray(inside & (shown >= max(2, share * pictures.has_target.sum())))
        if found.any():
            break
    return found


def pixels_of(
    cameras: Cameras, points: Float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
    """Column, row (0 where outside) and whether the points (P, 3) lie in the one camera's picture."""
    k, pose = cameras.intrinsics[0], cameras.camera_from_world[0]
    x, y, z = (np.asarray(points) @ pose[:3, :3].T + pose[:3, 3]).T
    ahead = z > 0
    depth = np.where(ahead, z, 1.0)
    u = (k[0, 0] * x + k[0, 1] * y) / depth + k[0, 2]
    v = k[1, 1] * y / depth + k[1, 2]
    within = ahead & (u > -0.5) & (v > -0.5) & (u < cameras.width_px - 0.5) & (v < cameras.height_px - 0.5)
    column = np.rint(np.where(within, u, 0)).astype(np.intp)
    row = np.rint(np.where(within, v, 0)).astype(np.intp)
    return column, row, within


def _faces_what_hides_it(pictures: Pictures, points: Float, normals: Float) -> Task[NDArray[np.bool_]]:
    """(P,) points whose sides are turned to cameras that see something else before them, and to no other.

    What stands before the object is never carved away, since its pixels tell nothing: its own sides would
    pass for the object's.
    """
    seen, hidden = np.zeros(len(points), np.bool_), np.zeros(len(points), np.bool_)
    for t in range(len(pictures)):
        column, row, within = pixels_of(pictures.cameras[t], points)
        towards = pictures.cameras.centres_mm[t] - points
        within &= (towards * normals).sum(1) > _FACING * np.linalg.norm(towards, axis=1)
        visible = pictures.weight[t][row, column] > 0
        seen |= within & visible
        hidden |= within & ~visible
        yield Progress("start", 2, 3)
    return np.asarray(hidden & ~seen)


def _seen_colours(pictures: Pictures, points: Float, normals: Float) -> Task[Float]:
    """Mean colour of points in the views that they face; grey where none does."""
    weight = np.full((len(points), 1), 1e-6)
    total = np.repeat(0.5 * weight, 3, 1)
    for t in range(len(pictures)):
        camera = pictures.cameras[t]
        column, row, within = pixels_of(camera, points)
        towards = camera.centres_mm[0] - points
        cosine = (towards * normals).sum(1) / np.maximum(np.linalg.norm(towards, axis=1), 1e-12)
        share = (cosine.clip(0) ** 4 * within * pictures.weight[t][row, column])[:, None]
        total += share * pictures.images[t][row, column]
        weight += share
        yield Progress("start", 2, 3)
    return np.asarray(total / weight)


def _inside_box(pictures: Pictures, bounds: Float, most: int, rng: np.random.Generator) -> Task[Cloud]:
    """Points anywhere in the box, which the pictures have to sort out."""
    low, high = bounds
    points = rng.uniform(low, high, (most, 3))
    centres = pictures.cameras.centres_mm
    towards = centres[rng.integers(0, len(centres), most)] - points
    normals = towards / np.maximum(np.linalg.norm(towards, axis=1, keepdims=True), 1e-12)
    colours = yield from _seen_colours(pictures, points, normals)
    return Cloud(points, normals, colours, "the box alone")
