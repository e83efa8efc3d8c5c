"""What a user may say about an input."""

from __future__ import annotations

import dataclasses
import os
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError

Crop = tuple[int, int, int, int]
StereoLayout = Literal["mono", "sbs", "tb"]
_NETWORKS = ("depth_model", "mask_model", "weights")
"""Files that run as programs do: a folder from elsewhere must not bring its own."""

MaskMeaning = Literal["hidden", "visible"]
PoseConvention = Literal["opencv", "opengl"]
CameraMotion = Literal["auto", "fixed", "moving"]
DepthSource = Literal["auto", "given", "stereo", "model", "light"]
ModelOutput = Literal["inverse", "depth", "metric"]


@dataclass(frozen=True)
class InputOptions:
    """What a user may say about an input; None = decided from the input.

    crop: x, y, width, height in pixels of the image as opened (DSA: source side view; stereo video: of
        one eye), before binning.
    frames: start, stop, step. bin: side of the pixel blocks that are averaged.
    mask, geometry: files that replace what lies beside the input.
    frame_time_s: seconds between frames where the input has no times.
    already_subtracted: pixel values are line integrals. log: pixel values are logarithms of intensity.
    view: which run or runs (0-based) of an input that holds several.
    mask_frames: frames (0-based, of the run as recorded) before contrast, whose mean is the mask.
    target: folder of mask pictures of the wanted vessels, or the name of one inside each run.
    layout: one eye, two eyes side by side, or two eyes top and bottom.
    masks, masks_mean: folder of mask pictures, and what their non-zero pixels are.
    depth, depth_scale_mm: folder of depth maps, and the mm that one unit of them stands for.
    calibration: lens file. poses, poses_convention: camera poses, and the axes they use.
    fov_deg: field of view across the longer side of the opened picture, of a lens without calibration.
    camera: it stands still, it moves, or this is measured; without it the input's own poses are used.
    instrument_diameter_mm: of the straight shafts in view, which gives the scale where nothing else does.
    depth_source: where depth comes from. depth_model, depth_model_output: a network, and what it gives.
    mask_model, mask_classes: a network that finds instruments, and which of its classes hide tissue.
    weights: folder of the published weights that fill what instruments hide.
    init: Gaussians (PLY) in the world of the poses, which a method for still scenes starts from.
    """

    crop: Crop | None = None
    frames: tuple[int | None, int | None, int | None] | None = None
    bin: int = 1
    mask: Path | None = None
    geometry: Path | None = None
    frame_time_s: float | None = None
    already_subtracted: bool | None = None
    log: bool | None = None
    view: int | tuple[int, ...] | None = None
    mask_frames: tuple[int, ...] | None = None
    target: Path | None = None
    layout: StereoLayout | None = None
    masks: Path | None = None
    masks_mean: MaskMeaning | None = None
    depth: Path | None = None
    depth_scale_mm: float | None = None
    calibration: Path | None = None
    poses: Path | None = None
    poses_convention: PoseConvention | None = None
    fov_deg: float | None = None
    camera: CameraMotion | None = None
    instrument_diameter_mm: float | None = None
    depth_source: DepthSource | None = None
    depth_model: Path | None = None
    depth_model_output: ModelOutput | None = None
    mask_model: Path | None = None
    mask_classes: tuple[int, ...] | None = None
    weights: Path | None = None
    init: Path | None = None

    def __post_init__(self) -> None:
        if self.bin < 1:
            raise InputError(
                f"bin must be a whole number of at least 1, got {self.bin}: use 1 to keep all pixels."
            )
        if self.frame_time_s is not None and not 0 < self.frame_time_s < 1e4:
            raise InputError(
                f"frame_time_s must be positive seconds, got {self.frame_time_s:g}: use 1 / frames per "
                "second."
            )
        if self.depth_scale_mm is not None and not 0 < self.depth_scale_mm < 1e6:
            raise InputError(
                f"depth_scale_mm must be positive mm per unit, got {self.depth_scale_mm:g}: use 1000 for "
                "metres and 1 for millimetres."
            )
        if self.fov_deg is not None and not 10 <= self.fov_deg <= 160:
            raise InputError(
                f"fov_deg must be 10 to 160 degrees across the longer side, got {self.fov_deg:g}: endoscopes "
                "have 60 to 120."
            )
        if self.instrument_diameter_mm is not None and not 0.5 <= self.instrument_diameter_mm <= 30:
            raise InputError(
                f"instrument_diameter_mm must be 0.5 to 30 mm, got {self.instrument_diameter_mm:g}: usual "
                "shafts have 5 or 8."
            )
        self._check_models()

    def _check_models(self) -> None:
        """Raises InputError when an option on a network lacks the network, or contradicts it."""
        if self.depth_model is None:
            if self.depth_source == "model" or self.depth_model_output is not None:
                raise InputError(
                    "Depth by a network was asked for, but none was given; expected an ONNX file: give it "
                    "with --depth-model."
                )
        elif self.depth_source not in (None, "auto", "model"):
            raise InputError(
                f"--depth-model was given with --depth-source {self.depth_source}; expected model or auto: "
                "leave one of the two out."
            )
        if self.mask_classes is not None and self.mask_model is None:
            raise InputError(
                "Classes of a mask model were given, but no model; expected an ONNX file: give it with "
                "--mask-model."
            )

    @property
    def of_endoscopy(self) -> bool:
        """True if an option was given that only endoscopy has."""
        given = (
            self.layout, self.masks, self.depth, self.calibration, self.poses, self.fov_deg, self.camera,
            self.instrument_diameter_mm, self.depth_source, self.depth_model, self.mask_model,
            self.weights,
        )  # fmt: skip
        return any(value is not None for value in given)

    @property
    def of_angiography(self) -> bool:
        """True if an option was given that only angiography has."""
        given = (
            self.mask, self.geometry, self.already_subtracted, self.log, self.view, self.mask_frames,
        )  # fmt: skip
        return any(value is not None for value in given)


