"""Diffusion trained on the clip itself, and used where it proves better than propagation alone.

The network learns on holes cut into visible tissue (``examples``), never on those by which it is judged
(``gate``), so its figure is as honest as that of the propagation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from splatomy.events import Notice, Progress, Task
from splatomy.prepare.inpaint import Inpainting
from splatomy.prepare.inpaint.diffusion._packages import package
from splatomy.prepare.inpaint.diffusion.examples import Examples, collected, planes_of, without_trials
from splatomy.prepare.inpaint.diffusion.keeping import KeptPropagation
from splatomy.prepare.inpaint.diffusion.network import (
    MULTIPLE_PX,
    ClipDiffusionConfig,
    ClipNetwork,
    restored,
)
from splatomy.prepare.inpaint.diffusion.tiling import assembled, tiles
from splatomy.prepare.inpaint.diffusion.training import trained
from splatomy.prepare.inpaint.diffusion.writing import own_copy, write_hidden
from splatomy.prepare.inpaint.fields import Bool, Float32
from splatomy.prepare.inpaint.gate import Inpainter, Transplant, Verdict, better_inpainter, transplants

STAGE = "inpaint by diffusion"
_OVERLAP = 0.25
_TILES_AT_A_TIME = 16
_EXAMPLE_BYTES = 2 << 30
_KINDS, _TRIES = 2, 8
"""Kinds of transplanted holes to learn from, and how many draws are made to find them."""


class ClipDiffusion:
    """A network trained on a clip, and how it is used on it."""

    def __init__(
        self, network: ClipNetwork, config: ClipDiffusionConfig, device: torch.device, seed: int
    ) -> None:
        self._network, self._config, self._device, self._seed = network, config, device, seed

    def refine(
        self, filled: Inpainting, occluded: Bool, frames: NDArray[np.integer] | None = None
    ) -> Task[None]:
        """Writes the network's pictures into hidden pixels of a filled clip; the others stay bit-equal.

        occluded: (T, H, W), True = may be changed. frames: None = all. A pixel that is changed by more than
        0.05 counts as made up from then on.
        """
        height, width = occluded.shape[1:]
        side = min(self._config.crop_px, height, width) // MULTIPLE_PX * MULTIPLE_PX
        overlap = int(_OVERLAP * side)
        chosen = range(len(occluded)) if frames is None else [int(frame) for frame in frames]
        for count, frame in enumerate(chosen):
            yield Progress(STAGE, count, len(chosen))
            hidden = np.asarray(occluded[frame])
            boxes = tiles(hidden, side, overlap)
            if not boxes:
                continue
            planes = planes_of(filled, occluded, frame)
            # One generator per frame: its picture does not depend on which others are filled.
            noise = torch.Generator(self._device).manual_seed(self._seed + frame)
            parts: list[Float32] = []
            for start in range(0, len(boxes), _TILES_AT_A_TIME):
                some = boxes[start : start + _TILES_AT_A_TIME]
                parts += list(self._pictures(np.stack([planes[:, box[0], box[1]] for box in some]), noise))
                yield Progress(STAGE, count, len(chosen))
            write_hidden(filled, frame, hidden, assembled((height, width), boxes, parts, overlap))
        yield Progress(STAGE, len(chosen), len(chosen))

    def _pictures(self, planes: Float32, noise: torch.Generator) -> Float32:
        """Restored tiles (B, s, s, 3) of planes (B, 6, s, s)."""
        kind = self._device.type
        given = torch.from_numpy(planes).to(self._device)
        with torch.no_grad(), torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
            told = restored(self._network, given, self._config.sampling_steps, noise)
        return np.moveaxis(told.float().cpu().numpy(), 1, -1)

    def after(self, inpainter: Inpainter, outside: Bool | None = None) -> Inpainter:
        """The inpainter that refines what another one filled; outside: (H, W), True = left alone."""

        def both(images: Float32, occluded: Bool, frames: NDArray[np.integer] | None) -> Task[Inpainting]:
            filled = yield from inpainter(images, occluded, frames)
            own = own_copy(filled)
            inside = occluded if outside is None else occluded & ~outside
            yield from self.refine(own, inside, frames)
            return own

        return both


def learn_clip(
    images: Float32,
    occluded: Bool,
    trials: Sequence[Transplant],
    config: ClipDiffusionConfig,
    device: torch.device,
    seed: int = 0,
    outside: Bool | None = None,
) -> Task[ClipDiffusion | None]:
    """The network trained on a clip without a look at what ``trials`` hide; None = nothing to learn from.

    Raises:
        MissingBackendError: diffusers is not installed.
    """
    package("diffusers")  # Before minutes are spent on examples that nothing could learn from.
    hidden = without_trials(occluded, trials)
    lessons = _lessons(images, hidden, config.examples, seed, outside)
    if not lessons or min(occluded.shape[1:]) < 2 * MULTIPLE_PX:
        return None
    examples = yield from collected(images, hidden, lessons, KeptPropagation(outside))
    network = yield from trained(examples, config, device, seed)
    return ClipDiffusion(network, config, device, seed)


def _lessons(
    images: Float32, hidden: Bool, examples: int, seed: int, outside: Bool | None
) -> list[Transplant]:
    """Transplants to learn from, of two kinds of holes if the clip offers them."""
    affordable = _EXAMPLE_BYTES // (Examples.BYTES_PER_PIXEL * hidden[0].size)
    examples = max(_KINDS, min(examples, affordable))
    kinds: dict[bytes, list[Transplant]] = {}
    for n in range(_TRIES):
        found = transplants(images, hidden, seed + n + 1, max(1, examples // _KINDS), outside)
        if found:
            holes = np.concatenate([np.packbits(trial.extra) for trial in found])
            kinds.setdefault(holes.tobytes(), found)
        if len(kinds) == _KINDS:
            break
    return [trial for found in kinds.values() for trial in found]


def improve_by_clip_diffusion(
    images: Float32,
    occluded: Bool,
    filled: Inpainting,
    config: ClipDiffusionConfig,
    device: torch.device,
    seed: int = 0,
    outside: Bool | None = None,
) -> Task[Verdict | None]:
    """Makes the filling better by a network trained on the clip, if that proves to be better.

    The verdict says so by ``chosen`` = 1, else ``filled`` is as it was; None = it could not be judged.

    images: (T, H, W, 3) sRGB as recorded. occluded: (T, H, W). filled: by propagation; its arrays are
    written to. outside: (H, W), True = no tissue there.

    Raises:
        MissingBackendError: diffusers is not installed.
    """
    trials = transplants(images, occluded, seed, outside=outside)
    own = None
    if trials:
        own = yield from learn_clip(images, occluded, trials, config, device, seed, outside)
    if own is None:
        text = "Diffusion was not tried: the clip has no holes to transplant, so it could not be judged."
        yield Notice("info", "clip-diffusion-untried", text)
        return None
    try:
        first = KeptPropagation(outside)
        second = own.after(first, outside)
        verdict = yield from better_inpainter(images, occluded, first, second, config.gain_db, trials)
        if verdict.chosen == 1:
            inside = occluded if outside is None else occluded & ~outside
            yield from own.refine(filled, inside)
    finally:
        del own
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return verdict
