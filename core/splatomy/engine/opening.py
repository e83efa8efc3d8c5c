"""From an input path to a Capture ready for a method."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from splatomy.background import beside
from splatomy.capture import Capture, Grid, Modality
from splatomy.engine.still_views import open_still_views, opens_still, still_method
from splatomy.errors import InputError
from splatomy.events import Notice, Progress, Task
from splatomy.geometry.cameras import Cameras
from splatomy.geometry.conebeam import isocentre_mm
from splatomy.io.case import Case, case_folder, is_case, open_case
from splatomy.io.detect import is_endoscopy, is_image_set, open_input
from splatomy.io.dsa import DsaInput
from splatomy.io.endoscopy import EndoscopyInput
from splatomy.io.endoscopy_detect import endoscopy_source
from splatomy.io.endoscopy_load import load_endoscopy
from splatomy.io.options import InputOptions
from splatomy.prepare.few_views import are_static_views, static_views
from splatomy.prepare.subtract import SubtractConfig, noise_of_line_integrals, subtract
from splatomy.review import ReviewState

_DEFAULT_GRID_SIZE = 256


def open_capture(path: Path, options: InputOptions) -> Task[Capture]:
    """The input as one Capture: a DSA run read, log-subtracted and registered, a clip, or an image set.

    Raises:
        InputError: the input cannot be used.
    """
    capture, _ = yield from open_source(path, options)
    return capture


def open_source(
    path: Path, options: InputOptions, still: bool = False
) -> Task[tuple[Capture, EndoscopyInput | None]]:
    """The input as one Capture, and, if it is an endoscopic clip, all that was read of it.

    still: pictures are views of a still scene, whatever they look like.

    Raises:
        InputError: the input cannot be used.
    """
    yield Progress("open", 0, 1)
    reviewed = (yield from beside("open", 0, 1, partial(open_case, path))) if is_case(path) else None
    if reviewed is not None and opens_still(reviewed.source, reviewed.options, still):
        return (yield from reviewed_views(reviewed, options)), None
    if reviewed is not None and _is_run(reviewed):
        source = yield from beside("open", 0, 1, partial(reviewed_run, reviewed, options))
    elif reviewed is not None:
        clip = yield from open_reviewed(path, options)
        return clip.capture(), clip
    elif opens_still(path, options, still):
        return (yield from open_still_views(path, options)), None
    elif is_endoscopy(path, options):
        clip = yield from open_clip(path, options)
        return clip.capture(), clip
    else:
        source = yield from beside("open", 0, 1, partial(open_input, path, options))
    yield Progress("open", 1, 1)
    for problem in source.problems:
        yield Notice("warning", "input", problem)
    capture = yield from capture_from_dsa(source)
    return capture, None


def _is_run(case: Case) -> bool:
    """True if a case is one of a DSA run; a case whose input is gone counts as a clip's."""
    return case.source.exists() and not is_endoscopy(case.source, case.options)


def default_method(path: Path, options: InputOptions) -> str:
    """The name of the method for an input when none is asked for."""
    if is_case(path):
        case = open_case(path)
        path, options = case.source, case.options
    if is_image_set(path, options):
        return still_method(path, options)
    clip = is_endoscopy(path, options)
    return "dynamic_tissue" if clip else "dynamic_vessels"


def open_clip(path: Path, options: InputOptions) -> Task[EndoscopyInput]:
    """The opened endoscopic clip, both eyes of it; everything found, assumed and wrong comes as a Notice.

    Raises:
        InputError: the input cannot be used.
    """
    source = yield from beside("open", 0, 1, partial(endoscopy_source, path, options))
    clip = yield from load_endoscopy(source, options)
    for text in clip.found:
        yield Notice("info", "input", f"Found: {text}.")
    for text in clip.assumed:
        yield Notice("info", "input", f"Assumed: {text}.")
    for problem in clip.problems:
        yield Notice("warning", "input", problem)
    return clip


def open_reviewed(path: Path, options: InputOptions) -> Task[EndoscopyInput]:
    """The clip of a case with its reviewed masks; the case's own options decide how it is opened.

    Raises:
        InputError: the case is damaged, its clip is gone or changed, or options are given with it.
    """
    if replace(options, weights=None) != InputOptions():
        raise InputError(
            f"{case_folder(path).name} is a case, which holds its own options: expected none beside it. "
            "Leave them out, or give the case's input instead."
        )
    case = yield from beside("open", 0, 1, partial(open_case, path))
    if not case.source.exists():
        raise InputError(
            f"The input of the case {case_folder(path).name} is no longer where it was; expected "
            f"{case.source.name} beside it as before: put it back."
        )
    clip = yield from open_clip(case.source, replace(case.options, weights=options.weights))
    size = (case.review.height_px, case.review.width_px)
    if size != clip.images.shape[1:3] or case.frames.tolist() != clip.frames.tolist():
        raise InputError(
            f"The case {case_folder(path).name} was made of {len(case.frames)} frames of "
            f"{size[1]}x{size[0]}, but its input now has {len(clip)} of {clip.images.shape[2]}x"
            f"{clip.images.shape[1]}: expected the same. Make the case anew."
        )
    waiting = sum(frame.state is not ReviewState.CONFIRMED for frame in case.review.frames)
    if waiting:
        text = f"{waiting} of {len(clip)} frames of the case are not confirmed; their masks are used as is."
        yield Notice("info", "unconfirmed-masks", text)
    hidden, outside = case.review.occluded(), clip.outside
    marked = case.review.never_seen()
    if marked is not None:
        outside = marked if outside is None else outside | marked
    if outside is not None:
        # The rim of a round picture is in no mask of a person.
        hidden = hidden | outside
    return replace(clip, occluded=hidden, outside=outside, mask_known=np.ones(len(clip), np.bool_))


