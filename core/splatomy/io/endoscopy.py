"""An endoscopic clip in one form: what was found, what was assumed, and its fields as a Capture."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from splatomy.capture import Capture, Modality
from splatomy.geometry.cameras import Cameras
from splatomy.io.calibration import Calibration
from splatomy.io.depth_folder import DepthFolder
from splatomy.io.frame_source import FrameSource, LazyImages
from splatomy.io.mask_folder import MaskFolder
from splatomy.io.options import Crop, InputOptions
from splatomy.io.picture_analysis import ActivePicture
from splatomy.io.poses import Poses
from splatomy.io.quality import FrameQuality

WORLD = "first camera"
PLAIN_BYTES = 2**31
"""Images that need more bytes as float32 stay lazy in the Capture."""

Stereo = Literal["mono", "sbs", "tb", "two files"]


@dataclass(frozen=True)
class EndoscopySource:
    """A clip of which headers and a few frames were read; sizes and boxes are in pixels as stored.

    left, right: the frames of the two eyes; one source when both lie in one picture.
    left_box, right_box: where an eye lies in its source. crop: the part of an eye to open.
    active: the picture without its black border, in pixels of an eye.
    calibration, masks, depth, poses: all for a whole eye and for all frames of the clip.
    frame_names: file stems of the frames, to match masks and depth by name.
    bottom_rows: rows at the lower edge that show a tool bar.
    plain: a plain recording, of which layout, fields and borders are found out; published data sets are not.
    """

    layout: str
    left: FrameSource
    left_box: Crop
    right: FrameSource | None = None
    right_box: Crop | None = None
    stereo: Stereo = "mono"
    crop: Crop | None = None
    deinterlace: bool = False
    active: ActivePicture | None = None
    calibration: Calibration | None = None
    masks: MaskFolder | None = None
    depth: DepthFolder | None = None
    poses: Poses | None = None
    frame_names: tuple[str, ...] | None = None
    bottom_rows: int = 0
    pixel_aspect: float = 1.0
    plain: bool = False
    found: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def width_px(self) -> int:
        """Width of one eye's picture."""
        return self.left_box[2]

    @property
    def height_px(self) -> int:
        """Height of one eye's picture."""
        return self.left_box[3]

    @property
    def names(self) -> list[str] | None:
        """``frame_names`` as a list."""
        return None if self.frame_names is None else list(self.frame_names)

    @property
    def metric(self) -> bool:
        """True if lengths are millimetres: depth or a moving camera says so and neither denies it.

        A stereo baseline makes depth metric only when depth is computed from it, which is not done here.
        """
        scales = [] if self.depth is None else [self.depth.metric]
        if self.poses is not None and self.poses.moving:
            scales.append(self.poses.metric)
        return bool(scales) and all(scales)

    @property
    def has_baseline(self) -> bool:
        """True if the two eyes are calibrated, so that depth computed from them is in mm."""
        return self.right is not None and self.calibration is not None and self.calibration.right is not None


def whole_box(source: FrameSource) -> Crop:
    """The box of a source whose picture is one eye."""
    return 0, 0, source.width_px, source.height_px


@dataclass(frozen=True)
class EndoscopyInput:
    """An opened clip, after crop, binning and the choice of frames.

    images, right_images: (T, H, W, 3), lazy. times_s: (T,) seconds from the first frame.
    frames: (T,) their numbers in the clip. cameras: one per frame; the first camera is the world.
    intrinsics_known, poses_known: False when the cameras hold an assumed lens or stand still by assumption.
    calibration: both eyes with distortion, for the cropped and binned pictures (stereo rectification).
    undistorted: the images' distortion was taken out, so that ``cameras`` describe them fully.
    occluded: (T, H, W) bool, True = shows no tissue, or None. mask_known: (T,) frames that have a mask.
    outside: (H, W) bool, the part of ``occluded`` where no frame shows anything, such as the black about a
        round picture, or None.
    depth_mm: (T, H, W), NaN = unknown; scene units when not ``metric``.
    options: what the user said, for the preparations that follow.
    """

    images: LazyImages
    right_images: LazyImages | None
    times_s: NDArray[np.float64]
    times_known: bool
    frames: NDArray[np.int64]
    cameras: Cameras
    intrinsics_known: bool
    poses_known: bool
    calibration: Calibration | None
    undistorted: bool
    occluded: NDArray[np.bool_] | None
    mask_known: NDArray[np.bool_]
    depth_mm: NDArray[np.float32] | None
    metric: bool
    layout: str
    stereo: Stereo
    crop: Crop
    bin: int
    found: tuple[str, ...]
    assumed: tuple[str, ...]
    problems: tuple[str, ...]
    quality: FrameQuality | None
    input_files: tuple[Path, ...]
    options: InputOptions = field(default_factory=InputOptions)
    outside: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def baseline_mm(self) -> float | None:
        """Distance of the two eyes, mm, of a calibrated stereo clip."""
        if self.right_images is None or self.calibration is None:
            return None
        return self.calibration.baseline_mm

    def capture(self) -> Capture:
        """The clip's left eye as a COLOUR Capture; images over 2 GiB stay lazy (see LazyImages)."""
        plain = self.images.nbytes <= PLAIN_BYTES
        images = np.asarray(self.images) if plain else cast(NDArray[np.float32], self.images)
        details: dict[str, Any] = {
            "layout": self.layout,
            "geometry_source": "given" if self.intrinsics_known else "assumed field of view",
            "intrinsics_known": self.intrinsics_known,
            "poses_known": self.poses_known,
            "stereo": self.stereo,
            "frames": self.frames.tolist(),
            "crop": list(self.crop),
            "bin": self.bin,
            "found": list(self.found),
            "assumed": list(self.assumed),
        }
        if self.quality is not None:
            details["quality"] = self.quality.as_json()
        return Capture(
            Modality.COLOUR,
            images,
            self.times_s,
            cameras=self.cameras,
            occluded=self.occluded,
            outside=self.outside,
            depth_mm=self.depth_mm,
            metric=self.metric,
            world=WORLD,
            provenance=(f"read {self.layout}",),
            problems=self.problems,
            details=details,
        )
