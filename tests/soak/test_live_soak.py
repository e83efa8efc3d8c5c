"""Six minutes of a stream without disturbances: path and map do not drift away."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from splatomy.engine.live import LiveRequest, PhantomSource, live
from splatomy.engine.live.measuring import against_phantom
from splatomy.io.run import RunFolder
from splatomy.phantoms.stream import PRESETS, StreamPhantom

pytestmark = pytest.mark.soak

STREAM_S = float(os.environ.get("SPLATOMY_SOAK_S", "3600"))
FPS = 2.0
"""Frames that are taken of each second: 7,200 in the hour."""


def test_the_map_is_still_the_tissue_after_six_minutes(tmp_path: Path) -> None:
    preset = replace(PRESETS["small"], disturbances=())
    phantom = StreamPhantom(preset, 0)
    frames = round(STREAM_S / 10 * FPS)
    request = LiveRequest("phantom", tmp_path / "run", rate="max", settings={"steps_per_frame": 1})
    for _ in live(request, PhantomSource(phantom, "max", frames)):
        pass
    figures = against_phantom(RunFolder(tmp_path / "run"), phantom)
    assert figures["ate_share"] < 0.01 and figures["stray_share"] < 0.005