def chosen_frames(count: int, options: InputOptions) -> NDArray[np.int64]:
    """Indices of the frames that ``options.frames`` chooses out of ``count``.

    Raises:
        InputError: the range chooses none.
    """
    start, stop, step = options.frames or (None, None, None)
    if step is not None and step < 1:
        raise InputError(f"the frame step must be at least 1, got {step}: use A:B:STEP with a positive step.")
    frames = np.arange(count, dtype=np.int64)[slice(start, stop, step)]
    if len(frames) == 0:
        raise InputError(
            f"frames {start}:{stop}:{step} choose none of the {count} frames: use a range within them."
        )
    return frames


def chosen_crop(width_px: int, height_px: int, options: InputOptions) -> Crop:
    """The box that ``options.crop`` chooses, or the whole picture.

    Raises:
        InputError: it leaves the picture, or is smaller than one bin.
    """
    x, y, w, h = options.crop or (0, 0, width_px, height_px)
    if min(x, y) < 0 or min(w, h) < options.bin or x + w > width_px or y + h > height_px:
        raise InputError(
            f"crop {x},{y},{w},{h} with bin {options.bin} does not fit; expected a box inside the "
            f"{width_px}x{height_px} image (x,y,width,height): choose another one."
        )
    return x, y, w, h


def relative_path(path: Path, start: Path) -> str:
    """The path seen from a folder, so that both can move together."""
    try:
        return Path(os.path.relpath(path.resolve(), start.resolve())).as_posix()
    except ValueError:  # another drive on Windows
        return str(path.resolve())


def options_record(options: InputOptions, start: Path) -> dict[str, Any]:
    """The options as JSON values, with paths seen from the folder ``start``."""
    return {
        name: relative_path(value, start) if isinstance(value, Path) else value
        for name, value in dataclasses.asdict(options).items()
    }


def options_from_record(record: Mapping[str, Any], start: Path) -> InputOptions:
    """The options that ``options_record`` wrote in the folder ``start``; unknown names are left out.

    Raises:
        InputError: a network lies in that folder itself.
    """
    kinds = typing.get_type_hints(InputOptions)
    values = {name: value for name, value in record.items() if name in kinds}
    for name, value in values.items():
        if isinstance(value, list):
            values[name] = tuple(value)
        elif value is not None and Path in typing.get_args(kinds[name]):
            values[name] = (start / value).resolve()
            if name in _NETWORKS and values[name].is_relative_to(start.resolve()):
                raise InputError(
                    f"{start.name} names the network {values[name].name}, which came with it; expected one "
                    "that you chose yourself: open the input itself and give the network as an option."
                )
    return InputOptions(**values)
