"""From views of an object to views of the whole object: hidden parts are found and filled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import splatomy
from splatomy.background import beside
from splatomy.capture import Capture
from splatomy.engine.still_views import chosen_views
from splatomy.errors import InputError
from splatomy.events import Notice, Progress, Task
from splatomy.io.completed import CompletedParts, read_completed, write_completed
from splatomy.io.filled_views import FilledViews
from splatomy.methods.completed_object.config import Config
from splatomy.methods.completed_object.method import reconstruct
from splatomy.prepare.hidden_parts import (
    fill_views,
    hidden_parts,
    support_plane,
    with_drawn_masks,
    with_given,
)
from splatomy.prepare.inpaint import SYNTHESISED
from splatomy.prepare.onnx import OnnxModel
from splatomy.prepare.onnx_normals import estimate_onnx_normals
from splatomy.scene import Mesh
from splatomy.weights.still import StillWeights, find_still_weights

COARSE = Config(
    coarse_steps=450,
    fine_steps=0,
    longest_side_px=240,
    rays=256,
    samples=20,
    colour_weight=0.0,
    photometric_weight=0.0,
    semantic_weight=0.0,
    levels=2,
    log2_table=10,
    mesh_resolution=80,
    snapshot_every_s=600.0,
)
"""The smooth field alone, without colour: the shape that tells where hidden parts are in all views."""
_LISTED = 8


def complete_views(
    folder: Path,
    capture: Capture,
    train: NDArray[np.intp],
    own: Mapping[str, Any],
    device: str = "cpu",
    learn: bool = True,
    coarse: Config = COARSE,
) -> Task[Capture]:
    """All views, with the hidden parts of the object in those of ``train`` found and filled.

    ``target`` becomes the whole object there, ``synthetic`` marks what no view shows, and depth behind what
    hides the object is that of the completed shape. ``details`` holds "inpainting" (JSON values),
    "provenance" and, where it was found, "support_plane". The parts are kept in ``folder`` and used again for
    the same input.

    own: the input's part of the run's record. device: where networks run. learn: asked of everything that
    prepares views; no network is trained on pictures here. coarse: how the shape is found that tells where
    hidden parts are.

    Raises:
        InputError: masks of the object are missing, or the weights cannot be used.
        MissingBackendError: weights were given, but not the packages that run them.
    """
    if capture.target is None:
        raise InputError(
            "Completing an object needs masks of it, which the input does not have: give a folder of masks "
            "with --target, or use --method pulled_surface."
        )
    weights = yield from beside(
        "load weights", 0, 1, partial(find_still_weights, capture.details.get("weights"))
    )
    if weights.licences:
        yield Notice("info", "weights-licences", f"Weights given with --weights: {weights.licences}.")
    capture = yield from _with_normals(capture, weights, device)
    if capture.cameras is None or capture.depth_mm is None:
        text = "Without depth maps hidden parts are not filled: the field alone closes them."
        yield Notice("warning", "not-completed", text)
        return capture
    drawn = {int(t): np.asarray(m, np.bool_) for t, m in capture.details.get("drawn_masks", {}).items()}
    given: FilledViews = capture.details.get("filled_views", FilledViews())
    key = _fingerprint(own, train, drawn, given)
    parts = yield from beside("complete", 0, 1, partial(read_completed, folder, key))
    if parts is None:
        parts = yield from _derived(capture, train, drawn, given, weights, key, torch.device(device), coarse)
        yield from beside("complete", 1, 1, partial(write_completed, folder, parts))
    else:
        yield Notice("info", "prepared-reused", "Hidden parts are filled as this run filled them before.")
    yield Notice("info", "hidden-parts", str(parts.record["text"]))
    return _assembled(capture, train, parts)


def _fingerprint(
    own: Mapping[str, Any],
    train: NDArray[np.intp],
    drawn: Mapping[int, NDArray[np.bool_]],
    given: FilledViews,
) -> str:
    digest = hashlib.sha256()
    names = ("input", "input_options", "input_models")
    text = json.dumps(
        [splatomy.__version__, *(own.get(n) for n in names), train.tolist()], sort_keys=True, default=list
    )
    digest.update(text.encode())
    for view, mask in sorted(drawn.items()):
        digest.update(f"{view} {mask.shape}".encode() + np.packbits(mask).tobytes())
    for kind in (given.images, given.depth_mm):
        for view, filled in sorted(kind.items()):
            digest.update(f"{view} {filled.shape}".encode() + filled.tobytes())
    return digest.hexdigest()


def _with_normals(capture: Capture, weights: StillWeights, device: str) -> Task[Capture]:
    """The capture with normals by the user's network, if there is one."""
    if weights.normals is None:
        return capture
    model = yield from beside("load weights", 0, 1, partial(OnnxModel, weights.normals, device))
    return (yield from estimate_onnx_normals(capture, model))


