"""Single pictures filled by a published pipeline: StableDiffusionInpaintPipeline from a folder.

Source: O2-Recon's preprocessing: colours and the depth of reference views are inpainted by one pipeline.
Mended here: seeded, one view lends what it invented to the others, and depth stays within what is possible.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from splatomy.background import beside
from splatomy.capture import Capture
from splatomy.errors import InputError
from splatomy.events import Progress, Task
from splatomy.prepare.hidden_parts.filling import Filled, fill_views
from splatomy.prepare.hidden_parts.project import HiddenParts
from splatomy.prepare.inpaint.diffusion._packages import package
from splatomy.prepare.inpaint.provenance import SYNTHESISED
from splatomy.scene import Mesh

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]

_ROOM = 1.4
_STEPS, _GUIDANCE = 50, 7.5
_DEEPEST = 1.1
"""Depth is shown to the pipeline as grey: white = this many times the farthest of the object."""
_CHANCE = 0.25
"""Depth of the pipeline may lie this much (of the object's depth range) outside of what was measured."""


@dataclass(frozen=True)
class StillInpainter:
    """A pipeline and the pixels that it works on; steps: of the noise schedule."""

    pipeline: Any
    side_px: int
    steps: int = _STEPS
    seed: int = 0

    def filled(self, picture: Float32, hole: Bool, prompt: str) -> Float32:
        """The picture (H, W, 3) with its hole (H, W) filled; other pixels stay as they are."""
        if not hole.any():
            return picture
        box = _square(hole)
        side = self.side_px
        part, mask = _cut(picture, box), _cut(hole.astype(np.float32), box)
        small = cv2.resize(
            part, (side, side), interpolation=cv2.INTER_AREA if box[2] > side else cv2.INTER_CUBIC
        )
        small_hole = cv2.resize(mask, (side, side), interpolation=cv2.INTER_LINEAR) > 0
        with torch.no_grad():
            made = self.pipeline(
                prompt=prompt,
                image=torch.from_numpy(np.moveaxis(small.clip(0, 1), -1, 0)[None]),
                mask_image=torch.from_numpy(small_hole[None, None].astype(np.float32)),
                height=side,
                width=side,
                num_inference_steps=self.steps,
                guidance_scale=_GUIDANCE,
                generator=torch.Generator().manual_seed(self.seed),
                output_type="np",
            ).images[0]
        large = cv2.resize(np.asarray(made, np.float32), (box[2], box[2]), interpolation=cv2.INTER_LINEAR)
        out = picture.copy()
        rows, columns = np.nonzero(hole)
        out[rows, columns] = large[rows - box[0], columns - box[1]]
        return out

    def with_reference_depth(self, capture: Capture, drawn: Mapping[int, Bool]) -> Task[Capture]:
        """The capture with depth in the drawn part of its reference views, as the pipeline sees it.

        Raises:
            InputError: the pipeline's output cannot be used.
        """
        if capture.depth_mm is None or capture.target is None or not drawn:
            return capture
        depth = capture.depth_mm.copy()
        word = str(capture.details.get("object_name") or "object")
        for number, (view, mask) in enumerate(sorted(drawn.items())):
            seen = capture.target[view] & ~mask & np.isfinite(depth[view])
            hole = mask & ~seen
            if not hole.any() or not seen.any():
                continue
            low, high = np.quantile(depth[view][seen], [0.01, 0.99])
            grey = np.where(seen, depth[view] / (_DEEPEST * high), 0).astype(np.float32)
            picture = np.repeat(grey[..., None], 3, 2)
            work = partial(self.filled, picture, hole, f"a {word}")
            made = yield from beside("inpaint depth", number, len(drawn), work)
            found = made[..., 0] * _DEEPEST * high
            spread = _CHANCE * max(high - low, 1e-6)
            likely = hole & (found > low - spread) & (found < high + spread)
            depth[view][likely] = found[likely]
            yield Progress("inpaint depth", number + 1, len(drawn))
        return capture.prepared("depth of reference views inpainted by the given weights", depth_mm=depth)

    def improved(self, capture: Capture, mesh: Mesh, hidden: HiddenParts, filled: Filled) -> Task[Filled]:
        """What no view shows, coloured by the pipeline instead of smoothly, the same in every view.

        The view in which most is missing is filled first; from then on it lends its colours to the others.
        """
        if capture.target is None:
            raise ValueError("filling needs masks of the visible object")
        word = str(capture.details.get("object_name") or "object")
        missing = hidden.masks & (filled.provenance == SYNTHESISED)
        images, left = filled.images.copy(), missing.copy()
        order = np.argsort(-missing.sum((1, 2)), kind="stable")
        lending = replace(capture, images=images)
        for number, t in enumerate(order.tolist()):
            hole = left[t]
            if not hole.any():
                continue
            alone = np.where((capture.target[t] | hidden.masks[t])[..., None], images[t], 0)
            work = partial(self.filled, alone.astype(np.float32), hole, f"a {word}, no background")
            made = yield from beside("inpaint colours", number, len(order), work)
            images[t][hole] = made[hole]
            left[t] = False
            # The new pixels count as seen, in this view alone, and their colours are carried on.
            target = np.zeros_like(capture.target)
            target[t] = missing[t]
            depth = np.full(capture.target.shape, np.nan, np.float32)
            depth[t] = np.where(missing[t], filled.depth_mm[t], np.nan)
            lending = replace(capture, images=images, target=target, occluded=None, depth_mm=depth)
            rest = replace(hidden, masks=left)
            carried = yield from fill_views(lending, mesh, rest)
            from_here = left & (carried.provenance == t + 1)
            images[from_here] = carried.images[from_here]
            left &= ~from_here
        return replace(filled, images=images)


def _square(hole: Bool) -> tuple[int, int, int]:
    """Top, left and side of a square about a hole, with room; it may reach beyond the picture."""
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    side = int(np.ceil(_ROOM * max(np.ptp(rows) + 1, np.ptp(columns) + 1)))
    top = int(rows.mean() - side / 2 + 0.5) if side > len(rows) else int(rows[0])
    left = int(columns.mean() - side / 2 + 0.5) if side > len(columns) else int(columns[0])
    top = min(top, int(rows[0]))
    left = min(left, int(columns[0]))
    return top, left, side


def _cut(array: Float32, box: tuple[int, int, int]) -> Float32:
    """The square of an array (H, W, ...), 0 beyond the picture."""
    top, left, side = box
    out = np.zeros((side, side, *array.shape[2:]), np.float32)
    rows = slice(max(top, 0), min(top + side, array.shape[0]))
    columns = slice(max(left, 0), min(left + side, array.shape[1]))
    out[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = array[rows, columns]
    return out


def load_still_inpainter(folder: Path, device: torch.device) -> StillInpainter:
    """The pipeline of a folder, from its files alone.

    Raises:
        InputError: a part is missing or damaged.
        MissingBackendError: diffusers or transformers is not installed.
    """
    diffusers = package("diffusers")
    package("transformers")
    try:
        pipeline = diffusers.StableDiffusionInpaintPipeline.from_pretrained(
            str(folder),
            local_files_only=True,
            use_safetensors=True,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    except Exception as error:  # noqa: BLE001 - the package's errors have no common base
        reason = str(error).replace(str(folder), folder.name).split("\n")[0][:160]
        raise InputError(
            f"The inpainting pipeline in {folder.name} cannot be loaded ({reason}); expected diffusers' "
            "layout with safetensors: get the folder again from where it was published."
        ) from None
    pipeline.set_progress_bar_config(disable=True)
    side = int(pipeline.unet.config.sample_size) * int(pipeline.vae_scale_factor)
    return StillInpainter(pipeline.to(device), side)
