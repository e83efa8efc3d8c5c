"""The network trained on the clip itself: what it learns, what it may touch, and that it is judged fairly."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from splatomy.events import Notice, Progress, finish
from splatomy.prepare.inpaint import Inpainting, inpaint_frames
from splatomy.prepare.inpaint.diffusion.clip import improve_by_clip_diffusion, learn_clip
from splatomy.prepare.inpaint.diffusion.examples import planes_of, without_trials
from splatomy.prepare.inpaint.diffusion.keeping import KeptPropagation
from splatomy.prepare.inpaint.diffusion.network import ClipDiffusionConfig
from splatomy.prepare.inpaint.fields import Bool, Float32
from splatomy.prepare.inpaint.gate import transplants

CPU = torch.device("cpu")
TINY = ClipDiffusionConfig(steps=4, batch=2, crop_px=32, channels=(8, 8, 16, 16), examples=4)


def _clip(frames: int = 8) -> tuple[Float32, Bool]:
    """Texture that moves by a pixel a frame behind a bar that comes from above."""
    rng = np.random.default_rng(5)
    texture = cv2.GaussianBlur(rng.uniform(0, 1, (60, 90, 3)).astype(np.float32), (0, 0), 1.6)
    texture = np.clip((texture - 0.5) * 2.5 + 0.5, 0.05, 0.9)
    truth = np.stack([texture[6:54, 6 + t : 70 + t] for t in range(frames)]).astype(np.float32)
    occluded = np.zeros(truth.shape[:3], bool)
    for t in range(frames):
        occluded[t, :28, 4 + 5 * t : 16 + 5 * t] = True
    return np.where(occluded[..., None], np.float32(0.5), truth), occluded


def test_what_it_is_judged_by_is_never_learnt_from() -> None:
    images, occluded = _clip()
    trials = transplants(images, occluded, 0)
    assert trials
    hidden = without_trials(occluded, trials)
    other = np.where((hidden & ~occluded)[..., None], np.float32(0.9), images)
    assert not np.array_equal(other, images)
    made = []
    for clip in (images, other):
        own = finish(learn_clip(clip, occluded, trials, TINY, CPU))
        assert own is not None
        made.append(own._network.state_dict())
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])


def test_it_is_used_only_if_it_is_better_and_the_filling_is_else_untouched() -> None:
    images, occluded = _clip()
    filled = finish(inpaint_frames(images, occluded))
    before = filled.images.copy()
    task = improve_by_clip_diffusion(images, occluded, filled, TINY, CPU)
    verdict, notices = None, []
    while True:
        try:
            event = next(task)
        except StopIteration as stop:
            verdict = stop.value
            break
        assert torch.is_grad_enabled()
        if isinstance(event, Notice):
            notices.append(event)
    # Four steps teach nothing, so propagation is kept.
    assert verdict is not None and verdict.chosen == 0
    assert "inpainter-chosen" in [notice.code for notice in notices]
    assert np.array_equal(filled.images, before)


def test_it_can_be_stopped_at_any_event() -> None:
    images, occluded = _clip()
    filled = finish(inpaint_frames(images, occluded))
    task = improve_by_clip_diffusion(images, occluded, filled, TINY, CPU)
    assert isinstance(next(task), Progress)
    task.close()


def test_a_clip_without_holes_is_not_tried() -> None:
    images, occluded = _clip()
    nothing = np.zeros_like(occluded)
    filled = Inpainting(
        images.copy(), np.zeros(occluded.shape, np.int16), np.ones(occluded.shape, np.float32)
    )
    assert finish(improve_by_clip_diffusion(images, nothing, filled, TINY, CPU)) is None


def test_planes_tell_colour_hole_doubt_and_age() -> None:
    images, occluded = _clip(2)
    provenance = np.where(occluded, -1, 0).astype(np.int16)
    provenance[0, 0, 4] = 2
    confidence = np.where(occluded, 0.25, 1).astype(np.float32)
    planes = planes_of(Inpainting(images, provenance, confidence), occluded, 0)
    assert np.array_equal(np.moveaxis(planes[:3], 0, -1), images[0])
    assert np.array_equal(planes[3] > 0, occluded[0])
    assert np.allclose(planes[4][occluded[0]], 0.75) and (planes[4][~occluded[0]] == 0).all()
    assert planes[5, 0, 4] == pytest.approx(1 / 32)
    assert planes[5, 0, 5] == 1 and planes[5, 40, 40] == 0


def test_the_same_holes_are_filled_once() -> None:
    images, occluded = _clip(3)
    kept = KeptPropagation()
    first = finish(kept(images, occluded, np.array([1])))
    assert finish(kept(images, occluded, np.array([1]))) is first
    assert finish(kept(images, occluded, np.array([2]))) is not first
    whole = KeptPropagation(whole=True)
    first = finish(whole(images, occluded, np.array([1])))
    assert finish(whole(images, occluded, None)) is first
