"""Mask proposals without weights: grey instruments that enter from the border, before red tissue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.events import Notice, Progress, Task
from splatomy.method import setting
from splatomy.prepare.depth import Storage, depth_storage
from splatomy.prepare.masks._colour import ChromaModel, fit_chroma, highlights, warmth
from splatomy.prepare.masks._flow import (
    Bool,
    Codes,
    Float32,
    FlowMeter,
    background_motion,
    codes_of,
    consistent,
    fetched,
    shrunk,
    working_size,
)
from splatomy.prepare.masks._refine import cleaned, expected_overlap, guided, touched_parts
from splatomy.prepare.masks._shape import with_sharp_borders

_SAMPLED = 24
_LARGE_HIGHLIGHT = 0.02
_FLASH = 1.25
_PROBABLE, _MAYBE = 0.6, 0.35
_SHARP = 0.25
"""Least share of an instrument's border that is sharp, when grey instruments stand out at all."""


@dataclass(frozen=True)
class ProposalConfig:
    """How instruments are looked for."""

    working_px: int = setting(320, 64, 2048, "px", "Longer side of the picture in which evidence is gathered")
    motion_weight: float = setting(0.5, 0.0, 4.0, doc="Weight of motion against the background's")
    neighbour_weight: float = setting(
        0.4, 0.0, 2.0, doc="Weight of the evidence in the frames before and after"
    )
    smallest_share: float = setting(0.0015, 0.0, 0.2, doc="Smallest instrument, as a share of the picture")
    hole_share: float = setting(0.003, 0.0, 0.2, doc="Largest hole that is filled, as a share of the picture")


@dataclass(frozen=True)
class Proposal:
    """occluded (T, H, W): True = an instrument hides the tissue. specular (T, H, W): True = a highlight on
    visible tissue. confidence (T,) in [0, 1]: the overlap with the truth that the evidence lets expect.
    """

    occluded: Bool
    specular: Bool
    confidence: NDArray[np.float64]


@dataclass(frozen=True)
class _Evidence:
    """One frame: its codes at full and at working size, highlights, and log-odds (h, w)."""

    full: Codes
    small: Codes
    specular: Bool
    log_odds: Float32


@dataclass(frozen=True)
class _Motion:
    """Flow between a frame and the next one, and back, (h, w, 2) px."""

    onward: Float32
    back: Float32


def propose(
    images: Any,
    config: ProposalConfig | None = None,
    outside: Bool | None = None,
    storage: Storage = depth_storage,
) -> Task[Proposal]:
    """Instruments and highlights of a clip, found by colour and motion; nobody has confirmed them.

    images: (T, H, W, 3) sRGB in [0, 1], or lazy images that give such frames one by one.
    outside: (H, W), True = the picture shows nothing there (a black border), or None.
    storage: makes the arrays of the result; those of a long clip may lie on disk.

    Source: colour, motion and fusion follow ``masks-and-depth`` A2 to A8: two modes of CIE-LAB chroma (of
    its warm half), residual against the background's affine motion, summed log-odds, guided filter; frames
    before and after lend their evidence where the flow is consistent; pieces without a sharp border go.
    """
    config = config or ProposalConfig()
    frames, height, width = images.shape[:3]
    outside = np.zeros((height, width), bool) if outside is None else outside
    size = working_size(height, width, config.working_px)
    model = yield from _clip_model(images, outside, size)
    if not model.clear:
        yield Notice(
            "warning",
            "no-grey-mode",
            "No grey instruments stand out from the tissue in this clip: the proposals are weak and need a "
            "careful look.",
        )
    occluded = storage((frames, height, width), np.bool_)
    specular = storage((frames, height, width), np.bool_)
    confidence = np.zeros(frames)
    window = _windows(images, model, size, config)
    for frame, (before, now, after, motion_before, motion_after) in enumerate(window):
        yield Progress("propose masks", frame, frames)
        probability = _fused(before, now, after, motion_before, motion_after, config)
        fine = guided(probability, now.small, now.full)
        fine[outside] = 0
        mask = cleaned(_decided(fine), outside, config.smallest_share, config.hole_share)
        last = occluded[frame - 1] if frame else None
        mask = with_sharp_borders(mask, now.small, outside, last, _SHARP if model.clear else 2 * _SHARP)
        occluded[frame], specular[frame] = _without_tool_highlights(mask, now.specular & ~outside)
        overlap = expected_overlap(fine, occluded[frame])
        confidence[frame] = overlap if model.clear else 0.5 * overlap
        yield Progress("propose masks", frame + 1, frames)
    return Proposal(occluded, specular, confidence)


