"""Which way hidden tissue is filled: propagation, and diffusion on top where it proves better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from splatomy.background import beside
from splatomy.errors import InputError, MissingBackendError
from splatomy.events import Notice, Progress, T, Task
from splatomy.prepare.inpaint import Inpainting, PropagationConfig, inpaint_frames
from splatomy.prepare.inpaint.diffusion import require_diffusion
from splatomy.prepare.inpaint.gate import Verdict, better_inpainter, score, transplants
from splatomy.weights import WeightsFolder, licence_of, open_weights

_GAIN_DB = 0.2
_BEATEN = "propagation along the optical flow"
_CLIP, _PUBLISHED = "diffusion trained on the clip", "the published diffusion weights"


@dataclass(frozen=True)
class Filling:
    """A filled clip and how it was filled; record: JSON values for the run, with one ``text`` for people."""

    inpainting: Inpainting
    record: Mapping[str, Any]


def fill_hidden(
    images: NDArray[np.float32],
    occluded: NDArray[np.bool_],
    device: torch.device,
    *,
    weights: Path | None = None,
    outside: NDArray[np.bool_] | None = None,
    out: NDArray[np.float32] | None = None,
    learn: bool = True,
    seed: int = 0,
) -> Task[Filling]:
    """The clip with its hidden pixels filled in the best way that can be had here.

    Propagation always; then the published weights if they are given, else, on a CUDA device and with
    ``learn``, a network trained on the clip. Either is used only if it beats propagation in transplanted
    holes of this very clip.

    images: (T, H, W, 3). occluded: (T, H, W). outside: (H, W), True = no tissue. out: where the filled
    images are written, as in ``inpaint_frames``.

    Raises:
        InputError: nothing is visible, or the weights cannot be used.
        MissingBackendError: weights were given, but not the packages that run them.
    """
    if weights is not None:
        require_diffusion()
    filled = yield from inpaint_frames(images, occluded, out=out, outside=outside)
    inside = occluded if outside is None else occluded & ~outside
    if weights is not None:
        return (yield from _by_published(images, occluded, inside, outside, filled, device, weights, seed))
    if learn and device.type == "cuda":
        return (yield from _by_clip(images, occluded, outside, filled, device, seed))
    return Filling(filled, (yield from _forecast(images, occluded, outside, seed)))


def _forecast(
    images: NDArray[np.float32],
    occluded: NDArray[np.bool_],
    outside: NDArray[np.bool_] | None,
    seed: int,
) -> Task[dict[str, Any]]:
    """The run's record of a clip filled by propagation alone, with the error found in transplanted holes."""
    # Fewer key frames than for the clip itself: the trial shall cost a small part of the filling.
    inpainter = partial(inpaint_frames, config=PropagationConfig(key_stride=6), outside=outside)
    trials = transplants(images, occluded, seed, outside=outside)
    error = yield from score(inpainter, images, occluded, trials)
    text = f"hidden pixels filled by {_BEATEN}"
    return {"by": "propagation", "text": text, "transplants_db": _finite(error.psnr_db)}


def _by_clip(
    images: NDArray[np.float32],
    occluded: NDArray[np.bool_],
    outside: NDArray[np.bool_] | None,
    filled: Inpainting,
    device: torch.device,
    seed: int,
) -> Task[Filling]:
    from splatomy.prepare.inpaint.diffusion.clip import improve_by_clip_diffusion
    from splatomy.prepare.inpaint.diffusion.network import ClipDiffusionConfig

    config = ClipDiffusionConfig(gain_db=_GAIN_DB)
    verdict = None
    try:
        verdict = yield from _in_plain_words(
            improve_by_clip_diffusion(images, occluded, filled, config, device, seed, outside)
        )
    except MissingBackendError as error:
        text = f"Hidden pixels are filled by {_BEATEN} alone. {error}"
        yield Notice("info", "clip-diffusion-missing", text)
    except torch.OutOfMemoryError:
        text = f"Hidden pixels are filled by {_BEATEN} alone: {_CLIP} needs more memory than the device has."
        yield Notice("warning", "clip-diffusion-memory", text)
    return Filling(filled, (yield from _told(verdict, _CLIP)))


def _by_published(
    images: NDArray[np.float32],
    occluded: NDArray[np.bool_],
    inside: NDArray[np.bool_],
    outside: NDArray[np.bool_] | None,
    filled: Inpainting,
    device: torch.device,
    weights: Path,
    seed: int,
) -> Task[Filling]:
    from splatomy.prepare.inpaint.diffusion.keeping import KeptPropagation
    from splatomy.prepare.inpaint.diffusion.published import load_published

    folder = yield from beside("load weights", 0, 1, partial(open_weights, weights))
    licences = _licences(folder)
    yield Notice("info", "weights-licences", f"Weights given with --weights: {licences}.")
    networks = yield from beside("load weights", 0, 1, partial(load_published, folder))
    networks.to(device)
    try:
        trials = transplants(images, occluded, seed, outside=outside)
        first = KeptPropagation(outside, whole=True)
        second = networks.after(first, outside, seed)
        judging = better_inpainter(images, occluded, first, second, _GAIN_DB, trials)
        verdict = yield from _in_plain_words(judging)
        if verdict.chosen == 1:
            yield from networks.improve(filled, images, inside, seed)
    except torch.OutOfMemoryError:
        raise InputError(
            "The published inpainting weights need more memory than the device has: expected a device with "
            "more, or smaller pictures. Use --crop or --bin, or leave --weights out."
        ) from None
    finally:
        del networks
        if device.type == "cuda":
            torch.cuda.empty_cache()
    record = yield from _told(verdict, _PUBLISHED)
    if verdict.chosen == 1:
        record["text"] += f"; weights: {licences}"
    reading = folder.record()
    while True:
        try:
            next(reading)
        except StopIteration as stop:
            return Filling(filled, {**record, "weights": stop.value})
        yield Progress("load weights", 1, 1)


def _licences(folder: WeightsFolder) -> str:
    """Under which terms the weights stand that are used."""
    used = [file.path for file in folder.found.files if file.need != "unused" and file.state == "present"]
    return "; ".join(dict.fromkeys(licence_of(path).text for path in used))


def _in_plain_words(task: Task[T]) -> Task[T]:
    """The task without the judge's own notice of its choice, which names no inpainter; ``_told`` does."""
    while True:
        try:
            event = next(task)
        except StopIteration as stop:
            product: T = stop.value
            return product
        if not (isinstance(event, Notice) and event.code == "inpainter-chosen"):
            yield event


def _told(verdict: Verdict | None, what: str) -> Task[dict[str, Any]]:
    """The choice as a notice, and as the run's record."""
    if verdict is None:
        return {"by": "propagation", "text": f"hidden pixels filled by {_BEATEN}; {what} was not judged"}
    before, after = (error.psnr_db for error in verdict.errors)
    used = verdict.chosen == 1
    text = (
        f"hidden pixels filled by {what if used else _BEATEN}: in transplanted holes {what} had "
        f"{after:.2f} dB against {before:.2f} dB of {_BEATEN}, and {_GAIN_DB:g} dB more are asked for"
    )
    yield Notice("info", "inpainting-chosen", f"{text[0].upper()}{text[1:]}.")
    figures = {"transplants_db": _finite(before), "transplants_diffusion_db": _finite(after)}
    by = "propagation"
    if used:
        by = "published weights" if what == _PUBLISHED else "clip diffusion"
    return {"by": by, "text": text, **figures}


def _finite(value: float) -> float | None:
    return round(value, 3) if np.isfinite(value) else None
