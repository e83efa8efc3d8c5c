"""The usual ways to a mesh from rendered depth, by Open3D: TSDF fusion and Poisson reconstruction.

They serve as baselines for methods that have a surface of their own, and as a second opinion on it.
"""

from __future__ import annotations

from functools import cache, partial
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from splatomy.background import beside
from splatomy.errors import InputError, MissingBackendError
from splatomy.events import Progress, Task
from splatomy.extract.room import check_room
from splatomy.geometry.cameras import Cameras
from splatomy.scene import Mesh, Render, Scene

_FARTHEST_QUANTILE, _FARTHEST_BY = 0.995, 1.05
_TRUNCATION_CELLS = 4.0
_BLOCK, _BYTES_PER_CELL = 16, 48
_BLOCK_LAYERS = 3
"""Blocks across the surface that the truncation touches."""
_MOST_POINTS = 400_000
_THINNEST = 0.02
"""Share of Poisson's vertices with the fewest points about them, which are cut off."""


@runtime_checkable
class DrawnFromSurface(Protocol):
    """A scene whose depth is that of its own surface; its Gaussians may show another."""

    def without_surface(self) -> Scene: ...


@cache
def _open3d() -> ModuleType:
    try:
        import open3d
    except (ImportError, OSError):
        raise MissingBackendError(
            "TSDF fusion and Poisson reconstruction need Open3D, which is not installed: pip install open3d."
        ) from None
    module: ModuleType = open3d
    return module


def tsdf_mesh(scene: Scene, cameras: Cameras, cells: int = 256) -> Task[Mesh]:
    """The mesh of the scene's rendered depths fused into a truncated signed distance grid.

    cameras: views to render. cells: along the longest side of the scene's box; the truncation is 4 cells, and
    depths beyond nearly all others are left out, whatever path the cameras took.

    Raises:
        MissingBackendError: Open3D is not installed.
        InputError: no depth can be rendered, or the grid does not fit into memory.

    Source: Curless and Levoy 1996; Open3D's scalable volume, which keeps blocks near the surface alone.
    """
    o3d = _open3d()
    voxel = float(np.ptp(scene.bounds_mm, axis=0).max()) / cells
    blocks = 6 * np.ceil(cells / _BLOCK) ** 2 * _BLOCK_LAYERS
    room = int(blocks * _BLOCK**3 * _BYTES_PER_CELL)
    check_room(room, f"A TSDF grid of {cells} cells a side", "fewer cells")
    farthest = yield from _farthest(scene, cameras)
    volume = o3d.pipelines.integration.ScalableTSDFVolume(
        voxel_length=voxel,
        sdf_trunc=_TRUNCATION_CELLS * voxel,
        color_type=o3d.pipelines.integration.TSDFVolumeColorType.RGB8,
    )
    for n in range(len(cameras)):
        made = _drawn(scene, cameras[n])
        yield from beside("tsdf", n, len(cameras), partial(_fuse, volume, made, cameras[n], farthest))
        yield Progress("tsdf", n + 1, len(cameras))
    found = yield from beside("tsdf", len(cameras), len(cameras), volume.extract_triangle_mesh)
    return _mesh(found, scene, 3 * voxel)


