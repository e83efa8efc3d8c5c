"""The stream phantom on the command line: a live endoscope as a folder that can be played, with its truth."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from splatomy.background import beside
from splatomy.events import Progress, Task
from splatomy.geometry.rigid import inverse
from splatomy.io.atomic import write_json
from splatomy.io.depth_folder import write_depth_png
from splatomy.io.endonerf import MANIFEST
from splatomy.io.frames import write_picture
from splatomy.io.mesh import write_mesh
from splatomy.phantoms.stream import StreamFrame, StreamPhantom, StreamPreset

_DEPTH_SCALE_MM = 0.01


def written_stream(case: Path, preset: str | StreamPreset, seed: int) -> Task[None]:
    """Simulates the frames one at a time and writes them as an EndoNeRF folder without poses, with truth/.

    The folder is what a depth camera of known lens would give. Poses, masks, bare tissue, its depth and
    what every frame shows are in truth/ alone; ``--masks truth/masks`` hands the masks over.

    Raises:
        InputError: no such preset.
    """
    yield Progress("grow", 0, 1)
    phantom = yield from beside("grow", 0, 1, partial(StreamPhantom, preset, seed))
    count = phantom.num_frames
    frames: list[dict[str, Any]] = []
    for frame in phantom.frames(0, count):
        yield Progress("film", frame.number, count)
        _write_frame(case, frame)
        frames.append(
            {
                "time_s": frame.time_s,
                "state": frame.state,
                "smoke": round(frame.smoke, 4),
                "camera_from_world": frame.camera_from_world.tolist(),
            }
        )
    yield from beside("write", 0, 1, partial(_write_record, case, phantom, frames))
    yield Progress("film", count, count)


def _write_frame(case: Path, frame: StreamFrame) -> None:
    name, truth = f"{frame.number:06d}.png", case / "truth"
    write_picture(case / "images" / name, np.rint(frame.image * 255).astype(np.uint8))
    write_depth_png(case / "depth" / name, frame.depth_mm, _DEPTH_SCALE_MM)
    write_picture(truth / "rgb" / name, np.rint(frame.rgb * 255).astype(np.uint8))
    write_depth_png(truth / "depth" / name, frame.tissue_depth_mm, _DEPTH_SCALE_MM)
    write_picture(truth / "masks" / name, frame.occluded.astype(np.uint8) * 255)


def _write_record(case: Path, phantom: StreamPhantom, frames: list[dict[str, Any]]) -> None:
    """The surface and what is known of every frame; the folder's manifest comes last."""
    p = phantom.preset
    if p.breath_mm == 0:
        write_mesh(case / "truth" / "mesh.ply", phantom.mesh(0.0))
    record = {
        "contract": 1,
        "world": "first camera",
        "masks_mean": "hidden",
        "depth_scale_mm": _DEPTH_SCALE_MM,
        "times_s": [f["time_s"] for f in frames],
        "intrinsics": phantom.intrinsics.tolist(),
        "camera_from_world": [f["camera_from_world"] for f in frames],
        "states": [f["state"] for f in frames],
        "smoke": [f["smoke"] for f in frames],
        "breath_mm": p.breath_mm,
        "instrument_diameter_mm": p.instrument_mm,
        "provenance": ["simulated live endoscope", f"stream phantom, seed {phantom.seed}"],
    }
    write_json(case / "truth" / "truth.json", record)
    # Camera-to-world, so that the file can also be given as --poses.
    poses = inverse(np.array([f["camera_from_world"] for f in frames]))
    write_json(case / "truth" / "poses.json", {"poses": poses.tolist()})
    manifest = {
        "contract": 1,
        "layout": "EndoNeRF",
        "metric": True,
        "depth_scale_mm": _DEPTH_SCALE_MM,
        "times_s": record["times_s"],
        "intrinsics": phantom.intrinsics.tolist(),
    }
    write_json(case / MANIFEST, manifest)
