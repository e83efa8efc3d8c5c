"""What the engine makes of diffusion: where it is asked for, and what it says when it cannot be had."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_clip import _clip
from tiny_weights import write_tiny_weights

from splatomy.engine.inpainting import fill_hidden
from splatomy.errors import MissingBackendError
from splatomy.events import Notice, finish
from splatomy.prepare.inpaint import inpaint_frames
from splatomy.prepare.inpaint.diffusion import _packages, require_diffusion

CPU = torch.device("cpu")


@pytest.fixture
def without_diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the extra were not installed."""
    monkeypatch.setitem(sys.modules, "diffusers", None)
    monkeypatch.setattr(_packages, "_loaded", _packages._loaded.__wrapped__)


def test_on_a_cpu_the_clip_is_filled_by_propagation_alone() -> None:
    images, occluded = _clip(4)
    filling = finish(fill_hidden(images, occluded, CPU))
    assert filling.record["by"] == "propagation"
    assert np.array_equal(filling.inpainting.images, finish(inpaint_frames(images, occluded)).images)


def test_without_the_extra_nothing_is_said_on_a_cpu(without_diffusers: None) -> None:
    images, occluded = _clip(4)
    events = list(fill_hidden(images, occluded, CPU))
    assert not [e for e in events if isinstance(e, Notice) and "diffus" in e.text]


def test_the_hint_says_what_to_install(without_diffusers: None, tmp_path: Path) -> None:
    with pytest.raises(MissingBackendError, match=r"splatomy\[diffusion\]"):
        require_diffusion()
    images, occluded = _clip(4)
    with pytest.raises(MissingBackendError, match="diffusers"):
        finish(fill_hidden(images, occluded, CPU, weights=tmp_path))


def test_given_weights_are_judged_and_their_licences_told(tmp_path: Path) -> None:
    write_tiny_weights(tmp_path)
    images, occluded = _clip(6)
    task, codes = fill_hidden(images, occluded, CPU, weights=tmp_path), []
    while True:
        try:
            event = next(task)
        except StopIteration as stop:
            filling = stop.value
            break
        if isinstance(event, Notice):
            codes.append(event.code)
    # Random weights make noise, which the transplanted holes must show.
    assert filling.record["by"] == "propagation"
    assert filling.record["transplants_diffusion_db"] < filling.record["transplants_db"]
    assert codes.index("weights-licences") < codes.index("inpainting-chosen")
    assert len(filling.record["weights"]) > 10
    assert np.array_equal(filling.inpainting.images[~occluded], images[~occluded])
