"""`splatomy masks`: an input's masks as a case to review."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.background import beside
from splatomy.engine.opening import open_clip
from splatomy.errors import InputError
from splatomy.events import Notice, Progress, Task
from splatomy.io.atomic import is_remnant
from splatomy.io.case import OWN_NAMES, Case, case_folder, is_case, locked, open_case, save_case
from splatomy.io.detect import is_endoscopy
from splatomy.io.endoscopy import EndoscopyInput
from splatomy.io.options import InputOptions
from splatomy.prepare.masks import Proposal, mask_warnings, propagate, propose
from splatomy.prepare.onnx_masks import load_segmenter, segment
from splatomy.review import FrameReview, Mask, MaskReview, ReviewState

_KEYFRAME_EVERY = 8
_LISTED = 3


@dataclass(frozen=True)
class MaskRequest:
    """What to do: masks of ``source`` (an endoscopic input, or a case) into the case folder ``out``.

    propagate: carry the masks of reviewed or given frames to the others; without any, the surest proposals.
    device: of the options' mask model, which proposes instead of colour and motion.
    force: replace the masks of an earlier case.
    """

    source: Path
    out: Path
    options: InputOptions = field(default_factory=InputOptions)
    propagate: bool = False
    device: str = "auto"
    force: bool = False


def make_mask_case(request: MaskRequest) -> Task[Case]:
    """The case with its masks, as written to ``request.out``.

    An earlier case there is carried on: frames that a person worked on are never changed.

    Raises:
        InputError: the input or the folder cannot be used. MissingBackendError: a model without its runtime.
    """
    source, options, earlier = _earlier(request)
    if not is_endoscopy(source, options):
        raise InputError(
            f"{source.name} is no endoscopic clip; expected a video or colour frames, since masks of "
            "instruments are found by colour and motion: choose another input."
        )
    asked = request.options if request.options.mask_model is not None else options
    segmenter = (
        None
        if asked.mask_model is None
        else load_segmenter(asked.mask_model, request.device, asked.mask_classes)
    )
    clip = yield from open_clip(source, options)
    with locked(request.out):
        outside = clip.outside
        review = _given(clip, outside) if earlier is None else _fitting(earlier, clip)
        if segmenter is not None:
            for notice in segmenter.notices:
                yield notice
            proposal = yield from segment(clip.images, segmenter)
        else:
            proposal = yield from propose(clip.images, outside=outside)
        before = review.by_a_person()
        review = review.with_auto(proposal.occluded, ReviewState.PROPOSED, proposal.confidence)
        if request.propagate:
            review = yield from _propagated(clip, review, proposal, before)
        for notice in _notices(review):
            yield notice
        case = _case(source, options, clip, _labelled(review, proposal, outside))
        yield from beside("write", 0, 1, partial(save_case, request.out, case))
        yield Progress("write", 1, 1)
    return case


def _earlier(request: MaskRequest) -> tuple[Path, InputOptions, Case | None]:
    """The input, its options, and the case to be carried on.

    Raises:
        InputError: the folder holds something else, or a case of another input.
    """
    source, options = request.source, request.options
    if not source.exists():
        raise InputError(f"{source.name} does not exist; expected a video or colour frames: check the path.")
    earlier = open_case(request.out) if is_case(request.out) and not request.force else None
    if is_case(source):
        given = open_case(source)
        if case_folder(source).resolve() != request.out.resolve():
            raise InputError(
                f"{source.name} is a case; expected --out to be the same case, whose masks are carried on: "
                "give it twice, or give its input."
            )
        source, options = given.source, given.options
        if not source.exists():
            raise InputError(
                f"The input of the case {request.out.name} is no longer where it was; expected {source.name} "
                "beside it as before: put it back."
            )
    elif earlier is not None and earlier.source != source.resolve():
        raise InputError(
            f"{request.out.name} is the case of another input ({earlier.source.name}); expected a new "
            "folder: choose another --out, or --force."
        )
    if earlier is not None and request.options.masks is not None:
        raise InputError(
            f"The case {request.out.name} has masks already; expected no --masks: leave it out, or make the "
            "case anew with --force."
        )
    if request.out.exists():
        if not request.out.is_dir():
            raise InputError(f"{request.out} is a file: expected a folder. Choose another --out.")
        names = {p.name for p in request.out.iterdir() if not is_remnant(p)}
        foreign = sorted(names - {*OWN_NAMES})
        if foreign:
            raise InputError(
                f"{request.out} holds other things than a case ({foreign[0]}): nothing is written there. "
                "Choose another --out."
            )
    return source, options, earlier


def _given(clip: EndoscopyInput, outside: Mask | None) -> MaskReview:
    """A new review that starts from the masks given with the input: a person's work, not yet confirmed."""
    _, height, width, _ = clip.images.shape
    frames = [FrameReview()] * len(clip)
    for number in np.flatnonzero(clip.mask_known).tolist():
        if clip.occluded is not None:
            mask = clip.occluded[number] if outside is None else clip.occluded[number] & ~outside
            frames[number] = FrameReview(add=mask, state=ReviewState.EDITED, confidence=1.0)
    return MaskReview(height, width, tuple(frames))


