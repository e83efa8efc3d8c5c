"""From an opened clip to what a tissue method trains on: masks, depth, poses, and the tissue behind tools."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

import splatomy
from splatomy.capture import Capture
from splatomy.engine.inpainting import fill_hidden
from splatomy.errors import InputError
from splatomy.events import Notice, Progress, Task
from splatomy.io.calibration import Calibration
from splatomy.io.endoscopy import PLAIN_BYTES, EndoscopyInput
from splatomy.io.frame_source import LazyImages, storage
from splatomy.io.prepared import (
    PreparedParts,
    confidence_codes,
    prepared_key,
    read_prepared,
    write_prepared,
)
from splatomy.kernels.ready import begin, surfel_kernels
from splatomy.prepare.depth import StereoPair, StereoRig, estimate_depth
from splatomy.prepare.inpaint import SYNTHESISED
from splatomy.prepare.inpaint.diffusion import require_diffusion
from splatomy.prepare.masks import Proposal, mask_warnings, propagate, propose
from splatomy.prepare.onnx import OnnxModel
from splatomy.prepare.onnx_depth import OnnxDepthConfig, estimate_onnx_depth
from splatomy.prepare.onnx_masks import load_segmenter, segment
from splatomy.prepare.pose_scale import poses_at_depth_scale, scale_by_instruments
from splatomy.prepare.poses import PoseConfig, estimate_poses

_LISTED = 3


@dataclass(frozen=True)
class PreparedClip:
    """A clip with everything that a method needs.

    observed: all T frames as recorded (instruments in sight), with masks, cameras and depth.
    training: the N frames that are trained on, with the instruments taken out and ``synthetic`` set.
    train: (N,) their numbers. provenance: (N, H, W), see ``PreparedParts``, or None when nothing is hidden.
    inpainting: how hidden pixels were filled, as JSON values, see ``engine.inpainting``.
    """

    observed: Capture
    training: Capture
    train: NDArray[np.intp]
    provenance: NDArray[np.signedinteger] | None
    inpainting: Mapping[str, Any]


def prepare_clip(
    folder: Path,
    clip: EndoscopyInput,
    capture: Capture,
    train: NDArray[np.intp],
    own: Mapping[str, Any],
    device: str = "cpu",
    learn: bool = True,
) -> Task[PreparedClip]:
    """The clip ready for training; its parts are kept in ``folder`` and used again for the same input.

    capture: the clip's own. train: (N,) frames that are trained on; the pictures of the others take no part
        in the inpainting.
    own: the input's part of the run's record, by which a change is noticed.
    device: where networks of the user run. learn: a network may be trained on the clip to fill it better.

    Raises:
        InputError: masks, depth, a calibration or a network do not fit the pictures, or nothing is visible.
        MissingBackendError: a network was given, but not what runs it.
    """
    if clip.options.weights is not None:
        require_diffusion()
    if torch.device(device).type == "cuda":
        # What a GPU trains with is loaded while the processor prepares the frames.
        begin(partial(surfel_kernels, torch.device(device)))
    key = _fingerprint(own, train)
    parts = None
    if prepared_key(folder) == key:
        try:
            parts = yield from read_prepared(folder)
            text = "Masks, depth, poses and filled frames are those that this run made before."
            yield Notice("info", "prepared-reused", text)
        except InputError as error:
            yield Notice("warning", "prepared-anew", f"The clip is prepared anew. {error}")
    if parts is None:
        parts = yield from _derived(clip, capture, train, key, device, learn)
        yield from write_prepared(folder, parts)
    return _assembled(capture, parts)


def _fingerprint(own: Mapping[str, Any], train: NDArray[np.intp]) -> str:
    text = json.dumps(
        [
            splatomy.__version__, own.get("input"), own.get("input_options"), own.get("input_models"),
            train.tolist(),
        ],
        sort_keys=True, default=list,
    )  # fmt: skip
    return hashlib.sha256(text.encode()).hexdigest()


def _derived(
    clip: EndoscopyInput, capture: Capture, train: NDArray[np.intp], key: str, device: str, learn: bool
) -> Task[PreparedParts]:
    """Masks, then depth and poses, then the tissue behind the instruments."""
    capture = yield from _masked(clip, capture, device)
    capture = yield from _placed(clip, capture, device)
    if capture.cameras is None or capture.depth_mm is None or capture.depth_confidence is None:
        raise ValueError("a prepared clip has cameras, depth and its confidence")
    occluded = capture.occluded
    if occluded is None:
        occluded = np.zeros(capture.images.shape[:3], np.bool_)
    confidence = storage(capture.depth_mm.shape, np.uint16)
    for t in range(len(capture)):
        confidence[t] = confidence_codes(capture.depth_confidence[t])
    straightened = "lens distortion removed" in capture.provenance
    frames = (yield from _codes(capture.images)) if straightened else None
    inpainted = provenance = None
    how: dict[str, Any] = {}
    provenance_notes = capture.provenance
    inside = np.ones(occluded.shape[1:], np.bool_) if capture.outside is None else ~capture.outside
    chosen = _chosen(train, len(occluded))
    hidden = occluded[chosen]
    if any((mask & inside).any() for mask in hidden):
        room = storage((len(train), *capture.images.shape[1:]), np.float32)
        filling = yield from fill_hidden(
            capture.images[chosen],
            hidden,
            torch.device(device),
            weights=clip.options.weights,
            outside=capture.outside,
            out=room,
            learn=learn,
        )
        filled, how = filling.inpainting, dict(filling.record)
        inpainted = yield from _codes(filled.images)
        # The map names frames among those trained on; a reader counts in frames of the clip.
        provenance = storage(filled.provenance.shape, np.int32)
        for n, source in enumerate(filled.provenance):
            provenance[n] = np.where(source > 0, train[np.maximum(source, 1) - 1] + 1, source)
        shares = filled.shares
        text = (
            f"inpainted: {shares['propagated']:.1%} of the pixels from other frames, "
            f"{shares['synthesised']:.1%} made up"
        )
        provenance_notes = (*provenance_notes, text, str(how["text"]))
        yield Notice("info", "inpainted", f"{text[0].upper()}{text[1:]}.")
    else:
        yield Notice("info", "nothing-hidden", "No pixel is hidden, so nothing was filled.")
    record = {
        "key": key,
        "metric": capture.metric,
        "world": capture.world,
        "provenance": list(provenance_notes),
        "inpainting": how,
        "details": {k: v for k, v in capture.details.items() if isinstance(v, str)},
    }
    return PreparedParts(
        capture.cameras, capture.times_s, occluded, capture.depth_mm, confidence, train, record,
        frames, inpainted, provenance, capture.outside,
    )  # fmt: skip


def _masked(clip: EndoscopyInput, capture: Capture, device: str) -> Task[Capture]:
    """The capture with a mask for every frame: given, carried from given ones, or proposed."""
    known = clip.mask_known
    outside = np.zeros(capture.images.shape[1:3], np.bool_) if clip.outside is None else clip.outside
    if known.any() and clip.options.mask_model is not None:
        text = "Masks were given, so the mask model is not used."
        yield Notice("info", "mask-model-unused", text)
    if known.all():
        yield Notice("info", "masks-given", "The masks are those given with the input.")
        masks, note = capture.occluded, "masks as given"
    elif known.any() and capture.occluded is not None:
        anchors = {int(t): np.asarray(capture.occluded[t]) for t in np.flatnonzero(known)}
        found = yield from propagate(capture.images, anchors, storage=storage)
        masks, note = _with_outside(found.occluded, outside), "masks carried from the given frames"
        text = (
            f"{len(known) - int(known.sum())} of {len(known)} frames had no mask; theirs were carried over "
            "from the others, and nobody has confirmed them."
        )
        yield Notice("warning", "masks-propagated", text)
    else:
        proposal, how = yield from _proposed(clip, capture, outside, device)
        hidden = sum(np.count_nonzero(mask & ~outside) for mask in proposal.occluded)
        share = hidden / max(int((~outside).sum()) * len(known), 1)
        masks, note = _with_outside(proposal.occluded, outside), f"masks proposed by {how}"
        text = (
            f"No masks were given: instruments were looked for by {how} and hide {share:.0%} of the "
            "picture. Nobody has confirmed them; review them with `splatomy masks`."
        )
        yield Notice("warning", "masks-proposed", text)
    if masks is not None:
        warnings = mask_warnings(mask[~outside] for mask in masks)
        for code in dict.fromkeys(w.code for w in warnings):
            texts = [w.text for w in warnings if w.code == code]
            more = f" And {len(texts) - _LISTED} more frames." if len(texts) > _LISTED else ""
            yield Notice("warning", code, " ".join(texts[:_LISTED]) + more)
    return capture.prepared(note, occluded=masks)


def _with_outside(masks: NDArray[np.bool_], outside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The same masks (T, H, W), with what lies outside of the picture hidden too."""
    if outside.any():
        for mask in masks:
            mask |= outside
    return masks