def _derived(
    capture: Capture,
    train: NDArray[np.intp],
    drawn: Mapping[int, NDArray[np.bool_]],
    given: FilledViews,
    weights: StillWeights,
    key: str,
    device: torch.device,
    coarse: Config,
) -> Task[CompletedParts]:
    """The hidden parts of the views of ``train``."""
    views = chosen_views(capture, train)
    numbers = {int(t): n for n, t in enumerate(train)}
    own_drawn = {numbers[t]: mask for t, mask in drawn.items() if t in numbers}
    pictures = {numbers[t]: picture for t, picture in given.images.items() if t in numbers}
    depths = {numbers[t]: depth for t, depth in given.depth_mm.items() if t in numbers}
    plane = yield from support_plane(views)
    known = with_drawn_masks(views, own_drawn)
    inpainter = None
    if weights.pipeline is not None:
        from splatomy.prepare.inpaint.diffusion.still import load_still_inpainter

        inpainter = yield from beside(
            "load weights", 0, 1, partial(load_still_inpainter, weights.pipeline, device)
        )
        known = yield from inpainter.with_reference_depth(known, own_drawn)
    if plane is not None:
        known = replace(known, details={**known.details, "support_plane": plane})
    shape = yield from _coarse_shape(known, device, coarse)
    hidden = yield from hidden_parts(views, shape, own_drawn)
    filled = yield from fill_views(views, shape, hidden)
    if inpainter is not None and not pictures:
        filled = yield from inpainter.improved(views, shape, hidden, filled)
    filled, taken = with_given(filled, hidden, pictures, depths)
    made_up = hidden.masks & (filled.provenance == SYNTHESISED)
    if known.synthetic is not None:
        made_up |= known.synthetic & ~hidden.masks
    record = {
        **_told(views, hidden.masks, made_up, len(own_drawn), weights, len(taken)),
        "given": [int(train[t]) for t in taken],
        "weights": (yield from _hashed(weights)),
        "review": {str(int(train[t])): why for t, why in hidden.review.items()},
        "support_plane": None if plane is None else plane.tolist(),
    }
    for text in _review_texts(record["review"]):
        yield Notice("warning", "review-masks", text)
    return CompletedParts(
        key,
        hidden.masks,
        np.asarray(made_up),
        filled.images[hidden.masks],
        filled.depth_mm[hidden.masks],
        filled.provenance[hidden.masks],
        record,
    )


def _hashed(weights: StillWeights) -> Task[list[dict[str, str]]]:
    """The given files with their hashes and licences."""
    reading = weights.record()
    while True:
        try:
            next(reading)
        except StopIteration as stop:
            files: list[dict[str, str]] = stop.value
            return files
        yield Progress("load weights", 1, 1)


