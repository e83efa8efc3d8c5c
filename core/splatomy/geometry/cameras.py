"""Pinhole cameras, which are also X-ray sources with flat detectors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from splatomy.checks import check_shapes
from splatomy.geometry.rigid import inverse


@dataclass(frozen=True)
class Cameras:
    """N pinhole cameras with one image size.

    intrinsics: (N, 3, 3) px, upper triangular, pixel centres at integer coordinates.
    camera_from_world: (N, 4, 4) rigid, mm, OpenCV axes (x right, y down, z forward).
    width_px, height_px: image size.
    """

    intrinsics: NDArray[np.float64]
    camera_from_world: NDArray[np.float64]
    width_px: int
    height_px: int

    def __post_init__(self) -> None:
        check_shapes(
            intrinsics=(self.intrinsics, "N 3 3"), camera_from_world=(self.camera_from_world, "N 4 4")
        )
        object.__setattr__(self, "intrinsics", np.asarray(self.intrinsics, dtype=np.float64))
        object.__setattr__(self, "camera_from_world", np.asarray(self.camera_from_world, dtype=np.float64))

    def __len__(self) -> int:
        return len(self.intrinsics)

    def __getitem__(self, index: int | slice | NDArray[np.integer] | list[int]) -> Cameras:
        """The chosen cameras; an integer gives one camera with N = 1."""
        where = [index] if isinstance(index, int | np.integer) else index
        return replace(
            self, intrinsics=self.intrinsics[where], camera_from_world=self.camera_from_world[where]
        )

    @property
    def centres_mm(self) -> NDArray[np.float64]:
        """Optical centres (X-ray: focal spots) in the world, (N, 3) mm."""
        return inverse(self.camera_from_world)[:, :3, 3]

    @property
    def world_to_pixel(self) -> NDArray[np.float64]:
        """Projection matrices, (N, 3, 4): homogeneous world mm to homogeneous pixels."""
        return self.intrinsics @ self.camera_from_world[:, :3]

    def project(self, points_mm: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixels (N, M, 2) and depths (N, M) in mm of world points (M, 3); NaN pixels at depth <= 0."""
        cam = points_mm @ np.swapaxes(self.camera_from_world[:, :3, :3], 1, 2)
        cam = cam + self.camera_from_world[:, None, :3, 3]
        depth = cam[..., 2]
        homogeneous = cam @ np.swapaxes(self.intrinsics, 1, 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            pixels = homogeneous[..., :2] / homogeneous[..., 2:]
        pixels[depth <= 0] = np.nan
        return pixels, depth

    def unproject(self, pixels: NDArray[np.floating], depth_mm: NDArray[np.floating]) -> NDArray[np.float64]:
        """World points (N, M, 3) in mm of pixels (N, M, 2) at z-depths (N, M) in mm."""
        ones = np.ones_like(pixels[..., :1])
        rays = np.concatenate([pixels, ones], -1) @ np.swapaxes(np.linalg.inv(self.intrinsics), 1, 2)
        cam = rays * np.asarray(depth_mm)[..., None] - self.camera_from_world[:, None, :3, 3]
        return np.asarray(cam @ self.camera_from_world[:, :3, :3])

    def resized(self, factor: int) -> Cameras:
        """The cameras of images binned by ``factor`` in both directions (rest rows and columns dropped)."""
        scale = np.array([1 / factor, 1 / factor, 1.0])
        k = self.intrinsics * scale[:, None]
        # With centres at integers, bin 0 covers pixels 0..factor-1, whose middle is (factor-1)/2.
        k[:, 0, 2] -= (factor - 1) / (2 * factor)
        k[:, 1, 2] -= (factor - 1) / (2 * factor)
        return Cameras(k, self.camera_from_world, self.width_px // factor, self.height_px // factor)

    @staticmethod
    def concatenate(parts: list[Cameras]) -> Cameras:
        """All cameras of the parts in order; they must share one image size."""
        sizes = {(p.width_px, p.height_px) for p in parts}
        if len(sizes) != 1:
            raise ValueError(f"cameras to join must have one image size, got {sorted(sizes)}")
        return Cameras(
            np.concatenate([p.intrinsics for p in parts]),
            np.concatenate([p.camera_from_world for p in parts]),
            parts[0].width_px,
            parts[0].height_px,
        )


def from_projection_matrices(matrices: NDArray[np.floating], width_px: int, height_px: int) -> Cameras:
    """Cameras of any 3x4 projection matrices (N, 3, 4), world mm to homogeneous pixels.

    The matrix is split into K [R | t] by an RQ decomposition; its overall sign and scale are free.

    Raises:
        ValueError: a matrix is singular or not finite.
    """
    check_shapes(matrices=(matrices, "N 3 4"))
    p = np.asarray(matrices, dtype=np.float64)
    if not np.isfinite(p).all():
        raise ValueError("a projection matrix holds NaN or infinity")
    intrinsics = np.zeros((len(p), 3, 3))
    poses = np.zeros((len(p), 4, 4))
    flip = np.eye(3)[::-1]
    for i, matrix in enumerate(p):
        m = matrix[:, :3]
        if abs(np.linalg.det(m)) <= 1e-12 * np.linalg.norm(m) ** 3:
            raise ValueError(f"projection matrix {i} is singular")
        sign = np.sign(np.linalg.det(m))
        # RQ from QR of the row- and column-reversed transpose.
        q, r = np.linalg.qr((flip @ (sign * m)).T)
        k, rotation = flip @ r.T @ flip, flip @ q.T
        signs = np.diag(np.sign(np.diag(k)))
        k, rotation = k @ signs, signs @ rotation
        translation = np.linalg.solve(k, sign * matrix[:, 3])
        intrinsics[i] = k / k[2, 2]
        poses[i, :3, :3] = rotation
        poses[i, :3, 3] = translation
        poses[i, 3, 3] = 1.0
    return Cameras(intrinsics, poses, width_px, height_px)
