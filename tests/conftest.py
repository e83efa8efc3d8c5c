"""Small real inputs that many tests share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from splatomy.background import end_now
from splatomy.capture import Capture, Modality
from splatomy.cli.phantom.vessels import write_vessel_phantom
from splatomy.events import finish
from splatomy.phantoms.vessels import VesselPhantom, make_vessels

_ENDED: list[int] = []
"""The exit status, once all tests have run."""


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(exitstatus: int) -> None:
    """Keeps the exit status for the end below."""
    _ENDED.append(int(exitstatus))


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """With a window the process ends as the app's does; a worker is ended by the process that leads it."""
    widgets = sys.modules.get("PyQt6.QtWidgets")
    has_window = widgets is not None and widgets.QApplication.instance() is not None
    if _ENDED and has_window and "PYTEST_XDIST_WORKER" not in os.environ:
        end_now(_ENDED[-1])


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
