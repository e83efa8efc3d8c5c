"""What was recorded: images with times, geometry and masks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.geometry.cameras import Cameras


class Modality(StrEnum):
    """What a pixel value means."""

    COLOUR = "colour"
    """sRGB in [0, 1]."""
    ATTENUATION = "attenuation"
    """Line integral -ln(I/I0), dimensionless."""


@dataclass(frozen=True)
class Grid:
    """A voxel grid: shape (I, J, K) and affine_mm (4, 4), voxel-centre index -> world mm."""

    shape: tuple[int, int, int]
    affine_mm: NDArray[np.float64]

    @staticmethod
    def centred(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Grid:
        """An axis-aligned grid whose box is centred on the world's origin."""
        affine = np.diag([*spacing_mm, 1.0])
        affine[:3, 3] = [-(n - 1) / 2 * s for n, s in zip(shape, spacing_mm, strict=True)]
        return Grid(shape, affine)

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """Voxel edge lengths, (3,) mm."""
        return np.asarray(np.linalg.norm(self.affine_mm[:3, :3], axis=0))

    @property
    def bounds_mm(self) -> NDArray[np.float64]:
        """World box of the voxels' outer faces, (2, 3) mm: low and high corner."""
        ends = np.array([[-0.5, n - 0.5] for n in self.shape])
        corners = np.stack(np.meshgrid(*ends, indexing="ij"), -1).reshape(-1, 3)
        world = corners @ self.affine_mm[:3, :3].T + self.affine_mm[:3, 3]
        return np.stack([world.min(0), world.max(0)])

    def binned(self, factor: int) -> Grid:
        """The grid over the same box with voxels ``factor`` times as large (sizes rounded up)."""
        shape = tuple(-(-n // factor) for n in self.shape)
        affine = self.affine_mm.copy()
        affine[:3, :3] *= factor
        affine[:3, 3] += self.affine_mm[:3, :3] @ np.full(3, (factor - 1) / 2)
        return Grid((shape[0], shape[1], shape[2]), affine)


@dataclass(frozen=True)
class Capture:
    """A recording, of one modality, with everything known about it.

    images: (T, H, W, C) float32.
    times_s: (T,) seconds from the first frame.
    cameras: one per frame, or None when unknown.
    occluded: (T, H, W) bool, True = hidden. target: True = the wanted object.
    outside: (H, W) bool, True = no frame shows anything there (the black about a round picture). Such
        pixels are ``occluded`` too, so that none is ever used, but there is no tissue behind them to
        restore or to measure.
    synthetic: (T, H, W) bool, True = invented by inpainting.
    depth_mm: (T, H, W), NaN = unknown. depth_confidence: (T, H, W) in [0, 1], 0 where the depth is unknown.
    noise_std: (T, H, W) standard deviation of the images' noise, up to one common factor.
    grid: where a volume is wanted, or None.
    metric: False forbids millimetre labels downstream.
    world: the name of the world frame ("LPS", "isocentre as LPS", "first camera").
    provenance: the preparations applied, in order. problems: what a user should know of the input.
    """

    modality: Modality
    images: NDArray[np.float32]
    times_s: NDArray[np.float64]
    cameras: Cameras | None = None
    occluded: NDArray[np.bool_] | None = None
    outside: NDArray[np.bool_] | None = None
    target: NDArray[np.bool_] | None = None
    synthetic: NDArray[np.bool_] | None = None
    depth_mm: NDArray[np.float32] | None = None
    depth_confidence: NDArray[np.float32] | None = None
    noise_std: NDArray[np.float32] | None = None
    grid: Grid | None = None
    metric: bool = True
    world: str = "isocentre as LPS"
    provenance: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.images.ndim != 4:
            raise ValueError(f"images must have shape (T, H, W, C), got {self.images.shape}")
        frames, height, width, _ = self.images.shape
        if self.times_s.shape != (frames,):
            raise ValueError(f"times_s must have shape ({frames},), got {self.times_s.shape}")
        if self.cameras is not None and (
            len(self.cameras) != frames or (self.cameras.height_px, self.cameras.width_px) != (height, width)
        ):
            raise ValueError(
                f"cameras ({len(self.cameras)} of {self.cameras.width_px}x{self.cameras.height_px}) "
                f"must match the {frames} images of {width}x{height}"
            )
        if self.outside is not None and self.outside.shape != (height, width):
            raise ValueError(f"outside must have shape {(height, width)}, got {self.outside.shape}")
        for name in ("occluded", "target", "synthetic", "depth_mm", "depth_confidence", "noise_std"):
            array = getattr(self, name)
            if array is not None and array.shape != (frames, height, width):
                raise ValueError(f"{name} must have shape {(frames, height, width)}, got {array.shape}")

    def __len__(self) -> int:
        return len(self.images)

    def frames(self, index: NDArray[np.integer] | slice | list[int]) -> Capture:
        """The capture of the chosen frames alone."""

        def pick(array: NDArray[Any] | None) -> NDArray[Any] | None:
            return None if array is None else array[index]

        return replace(
            self,
            images=self.images[index],
            times_s=self.times_s[index],
            cameras=None if self.cameras is None else self.cameras[index],
            occluded=pick(self.occluded),
            target=pick(self.target),
            synthetic=pick(self.synthetic),
            depth_mm=pick(self.depth_mm),
            depth_confidence=pick(self.depth_confidence),
            noise_std=pick(self.noise_std),
        )

    def prepared(self, note: str, **changes: Any) -> Capture:
        """A copy with changed fields and ``note`` added to its provenance."""
        return replace(self, provenance=(*self.provenance, note), **changes)
