"""An hour of stream time on a simulated clock, 7,200 frames: memory stays flat, the camera is found again.

``make verify`` takes a part of at most four minutes and leaves the session stopped in the environment's
folder, under the hash of the live method's sources; the next run goes on from its checkpoint. ``make soak``
takes the rest of the hour.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import splatomy
from splatomy.engine.live import LiveRequest, PhantomSource, live
from splatomy.events import LiveStatus
from splatomy.geometry.rigid import inverse
from splatomy.io.live_sources import LiveFrame
from splatomy.phantoms.stream import PRESETS, StreamPhantom

FPS = 2.0
"""Frames that are taken of each second: 7,200 in the hour."""
FRAMES = 7200
PART_S = 180.0
"""Wall time of the part that ``make verify`` takes."""
SETTLED = 1200
"""Frames after which everything that is bounded has filled: the sheet's ten minutes."""
# The path takes as long as the cycle, so that the loop closes.
STREAM = replace(PRESETS["small"], fps=6.0, cycle_s=40.0, path_s=40.0, breath_mm=0.0)
SETTINGS = {"steps_per_frame": 1, "publish_every_s": 5.0, "keep_every_s": 5.0, "mesh_every_s": 30.0}
MOST_MM = 3.0
"""How far the path of the last cycle may be off."""
MOST_KEPT = 2400
"""Frames that a session keeps for later, three files each."""
MOST_FILES = 600
"""What else the run folder may hold: snapshots replace each other."""


class Loop(PhantomSource):
    """One cycle of the stream over and over, its clock going on."""

    def __init__(self, phantom: StreamPhantom, frames: int) -> None:
        super().__init__(phantom, "max", frames)
        self.cycle = round(phantom.preset.cycle_s * phantom.preset.fps)
        self.count = 0
        # All at once, so that only the session's own memory grows later.
        made = [super(Loop, self).read(0.0) for _ in range(self.cycle)]
        self.made: list[LiveFrame] = [frame for frame in made if frame is not None]

    def read(self, timeout_s: float) -> LiveFrame | None:
        if self.count >= self.frames:
            return None
        frame = self.made[self.count % self.cycle]
        time_s = self.count / FPS
        self.count += 1
        return replace(frame, index=self.count - 1, time_s=time_s, received_s=time_s)

    @property
    def ended(self) -> bool:
        return self.count >= self.frames


def session_folder() -> Path:
    """Where the session of these sources is kept; those of other sources are removed."""
    package = Path(splatomy.__file__).parent
    digest = hashlib.sha256()
    for part in ("methods/live_scene", "engine/live"):
        for path in sorted((package / part).glob("*.py")):
            digest.update(path.read_bytes())
    folder = Path(sys.prefix) / "soak" / f"live-{digest.hexdigest()[:12]}"
    for other in folder.parent.glob("live-*"):
        if other != folder:
            shutil.rmtree(other)
    return folder


def taken(folder: Path, seconds: float) -> list[tuple[int, float, float]]:
    """Goes on with the session for some time, or to its end; frame, memory in MB and surfels on the way."""
    resume = (folder / "run.json").is_file()
    request = LiveRequest("phantom", folder, rate="max", settings=SETTINGS, resume=resume)
    task = live(request, Loop(StreamPhantom(STREAM, 0), FRAMES))
    began_s, found = time.monotonic(), []
    for event in task:
        if isinstance(event, LiveStatus):
            found.append((event.frame, event.metrics["memory_mb"], event.metrics["surfels"]))
            if time.monotonic() - began_s > seconds:
                task.close()
                break
    return found


def is_done(folder: Path) -> bool:
    record = folder / "run.json"
    return record.is_file() and json.loads(record.read_text())["state"] == "done"


def check_bounded(folder: Path, found: list[tuple[int, float, float]]) -> None:
    """Memory, map and files as they may be after a part; memory only where the part was long enough."""
    assert found
    assert max(surfels for _, _, surfels in found) <= 150_000
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    kept = sum(path.parts[0] == "session" for path in files)
    assert kept <= 3 * MOST_KEPT + 2
    assert len(files) - kept < MOST_FILES
    settled = found[0][0] + SETTLED
    early = [memory for frame, memory, _ in found if settled <= frame < settled + 300]
    late = [memory for frame, memory, _ in found if frame >= found[-1][0] - 300]
    if found[-1][0] > settled + 600:
        # The sheet's bound.
        assert np.median(late) < 1.05 * np.median(early)


@pytest.mark.verify
def test_a_part_of_an_hour_needs_no_more_memory_at_its_end() -> None:
    folder = session_folder()
    if not is_done(folder):
        check_bounded(folder, taken(folder, PART_S))


@pytest.mark.soak
def test_an_hour_needs_no_more_memory_than_ten_minutes() -> None:
    folder = session_folder()
    if not is_done(folder):
        check_bounded(folder, taken(folder, np.inf))
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["frames"] == FRAMES and metrics["maps"] <= 8
    cycles = FRAMES / (STREAM.cycle_s * STREAM.fps)
    assert metrics["relocalisations"] >= 2 * int(cycles)
    found = np.loadtxt(folder / "trajectory.txt")
    assert np.isfinite(found).all() and len(found) > 0.6 * FRAMES
    # The map has not slid away: in the last cycle the camera is still found where it was in the first.
    phantom, cycle = StreamPhantom(STREAM, 0), round(STREAM.cycle_s * STREAM.fps)
    last = found[found[:, 0] >= (FRAMES - cycle) / FPS]
    at_s = np.rint(last[:, 0] * FPS) % cycle / STREAM.fps
    true = np.stack([inverse(phantom.camera_from_world(float(t)))[:3, 3] for t in at_s])
    assert np.sqrt(np.square(last[:, 1:4] - true).sum(1).mean()) < MOST_MM