def _proposed(
    clip: EndoscopyInput, capture: Capture, outside: NDArray[np.bool_], device: str
) -> Task[tuple[Proposal, str]]:
    """Masks of all frames by the user's network, else by colour and motion; and which of them it was."""
    options = clip.options
    if options.mask_model is None:
        return (yield from propose(capture.images, None, outside, storage)), "colour and motion"
    segmenter = load_segmenter(options.mask_model, device, options.mask_classes)
    yield from segmenter.notices
    return (yield from segment(capture.images, segmenter, storage)), f"the network {options.mask_model.name}"


def _placed(clip: EndoscopyInput, capture: Capture, device: str) -> Task[Capture]:
    """The capture with depth and one camera per frame.

    Measured depth comes first, since it tells a moving camera from moving tissue; depth from a network or
    from the light comes last, since it is too rough for that.
    """
    options = clip.options
    pair = None
    if clip.right_images is not None:
        pair = StereoPair(cast(NDArray[np.float32], clip.right_images), _rig(clip.calibration))
    poses = capture.cameras.camera_from_world if capture.cameras is not None else np.eye(4)[None]
    moving = clip.poses_known and bool(np.ptp(poses, axis=0).max() > 1e-9)
    # Without given depth the input's scale is that of its poses.
    unscaled = moving and clip.depth_mm is None and not clip.metric
    if clip.poses_known:
        yield Notice("info", "poses-given", "The camera poses are those given with the input.")
    measured = pair is not None or capture.depth_mm is not None
    if measured:
        capture = yield from estimate_depth(capture, pair, storage=storage)
        if capture.metric and not clip.metric:
            text = "The calibrated pair of eyes gives the scale: lengths are in mm."
            yield Notice("info", "scale-from-stereo", text)
    if not clip.poses_known:
        capture = yield from estimate_poses(capture, PoseConfig(camera=options.camera or "auto"))
    if options.depth_model is not None:
        model = OnnxModel(options.depth_model, device)
        gives = OnnxDepthConfig(
            output=options.depth_model_output or "inverse", unit_mm=options.depth_scale_mm or 1.0
        )
        capture = yield from estimate_onnx_depth(capture, model, gives, storage)
    elif not measured:
        capture = yield from estimate_depth(capture, storage=storage)
    moving |= capture.cameras is not None and bool(np.ptp(capture.cameras.centres_mm, axis=0).max() > 1e-9)
    # Poses that were found without depth have no unit, a network's depth may have one.
    if unscaled or (moving and not measured and (clip.poses_known or capture.metric)):
        capture = yield from poses_at_depth_scale(capture)
    return (yield from scale_by_instruments(capture, options.instrument_diameter_mm))


