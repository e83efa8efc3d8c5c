"""Small real inputs that many tests share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from splatomy.capture import Capture, Modality
from splatomy.cli.phantom.vessels import write_vessel_phantom
from splatomy.events import finish
from splatomy.phantoms.vessels import VesselPhantom, make_vessels


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(exitstatus: int) -> None:
    """Tells the end of a process with a window how the tests went."""
    ending = sys.modules.get("splatomy_gui.ending")
    if ending is not None:
        ending.will_end_with(int(exitstatus))


@pytest.fixture(scope="session")
def tiny_phantom() -> VesselPhantom:
    """The smallest vessel phantom."""
    return finish(make_vessels("tiny", 0))


@pytest.fixture(scope="session")
def tiny_case(tiny_phantom: VesselPhantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest phantom as a case folder with truth/."""
    folder = tmp_path_factory.mktemp("case")
    write_vessel_phantom(folder, tiny_phantom)
    return folder


@pytest.fixture(scope="session")
def tiny_capture(tiny_phantom: VesselPhantom) -> Capture:
    """The noise-free tiny phantom, ready for a method."""
    phantom = tiny_phantom
    return Capture(
        Modality.ATTENUATION,
        phantom.projections[..., None],
        phantom.times_s,
        cameras=phantom.cameras,
        noise_std=np.full(phantom.projections.shape, 0.005, np.float32),
        grid=phantom.grid,
    )


@pytest.fixture(autouse=True)
def _gradients_stay_on() -> Iterator[None]:
    """A task that yields inside no_grad would switch gradients off for everybody."""
    yield
    assert torch.is_grad_enabled()
