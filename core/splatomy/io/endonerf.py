"""The EndoNeRF folder: images, masks (white = instrument), depth and poses_bounds.npy; reader and writer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.geometry.cameras import Cameras
from splatomy.geometry.frames import opencv_from_opengl
from splatomy.geometry.rigid import inverse
from splatomy.io.atomic import atomic_path, write_json
from splatomy.io.calibration import Calibration, Lens
from splatomy.io.depth_folder import depth_folder, write_depth_png
from splatomy.io.endoscopy import EndoscopySource, whole_box
from splatomy.io.frame_source import LazyImages
from splatomy.io.frames import frame_folder_source, write_picture
from splatomy.io.geometry_files import number, read_json
from splatomy.io.mask_folder import mask_folder
from splatomy.io.options import InputOptions
from splatomy.io.picture_analysis import grey
from splatomy.io.poses import Poses, load_numbers, poses_from_bounds

POSE_FILES = ("poses_bounds.npy", "pose_bounds.npy")
MANIFEST = "splatomy.json"
_TOOLBAR_ROWS = 12
_DA_VINCI_SIZE = (640, 512)


def pose_file(folder: Path) -> Path | None:
    """The pose file of an EndoNeRF folder, or None."""
    return next((folder / name for name in POSE_FILES if (folder / name).is_file()), None)


def is_endonerf(folder: Path) -> bool:
    """True if a folder has EndoNeRF's parts; depth, masks or poses may be missing."""
    if not (folder / "images").is_dir():
        return False
    parts = [(folder / name).is_dir() for name in ("masks", "gt_masks", "depth")]
    return pose_file(folder) is not None or any(parts)


def endonerf_source(folder: Path, options: InputOptions) -> EndoscopySource:
    """The clip of an EndoNeRF folder.

    Depth has no stated unit there: it stays in scene units unless the options or our manifest give the
    factor. White in masks is an instrument; ``masks`` is used before ``gt_masks``, because it also covers
    pixels whose depth failed.

    Raises:
        InputError: files are missing, unreadable or do not fit each other.
    """
    manifest = _manifest(folder)
    frames = frame_folder_source(folder / "images", frame_time_s=options.frame_time_s)
    count = frames.count
    times = manifest.get("times_s")
    if times is not None:
        if not isinstance(times, list) or len(times) != count:
            got = len(times) if isinstance(times, list) else "no list of"
            raise InputError(
                f"{MANIFEST} gives {got} times for {count} images; expected one each: correct it."
            )
        path = folder / MANIFEST
        seconds = np.array([number(time, "times_s", path) for time in times], dtype=np.float64)
        frames = replace(frames, times_s=seconds, times_known=True, assumed=())
    names = tuple(f.stem for f in frames.input_files)
    found, problems = list(frames.found), []
    masks = next((folder / n for n in ("masks", "gt_masks") if (folder / n).is_dir()), None)
    mask = None
    if masks is not None and options.masks is None:
        mask = mask_folder(masks, count, list(names), options.masks_mean, ("hidden", "EndoNeRF"))
        if masks.name == "masks" and (folder / "gt_masks").is_dir():
            found.append(
                "masks/ and gt_masks/: masks/ is used, gt_masks/ (instrument only) is for evaluation"
            )
    depth = None
    if (folder / "depth").is_dir() and options.depth is None:
        scale = options.depth_scale_mm or _scale(manifest, "depth_scale_mm")
        depth = depth_folder(folder / "depth", count, list(names), scale)
        if scale is None:
            depth = replace(depth, scale=_scale(manifest, "depth_scale") or 1.0)
        if mask is not None and not manifest:
            problems.append("Depth behind the masks is that of the instrument, not of the tissue.")
    poses = _poses(folder, count, frames.width_px, frames.height_px, options, manifest)
    return EndoscopySource(
        layout="EndoNeRF folder",
        left=frames,
        left_box=whole_box(frames),
        masks=mask,
        depth=depth,
        poses=poses,
        calibration=_lens(manifest, frames.width_px, frames.height_px) if poses is None else None,
        frame_names=names,
        bottom_rows=0 if manifest else _toolbar_rows(frames.sample(6)),
        found=tuple(found),
        assumed=frames.assumed,
        problems=tuple(problems),
    )


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    value = read_json(path) if path.is_file() else {}
    if not isinstance(value, dict):
        raise InputError(f"{MANIFEST} must hold a JSON object, got another value: write the folder again.")
    return value


def _scale(manifest: dict[str, Any], name: str) -> float | None:
    """A positive factor of a manifest, None when it gives none."""
    if manifest.get(name) is None:
        return None
    scale = number(manifest[name], name, Path(MANIFEST))
    if scale <= 0:
        raise InputError(f"{MANIFEST}: {name} must be positive, got {scale:g}: correct it.")
    return scale


def _poses(
    folder: Path, count: int, width_px: int, height_px: int, options: InputOptions, manifest: dict[str, Any]
) -> Poses | None:
    path = pose_file(folder)
    if path is None or options.poses is not None:
        return None
    convention = options.poses_convention or manifest.get("poses_convention")
    poses = poses_from_bounds(load_numbers(path), path, count, width_px, height_px, convention)
    k = manifest.get("intrinsics")
    if k is not None:
        exact = _intrinsics(k)
        poses = replace(poses, intrinsics=np.tile(exact, (count, 1, 1)) if exact.ndim == 2 else exact)
    return replace(poses, metric=bool(manifest.get("metric", False)))