def _clip_model(images: Any, outside: Bool, size: tuple[int, int]) -> Task[ChromaModel]:
    """The chroma of instruments and tissue, from frames spread over the clip."""
    visible = cv2.resize(outside.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST) == 0
    chosen = np.unique(np.linspace(0, len(images) - 1, _SAMPLED).round().astype(int))
    samples = []
    for number, frame in enumerate(chosen.tolist()):
        yield Progress("learn colours", number, len(chosen))
        small = shrunk(codes_of(images[frame]), size)
        usable = visible & ~highlights(small)
        samples.append(warmth(small)[0][usable])
    yield Progress("learn colours", len(chosen), len(chosen))
    return fit_chroma(np.concatenate(samples))


def _evidence(image: NDArray[np.floating], model: ChromaModel, size: tuple[int, int]) -> _Evidence:
    full = codes_of(image)
    small = shrunk(full, size)
    specular = highlights(full)
    warm, relative = warmth(small)
    log_odds = model.log_odds(warm, relative)
    # A highlight has the lamp's colour, whatever it lies on: its surroundings decide.
    shining = cv2.resize(specular.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST) > 0
    log_odds[shining & (log_odds > 0)] = 0
    return _Evidence(full, small, specular, log_odds)


_Window = tuple[_Evidence | None, _Evidence, _Evidence | None, _Motion | None, _Motion | None]


def _windows(
    images: Any, model: ChromaModel, size: tuple[int, int], config: ProposalConfig
) -> Iterator[_Window]:
    """Each frame's evidence with that of its neighbours; three frames are held at a time."""
    meter = FlowMeter()
    before: _Evidence | None = None
    motion_before: _Motion | None = None
    now = _evidence(images[0], model, size)
    for frame in range(len(images)):
        after = motion_after = None
        if frame + 1 < len(images):
            after = _evidence(images[frame + 1], model, size)
            levels = sorted((float(now.small.mean()) + 1, float(after.small.mean()) + 1))
            # Over an electric flash or a cut no flow can be trusted.
            if levels[1] < _FLASH * levels[0]:
                motion_after = _Motion(*meter.both(now.small, after.small))
        yield before, now, after, motion_before, motion_after
        if after is not None:
            before, now, motion_before = now, after, motion_after


def _fused(
    before: _Evidence | None,
    now: _Evidence,
    after: _Evidence | None,
    motion_before: _Motion | None,
    motion_after: _Motion | None,
    config: ProposalConfig,
) -> Float32:
    """The probability (h, w) of an instrument: colour, motion, and the frames before and after."""
    sides = []
    if before is not None and motion_before is not None:
        sides.append((before, motion_before.back, motion_before.onward))
    if after is not None and motion_after is not None:
        sides.append((after, motion_after.onward, motion_after.back))
    log_odds = now.log_odds.copy()
    for neighbour, flow, back in sides:
        trusted = consistent(flow, back)
        log_odds += config.neighbour_weight * np.where(trusted, fetched(neighbour.log_odds, flow), 0)
        log_odds += config.motion_weight / len(sides) * _motion_log_odds(flow, now.log_odds)
    return np.asarray(1 / (1 + np.exp(-log_odds)), dtype=np.float32)


def _motion_log_odds(flow: Float32, colour_log_odds: Float32) -> Float32:
    """Log-odds (h, w) of moving otherwise than the background; never below 0, since instruments rest too."""
    background = background_motion(flow, (colour_log_odds < 0).astype(np.float32))
    miss2 = np.square(flow - background).sum(-1)
    spread2 = max(1.0, 4 * float(np.median(miss2)))
    moving = 1 - np.exp(-miss2 / (2 * spread2))
    return np.asarray(np.log((0.5 + 0.49 * moving) / (0.5 - 0.49 * moving)), dtype=np.float32)


def _decided(probability: Float32) -> Bool:
    """Probable places with the less probable ones that join them, and the pixels that they partly cover.

    An instrument taken for tissue would be built into the surface, while hidden tissue is found in other
    frames: doubt counts as instrument.
    """
    sure = touched_parts(probability > _MAYBE, probability > _PROBABLE)
    return np.asarray(cv2.dilate(sure.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)


def _without_tool_highlights(mask: Bool, shining: Bool) -> tuple[Bool, Bool]:
    """The instruments with the large highlights on them, and the highlights on tissue."""
    on_tool = touched_parts(shining, mask)
    on_tissue = shining & ~on_tool
    if on_tissue.mean() > _LARGE_HIGHLIGHT:
        labels = cv2.connectedComponentsWithStats(on_tissue.astype(np.uint8), connectivity=8)
        large = labels[2][:, cv2.CC_STAT_AREA] > _LARGE_HIGHLIGHT * mask.size
        large[0] = False
        on_tissue &= ~large[labels[1]]
    return mask, on_tissue
