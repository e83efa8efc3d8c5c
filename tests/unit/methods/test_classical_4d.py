"""The classical 4D-DSA: its curves carry the time that a static volume cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from splatomy.capture import Capture
from splatomy.engine import open_capture
from splatomy.events import finish
from splatomy.extract.timemaps import time_maps
from splatomy.io.options import InputOptions
from splatomy.method import list_methods, load_symbol, make_config
from splatomy.phantoms.vessels import VesselPhantom
from splatomy.scene import Scene


@pytest.fixture(scope="module")
def noisy(tiny_case: Path) -> Capture:
    """The tiny phantom as a scanner writes it: counting noise, so some line integrals are negative."""
    return finish(open_capture(tiny_case, InputOptions()))


@pytest.fixture(scope="module")
def curves(tiny_phantom: VesselPhantom, noisy: Capture) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Attenuation (V, T) in the true vessels by the classical method and by FDK, and the times (T,)."""
    inside = tiny_phantom.label > 0
    times_s = np.linspace(0, tiny_phantom.times_s[-1], 24)
    found = []
    for name in ("classical_4d", "fdk"):
        spec = list_methods()[name]
        task = load_symbol(spec.reconstruct)([noisy], make_config(spec, "standard", {}), torch.device("cpu"))
        scene: Scene = finish(task)
        found.append(
            np.stack([scene.volume(tiny_phantom.grid, float(t)).values[inside] for t in times_s], axis=1)
        )
    return found[0], found[1], times_s


def test_arrival_beats_every_static_answer(tiny_phantom: VesselPhantom, curves: tuple) -> None:
    truth_s = tiny_phantom.arrival.values[tiny_phantom.label > 0]
    arrival_s = time_maps(curves[0], curves[2])[0]
    # A static volume knows one time at most; the truth's own median is the best of them.
    static_s = np.median(np.abs(np.median(truth_s) - truth_s))
    assert np.nanmedian(np.abs(arrival_s - truth_s)) < 0.7 * static_s


def test_curves_are_nearer_to_the_truth_than_the_static_volume(
    tiny_phantom: VesselPhantom, curves: tuple
) -> None:
    inside = tiny_phantom.label > 0
    truth = np.stack([tiny_phantom.density_at(float(t)).values[inside] for t in curves[2]], axis=1)
    moving, static = (float(np.sqrt(np.mean((c - truth) ** 2))) for c in curves[:2])
    assert moving < static


def test_nothing_is_negative_though_the_pictures_are(noisy: Capture, curves: tuple) -> None:
    assert noisy.images.min() < 0
    assert curves[0].min() >= 0
