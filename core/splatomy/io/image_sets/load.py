"""Loading an image set: pictures without lens distortion, masks and depth, in bounded memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.events import Progress, Task
from splatomy.geometry.cameras import Cameras
from splatomy.io.depth_folder import depth_folder, read_depth
from splatomy.io.frame_source import LazyImages, cut, storage
from splatomy.io.frames import read_picture
from splatomy.io.image_sets.source import ImageSetInput, ImageSetSource, View
from splatomy.io.mask_folder import foreground, mask_folder
from splatomy.io.options import Crop, InputOptions, chosen_crop, chosen_frames

_EVENT_EVERY_S = 0.3
_OPAQUE = 0.5
_MOST_HIDDEN = 0.999


@dataclass(frozen=True)
class _Loaded:
    """One view's pixels, before crop and binning."""

    picture: NDArray[np.uint8]
    intrinsics: NDArray[np.float64] | None
    target: NDArray[np.bool_] | None
    occluded: NDArray[np.bool_] | None
    depth: NDArray[np.float32] | None


def load_image_set(source: ImageSetSource, options: InputOptions) -> Task[ImageSetInput]:
    """The image set with its pixels, masks and depth; lengths in mm if its unit is known.

    Raises:
        InputError: a picture cannot be decoded or differs in size, or masks or depth do not fit.
    """
    wanted = chosen_frames(len(source.views), options)
    views = _with_options(source, options)
    chosen = [views[i] for i in wanted]
    first = read_picture(chosen[0].picture)
    height, width = first.shape[:2]
    crop = chosen_crop(width, height, options)
    shape = (len(chosen), crop[3] // options.bin, crop[2] // options.bin)
    room = _Room(shape)
    unit = source.unit_mm or 1.0
    # nerfstudio's mask_path marks what is to be used; every other occluder file marks what hides.
    inverted = source.layout == "NeRF transforms" and options.masks is None
    lenses = []
    for number, view in enumerate(chosen):
        load = partial(_load, view, source, (height, width), inverted)
        loaded = yield from _ahead(load, number, len(chosen))
        lenses.append(loaded.intrinsics)
        room.put(number, loaded, crop, options.bin, unit)
    yield Progress("open", len(chosen), len(chosen))
    problems = list(source.problems)
    occluded = room.occluded
    if occluded is not None and float(occluded.mean()) > _MOST_HIDDEN:
        raise InputError(
            "The masks hide every pixel: check what their non-zero pixels mean (--masks-mean hidden or "
            "visible)."
        )
    target, has_target = room.target, room.has_target
    if target is not None and has_target.any():
        empty = int((~target[has_target].any((1, 2))).sum())
        if empty == int(has_target.sum()):
            raise InputError(
                "All object masks are empty; expected the object as non-zero pixels: check them."
            )
        if not has_target.all():
            problems.append(
                f"{int((~has_target).sum())} of {len(chosen)} views have no object mask; the object is not "
                "masked there."
            )
    cameras = _cameras(chosen, lenses, crop, options.bin, unit)
    return ImageSetInput(
        images=LazyImages(room.pictures),
        cameras=cameras,
        target=target if has_target.any() else None,
        has_target=has_target,
        occluded=occluded,
        depth_mm=room.depth,
        metric=source.unit_mm is not None,
        numbers=wanted,
        names=tuple(v.picture.stem for v in chosen),
        layout=source.layout,
        axes=source.axes,
        axes_sure=source.axes_sure,
        points_mm=None if source.points is None else (source.points * unit).astype(np.float32),
        point_colours=None if source.colours is None else source.colours.astype(np.float32),
        bounds_mm=None if source.bounds is None else source.bounds * unit,
        object_name=source.name,
        crop=crop,
        bin=options.bin,
        found=source.found,
        assumed=source.assumed,
        problems=tuple(problems),
        input_files=(*source.input_files, *(v.picture for v in chosen)),
        facts=_lens_fact(lenses, crop, options.bin),
        straightened=any(v.distortion is not None and v.intrinsics is not None for v in chosen),
    )


class _Room:
    """Arrays for all views; masks and depth come into being when the first view has them."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self.pictures = storage((*shape, 3), np.uint8)
        self.has_target = np.zeros(shape[0], np.bool_)
        self.target: NDArray[np.bool_] | None = None
        self.occluded: NDArray[np.bool_] | None = None
        self.depth: NDArray[np.float32] | None = None

    def put(self, number: int, view: _Loaded, crop: Crop, bin_by: int, unit: float) -> None:
        """Keeps one view, cropped and binned."""
        self.pictures[number] = _binned_picture(cut(view.picture, crop), bin_by)
        if view.target is not None:
            if self.target is None:
                self.target = storage(self.shape, np.bool_)
            # A pixel belongs to the object if half of its block does; it is hidden if any part is.
            self.target[number] = _blocks(cut(view.target, crop), bin_by).mean((1, 3)) >= _OPAQUE
            self.has_target[number] = True
        if view.occluded is not None and view.occluded.any():
            if self.occluded is None:
                self.occluded = storage(self.shape, np.bool_)
            self.occluded[number] = _blocks(cut(view.occluded, crop), bin_by).any((1, 3))
        if view.depth is not None:
            if self.depth is None:
                self.depth = storage(self.shape, np.float32)
                self.depth[:] = np.nan
            middle = cut(view.depth, crop)[bin_by // 2 :: bin_by, bin_by // 2 :: bin_by]
            self.depth[number] = middle[: self.shape[1], : self.shape[2]] * unit


def _blocks(array: NDArray[Any], by: int) -> NDArray[Any]:
    """(H, W) as (H/by, by, W/by, by), rest rows and columns dropped."""
    height, width = array.shape[0] // by, array.shape[1] // by
    return array[: height * by, : width * by].reshape(height, by, width, by)


def _binned_picture(picture: NDArray[np.uint8], by: int) -> NDArray[np.uint8]:
    if by == 1:
        return picture
    size = (picture.shape[1] // by, picture.shape[0] // by)
    whole = np.ascontiguousarray(picture[: size[1] * by, : size[0] * by])
    return np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.uint8)


def _ahead(work: Any, number: int, total: int) -> Task[Any]:
    """The product of ``work``, with events while it runs in a thread."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(work)
        while True:
            try:
                product = running.result(timeout=_EVENT_EVERY_S)
                break
            except TimeoutError:
                if running.done():
                    raise
                yield Progress("open", number, total)
    yield Progress("open", number, total)
    return product


def _with_options(source: ImageSetSource, options: InputOptions) -> list[View]:
    """The views with the masks and depth that a user named in place of those of the set."""
    views = list(source.views)
    names = [v.picture.stem for v in views]
    if options.target is not None:
        folder = mask_folder(options.target, len(views), names, "visible")
        views = [replace(v, mask=folder.files.get(i), mask_from_alpha=False) for i, v in enumerate(views)]
    if options.masks is not None:
        folder = mask_folder(options.masks, len(views), names, options.masks_mean)
        if folder.mean == "visible":
            raise InputError(
                f"The masks in {folder.name} mark what is visible ({folder.evidence}); of an image set masks "
                "of what hides the object are expected: invert them, or give the object's with --target."
            )
        views = [replace(v, occluder=folder.files.get(i)) for i, v in enumerate(views)]
    if options.depth is not None:
        depth = depth_folder(options.depth, len(views), names, options.depth_scale_mm)
        views = [replace(v, depth=depth.files.get(i), depth_intrinsics=None) for i, v in enumerate(views)]
    return views


def _load(view: View, source: ImageSetSource, size: tuple[int, int], inverted: bool) -> _Loaded:
    stored = read_picture(view.picture, cv2.IMREAD_UNCHANGED)
    if stored.shape[:2] != size:
        raise InputError(
            f"{view.picture.name} is {stored.shape[1]}x{stored.shape[0]} but the first picture is "
            f"{size[1]}x{size[0]}; expected one size: scale or crop the pictures, or choose those of one "
            "camera with --frames."
        )
    picture, alpha = _rgb(stored, view.picture)
    target = None
    if view.mask is not None:
        target = _mask(view.mask, size)
    elif view.mask_from_alpha and alpha is not None and (alpha < 255).any():
        target = alpha > 255 * _OPAQUE
    occluded = None
    if view.occluder is not None:
        marked = _mask(view.occluder, size)
        occluded = ~marked if inverted else marked
    depth = None if view.depth is None else _depth(view, source, size)
    intrinsics = _scaled(view, size)
    loaded = _Loaded(picture, intrinsics, target, occluded, depth)
    if view.distortion is None or intrinsics is None:
        return loaded
    return _straight(loaded, intrinsics, view)


def _rgb(stored: NDArray[Any], path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """A stored picture as (H, W, 3) RGB, 8 bit, and its alpha channel if it has one."""
    if stored.dtype == np.uint16:
        stored = (stored >> 8).astype(np.uint8)
    if stored.dtype != np.uint8:
        raise InputError(
            f"{path.name} holds {stored.dtype} values; expected an 8 or 16 bit picture: convert it."
        )
    if stored.ndim == 2:
        return np.repeat(stored[..., None], 3, -1), None
    alpha = stored[..., 3] if stored.shape[2] == 4 else None
    if stored.shape[2] not in (3, 4):
        return np.repeat(stored[..., :1], 3, -1), None
    picture = np.ascontiguousarray(stored[..., 2::-1])
    if alpha is not None:
        # Transparent pixels hold any colour; the object stands before black.
        picture = (picture.astype(np.uint16) * alpha[..., None] // 255).astype(np.uint8)
    return picture, alpha


def _mask(path: Path, size: tuple[int, int]) -> NDArray[np.bool_]:
    mask = foreground(read_picture(path))
    if mask.shape == size:
        return mask
    if abs(mask.shape[0] / size[0] - mask.shape[1] / size[1]) > 0.01:
        raise InputError(
            f"{path.name} is {mask.shape[1]}x{mask.shape[0]} but its picture is {size[1]}x{size[0]}; "
            "expected masks of the pictures' size: export them again."
        )
    small = mask.astype(np.uint8)
    return cv2.resize(small, (size[1], size[0]), interpolation=cv2.INTER_NEAREST).astype(np.bool_)


def _depth(view: View, source: ImageSetSource, size: tuple[int, int]) -> NDArray[np.float32]:
    """Depth (H, W) along the optical axis, in the set's unit, NaN = unknown, at the picture's pixels."""
    if view.depth is None:
        raise ValueError("the view has no depth")
    stored = read_depth(view.depth).astype(np.float32)
    stored[np.isin(stored, source.no_depth) | ~np.isfinite(stored) | (stored < 0)] = np.nan
    stored *= np.float32(source.depth_unit)
    if view.depth_intrinsics is None and stored.shape == size:
        return stored
    height, width = size
    if view.depth_intrinsics is not None and view.intrinsics is not None:
        lens = view.intrinsics
        x = (np.arange(width) - lens[0, 2]) / lens[0, 0]
        y = (np.arange(height) - lens[1, 2]) / lens[1, 1]
        x = x * view.depth_intrinsics[0, 0] + view.depth_intrinsics[0, 2]
        y = y * view.depth_intrinsics[1, 1] + view.depth_intrinsics[1, 2]
    else:
        x = (np.arange(width) + 0.5) * stored.shape[1] / width - 0.5
        y = (np.arange(height) + 0.5) * stored.shape[0] / height - 0.5
    # Nearest, never a mean: between two surfaces a mean of depths lies on neither.
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    inside = ((row >= 0) & (row < stored.shape[0]))[:, None] & ((column >= 0) & (column < stored.shape[1]))
    picked = stored[row.clip(0, stored.shape[0] - 1)][:, column.clip(0, stored.shape[1] - 1)]
    return np.where(inside, picked, np.nan).astype(np.float32)


def _scaled(view: View, size: tuple[int, int]) -> NDArray[np.float64] | None:
    """The lens for a picture that may be a smaller copy of the one that was calibrated."""
    if view.intrinsics is None or view.width_px is None or view.height_px is None:
        return view.intrinsics
    if min(view.width_px, view.height_px) < 1:
        raise InputError(
            f"The lens of {view.picture.name} is of a picture of {view.width_px}x{view.height_px} px; "
            "expected a positive size: correct it."
        )
    across, down = size[1] / view.width_px, size[0] / view.height_px
    if abs(across - down) > 0.01 * down:
        raise InputError(
            f"{view.picture.name} is {size[1]}x{size[0]} but its lens was calibrated for "
            f"{view.width_px}x{view.height_px}; expected the same shape: use the pictures of this model."
        )
    lens = view.intrinsics.copy()
    lens[0, :2] *= across
    lens[1, 1] *= down
    lens[0, 2] = (view.intrinsics[0, 2] + 0.5) * across - 0.5
    lens[1, 2] = (view.intrinsics[1, 2] + 0.5) * down - 0.5
    return lens


def _straight(view: _Loaded, lens: NDArray[np.float64], camera: View) -> _Loaded:
    """The view without lens distortion; what lies outside of the recorded picture counts as hidden."""
    height, width = view.picture.shape[:2]
    size, bent = (width, height), camera.distortion
    make = cv2.fisheye.initUndistortRectifyMap if camera.lens == "fisheye" else cv2.initUndistortRectifyMap
    maps = make(lens, bent, np.eye(3), lens, size, cv2.CV_32FC1)

    def taken(array: NDArray[Any], how: int, outside: float) -> NDArray[Any]:
        return np.asarray(cv2.remap(array, *maps, how, borderMode=cv2.BORDER_CONSTANT, borderValue=outside))

    def nearest(mask: NDArray[np.bool_] | None, outside: int) -> NDArray[np.bool_] | None:
        return None if mask is None else taken(mask.astype(np.uint8), cv2.INTER_NEAREST, outside) > 0

    hidden = view.occluded if view.occluded is not None else np.zeros((height, width), np.bool_)
    depth = None if view.depth is None else taken(view.depth, cv2.INTER_NEAREST, np.nan)
    return _Loaded(
        taken(view.picture, cv2.INTER_LINEAR, 0), lens, nearest(view.target, 0), nearest(hidden, 1), depth
    )


def _cameras(
    views: list[View],
    lenses: list[NDArray[np.float64] | None],
    crop: Crop,
    bin_by: int,
    unit: float,
) -> Cameras | None:
    """Cameras of the cropped and binned pictures, lengths in mm; None if one is not known."""
    known = [lens for lens in lenses if lens is not None]
    poses = [v.camera_from_world for v in views if v.camera_from_world is not None]
    if len(known) != len(views) or len(poses) != len(views):
        return None
    camera = np.stack(poses).astype(np.float64)
    camera[:, :3, 3] *= unit
    return _cut(np.stack(known), camera, crop, bin_by)


def _cut(lenses: NDArray[np.float64], camera: NDArray[np.float64], crop: Crop, bin_by: int) -> Cameras:
    """Cameras of the whole pictures after crop and binning."""
    k = lenses.astype(np.float64)
    k[:, 0, 2] -= crop[0]
    k[:, 1, 2] -= crop[1]
    return Cameras(k, camera, crop[2], crop[3]).resized(bin_by)


def _lens_fact(lenses: list[NDArray[np.float64] | None], crop: Crop, bin_by: int) -> dict[str, Any]:
    """The one lens (3, 3) of all pictures, for sets that know it but not where they were taken."""
    known = [lens for lens in lenses if lens is not None]
    if len(known) != len(lenses) or any(not np.allclose(lens, known[0]) for lens in known):
        return {}
    return {"intrinsics": _cut(known[0][None], np.eye(4)[None], crop, bin_by).intrinsics[0]}
