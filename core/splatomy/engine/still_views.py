"""Image sets of still scenes: opened, placed, and their poses compared with their pictures.

What a method needs beyond that is prepared in ``engine.still_running``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.background import beside
from splatomy.capture import Capture
from splatomy.errors import InputError
from splatomy.events import Notice, Task
from splatomy.gaussians.init import gaussian_cloud
from splatomy.geometry.cameras import Cameras
from splatomy.io.detect import is_image_set
from splatomy.io.filled_views import filled_views
from splatomy.io.gaussians import read_gaussians
from splatomy.io.image_sets import (
    ImageSetReport,
    ImageSetSource,
    image_set_source,
    load_image_set,
    shows_occluder,
)
from splatomy.io.options import InputOptions
from splatomy.io.scannet_objects import drawn_masks
from splatomy.method import list_methods
from splatomy.prepare.photos import photo_poses
from splatomy.prepare.pose_conventions import checked_poses

_PER_VIEW = ("has_target", "names", "frames", "normals", "filling")
"""Details of a capture that hold one value a view."""
_ONE_PLACE, _ONE_LINE = 1e-6, 1e-3
"""Largest spread of camera centres, over the distance to the world's origin and over their length."""


def open_still_views(path: Path, options: InputOptions) -> Task[Capture]:
    """The views of an image set, or of a folder of photographs, as one Capture with cameras.

    Poses that the set lacks are found by structure from motion; poses that it has are compared with the
    pictures. What was assumed and what is wrong comes as a Notice.

    Raises:
        InputError: the set cannot be read, no poses can be found, or they fit the pictures in another
            convention only, or leave the scene's shape open.
        MissingBackendError: poses must be found, and what finds them is not installed.
    """
    source = yield from beside("open", 0, 1, partial(image_set_source, path, options, photos=True))
    capture = yield from _loaded(source, options)
    if capture.cameras is None:
        capture = yield from photo_poses(capture)
    else:
        capture = yield from _placed(capture)
    if options.init is not None:
        # They were trained in the poses' own unit.
        gaussians = gaussian_cloud(read_gaussians(options.init)).scaled(source.unit_mm or 1.0)
        note = f"{len(gaussians)} given Gaussians to start from"
        capture = capture.prepared(note, details={**capture.details, "gaussians": gaussians})
    if options.weights is not None:
        capture = replace(capture, details={**capture.details, "weights": options.weights})
    if path.is_dir() and capture.target is not None:
        work = partial(drawn_masks, path, capture.details, *capture.images.shape[1:3])
        drawn = yield from beside("open", 1, 1, work)
        filling = partial(filled_views, path, capture.details, *capture.images.shape[1:3])
        filled = yield from beside("open", 1, 1, filling)
        details = {**capture.details, "drawn_masks": drawn, "filled_views": filled}
        capture = replace(capture, details=details)
    return capture


def _loaded(source: ImageSetSource, options: InputOptions) -> Task[Capture]:
    views = yield from load_image_set(source, options)
    for text in views.assumed:
        yield Notice("info", "input", f"Assumed: {text}.")
    for problem in views.problems:
        yield Notice("warning", "input", problem)
    return views.capture()


def _placed(capture: Capture) -> Task[Capture]:
    """The capture with its own poses, once they were looked at."""
    if capture.cameras is None:
        raise ValueError("there are no poses to look at")
    problem = camera_problem(capture.cameras, capture.depth_mm is not None)
    if problem is not None:
        yield Notice("warning", "cameras", problem)
    return (yield from checked_poses(capture))


def camera_problem(cameras: Cameras, has_depth: bool) -> str | None:
    """What makes the places of the cameras poor for finding a shape, in one sentence; None if nothing.

    Raises:
        InputError: they lie in one place, so that nothing but depth maps could tell the shape.
    """
    centres = cameras.centres_mm
    if len(centres) < 2:
        return None
    # In the frame of the first camera, so that the choice of the world's origin does not matter.
    reach = float(np.linalg.norm(cameras.camera_from_world[0, :3, 3]))
    spread = np.linalg.svd(centres - centres.mean(0), compute_uv=False)
    if spread[0] <= _ONE_PLACE * max(reach, 1e-12):
        text = f"All {len(centres)} cameras stand in one place"
        if has_depth:
            return f"{text}, so that only the depth maps tell the shape."
        raise InputError(
            f"{text}, which shows no depth; expected pictures from different places: check the poses, or "
            "give depth maps with --depth."
        )
    if len(spread) > 1 and len(centres) > 2 and spread[1] < _ONE_LINE * spread[0]:
        return (
            f"All {len(centres)} cameras stand on one line, so that the sides of the scene are not seen; add "
            "pictures from other directions."
        )
    return None


def chosen_views(capture: Capture, index: NDArray[np.integer] | Sequence[int]) -> Capture:
    """The capture of some views alone, with what its details say of each."""
    numbers = np.asarray(index, np.intp)
    details = dict(capture.details)
    for name in _PER_VIEW:
        if name in details:
            details[name] = [details[name][n] for n in numbers.tolist()]
    return replace(capture.frames(numbers), details=details)


def still_method(path: Path, options: InputOptions) -> str:
    """The name of the method for an image set when none is asked for.

    The hidden parts of an object are completed where masks say what the object is and what hides it.
    """
    source = image_set_source(path, options, photos=True)
    has_target = options.target is not None or any(v.mask is not None for v in source.views)
    completes = "completed_object" in list_methods() and has_target
    hidden = completes and (options.masks is not None or shows_occluder(source))
    return "completed_object" if hidden else "pulled_surface"


def opens_still(path: Path, options: InputOptions, method_is_still: bool) -> bool:
    """True if an input is to be opened as views of a still scene.

    Pictures in a folder are a clip, unless the method wants views of a still scene.
    """
    return method_is_still or is_image_set(path, options)


def with_checked_poses(report: ImageSetReport, path: Path, options: InputOptions) -> Task[ImageSetReport]:
    """The report on an image set, with what its pictures say of its poses; not usable if they contradict."""
    task = _looked_at(path, options)
    while True:
        try:
            event = next(task)
        except StopIteration:
            return report
        except InputError as error:
            return report.with_problem(str(error), usable=False)
        if not isinstance(event, Notice):
            yield event
        elif event.code.startswith(("poses", "cameras")):
            add = report.with_problem if event.level == "warning" else report.with_found
            report = add(event.text)


def _looked_at(path: Path, options: InputOptions) -> Task[Any]:
    """The set opened and its poses compared with its pictures; poses that it lacks are not found."""
    source = yield from beside("open", 0, 1, partial(image_set_source, path, options))
    capture = yield from _loaded(source, options)
    return capture if capture.cameras is None else (yield from _placed(capture))
