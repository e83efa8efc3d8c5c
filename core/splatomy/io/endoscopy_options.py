"""What is found out about a plain recording, and the user's options on any endoscopic clip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.io.calibration import CALIBRATION_SUFFIXES, Calibration, Lens, read_calibration
from splatomy.io.depth_folder import depth_folder
from splatomy.io.endoscopy import EndoscopySource
from splatomy.io.frame_source import Frame, cut
from splatomy.io.mask_folder import mask_folder, other_size
from splatomy.io.options import Crop, InputOptions, chosen_crop
from splatomy.io.picture_analysis import (
    ActivePicture,
    active_picture,
    combed_share,
    eye_boxes,
    is_combed,
    stereo_layout,
)
from splatomy.io.poses import read_poses
from splatomy.weights import open_weights

ASSUMED_VIEW_DEG = 70.0
"""Field of view across the longer side of a picture whose lens is unknown: that of a usual laparoscope."""

_SAMPLED = 6
_SQUEEZED = 0.8
_STRETCHED = 2.4


def assumed_intrinsics(
    width_px: int, height_px: int, pixel_aspect: float, view_deg: float = ASSUMED_VIEW_DEG
) -> NDArray[np.float64]:
    """Intrinsics (3, 3) of an unknown lens whose axis goes through the middle of the picture.

    pixel_aspect: width of a pixel over its height. view_deg: field of view across the longer side.
    """
    longer = max(width_px * pixel_aspect, float(height_px))
    focal = longer / (2 * np.tan(np.radians(view_deg) / 2))
    return np.array(
        [[focal / pixel_aspect, 0, (width_px - 1) / 2], [0, focal, (height_px - 1) / 2], [0, 0, 1]]
    )


def with_options(source: EndoscopySource, options: InputOptions) -> EndoscopySource:
    """The source with everything decided: eyes, fields, borders, lens, masks, depth and poses.

    Raises:
        InputError: an option does not fit the clip.
    """
    if options.layout is not None and not source.plain and options.layout != source.stereo:
        raise InputError(
            f"A {source.layout} has the layout {source.stereo}, not {options.layout}; expected no --layout: "
            "leave "
            "it out."
        )
    if options.weights is not None:
        open_weights(options.weights)
    if source.plain:
        source = _examined(source, options)
    source = _with_crop(source, options)
    source = _with_lens(source, options)
    source = _with_masks_and_depth(source, options)
    if options.poses is not None:
        poses = read_poses(
            options.poses, source.left.count, source.width_px, source.height_px, options.poses_convention
        )
        source = replace(source, poses=poses)
    if source.poses is not None and options.calibration is not None:
        source = replace(source, poses=replace(source.poses, intrinsics=None))
    if options.fov_deg is not None and _lens_known(source):
        raise InputError(
            "--fov-deg was given, but the lens is known from the input; expected no field of view: leave it "
            "out."
        )
    if options.camera is not None and source.poses is not None:
        note = f"the given camera poses are not used: --camera {options.camera}"
        # Their lens is as good as before.
        lens = _lens_of_poses(source) if source.calibration is None else source.calibration
        source = replace(source, poses=None, calibration=lens, found=(*source.found, note))
    return _told(_with_depth_source(source, options), options)


def _lens_known(source: EndoscopySource) -> bool:
    return source.calibration is not None or (
        source.poses is not None and source.poses.intrinsics is not None
    )


def _lens_of_poses(source: EndoscopySource) -> Calibration | None:
    """The lens that came with the poses, as the calibration of one eye."""
    if source.poses is None or source.poses.intrinsics is None:
        return None
    size = (source.width_px, source.height_px)
    return Calibration(Lens(source.poses.intrinsics[0], np.zeros(5)), None, None, size, source.poses.source)


def _with_depth_source(source: EndoscopySource, options: InputOptions) -> EndoscopySource:
    """The source without what the wanted source of depth does not need.

    Raises:
        InputError: the wanted source is not there.
    """
    wanted = options.depth_source or "auto"
    if wanted == "given" and source.depth is None:
        raise InputError(
            "--depth-source given was said, but the input has no depth maps; expected a folder of them: give "
            "it with --depth, or choose another source."
        )
    if wanted == "stereo" and source.right is None:
        raise InputError(
            "--depth-source stereo was said, but the input shows one eye; expected two: check --layout, or "
            "choose another source."
        )
    if wanted in ("stereo", "light") and source.depth is not None:
        note = f"the given depth is not used: --depth-source {wanted}"
        source = replace(source, depth=None, found=(*source.found, note))
    if source.right is not None and (wanted == "light" or source.depth is not None):
        # One eye alone is freed of its distortion together with its depth.
        note = "the right eye is not used, since depth does not come from it (--depth-source stereo)"
        source = replace(source, right=None, right_box=None, found=(*source.found, note))
    return source


def _examined(source: EndoscopySource, options: InputOptions) -> EndoscopySource:
    """A plain recording with its eyes, interlaced fields and black borders found."""
    frames = source.left.sample(_SAMPLED)
    found, assumed = list(source.found), list(source.assumed)
    if source.right is None:
        source, note = _with_eyes(source, frames, options)
        assumed += note
    left = [cut(f, source.left_box) for f in frames]
    combed = is_combed(combed_share(left))
    if combed:
        found.append("interlaced: combed rows are replaced by those of the upper field")
    elif source.left.interlaced:
        found.append("interlaced by its header, but no combed rows were seen: left as it is")
    active = active_picture(left)
    if source.right is not None and source.right_box is not None:
        same = source.right is source.left
        right = frames if same else source.right.sample(_SAMPLED)
        active = _both(active, active_picture([cut(f, source.right_box) for f in right]))
    if active.shape != "full":
        x, y, w, h = active.box
        found.append(f"black border; the picture ({active.shape}) is {w}x{h} px at {x},{y}")
    return replace(source, deinterlace=combed, active=active, found=tuple(found), assumed=tuple(assumed))


def _with_eyes(
    source: EndoscopySource, frames: list[Frame], options: InputOptions
) -> tuple[EndoscopySource, list[str]]:
    """The source with the boxes of its eyes, and what was assumed about them."""
    width, height = source.left.width_px, source.left.height_px
    layout, match = (options.layout, 1.0) if options.layout is not None else stereo_layout(frames)
    if layout == "mono":
        return replace(source, left_box=(0, 0, width, height)), []
    left_box, right_box = eye_boxes(layout, width, height)
    halves = "left half" if layout == "sbs" else "upper half"
    how = "" if options.layout is not None else f" (the halves match by {match:.2f}; else say --layout mono)"
    notes = [
        f"stereo, {'side by side' if layout == 'sbs' else 'top and bottom'}{how}: the {halves} is the left "
        "eye"
    ]
    aspect, shape = source.left.pixel_aspect, left_box[2] * source.left.pixel_aspect / left_box[3]
    if layout == "sbs" and shape < _SQUEEZED:
        aspect, how = 2 * aspect, "twice as wide as high"
        notes.append(f"each eye is squeezed to half its width: pixels are {how}")
    elif layout == "tb" and shape > _STRETCHED:
        aspect, how = aspect / 2, "twice as high as wide"
        notes.append(f"each eye is squeezed to half its height: pixels are {how}")
    return replace(
        source,
        left_box=left_box,
        right=source.left,
        right_box=right_box,
        stereo=layout,
        pixel_aspect=aspect,
    ), notes


def _both(left: ActivePicture, right: ActivePicture) -> ActivePicture:
    """The picture of both eyes together: their common box, and what is outside of the left one."""
    x, y = min(left.box[0], right.box[0]), min(left.box[1], right.box[1])
    x_end = max(left.box[0] + left.box[2], right.box[0] + right.box[2])
    y_end = max(left.box[1] + left.box[3], right.box[1] + right.box[3])
    return replace(left, box=(x, y, x_end - x, y_end - y))


def _with_crop(source: EndoscopySource, options: InputOptions) -> EndoscopySource:
    """The source with the box to open: the user's, else the picture without its border, else all of it."""
    if options.crop is None and source.active is not None and source.active.shape != "full":
        x, y, w, h = source.active.box
        note = f"the black border is cut off: --crop {x},{y},{w},{h}"
        return replace(source, crop=source.active.box, assumed=(*source.assumed, note))
    return replace(source, crop=chosen_crop(source.width_px, source.height_px, options))


