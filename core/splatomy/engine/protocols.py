"""A clip's run by the protocols of EndoNeRF and StereoMIS: held-out frames against the recording itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from splatomy.background import beside
from splatomy.engine.holdout import training_frames
from splatomy.engine.loading import load_scene
from splatomy.engine.opening import open_source
from splatomy.engine.own_input import find_own_input, recorded_options
from splatomy.errors import InputError
from splatomy.events import Notice, Progress, Task
from splatomy.io.endoscopy import EndoscopyInput
from splatomy.io.frame_source import storage
from splatomy.io.options import InputOptions
from splatomy.io.prepared import prepared_frame
from splatomy.io.run import RunFolder
from splatomy.io.truth_endoscopy import is_tissue_truth
from splatomy.io.views import read_views
from splatomy.metrics.endoscopy import depth_metrics, published_metrics, visible_metrics

Protocol = Literal["endonerf", "stereomis"]
PROTOCOLS: tuple[Protocol, ...] = ("endonerf", "stereomis")
NO_LPIPS = "LPIPS needs the weights of AlexNet, which are not part of this software"
_INSTRUMENT_ONLY = "gt_masks"


def protocol_figures(folder: RunFolder, path: Path | None, protocol: Protocol) -> Task[dict[str, Any]]:
    """Figures on the frames with (i - 1) mod 8 == 0, i counted from 0 in the frames of the run.

    path: the data set's folder, or None for the run's own input.

    The pictures as recorded are the reference, never inpainted ones. First come psnr_masked,
    psnr_zero_filled, ssim_zero_filled and the depth errors over tissue; then, with the protocol's name
    added, what its papers print: pictures rounded to 8 bits, means over images, hidden pixels set to 0, and
    a depth_rmse of depths rounded to whole units up to 255. EndoNeRF scores with ``gt_masks`` (instruments
    alone) where the data set has them.

    Raises:
        InputError: the run is of no clip, or the folder does not belong to it.
    """
    record = folder.record()
    if not isinstance(record.get("clip"), Mapping):
        raise InputError(
            f"{folder.path.name} is no run of an endoscopic clip: expected one for the protocol {protocol}. "
            "Choose another run, or another --protocol."
        )
    yield Progress("open", 0, 1)
    clip = yield from _recorded(folder, path, protocol)
    views = read_views(folder.path / "scene" / "cameras.json", 1, 1)
    size = (len(views.cameras), views.cameras.height_px, views.cameras.width_px)
    if views.times_s is None or clip.images.shape[:3] != size:
        raise InputError(
            f"The data has {clip.images.shape[:3]} frames, rows and columns, the run {size}: expected the "
            "same. Give the folder that the run was made from."
        )
    trained, _ = training_frames(size[0], record.get("num_views"))
    _, chosen = training_frames(size[0], "endonerf")
    known = int(np.isin(chosen, trained).sum())
    if known:
        text = (
            f"The run was trained on {known} of the {len(chosen)} test frames, so its figures cannot be "
            "compared with published ones: reconstruct with --views endonerf."
        )
        yield Notice("warning", "test-frames-trained-on", text)
    scene = load_scene(folder)
    shape = (len(chosen), *size[1:])
    made, seen = storage((*shape, 3), np.float32), storage((*shape, 3), np.float32)
    depth, hidden = storage(shape, np.float32), storage(shape, np.bool_)
    for n, frame in enumerate(chosen.tolist()):
        render = scene.render(views.cameras[frame], float(views.times_s[frame]))
        made[n] = render.colour[0]
        depth[n] = np.nan if render.depth_mm is None else render.depth_mm[0]
        seen[n], hidden[n] = _reference(folder, clip, frame, protocol)
        yield Progress("test frames", n + 1, len(chosen))
    true_depth = None if clip.depth_mm is None else clip.depth_mm[chosen]
    metric = bool(record.get("metric"))
    work = partial(_figures, made, seen, hidden, depth, true_depth, metric, protocol)
    found: dict[str, Any] = yield from beside("measure", 0, 1, work)
    yield Progress("measure", 1, 1)
    counts = {"test_frames": float(len(chosen)), "test_frames_trained_on": float(known)}
    return {**found, "lpips": None, "lpips_reason": NO_LPIPS, **counts}


def _recorded(folder: RunFolder, path: Path | None, protocol: Protocol) -> Task[EndoscopyInput]:
    """The clip as it was recorded, cut as the run's input was.

    Raises:
        InputError: it is not there, or no clip.
    """
    if path is not None and is_tissue_truth(path) and not (path / "images").is_dir():
        raise InputError(
            f"{path.name} holds simulated truth; the protocol {protocol} scores against the recording: "
            "expected the data set's folder. Give that, or leave --truth out."
        )
    source = find_own_input(folder) if path is None else path
    options = recorded_options(folder)
    masks = source / _INSTRUMENT_ONLY
    if protocol == "endonerf" and masks.is_dir() and options.masks is None:
        options = replace(options, masks=masks, masks_mean=options.masks_mean or "hidden")
    _, clip = yield from open_source(source, _without_networks(options))
    if clip is None:
        raise InputError(
            f"{source.name} is no endoscopic clip: expected the data that {folder.path.name} was made from."
        )
    return clip


def _without_networks(options: InputOptions) -> InputOptions:
    """The options on the recording alone: networks need not be there any more."""
    return replace(
        options, depth_model=None, depth_model_output=None, mask_model=None, mask_classes=None,
        depth_source=None if options.depth_source == "model" else options.depth_source,
    )  # fmt: skip


def _reference(
    folder: RunFolder, clip: EndoscopyInput, frame: int, protocol: Protocol
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The recorded picture (H, W, 3) and its hidden pixels, in the geometry that the run was trained in."""
    straight, hidden = prepared_frame(folder.path / "prepared", frame)
    if straight is not None:
        return straight, hidden
    if protocol == "endonerf" and clip.occluded is not None and clip.mask_known[frame]:
        hidden = np.asarray(clip.occluded[frame])
    return np.asarray(clip.images[frame], np.float32), hidden


def _figures(
    made: NDArray[np.float32],
    seen: NDArray[np.float32],
    hidden: NDArray[np.bool_],
    depth: NDArray[np.float32],
    true_depth: NDArray[np.float32] | None,
    metric: bool,
    protocol: Protocol,
) -> dict[str, float]:
    found = visible_metrics(made, seen, hidden)
    if true_depth is not None and metric:
        found |= depth_metrics(depth, true_depth, ~hidden)
    theirs = published_metrics(made, seen, hidden, depth, true_depth)
    return found | {f"{name}_{protocol}": value for name, value in theirs.items()}
