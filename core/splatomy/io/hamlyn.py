"""The Hamlyn folder as ForPlane and EndoGaussian lay it out: images, gt_masks, gt_depth, intrinsics.txt."""

from __future__ import annotations

from pathlib import Path

from splatomy.io.calibration import read_calibration
from splatomy.io.depth_folder import depth_folder
from splatomy.io.endonerf import pose_file
from splatomy.io.endoscopy import EndoscopySource, whole_box
from splatomy.io.frames import frame_folder_source
from splatomy.io.mask_folder import mask_folder
from splatomy.io.options import InputOptions

INTRINSICS = "intrinsics.txt"


def is_hamlyn(folder: Path) -> bool:
    """True if a folder has Hamlyn's parts and no EndoNeRF poses."""
    parts = (folder / "gt_depth").is_dir() or (folder / INTRINSICS).is_file()
    return (folder / "images").is_dir() and parts and pose_file(folder) is None


def hamlyn_source(folder: Path, options: InputOptions) -> EndoscopySource:
    """The clip of a Hamlyn folder; the camera stands still in it.

    White in masks is a tool. Pictures and intrinsics are used as stored: the resizing to 640x480, the
    cropping of 40 columns and the centred principal point of published loaders are not repeated.

    Raises:
        InputError: files are missing, unreadable or do not fit each other.
    """
    frames = frame_folder_source(folder / "images", frame_time_s=options.frame_time_s)
    names = tuple(f.stem for f in frames.input_files)
    mask = depth = calibration = None
    problems: list[str] = []
    where = next((folder / n for n in ("gt_masks", "masks") if (folder / n).is_dir()), None)
    if where is not None and options.masks is None:
        mask = mask_folder(where, frames.count, list(names), options.masks_mean, ("hidden", "Hamlyn"))
    if (folder / "gt_depth").is_dir() and options.depth is None:
        depth = depth_folder(folder / "gt_depth", frames.count, list(names), options.depth_scale_mm)
    if (folder / INTRINSICS).is_file() and options.calibration is None:
        read = read_calibration(folder / INTRINSICS)
        calibration, scaled = read.fitted(frames.width_px, frames.height_px)
        problems += [] if scaled is None else [scaled]
    return EndoscopySource(
        layout="Hamlyn folder",
        left=frames,
        left_box=whole_box(frames),
        masks=mask,
        depth=depth,
        calibration=calibration,
        frame_names=names,
        found=frames.found,
        assumed=frames.assumed,
        problems=tuple(problems),
    )
