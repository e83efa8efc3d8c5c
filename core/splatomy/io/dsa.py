"""A DSA input in one form: its fields, the options on it, the checks of it, and the case writer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from splatomy.capture import Grid
from splatomy.errors import InputError
from splatomy.geometry.cameras import Cameras
from splatomy.geometry.conebeam import fan_angle_rad, gantry_angles_rad
from splatomy.io import plausible
from splatomy.io.atomic import write_json
from splatomy.io.options import Crop, InputOptions, chosen_crop, chosen_frames
from splatomy.io.volume import check_bytes, write_image

Intensity = Literal["linear", "log", "display"]
ISOCENTRE_WORLD = "isocentre as LPS"


@dataclass(frozen=True)
class DsaInput:
    """A DSA recording as read, before subtraction.

    mask_run, fill_run: (T, H, W) float32; X-ray intensity ("linear", "display") or its natural
        logarithm up to a constant ("log"), larger = more X-rays; when ``already_subtracted``, fill_run
        holds line integrals. Images are seen from the source, row 0 at the head (+z) end.
    cameras: one per frame, or None when the geometry is unknown. times_s: (T,) seconds.
    occluded: (T, H, W) bool, True = ignore. target: (T, H, W) bool, True = wanted vessel, as given.
    mask_frames: frames of fill_run to use as the mask when one run holds both.
    mask_shift_px: shift (rows, columns) that the file wants for the mask; it is not applied here.
    is_static_view: all frames share one direction. frames_per_view: lengths of joined views.
    mirrored: the columns were reversed, because files show the view from the detector's side.
    """

    mask_run: NDArray[np.float32] | None
    fill_run: NDArray[np.float32]
    already_subtracted: bool
    intensity: Intensity
    cameras: Cameras | None
    times_s: NDArray[np.float64]
    times_known: bool
    grid: Grid | None
    world: str
    occluded: NDArray[np.bool_] | None
    mask_frames: tuple[int, ...]
    problems: tuple[str, ...]
    layout: str
    geometry_source: str
    input_files: tuple[Path, ...]
    is_static_view: bool
    frames_per_view: tuple[int, ...] = ()
    mask_shift_px: tuple[float, float] = (0.0, 0.0)
    mirrored: bool = False
    target: NDArray[np.bool_] | None = None

    @property
    def mask(self) -> NDArray[np.float32] | None:
        """The mask of every frame, (T, H, W): the mask run or the (broadcast) mean of the mask frames."""
        if self.mask_run is not None or not self.mask_frames:
            return self.mask_run
        mean = self.fill_run[list(self.mask_frames)].mean(0, dtype=np.float64).astype(np.float32)
        return np.broadcast_to(mean, self.fill_run.shape)


@dataclass(frozen=True)
class Window:
    """The part of a run to load: frame indices, crop box and bin factor."""

    frames: NDArray[np.int64]
    crop: Crop
    bin: int = 1

    def cut(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Images (..., H, W), cropped and binned, float32."""
        x, y, w, h = self.crop
        return self.binned(images[..., y : y + h, x : x + w])

    def binned(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Images (..., H, W) averaged over blocks; rest rows and columns are dropped."""
        n = self.bin
        if n == 1:
            return np.ascontiguousarray(images, dtype=np.float32)
        h, w = images.shape[-2] // n, images.shape[-1] // n
        blocks = images[..., : h * n, : w * n].reshape(*images.shape[:-2], h, n, w, n)
        return np.asarray(blocks.mean((-3, -1), dtype=np.float64), dtype=np.float32)


@dataclass(frozen=True)
class Pixels:
    """The loaded part of a run."""

    fill: NDArray[np.float32]
    mask: NDArray[np.float32] | None = None
    occluded: NDArray[np.bool_] | None = None
    mask_frames: tuple[int, ...] | None = None
    problems: tuple[str, ...] = ()
    target: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class DsaSource:
    """A run of which only headers were read; ``load`` reads the pixels of a window of it."""

    layout: str
    count: int
    height_px: int
    width_px: int
    intensity: Intensity
    load: Callable[[Window], Pixels]
    cameras: Cameras | None
    geometry_source: str
    times_s: NDArray[np.float64] | None
    input_files: tuple[Path, ...]
    already_subtracted: bool = False
    has_mask: bool = False
    mask_frames: tuple[int, ...] = ()
    mask_shift_px: tuple[float, float] = (0.0, 0.0)
    mirrored: bool = False
    grid: Grid | None = None
    sid_mm: float | None = None
    pixel_mm: tuple[float, float] | None = None
    problems: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


def window_of(source: DsaSource, options: InputOptions) -> Window:
    """The window that the options ask for.

    Raises:
        InputError: the crop or the frames lie outside the run, or too much would be loaded.
    """
    frames = chosen_frames(source.count, options)
    x, y, w, h = chosen_crop(source.width_px, source.height_px, options)
    runs = 2 if source.has_mask else 1
    num_bytes = len(frames) * (w // options.bin) * (h // options.bin) * 4 * runs
    check_bytes("the run", num_bytes, "crop it, bin it or take fewer frames (--crop, --frames)")
    return Window(frames, (x, y, w, h), options.bin)


def load_source(source: DsaSource, options: InputOptions) -> DsaInput:
    """The run with its pixels, after the options, checked.

    Raises:
        InputError: the pixels are unreadable or unusable, or the options do not fit.
    """
    window = window_of(source, options)
    cameras = source.cameras
    if cameras is not None:
        cameras = _cropped(cameras[window.frames], window.crop).resized(window.bin)
    pixels = source.load(window)
    problems = list(source.problems) + list(pixels.problems)
    mask_frames = source.mask_frames if pixels.mask_frames is None else pixels.mask_frames
    mask = pixels.mask
    if options.mask_frames is not None:
        mask_frames, mask = _chosen_mask(source, window, options.mask_frames, pixels)
    elif mask_frames and pixels.mask_frames is None and options.frames is not None:
        mask_frames, mask = _remapped_mask(source, window, mask_frames, pixels)
    times, known = _times_s(source, options)
    if not known:
        problems.append(
            "The input has no frame times, so the frame number stands for seconds: give the time between "
            "frames with --frame-time-s."
        )
    already = source.already_subtracted
    intensity = source.intensity
    if options.already_subtracted is not None:
        already = options.already_subtracted
    if options.log is not None:
        intensity = "log" if options.log else "linear"
    result = DsaInput(
        mask_run=None if already else mask,
        fill_run=pixels.fill,
        already_subtracted=already,
        intensity=intensity,
        cameras=cameras,
        times_s=times[window.frames],
        times_known=known,
        grid=source.grid,
        world=ISOCENTRE_WORLD,
        occluded=pixels.occluded,
        target=pixels.target,
        mask_frames=() if already else tuple(mask_frames),
        problems=(),
        layout=source.layout,
        geometry_source=source.geometry_source,
        input_files=source.input_files,
        is_static_view=_is_static(cameras),
        frames_per_view=(len(window.frames),),
        mask_shift_px=source.mask_shift_px,
        mirrored=source.mirrored,
    )
    problems += check_pixels(result) + check_geometry(result)
    hidden = _without_dropped(result, problems)
    return replace(result, occluded=hidden, problems=tuple(dict.fromkeys(problems)))


def _without_dropped(run: DsaInput, problems: list[str]) -> NDArray[np.bool_] | None:
    """The hidden pixels (T, H, W) of a run, with those of dropped frames."""
    runs = [images for images in (run.mask_run, run.fill_run) if images is not None]
    dropped = np.unique(np.concatenate([plausible.constant_frames(images) for images in runs]))
    if not len(dropped):
        return run.occluded
    problems.append(
        f"{len(dropped)} of {len(run.fill_run)} frames hold one value everywhere (the first is frame "
        f"{dropped[0]}); they are ignored."
    )
    hidden = np.zeros(run.fill_run.shape, bool) if run.occluded is None else run.occluded.copy()
    hidden[dropped] = True
    return hidden


def _remapped_mask(
    source: DsaSource, window: Window, mask_frames: tuple[int, ...], pixels: Pixels
) -> tuple[tuple[int, ...], NDArray[np.float32] | None]:
    """Mask frames as indices into the chosen frames, or a mask run when not all of them were chosen."""
    position = {int(frame): i for i, frame in enumerate(window.frames)}
    if all(frame in position for frame in mask_frames):
        return tuple(position[frame] for frame in mask_frames), pixels.mask
    extra = source.load(replace(window, frames=np.array(mask_frames, dtype=np.int64)))
    mean = extra.fill.mean(0, dtype=np.float64).astype(np.float32)
    return (), np.broadcast_to(mean, pixels.fill.shape)


def _chosen_mask(
    source: DsaSource, window: Window, mask_frames: tuple[int, ...], pixels: Pixels
) -> tuple[tuple[int, ...], NDArray[np.float32] | None]:
    """Mask frames that somebody chose, in place of the input's own mask."""
    if not mask_frames or not all(0 <= frame < source.count for frame in mask_frames):
        raise InputError(
            f"mask_frames {', '.join(map(str, mask_frames))} do not fit; expected frames 0 to "
            f"{source.count - 1}: choose frames without contrast."
        )
    return _remapped_mask(source, window, mask_frames, replace(pixels, mask=None))


def _cropped(cameras: Cameras, crop: Crop) -> Cameras:
    """The cameras of the cropped images: the principal point moves, nothing else."""
    k = cameras.intrinsics.copy()
    k[:, 0, 2] -= crop[0]
    k[:, 1, 2] -= crop[1]
    return Cameras(k, cameras.camera_from_world, crop[2], crop[3])


def _times_s(source: DsaSource, options: InputOptions) -> tuple[NDArray[np.float64], bool]:
    """Times of all frames, and whether they are real seconds."""
    if source.times_s is not None:
        return source.times_s, True
    if options.frame_time_s is not None:
        return np.arange(source.count, dtype=np.float64) * options.frame_time_s, True
    return np.arange(source.count, dtype=np.float64), False


def _is_static(cameras: Cameras | None) -> bool:
    """True if every source lies in one direction, within half a degree."""
    if cameras is None:
        return False
    directions = cameras.centres_mm / np.linalg.norm(cameras.centres_mm, axis=1, keepdims=True)
    return bool((directions @ directions[0] > np.cos(np.radians(0.5))).all())


def check_pixels(run: DsaInput) -> list[str]:
    """Warnings about the pixel values.

    Raises:
        InputError: NaN, or the same value everywhere.
    """
    problems = []
    for name, images in (("mask run", run.mask_run), ("fill run", run.fill_run)):
        if images is None:
            continue
        bad = int(np.size(images) - np.isfinite(images).sum())
        if bad:
            raise InputError(
                f"The {name} holds {bad} NaN or infinite pixels; expected finite numbers: replace them or "
                "crop the picture."
            )
        if images.min() == images.max():
            raise InputError(
                f"The {name} has the value {float(images.min()):g} in every pixel; expected an X-ray "
                "picture: check the file."
            )
        is_counts = run.intensity != "log" and not run.already_subtracted
        low = plausible.check_intensities(name, images) if is_counts else 0
        if low:
            problems.append(
                f"The {name} has {low} pixels ({100 * low / images.size:.2g} %) of zero or negative "
                "intensity; they have no logarithm and are raised to the smallest usable value."
            )
    if run.mask_run is None and not run.mask_frames and not run.already_subtracted:
        problems.append(
            "There is no mask run and no mask frame was found: vessels cannot be separated from bone."
        )
    mask = None if run.already_subtracted else run.mask
    if mask is not None or run.already_subtracted:
        problems += plausible.contrast_notes(run.fill_run, mask, run.intensity == "log")
    if run.intensity == "display":
        problems.append("Pixel values are for display only, so contrast amounts are not quantitative.")
    return problems


def check_geometry(run: DsaInput) -> list[str]:
    """Warnings about geometry and times, one plain sentence each.

    Raises:
        InputError: times that do not increase, times or lengths in a wrong unit, a geometry of no numbers.
    """
    problems = []
    if run.times_known:
        plausible.check_frame_times(run.times_s)
    if run.cameras is not None:
        plausible.check_lengths(run.cameras, run.grid)
    if len(run.fill_run) == 1:
        problems.append("The run has one frame only, which is not enough for a reconstruction.")
    first = np.cumsum([0, *run.frames_per_view])[:-1].tolist()
    steps = np.diff(run.times_s)
    if np.delete(steps, [f - 1 for f in first if f > 0]).min(initial=1.0) <= 0:
        raise InputError("The frame times do not increase; expected each later than the last: correct them.")
    if run.cameras is None:
        problems.append(
            "The acquisition geometry is unknown, and a reconstruction needs it: give a geometry file "
            "(--geometry)."
        )
        return problems
    if not (np.isfinite(run.cameras.camera_from_world).all() and np.isfinite(run.cameras.intrinsics).all()):
        raise InputError(
            "The acquisition geometry holds values that are no numbers; expected finite angles and "
            "distances: correct the header, or give another geometry file (--geometry)."
        )
    angles = np.degrees(gantry_angles_rad(run.cameras))
    if len(angles) == 1:
        return problems
    if run.is_static_view:
        problems.append(
            f"All {len(angles)} frames share one viewing direction, so depth cannot be recovered from them "
            "alone."
        )
        return problems
    problems += plausible.length_notes(run.cameras)
    arc, fan = float(np.ptp(angles[:, 0])), float(np.degrees(fan_angle_rad(run.cameras)))
    if len(run.frames_per_view) <= 1 and arc < 180 + fan:
        problems.append(
            f"The arc of {arc:.1f} degrees is shorter than 180 plus the fan of {fan:.1f}, so an exact "
            "reconstruction is not possible."
        )
    return problems


def write_case(
    folder: Path | str,
    mask_run: NDArray[np.floating] | None,
    fill_run: NDArray[np.floating],
    times_s: NDArray[np.floating],
    primary_rad: NDArray[np.floating],
    secondary_rad: NDArray[np.floating],
    sad: float,
    sid: float,
    pixel_mm: tuple[float, float],
    grid: Grid,
    cameras: Cameras | None = None,
) -> None:
    """Writes a 4DRGS case folder; ``transforms.json`` comes last, so a broken-off write is not a case.

    mask_run, fill_run: (T, H, W) intensities; without a mask run, fill_run holds line integrals and is
        written as ``DSA.nii.gz``.
    cameras: exact cameras when the C-arm wobbles; written per frame beside the nominal angles.
    """
    out = Path(folder)
    count, height, width = fill_run.shape
    names = [("mask_run.nii.gz", mask_run), ("fill_run.nii.gz", fill_run)]
    if mask_run is None:
        names = [("DSA.nii.gz", fill_run)]
    for name, stack in names:
        image = sitk.GetImageFromArray(np.asarray(stack, dtype=np.float32))
        image.SetSpacing((float(pixel_mm[0]), float(pixel_mm[1]), 1.0))
        write_image(out / name, image)
    frames: list[dict[str, Any]] = []
    for i in range(count):
        entry: dict[str, Any] = {"file": f"frame_{i:04d}", "PrimaryAngle": float(primary_rad[i])}
        entry["SecondaryAngle"] = float(np.broadcast_to(secondary_rad, (count,))[i])
        entry["time_s"] = float(times_s[i])
        if cameras is not None:
            entry["extrinsics"] = cameras.camera_from_world[i].tolist()
            entry["intrinsics"] = cameras.intrinsics[i].tolist()
        frames.append(entry)
    spacing = [float(s) for s in grid.spacing_mm]
    transforms = {
        "contract": 1,
        "volume_resolution": list(grid.shape),
        "volume_phy": [n * s for n, s in zip(grid.shape, spacing, strict=True)],
        "volume_spacing": spacing,
        "volume_affine": grid.affine_mm.tolist(),
        "sad": float(sad),
        "sid": float(sid),
        "proj_resolution": [width, height],
        "proj_phy": [width * float(pixel_mm[0]), height * float(pixel_mm[1])],
        "proj_spacing": [float(pixel_mm[0]), float(pixel_mm[1])],
        "N_views": count,
        "times_s": [float(t) for t in times_s],
        "frames": frames,
    }
    write_json(out / "transforms.json", transforms)
