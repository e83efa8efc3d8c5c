"""The clip's own network: what it starts as, what it learns, and when it stops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from splatomy.errors import InputError
from splatomy.events import Notice, finish
from splatomy.prepare.inpaint import SYNTHESISED, Inpainting
from splatomy.prepare.inpaint.diffusion.clip import ClipDiffusion
from splatomy.prepare.inpaint.diffusion.examples import Examples
from splatomy.prepare.inpaint.diffusion.network import ClipDiffusionConfig, ClipNetwork
from splatomy.prepare.inpaint.diffusion.training import trained

CPU = torch.device("cpu")
TINY = ClipDiffusionConfig(steps=4, batch=2, crop_px=32, channels=(8, 8, 16, 16), examples=4)


def _stained(count: int) -> Examples:
    """Fillings that are too red by 0.1 in every hole: an error that can be learnt from the filling alone."""
    rng = np.random.default_rng(1)
    planes = np.zeros((count, 6, 48, 48), np.float16)
    known = np.zeros((count, 48, 48), bool)
    known[:, 12:36, 12:36] = True
    truth = np.repeat(rng.uniform(0.3, 0.5, (count, 1, 1, 1)), 3, 1) * np.ones((1, 1, 48, 48))
    planes[:, :3] = truth
    planes[:, 0][known] += 0.1
    planes[:, 3], planes[:, 4] = known, known * 0.8
    return Examples(planes, truth.astype(np.float16), known)


def test_an_untrained_network_tells_the_filling_itself() -> None:
    network = ClipNetwork(TINY.channels)
    planes = torch.rand(2, 6, 32, 32)
    assert torch.equal(network(torch.rand(2, 3, 32, 32), planes, torch.ones(2)), planes[:, :3])


def test_an_error_that_every_filling_has_is_learnt_and_taken_out() -> None:
    config = ClipDiffusionConfig(
        steps=120,
        batch=4,
        crop_px=32,
        channels=(8, 8, 16, 16),
        learning_rate=4e-3,
        sampling_steps=2,
        time_limit_s=3600,
    )
    own = ClipDiffusion(finish(trained(_stained(6), config, CPU, 0)), config, CPU, 0)
    picture = np.full((1, 40, 40, 3), 0.4, np.float32)
    occluded = np.zeros((1, 40, 40), bool)
    occluded[0, 8:32, 8:32] = True
    picture[occluded] += np.float32([0.1, 0, 0])
    filled = Inpainting(
        picture.copy(), np.where(occluded, 1, 0), np.where(occluded, 0.2, 1).astype(np.float32)
    )
    finish(own.refine(filled, occluded))
    assert np.abs(filled.images[occluded] - 0.4).mean() < 0.5 * np.abs(picture[occluded] - 0.4).mean()
    assert np.array_equal(filled.images[~occluded], picture[~occluded])
    # What was changed by more than a colour step of 0.05 is no longer called an observation.
    changed = np.abs(filled.images - picture).max(-1) > 0.05
    assert changed.any()
    assert (filled.provenance[changed] == SYNTHESISED).all()
    assert filled.confidence[changed].max() <= 0.1


def test_the_same_seed_trains_the_same_network() -> None:
    made = [finish(trained(_stained(3), TINY, CPU, seed)).state_dict() for seed in (0, 0, 1)]
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])
    assert any(not torch.equal(made[0][name], made[2][name]) for name in made[0])


def test_training_ends_in_time_and_says_so() -> None:
    config = ClipDiffusionConfig(steps=10_000, batch=1, crop_px=16, channels=(8, 8, 8, 8), time_limit_s=0.05)
    events = list(trained(_stained(2), config, CPU, 0))
    assert any(isinstance(event, Notice) and event.code == "clip-diffusion-time" for event in events)


@pytest.mark.parametrize("wrong", [{"crop_px": 20}, {"channels": (8, 8)}, {"steps": 0}])
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        ClipDiffusionConfig(**wrong)  # type: ignore[arg-type]
