"""An image set in one form: its views, what is known of them, and its fields as a Capture."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from splatomy.capture import Capture, Modality
from splatomy.geometry.cameras import Cameras
from splatomy.io.frame_source import LazyImages

PLAIN_BYTES = 2**31
"""Images that need more bytes as float32 stay lazy in the Capture."""

LensKind = Literal["polynomial", "fisheye"]


@dataclass(frozen=True)
class View:
    """One picture and its camera, as the files say.

    intrinsics: (3, 3) px, pixel centres at integers, for a picture of width_px x height_px; None = unknown.
    camera_from_world: (4, 4), OpenCV axes, in the set's unit; None = unknown.
    distortion: coefficients in OpenCV's order, or None. lens: which of OpenCV's models they belong to.
    mask: picture whose non-zero pixels are the wanted object. occluder: whose non-zero pixels hide it.
    depth: depth map along the optical axis. depth_intrinsics: (3, 3) px of a depth map whose pixels are not
        those of the picture, or None.
    mask_from_alpha: the picture's own alpha channel is the mask of the object.
    """

    picture: Path
    intrinsics: NDArray[np.float64] | None = None
    camera_from_world: NDArray[np.float64] | None = None
    width_px: int | None = None
    height_px: int | None = None
    distortion: NDArray[np.float64] | None = None
    lens: LensKind = "polynomial"
    mask: Path | None = None
    occluder: Path | None = None
    depth: Path | None = None
    depth_intrinsics: NDArray[np.float64] | None = None
    mask_from_alpha: bool = False


@dataclass(frozen=True)
class ImageSetSource:
    """An image set of which headers alone were read.

    unit_mm: mm per unit of the poses, or None when the unit is not known (nothing is then metric).
    depth_unit: units of the poses per stored unit of the depth maps.
    no_depth: stored depth values that mean unknown.
    axes: camera axes and direction of the poses as they were read, for the user.
    axes_sure: the layout fixes them; otherwise they were assumed and must be checked against the pictures.
    points: (P, 3) sparse points of the scene in the unit of the poses, colours: (P, 3) in [0, 1]; or None.
    bounds: (2, 3) box of the object in the unit of the poses, or None.
    name: class of the wanted object, or None.
    """

    layout: str
    views: tuple[View, ...]
    unit_mm: float | None = None
    depth_unit: float = 1.0
    no_depth: tuple[float, ...] = (0.0,)
    axes: str = ""
    axes_sure: bool = True
    points: NDArray[np.float64] | None = None
    colours: NDArray[np.float64] | None = None
    bounds: NDArray[np.float64] | None = None
    name: str | None = None
    found: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    input_files: tuple[Path, ...] = ()

    @property
    def is_placed(self) -> bool:
        """True if every view has a camera."""
        return all(v.camera_from_world is not None and v.intrinsics is not None for v in self.views)


@dataclass(frozen=True)
class ImageSetInput:
    """An opened image set; lengths are mm when ``metric``, else units of the scene.

    images: (T, H, W, 3), lazy. cameras: one per view without distortion, or None when unknown.
    target: (T, H, W) bool, True = the wanted object; has_target: (T,) views whose mask was given.
    occluded: (T, H, W) bool, True = hidden by something, or outside of an undistorted picture.
    depth_mm: (T, H, W), NaN = unknown. points_mm (P, 3), point_colours (P, 3): sparse points.
    numbers: (T,) the views' numbers in the set. facts: more details of the capture, such as ``intrinsics``
    (3, 3) px, the one lens of all pictures. straightened: lens distortion was taken out of pictures.
    """

    images: LazyImages
    cameras: Cameras | None
    target: NDArray[np.bool_] | None
    has_target: NDArray[np.bool_]
    occluded: NDArray[np.bool_] | None
    depth_mm: NDArray[np.float32] | None
    metric: bool
    numbers: NDArray[np.int64]
    names: tuple[str, ...]
    layout: str
    axes: str
    axes_sure: bool
    points_mm: NDArray[np.float32] | None
    point_colours: NDArray[np.float32] | None
    bounds_mm: NDArray[np.float64] | None
    object_name: str | None
    crop: tuple[int, int, int, int]
    bin: int
    found: tuple[str, ...]
    assumed: tuple[str, ...]
    problems: tuple[str, ...]
    input_files: tuple[Path, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    straightened: bool = False

    def __len__(self) -> int:
        return len(self.images)

    def capture(self) -> Capture:
        """The views as a COLOUR Capture, one "frame" a view; all times are zero, for nothing moves."""
        plain = self.images.nbytes <= PLAIN_BYTES
        images = np.asarray(self.images) if plain else cast(NDArray[np.float32], self.images)
        details: dict[str, Any] = {
            "layout": self.layout,
            "geometry_source": self.axes if self.cameras is not None else "unknown",
            "frames": self.numbers.tolist(),
            "names": list(self.names),
            "has_target": self.has_target.tolist(),
            "crop": list(self.crop),
            "bin": self.bin,
            "found": list(self.found),
            "assumed": list(self.assumed),
            **self.facts,
        }
        for name in ("points_mm", "point_colours", "bounds_mm", "object_name"):
            if getattr(self, name) is not None:
                details[name] = getattr(self, name)
        return Capture(
            Modality.COLOUR,
            images,
            np.zeros(len(self.images)),
            cameras=self.cameras,
            occluded=self.occluded,
            target=self.target,
            depth_mm=self.depth_mm,
            metric=self.metric,
            world="the input's world",
            provenance=(f"read {self.layout}", *(["lens distortion removed"] if self.straightened else [])),
            problems=self.problems,
            details=details,
        )