def reviewed_views(case: Case, options: InputOptions) -> Task[Capture]:
    """The image set of a case with what its reviewed masks hide; the case's own options hold.

    Raises:
        InputError: options are given with it, or its set is unreadable or has changed.
    """
    if replace(options, weights=None, init=None) != InputOptions():
        raise InputError("A case holds its own options: expected none beside it. Leave them out.")
    own = replace(case.options, weights=options.weights, init=options.init)
    capture = yield from open_still_views(case.source, own)
    hidden = case.review.occluded()
    if hidden.shape != capture.images.shape[:3]:
        raise InputError(
            f"The case was made of views of shape {hidden.shape}, but its set now has "
            f"{capture.images.shape[:3]}: expected the same. Make the case anew."
        )
    return replace(capture, occluded=hidden if hidden.any() else None)


def reviewed_run(case: Case, options: InputOptions) -> DsaInput:
    """The DSA run of a case with what its reviewed masks hide; the case's own options hold.

    Raises:
        InputError: options are given with it, or its run is unreadable or has changed.
    """
    if options != InputOptions():
        raise InputError("A case holds its own options: expected none beside it. Leave them out.")
    run = open_input(case.source, case.options)
    hidden = case.review.occluded()
    if hidden.shape != run.fill_run.shape:
        raise InputError(
            f"The case was made of frames of shape {hidden.shape}, but its run now has {run.fill_run.shape}: "
            "expected the same. Make the case anew."
        )
    return replace(run, occluded=hidden if hidden.any() else None)


def default_grid(cameras: Cameras) -> Grid:
    """A cube about the point nearest to all central rays, as wide as every detector sees."""
    middle = isocentre_mm(cameras)
    depth = np.einsum("ni,ni->n", middle - cameras.centres_mm, cameras.camera_from_world[:, 2, :3])
    k = cameras.intrinsics
    half_mm = min(
        float((depth * cameras.width_px / (2 * k[:, 0, 0])).min()),
        float((depth * cameras.height_px / (2 * k[:, 1, 1])).min()),
    )
    size = min(_DEFAULT_GRID_SIZE, max(cameras.width_px, cameras.height_px))
    grid = Grid.centred((size, size, size), (2 * half_mm / size,) * 3)
    affine = grid.affine_mm.copy()
    affine[:3, 3] += middle
    return Grid(grid.shape, affine)


def capture_from_dsa(source: DsaInput, config: SubtractConfig | None = None) -> Task[Capture]:
    """The line integrals of an opened DSA run, with geometry, noise and everything to be told.

    Raises:
        InputError: the run has no usable frames.
    """
    occluded = source.occluded
    provenance: tuple[str, ...] = (f"read {source.layout}",)
    if source.already_subtracted:
        images = np.nan_to_num(source.fill_run).astype(np.float32)
        noise = yield from beside("open", 1, 1, partial(noise_of_line_integrals, images))
        bad = ~np.isfinite(source.fill_run)
        provenance = (*provenance, "already subtracted")
    else:
        if source.mask is None:
            raise InputError(
                "The run has no frames without contrast: expected a mask run, or mask frames at its start. "
                "Give one with --mask, or say --already-subtracted."
            )
        product = yield from subtract(
            source.mask,
            source.fill_run,
            config or SubtractConfig(),
            already_log=source.intensity == "log",
        )
        images, noise, bad = product.line_integrals, product.noise_std, product.occluded
        provenance = (*provenance, "log subtraction", "sub-pixel registration", "background to zero")
    if bad.any():
        occluded = bad if occluded is None else occluded | bad
    grid = source.grid
    if grid is None and source.cameras is not None:
        grid = default_grid(source.cameras)
        provenance = (*provenance, "volume chosen from the field of view")
    capture = Capture(
        Modality.ATTENUATION,
        images[..., None],
        np.asarray(source.times_s, dtype=np.float64),
        cameras=source.cameras,
        occluded=occluded,
        target=source.target,
        noise_std=noise,
        grid=grid,
        world=source.world,
        provenance=provenance,
        problems=source.problems,
        details={
            "layout": source.layout,
            "geometry_source": source.geometry_source,
            "positioner_angles": source.mirrored,
        },
    )
    if are_static_views(capture.cameras, source.frames_per_view):
        return (yield from static_views(capture, source.frames_per_view))
    return capture
