"""The newest picture of a live source is written beside the reader, who never waits."""

import time

import numpy as np

from splatomy.engine.live import PhantomSource
from splatomy.engine.live.newest_picture import ShownSource
from splatomy.io.frames import read_rgb
from splatomy.phantoms.stream import PRESETS, StreamPhantom


def test_the_newest_frame_is_shown_and_a_refused_write_costs_nothing(tmp_path):
    for run in (tmp_path / "run", tmp_path / "file"):
        if run.name == "file":
            run.write_text("no folder can be made here")
        source = ShownSource(PhantomSource(StreamPhantom(PRESETS["tiny"], 0), "max"), run)
        newest = None
        for _ in range(12):
            newest = source.read(2.0) or newest
        assert newest is not None and newest.index >= 10
        time.sleep(0.4)
        source.close()
        if run.name == "run":
            shown = read_rgb(run / "live" / "frame.jpg").astype(float) / 255
            assert shown.shape == newest.image.shape and np.abs(shown - newest.image).mean() < 0.1