def _with_lens(source: EndoscopySource, options: InputOptions) -> EndoscopySource:
    """The source with a given calibration, or one that lies beside it and fits."""
    size = source.width_px, source.height_px
    if options.calibration is not None:
        calibration, scaled = read_calibration(options.calibration).fitted(*size)
        notes = source.problems if scaled is None else (*source.problems, scaled)
        return replace(source, calibration=calibration, problems=notes)
    beside = _calibration_beside(source) if source.plain and source.calibration is None else None
    if beside is None:
        return source
    try:
        calibration, scaled = read_calibration(beside).fitted(*size)
    except InputError as error:
        return replace(source, problems=(*source.problems, f"Not used: {error}"))
    notes = source.problems if scaled is None else (*source.problems, scaled)
    return replace(source, calibration=calibration, problems=notes)


def _calibration_beside(source: EndoscopySource) -> Path | None:
    """The only calibration file in the folder of the clip, or above its two eyes' folders."""
    folder = source.left.input_files[0].parent
    if source.stereo == "two files" and source.left.kind == "frame folder":
        folder = folder.parent
    found = [
        p
        for p in sorted(folder.iterdir())
        if p.is_file() and "calib" in p.name.lower() and p.suffix.lower() in CALIBRATION_SUFFIXES
    ]
    return found[0] if len(found) == 1 else None