def _fitting(earlier: Case, clip: EndoscopyInput) -> MaskReview:
    """The earlier review, for the same frames and size.

    Raises:
        InputError: the options choose others.
    """
    size = (earlier.review.height_px, earlier.review.width_px)
    if size != clip.images.shape[1:3] or earlier.frames.tolist() != clip.frames.tolist():
        raise InputError(
            f"The case has {len(earlier.frames)} frames of {size[1]}x{size[0]} but the options choose "
            f"{len(clip)} of {clip.images.shape[2]}x{clip.images.shape[1]}; expected the same: leave out "
            "--crop, --frames and --bin, or make a new case."
        )
    return earlier.review


def _propagated(
    clip: EndoscopyInput, review: MaskReview, proposal: Proposal, reviewed: Mapping[int, Mask]
) -> Task[MaskReview]:
    """The review with masks carried from a person's frames, or, without any, from the surest proposals."""
    anchors = dict(reviewed)
    if not anchors:
        yield Notice(
            "warning",
            "unreviewed-anchors",
            "No frame was reviewed and no masks were given: the surest proposals are carried to the others.",
        )
        for start in range(0, len(clip), _KEYFRAME_EVERY):
            group = proposal.confidence[start : start + _KEYFRAME_EVERY]
            best = start + int(np.argmax(group))
            anchors[best] = proposal.occluded[best]
    product = yield from propagate(clip.images, anchors)
    frames = [
        frame.with_auto(product.occluded[i], ReviewState.PROPAGATED, product.confidence[i])
        if product.spread[i]
        else frame
        for i, frame in enumerate(review.frames)
    ]
    return MaskReview(review.height_px, review.width_px, tuple(frames))


def _notices(review: MaskReview) -> list[Notice]:
    """Where to look first."""
    notes = []
    found = mask_warnings(review.masks())
    for code in dict.fromkeys(warning.code for warning in found):
        texts = [warning.text for warning in found if warning.code == code]
        more = f" And {len(texts) - _LISTED} more frames." if len(texts) > _LISTED else ""
        notes.append(Notice("warning", code, " ".join(texts[:_LISTED]) + more))
    return notes


def _case(source: Path, options: InputOptions, clip: EndoscopyInput, review: MaskReview) -> Case:
    geometry: dict[str, Any] = {
        "crop": list(clip.crop),
        "bin": clip.bin,
        "intrinsics_px": clip.cameras.intrinsics.tolist(),
        "camera_from_world": clip.cameras.camera_from_world.tolist(),
        "intrinsics_known": clip.intrinsics_known,
        "poses_known": clip.poses_known,
        "undistorted": clip.undistorted,
        "world": "first camera, OpenCV axes",
    }
    return Case(
        source=source.resolve(),
        options=options,
        frames=np.asarray(clip.frames, dtype=np.int64),
        times_s=np.asarray(clip.times_s, dtype=np.float64),
        review=review,
        geometry=geometry,
        metric=clip.metric,
        notes=(*clip.found, *clip.assumed, *clip.problems),
    )


def _labelled(review: MaskReview, proposal: Proposal, outside: NDArray[np.bool_] | None) -> MaskReview:
    """The review with what the software took for highlights and for the rim; labels of a person stay."""
    frames = [
        replace(
            frame,
            specular=proposal.specular[i] if frame.specular is None else frame.specular,
            outside=outside if frame.outside is None else frame.outside,
        )
        for i, frame in enumerate(review.frames)
    ]
    return MaskReview(review.height_px, review.width_px, tuple(frames))
