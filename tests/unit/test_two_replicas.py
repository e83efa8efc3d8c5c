"""Steps of several views, and two processes that share them: the same result as one process."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from splatomy.capture import Capture, Modality
from splatomy.cli.main import main
from splatomy.events import finish
from splatomy.geometry.cameras import Cameras
from splatomy.method import find_method, make_config
from splatomy.replicas.capture_parcel import packed, unpacked
from splatomy.replicas.group import Replicas
from splatomy.replicas.leading import replicated
from splatomy.scene import Scene

CPU = torch.device("cpu")


def trained(capture: Capture, count: int, method: str = "dynamic_vessels", **settings: Any) -> Scene:
    spec = find_method(method)
    return finish(replicated(spec, capture, make_config(spec, "standard", settings), CPU, count))


def test_two_replicas_do_what_one_process_does(tiny_capture: Capture) -> None:
    """With density control and residual seeding on the way.

    Sums over the views may be taken in another order: float32 then differs by some 1e-7 in a gradient.
    """
    settings = {"steps": 60, "num_start": 400, "grow_every": 10, "residual_seeds": 1, "views_per_step": 2}
    one, two = (trained(tiny_capture, count, **settings).state().arrays for count in (1, 2))
    assert len(one["means_mm"]) != 400, "nothing grew and nothing was pruned"
    for name, array in one.items():
        assert two[name].shape == array.shape, name
        assert np.abs(two[name] - array).max() <= 1e-4 * np.abs(array).max(), name


def test_every_view_belongs_to_one_replica() -> None:
    shares = [Replicas(rank, 3).own(range(7)) for rank in range(3)]
    assert sorted(n for share in shares for n in share) == list(range(7))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_capture_arrives_as_it_was(tiny_capture: Capture) -> None:
    """Whole, whatever fields there are, but for what only people read."""
    generator = np.random.default_rng(0)
    frames, height, width = 3, 4, 5

    def noise() -> Any:
        return generator.random((frames, height, width)).astype(np.float32)

    full = replace(
        tiny_capture.frames(slice(0, frames)),
        images=noise()[..., None],
        cameras=Cameras(np.eye(3)[None].repeat(3, 0), np.eye(4)[None].repeat(3, 0), width, height),
        occluded=noise() > 0.5,
        outside=noise()[0] > 0.5,
        target=noise() > 0.5,
        synthetic=noise() > 0.5,
        depth_mm=np.where(noise() > 0.5, noise(), np.float32(np.nan)),
        depth_confidence=noise(),
        noise_std=noise(),
        metric=False,
        world="LPS",
    )
    again = unpacked(packed(full))
    for field in fields(Capture):
        sent, arrived = getattr(full, field.name), getattr(again, field.name)
        assert (sent is None) == (arrived is None), field.name
        if isinstance(sent, np.ndarray):
            assert sent.dtype == arrived.dtype and np.array_equal(sent, arrived, equal_nan=sent.dtype != bool)
        elif isinstance(sent, Modality | bool | str):
            assert sent == arrived
    assert again.cameras is not None and again.grid is not None and tiny_capture.grid is not None
    assert np.array_equal(again.cameras.camera_from_world, np.eye(4)[None].repeat(3, 0))
    assert again.grid.shape == tiny_capture.grid.shape
    assert np.array_equal(again.grid.affine_mm, tiny_capture.grid.affine_mm)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--replicas", "2"], "views_per_step of at least 2, got 1"),
        (["--replicas", "0"], "expected 1 or more"),
        (["--replicas", "2", "--method", "fdk"], "trains in one process"),
    ],
)
def test_what_cannot_be_shared_is_said(
    words: list[str], part: str, tiny_case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["reconstruct", str(tiny_case), "--out", str(out), *words]) == 2
    error = capsys.readouterr().err.strip()
    assert part in error and "\n" not in error and not out.exists()
