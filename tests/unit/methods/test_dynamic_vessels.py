"""Curves of contrast over time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from splatomy.capture import Capture
from splatomy.events import finish
from splatomy.methods.dynamic_vessels import method
from splatomy.methods.dynamic_vessels.config import Config
from splatomy.replicas.group import Replicas


@pytest.mark.parametrize("times", [1, 3])
def test_splines_lie_equally_far_apart_in_runs_of_any_length(tiny_capture: Capture, times: int) -> None:
    slower = replace(tiny_capture, times_s=times * tiny_capture.times_s)
    spline_s = float(tiny_capture.times_s.max() - tiny_capture.times_s.min()) / 4
    config = Config(steps=100, num_start=100, spline_s=spline_s)
    trainer = method._Trainer(slower, config, torch.device("cpu"), Replicas())
    finish(trainer.start())
    # A cubic spline begins three before the first moment; there are never more than views tell apart.
    assert trainer.store["curve"].shape[1] == min(4 * times + 3, len(slower) + 3)