def _coarse_shape(views: Capture, device: torch.device, coarse: Config) -> Task[Mesh]:
    """The whole object as the smooth field sees it.

    Raises:
        InputError: it has no surface.
    """
    task = reconstruct([views], coarse, device)
    while True:
        try:
            event = next(task)
        except StopIteration as stop:
            mesh: Mesh = stop.value.surface(0.0)
            break
        if isinstance(event, Progress):
            yield Progress("coarse shape", event.step, event.total, event.metrics)
    if not len(mesh.faces):
        raise InputError(
            "No closed shape fits the masks and depth maps; expected masks of one object and depth in the "
            "poses' unit: check them."
        )
    return mesh


def _told(
    views: Capture,
    masks: NDArray[np.bool_],
    made_up: NDArray[np.bool_],
    num_drawn: int,
    weights: StillWeights,
    num_given: int,
) -> dict[str, Any]:
    """How the hidden parts were filled, as JSON values with one ``text`` for people."""
    whole = max(int((masks | views.target).sum()), 1) if views.target is not None else 1
    hidden, made = float(masks.sum()) / whole, float((made_up & masks).sum()) / whole
    by = "published weights" if weights.pipeline is not None else "propagation"
    what = "the published inpainting weights" if weights.pipeline is not None else "smooth colours and depth"
    if num_given:
        by, what = "given pictures", f"the given pictures and depth maps of {num_given} views, else smoothly"
    drawn = f"{num_drawn} drawn masks" if num_drawn else "no drawn mask"
    text = (
        f"{hidden:.1%} of the object's pixels are hidden ({drawn}); {hidden - made:.1%} are carried over "
        f"from other views and {made:.1%}, which no view shows, are filled by {what}."
    )
    return {"by": by, "text": text, "hidden": hidden, "synthesised": made, "drawn_masks": num_drawn}


def _review_texts(review: Mapping[str, str]) -> list[str]:
    """One sentence for the views whose masks a person should look at; none without any."""
    if not review:
        return []
    named = "; ".join(f"view {t}: {why}" for t, why in list(review.items())[:_LISTED])
    more = f"; and {len(review) - _LISTED} more" if len(review) > _LISTED else ""
    return [f"Look at the masks of hidden parts in {len(review)} views ({named}{more})."]


def _filling(capture: Capture, record: Mapping[str, Any]) -> list[str]:
    """What decided the hidden part of each view: "drawn" by a user, "carried" over, or "invented"."""
    if record["by"] == "published weights":
        return ["invented"] * len(capture)
    drawn, given = set(capture.details.get("drawn_masks", {})), set(record.get("given", ()))
    return ["invented" if t in given else "drawn" if t in drawn else "carried" for t in range(len(capture))]


def _assembled(capture: Capture, train: NDArray[np.intp], parts: CompletedParts) -> Capture:
    """The capture with its completed views; views that are not trained on stay as they are."""
    if capture.target is None or capture.depth_mm is None:
        raise ValueError("completed views have masks and depth")
    shape = capture.target.shape
    masks, synthetic = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    masks[train], synthetic[train] = parts.masks, parts.synthetic
    images, depth = np.array(capture.images, np.float32), np.array(capture.depth_mm, np.float32)
    provenance = np.zeros(shape, parts.provenance.dtype)
    images[masks], depth[masks], provenance[masks] = parts.colours, parts.depth_mm, parts.provenance
    # Provenance names views; the parts count those of ``train`` alone.
    lent = provenance > 0
    provenance[lent] = train[provenance[lent] - 1] + 1
    decided = synthetic & ~masks
    depth[decided] = np.nan
    certain = capture.occluded is not None
    occluded = masks if capture.occluded is None else capture.occluded | masks
    details = {**capture.details, "inpainting": dict(parts.record), "outlines_certain": certain}
    if parts.record["support_plane"] is not None:
        details["support_plane"] = np.asarray(parts.record["support_plane"])
    details["provenance"] = provenance
    details["filling"] = _filling(capture, parts.record)
    return capture.prepared(
        str(parts.record["text"]),
        images=images,
        depth_mm=depth,
        target=capture.target | masks,
        occluded=occluded,
        synthetic=synthetic,
        details=details,
    )