def poisson_mesh(scene: Scene, cameras: Cameras, depth: int = 8) -> Task[Mesh]:
    """The mesh that fits the points and normals of the scene's rendered depths best.

    depth: of the octree: 2^depth cells a side. Other arguments and errors as for ``tsdf_mesh``.

    Source: Kazhdan and Hoppe 2013 (Open3D).
    """
    o3d = _open3d()
    parts = []
    farthest = yield from _farthest(scene, cameras)
    each = max(500, _MOST_POINTS // len(cameras))
    rng = np.random.default_rng(0)
    for n in range(len(cameras)):
        made = _drawn(scene, cameras[n])
        parts.append(_points(made, cameras[n], farthest, each, rng))
        yield Progress("poisson", n + 1, len(cameras))
    points, normals, colours = (np.concatenate(p) for p in zip(*parts, strict=True))
    cloud = o3d.geometry.PointCloud()
    cloud.points = o3d.utility.Vector3dVector(points)
    cloud.normals = o3d.utility.Vector3dVector(normals)
    cloud.colors = o3d.utility.Vector3dVector(colours)
    work = partial(_poisson, o3d, cloud, depth)
    found = yield from beside("poisson", len(cameras), len(cameras), work)
    return _mesh(found, scene, 3 * float(np.ptp(scene.bounds_mm, axis=0).max()) / 2**depth)


def _drawn(scene: Scene, camera: Cameras) -> Render:
    """One view, whose depth is that of the Gaussians."""
    alone = scene.without_surface() if isinstance(scene, DrawnFromSurface) else scene
    return alone.render(camera, _middle_s(scene))


def _middle_s(scene: Scene) -> float:
    return float(np.mean(scene.time_range_s))


def _farthest(scene: Scene, cameras: Cameras) -> Task[float]:
    """Depth beyond which nothing is used: by quantiles of what is rendered, in a few views."""
    some = np.unique(np.linspace(0, len(cameras) - 1, min(8, len(cameras))).astype(int))
    known = []
    for n in some.tolist():
        made = _drawn(scene, cameras[n])
        if made.depth_mm is not None:
            known.append(made.depth_mm[np.isfinite(made.depth_mm)])
        yield Progress("depths", len(known), len(some))
    joined = np.concatenate([np.zeros(0, np.float32), *known])
    if not len(joined):
        raise InputError(
            "No view of the run shows a depth: expected a scene with a surface. Choose another run, or its "
            "own surface."
        )
    return float(np.quantile(joined, _FARTHEST_QUANTILE)) * _FARTHEST_BY


def _fuse(volume: Any, made: Render, camera: Cameras, farthest: float) -> None:
    o3d = _open3d()
    if made.depth_mm is None:
        return
    codes = np.ascontiguousarray(np.rint(made.colour[0].clip(0, 1) * 255).astype(np.uint8))
    depth = np.ascontiguousarray(np.nan_to_num(made.depth_mm[0], nan=0.0).astype(np.float32))
    picture = o3d.geometry.RGBDImage.create_from_color_and_depth(
        o3d.geometry.Image(codes),
        o3d.geometry.Image(depth),
        depth_scale=1.0,
        depth_trunc=farthest,
        convert_rgb_to_intensity=False,
    )
    k = camera.intrinsics[0]
    lens = o3d.camera.PinholeCameraIntrinsic(
        camera.width_px, camera.height_px, k[0, 0], k[1, 1], k[0, 2], k[1, 2]
    )
    volume.integrate(picture, lens, camera.camera_from_world[0])


def _points(
    made: Render, camera: Cameras, farthest: float, most: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Points, normals towards the camera and colours, (P, 3) each, in the world."""
    if made.depth_mm is None or made.normals is None:
        return np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3))
    depth = made.depth_mm[0].astype(np.float64)
    rows, columns = np.nonzero(np.isfinite(depth) & (depth < farthest))
    if len(rows) > most:
        pick = rng.choice(len(rows), most, replace=False)
        rows, columns = rows[pick], columns[pick]
    pixels = np.stack([columns, rows], -1).astype(np.float64)
    points = camera.unproject(pixels[None], depth[rows, columns][None])[0]
    normals = made.normals[0][rows, columns].astype(np.float64) @ camera.camera_from_world[0, :3, :3]
    away = ((points - camera.centres_mm[0]) * normals).sum(1) > 0
    normals[away] *= -1
    return points, normals, made.colour[0][rows, columns].astype(np.float64).clip(0, 1)


def _poisson(o3d: ModuleType, cloud: Any, depth: int) -> Any:
    # One thread, since the solver's result depends on their number.
    found, density = o3d.geometry.TriangleMesh.create_from_point_cloud_poisson(
        cloud, depth=depth, n_threads=1
    )
    values = np.asarray(density)
    found.remove_vertices_by_mask(values < np.quantile(values, _THINNEST))
    return found


def _mesh(found: Any, scene: Scene, reach: float) -> Mesh:
    """Open3D's mesh as ours; evidence is that of the scene's own surface within ``reach``, 0 elsewhere."""
    vertices = np.asarray(found.vertices, dtype=np.float32).reshape(-1, 3)
    faces = np.asarray(found.triangles, dtype=np.int32).reshape(-1, 3)
    colours = np.asarray(found.vertex_colors, dtype=np.float32)
    painted = colours if len(colours) == len(vertices) and len(vertices) else None
    own = scene.surface(_middle_s(scene)) if "surface" in scene.abilities else None
    evidence = None
    if own is not None and own.evidence is not None and len(own.vertices_mm) and len(vertices):
        distance, nearest = cKDTree(own.vertices_mm).query(vertices, workers=-1)
        evidence = np.where(distance <= reach, own.evidence[nearest], 0.0).astype(np.float32)
    return Mesh(vertices, faces, painted, evidence)