def _rig(calibration: Calibration | None) -> StereoRig | None:
    if calibration is None or calibration.right is None or calibration.right_from_left is None:
        return None
    left, right = calibration.left, calibration.right
    return StereoRig(
        left.intrinsics, right.intrinsics, calibration.right_from_left, left.distortion, right.distortion
    )


def _codes(images: NDArray[np.floating]) -> Task[NDArray[Any]]:
    """Images (T, H, W, 3) as whole numbers: 8 bit when that is all they hold where nothing was changed."""
    first = np.asarray(images[0], np.float64) * 255
    # Filled pixels are no whole multiples; what was observed in 8 bit is.
    eight = np.mean(np.abs(first - np.rint(first)) < 1e-3) > 0.4
    top, kind = (255, np.uint8) if eight else (65535, np.uint16)
    codes = storage(tuple(images.shape), kind)
    for t in range(len(images)):
        codes[t] = np.rint(np.asarray(images[t]).clip(0, 1) * np.float32(top)).astype(kind)
        if t % 16 == 0:
            yield Progress("inpaint", len(images), len(images))
    return codes


def _as_images(codes: NDArray[Any]) -> NDArray[np.float32]:
    lazy = LazyImages(codes)
    return np.asarray(lazy) if lazy.nbytes <= PLAIN_BYTES else cast(NDArray[np.float32], lazy)


def _chosen(train: NDArray[np.intp], num_frames: int) -> NDArray[np.intp] | slice:
    """The frames that are trained on as an index; where these are all of a clip, one that copies nothing."""
    return slice(None) if np.array_equal(train, np.arange(num_frames)) else train


def _assembled(capture: Capture, parts: PreparedParts) -> PreparedClip:
    record = parts.record
    observed = replace(
        capture,
        images=capture.images if parts.frames is None else _as_images(parts.frames),
        cameras=parts.cameras,
        occluded=parts.occluded,
        outside=parts.outside,
        depth_mm=parts.depth_mm,
        depth_confidence=parts.share_sure,
        metric=bool(record["metric"]),
        world=str(record["world"]),
        provenance=tuple(record["provenance"]),
        details={**capture.details, **record["details"]},
    )
    training = observed.frames(_chosen(parts.train, len(observed)))
    if parts.inpainted is not None and parts.provenance is not None:
        synthetic = np.asarray(parts.provenance == SYNTHESISED)
        training = replace(training, images=_as_images(parts.inpainted), synthetic=synthetic)
    return PreparedClip(observed, training, parts.train, parts.provenance, record.get("inpainting", {}))
