"""Deforming tissue as a mesh of one topology, its deformation, and its surface from fused depth maps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from splatomy.checks import check_shapes
from splatomy.errors import InputError
from splatomy.extract.mesh import iso_surface
from splatomy.geometry.cameras import Cameras
from splatomy.geometry.rigid import transform_points
from splatomy.scene import Mesh, Scene, Volume

MAX_STEP = 0.05
"""Neighbouring pixels whose depths differ by a larger share lie on two surfaces."""
MAX_ANGLE_RAD = np.deg2rad(80)
"""Faces seen at a more grazing angle are mostly guesses."""
_NEIGHBOURS = 6
_MAX_VOXELS = 40_000_000


@dataclass(frozen=True)
class MovingMesh:
    """A mesh at rest and the surfels that carry each vertex.

    index: (V, k) surfels. share: (V, k), sums to one.
    """

    rest: Mesh
    index: NDArray[np.int64]
    share: NDArray[np.float32]

    def at(self, displacement_mm: NDArray[np.floating]) -> Mesh:
        """The mesh when the surfels have moved by (N, 3) mm; faces, colours and evidence stay."""
        moved = (displacement_mm[self.index] * self.share[..., None]).sum(1)
        return replace(self.rest, vertices_mm=(self.rest.vertices_mm + moved).astype(np.float32))


def depth_mesh(
    depth_mm: NDArray[np.floating],
    camera: Cameras,
    colours: NDArray[np.floating] | None = None,
    evidence: NDArray[np.floating] | None = None,
    stride_px: int = 1,
) -> Mesh:
    """The surface of a depth map, triangulated pixel by pixel; faces look at the camera.

    Left out are pixels of unknown depth, steps (neighbours that differ by over 5 %) and faces seen at more
    than 80 degrees.

    Args:
        depth_mm: (H, W) along z, NaN = unknown.
        camera: the one that sees it.
        colours: (H, W, 3). evidence: (H, W).
        stride_px: every how many pixels a vertex is set.
    """
    depth = np.asarray(depth_mm, np.float64)[::stride_px, ::stride_px]
    rows, columns = depth.shape
    y, x = np.indices((rows, columns)) * stride_px
    known = np.isfinite(depth) & (depth > 0)
    pixels = np.stack([x, y], -1).reshape(1, -1, 2).astype(np.float64)
    points = camera.unproject(pixels, np.where(known, depth, 1).reshape(1, -1))[0]
    number = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    faces = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (b, d, c))])
    z = depth.ravel()[faces]
    with np.errstate(invalid="ignore"):
        whole = known.ravel()[faces].all(1) & (np.ptp(z, axis=1) < MAX_STEP * z.min(1))
    faces = faces[whole]
    corners = points[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    sight = corners.mean(1) - camera.centres_mm[0]
    size = np.linalg.norm(normal, axis=1) * np.linalg.norm(sight, axis=1)
    cosine = (normal * sight).sum(1) / np.maximum(size, 1e-30)
    faces = faces[np.abs(cosine) > np.cos(MAX_ANGLE_RAD)]
    # Turned so that normals point back at the camera.
    faces = faces[:, ::-1]
    used, place = np.unique(faces, return_inverse=True)

    def pick(array: NDArray[np.floating] | None, channels: int) -> NDArray[np.float32] | None:
        if array is None:
            return None
        flat = np.asarray(array)[::stride_px, ::stride_px].reshape(-1, channels)[used].astype(np.float32)
        return flat if channels > 1 else flat[:, 0]

    return Mesh(
        points[used].astype(np.float32),
        place.reshape(-1, 3).astype(np.int32),
        pick(colours, 3),
        pick(evidence, 1),
    )


def carried(rest: Mesh, anchors_mm: NDArray[np.floating]) -> MovingMesh:
    """The mesh with each vertex tied to the nearest of the resting surfels at anchors (N, 3).

    Shares fall to zero at the distance of the next surfel, so that the motion has no jumps.

    Raises:
        ValueError: there are no anchors.
    """
    check_shapes(anchors_mm=(anchors_mm, "N 3"))
    if not len(anchors_mm):
        raise ValueError("a mesh needs surfels to be carried by")
    count = min(_NEIGHBOURS + 1, len(anchors_mm))
    distance, index = cKDTree(anchors_mm).query(rest.vertices_mm, k=[*range(1, count + 1)])
    if count > 1:
        last = np.maximum(distance[:, -1:], 1e-12)
        distance, index = distance[:, :-1], index[:, :-1]
        share = (1 - distance / last).clip(1e-6) ** 2
    else:
        share = np.ones_like(distance)
    share /= share.sum(1, keepdims=True)
    return MovingMesh(rest, index.astype(np.int64), share.astype(np.float32))


@dataclass(frozen=True)
class DeformationMap:
    """How a surface differs from its reference; both in the scene's unit.

    displacement_mm: (V, 3). distance_mm: (V,) its length. stretch: (V,) mean ratio of the edges' lengths
    at each vertex, 1 = as in the reference, NaN without edges.
    """

    displacement_mm: NDArray[np.float32]
    distance_mm: NDArray[np.float32]
    stretch: NDArray[np.float32]


def deformation_map(reference: Mesh, moved: Mesh) -> DeformationMap:
    """The deformation of a mesh against a reference of the same topology.

    Raises:
        InputError: the meshes differ in their faces.
    """
    if reference.vertices_mm.shape != moved.vertices_mm.shape or not np.array_equal(
        reference.faces, moved.faces
    ):
        raise InputError(
            "A deformation map needs two meshes of one topology: expected "
            f"{len(reference.vertices_mm)} vertices and the same faces, got {len(moved.vertices_mm)}. "
            "Take both from the same scene."
        )
    shift = moved.vertices_mm - reference.vertices_mm
    faces = reference.faces
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    before, after = (
        np.linalg.norm(m.vertices_mm[edges[:, 0]] - m.vertices_mm[edges[:, 1]], axis=1)
        for m in (reference, moved)
    )
    ratio = after / np.maximum(before, 1e-12)
    total, count = np.zeros(len(shift)), np.zeros(len(shift))
    for side in (0, 1):
        np.add.at(total, edges[:, side], ratio)
        np.add.at(count, edges[:, side], 1)
    stretch = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return DeformationMap(shift, np.linalg.norm(shift, axis=1).astype(np.float32), stretch.astype(np.float32))


def fused_surface(scene: Scene, cameras: Cameras, time_s: float, voxel_mm: float | None = None) -> Mesh:
    """The surface of a scene at one time from depth maps of several cameras, fused in a distance volume.

    Args:
        cameras: where to look from, at least one.
        voxel_mm: voxel size; None = that of a pixel at the typical depth.

    Raises:
        InputError: the volume would be too large, or no camera sees anything.

    Source: Curless and Levoy 1996; truncation of 4 voxels, iso-surface by flying edges.
    """
    depths = scene.render(cameras, time_s).depth_mm
    if depths is None or not np.isfinite(depths).any():
        raise InputError("No surface in sight: expected cameras that see the scene. Give other cameras.")
    typical = float(np.nanmedian(depths))
    voxel = voxel_mm or typical / float(cameras.intrinsics[0, 0, 0])
    points = []
    for n, depth in enumerate(depths):
        rows, columns = np.nonzero(np.isfinite(depth))
        at = np.stack([columns, rows], -1)[None].astype(float)
        points.append(cameras[n].unproject(at, depth[rows, columns][None])[0])
    everything = np.concatenate(points)
    low, high = np.quantile(everything, [0.001, 0.999], axis=0)
    low, high = low - 5 * voxel, high + 5 * voxel
    shape = tuple(int(n) for n in np.ceil((high - low) / voxel))
    if np.prod(np.array(shape, float)) > _MAX_VOXELS:
        raise InputError(
            f"Voxels of {voxel:g} make a volume of {shape[0]} x {shape[1]} x {shape[2]}: expected at most "
            f"{_MAX_VOXELS / 1e6:g} million. Give larger voxels."
        )
    affine = np.diag([voxel, voxel, voxel, 1.0])
    affine[:3, 3] = low
    distance, weight = _fuse(depths, cameras, (shape[0], shape[1], shape[2]), affine, 4 * voxel)
    mesh = iso_surface(Volume(np.where(weight > 0, -distance, -1).astype(np.float32), affine), 0.0)
    return _observed_part(mesh, weight, affine)


def _fuse(
    depths: NDArray[np.floating],
    cameras: Cameras,
    shape: tuple[int, int, int],
    affine: NDArray[np.float64],
    truncation: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean truncated distance in front of the surface, in [-1, 1], and the number of looks, (I, J, K)."""
    total, weight = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    j, k = np.indices(shape[1:])
    for i in range(shape[0]):
        world = np.stack([np.full(j.shape, i), j, k], -1).reshape(-1, 3) @ affine[:3, :3].T + affine[:3, 3]
        for n, depth in enumerate(depths):
            pixels, z = cameras[n].project(world)
            column, row = np.rint(np.nan_to_num(pixels[0], nan=-9)).clip(-9, 1e6).astype(int).T
            inside = (column >= 0) & (row >= 0) & (column < depth.shape[1]) & (row < depth.shape[0])
            seen = np.where(inside, depth[np.where(inside, row, 0), np.where(inside, column, 0)], np.nan)
            front = seen - z[0]
            with np.errstate(invalid="ignore"):
                use = (front > -truncation).reshape(j.shape)
            total[i][use] += np.clip(front / truncation, -1, 1).reshape(j.shape)[use].astype(np.float32)
            weight[i][use] += 1
    return np.asarray(total / np.maximum(weight, 1), np.float32), weight


def _observed_part(mesh: Mesh, weight: NDArray[np.float32], affine: NDArray[np.float64]) -> Mesh:
    """The mesh without the walls that close it where nobody looked."""
    if not len(mesh.faces):
        return mesh
    index = np.rint(transform_points(np.linalg.inv(affine), mesh.vertices_mm)).astype(int)
    limit = np.array(weight.shape) - 1
    known = np.ones(len(index), bool)
    for offset in np.array([[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]]):
        near = index + offset
        inside = ((near >= 0) & (near <= limit)).all(1)
        known &= inside & (weight[tuple(near.clip(0, limit).T)] > 0)
    faces = mesh.faces[known[mesh.faces].all(1)]
    used, place = np.unique(faces, return_inverse=True)
    return Mesh(mesh.vertices_mm[used], place.reshape(-1, 3).astype(np.int32))