def _intrinsics(value: Any) -> NDArray[np.float64]:
    """The lens, (3, 3) or (T, 3, 3) px, of a manifest."""
    try:
        k = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        k = np.zeros(0)
    if k.ndim not in (2, 3) or k.shape[-2:] != (3, 3) or not len(k) or not np.isfinite(k).all():
        raise InputError(f"{MANIFEST}: intrinsics must be 3x3 finite numbers: write the folder again.")
    return k


def _lens(manifest: dict[str, Any], width_px: int, height_px: int) -> Calibration | None:
    """The lens that our manifest gives to a clip whose poses nobody knows."""
    if manifest.get("intrinsics") is None:
        return None
    k = _intrinsics(manifest["intrinsics"])
    return Calibration(
        Lens(k if k.ndim == 2 else k[0], np.zeros(5)), None, None, (width_px, height_px), MANIFEST
    )


def _toolbar_rows(frames: list[Any]) -> int:
    """12 if the last 12 rows of a da Vinci clip stand still while the picture moves, else 0."""
    height, width = frames[0].shape[:2]
    if (width, height) != _DA_VINCI_SIZE or len(frames) < 3:
        return 0
    change = np.abs(np.diff(np.stack([grey(f) for f in frames]), axis=0)).mean((0, 2))
    return _TOOLBAR_ROWS if change[-_TOOLBAR_ROWS:].mean() < 0.25 * np.median(change) else 0


def write_endonerf(
    folder: Path,
    images: NDArray[np.floating] | LazyImages,
    times_s: NDArray[np.floating],
    cameras: Cameras,
    occluded: NDArray[np.bool_] | None = None,
    depth_mm: NDArray[np.floating] | None = None,
    metric: bool = True,
) -> None:
    """Writes an EndoNeRF folder that other people's loaders read too; the pose file comes last.

    images: (T, H, W, 3) sRGB in [0, 1]. depth_mm: (T, H, W), NaN = unknown, written as 16 bit PNG in steps
    of 0.01 mm or coarser. Poses are camera-to-world with OpenGL axes, in mm; what EndoNeRF has no place for
    (scale, times, principal point) goes to splatomy.json.
    """
    count = len(images)
    if len(times_s) != count or len(cameras) != count:
        raise ValueError(
            f"{count} images need as many times and cameras, got {len(times_s)} and {len(cameras)}"
        )
    near_far, scale_mm = (0.01, 1000.0), 0.01
    if depth_mm is not None:
        near_far = (float(np.nanmin(depth_mm)), float(np.nanmax(depth_mm)))
        scale_mm = 0.01 if near_far[1] <= 655.0 else float(np.ceil(near_far[1] / 655.0)) * 0.01
    for i in range(count):
        picture = np.round(np.clip(images[i], 0, 1) * 255).astype(np.uint8)
        write_picture(folder / "images" / f"{i:06d}.png", picture)
        if occluded is not None:
            write_picture(folder / "masks" / f"{i:06d}.png", np.where(occluded[i], 255, 0).astype(np.uint8))
        if depth_mm is not None:
            write_depth_png(folder / "depth" / f"{i:06d}.png", depth_mm[i], scale_mm)
    depth_scale = None if depth_mm is None else scale_mm
    write_endonerf_geometry(folder, times_s, cameras, near_far, depth_scale, metric)


def write_endonerf_geometry(
    folder: Path,
    times_s: NDArray[np.floating],
    cameras: Cameras,
    near_far: tuple[float, float],
    depth_scale: float | None,
    metric: bool,
) -> None:
    """Writes what makes pictures, masks and depths in their folders an EndoNeRF folder; the poses come last.

    depth_scale: length of a unit of the depth pictures, None = there are none.
    """
    count, height, width = len(cameras), cameras.height_px, cameras.width_px
    manifest: dict[str, Any] = {
        "contract": 1,
        "layout": "EndoNeRF",
        "poses_convention": "opengl",
        "masks_mean": "hidden",
        "metric": metric,
        "times_s": [float(t) for t in times_s],
        "intrinsics": cameras.intrinsics.tolist(),
    }
    if depth_scale is not None:
        manifest["depth_scale_mm" if metric else "depth_scale"] = depth_scale
    # World and camera both change to OpenGL axes, so that a still camera keeps the identity of public clips.
    flip = opencv_from_opengl(np.eye(4))
    matrices = np.zeros((count, 3, 5))
    matrices[:, :, :4] = (flip @ inverse(cameras.camera_from_world) @ flip)[:, :3]
    focal = (cameras.intrinsics[:, 0, 0] + cameras.intrinsics[:, 1, 1]) / 2
    matrices[:, :, 4] = np.stack([np.full(count, height), np.full(count, width), focal], -1)
    rows = np.concatenate([matrices.reshape(count, 15), np.tile(near_far, (count, 1))], 1)
    write_json(folder / MANIFEST, manifest)
    with atomic_path(folder / "poses_bounds.npy") as temporary:
        np.save(temporary, rows)