def _with_masks_and_depth(source: EndoscopySource, options: InputOptions) -> EndoscopySource:
    """The source with given masks and depth, whose size must be that of an eye or of the crop."""
    count, names = source.left.count, source.names
    if options.masks is not None:
        source = replace(source, masks=mask_folder(options.masks, count, names, options.masks_mean))
    elif options.masks_mean is not None and source.masks is None:
        raise InputError(
            "--masks-mean was given, but the input has no masks; expected a folder of masks: give it with "
            "--masks."
        )
    if options.depth is not None:
        source = replace(source, depth=depth_folder(options.depth, count, names, options.depth_scale_mm))
    elif options.depth_scale_mm is not None and source.depth is None and options.depth_model is None:
        raise InputError(
            "--depth-scale-mm was given, but the input has no depth maps; expected a folder of them: give it "
            "with "
            "--depth."
        )
    sizes = {(source.height_px, source.width_px), crop_size(source)}
    for part, what in ((source.masks, "masks"), (source.depth, "depth maps")):
        if part is None or (part.height_px, part.width_px) in sizes or getattr(part, "resizable", False):
            continue
        path = next(iter(part.files.values()))
        raise other_size(path, (part.height_px, part.width_px), source.height_px, source.width_px, what)
    return source


def crop_of(source: EndoscopySource) -> Crop:
    """The box of an eye to open."""
    return source.crop or (0, 0, source.width_px, source.height_px)


def crop_size(source: EndoscopySource) -> tuple[int, int]:
    """Height and width of the box to open."""
    _, _, w, h = crop_of(source)
    return h, w


def scale_source(source: EndoscopySource, options: InputOptions) -> str | None:
    """What makes lengths millimetres once the clip is prepared, in words; None = nothing does."""
    if source.metric:
        return "the given depth" if source.depth is not None else "the given poses"
    if source.has_baseline:
        return "the calibrated pair of eyes"
    if options.depth_model_output == "metric":
        return "the depth model"
    if options.instrument_diameter_mm is not None:
        diameter = f"{options.instrument_diameter_mm:g} mm"
        return f"the instruments' diameter of {diameter}, if a straight shaft shows"
    return None


def _told(source: EndoscopySource, options: InputOptions) -> EndoscopySource:
    """The source with everything found, assumed and wrong in plain words."""
    found, assumed, problems = list(source.found), list(source.assumed), list(source.problems)
    if source.masks is not None:
        found.append(
            f"masks for {len(source.masks.files)} frames in {source.masks.name}: {source.masks.evidence}"
        )
        problems += source.masks.problems
    if source.depth is not None:
        unit = "mm" if source.depth.metric else "of unknown unit"
        found.append(
            f"depth for {len(source.depth.files)} frames in {source.depth.name} ({source.depth.kind}, {unit})"
        )
        problems += source.depth.problems
    if source.calibration is not None:
        bent = " with distortion" if source.calibration.left.distorts else ""
        eyes = (
            ""
            if source.calibration.baseline_mm is None
            else f", baseline {source.calibration.baseline_mm:.2f} mm"
        )
        found.append(f"lens of {source.calibration.name}{bent}{eyes}")
    if not _lens_known(source):
        assumed.append(
            f"lens unknown: a field of view of {options.fov_deg or ASSUMED_VIEW_DEG:g} degrees across the "
            "longer side, axis in the middle (--fov-deg, --calibration FILE)"
        )
    if source.poses is None and options.camera != "moving":
        unless = "" if options.camera == "fixed" else ", unless its motion is seen (--camera, --poses FILE)"
        assumed.append(f"no camera poses: the endoscope stands still{unless}")
    elif source.poses is not None:
        found.append(
            f"camera poses of {source.poses.source}" + ("" if source.poses.moving else ", standing still")
        )
        problems += source.poses.problems if source.poses.moving else ()
    if source.bottom_rows:
        assumed.append(f"the last {source.bottom_rows} rows stand still: a tool bar, taken as hidden")
    scale = scale_source(source, options)
    if scale is None:
        assumed.append("the scale is unknown: nothing is measured in mm (--instrument-diameter-mm)")
    elif not source.metric:
        found.append(f"the scale will come from {scale}")
    if source.left.count == 1:
        problems.append("The clip has one frame only, which is not enough for a reconstruction over time.")
    if source.right is not None and not source.has_baseline:
        problems.append("The two eyes have no calibration that fits, so depth from them is relative.")
    return replace(
        source,
        found=tuple(dict.fromkeys(found)),
        assumed=tuple(dict.fromkeys(assumed)),
        problems=tuple(dict.fromkeys(problems)),
    )
