"""Live sessions measured end to end on the stream phantom: rate, latency, stages, path and map errors.

``python tests/benchmarks/bench_live.py [--seconds S] [--sessions cpu,breathing] [--seed N] [--device cpu]``
adds its figures to resources/benchmarks/live.json (or --out FILE). On a CUDA device the sessions are gpu
(640 x 512, 25 frames/s, rigid) and gpu-breathing (640 x 512, 15 frames/s, deforming). The frames, with masks
and depth, are made before the clock runs and played at their own rate; latency: the time from a frame's
receipt to its snapshot on disk, so without what a window needs to upload and draw it. ate_mm is of the path
as it is written, which later breaths of the tissue correct: as it was published it is farther off.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import splatomy  # first: it sets how torch's idle threads wait

# isort: split

import cv2
import numba
import numpy as np
import torch

from splatomy.engine.live import LiveRequest, live
from splatomy.engine.live.measuring import against_phantom
from splatomy.engine.live.phantom_source import PhantomSource
from splatomy.events import LiveStatus
from splatomy.io.atomic import write_json
from splatomy.io.live_sources import LiveFrame
from splatomy.io.run import RunFolder
from splatomy.phantoms.stream import PRESETS, StreamPhantom, StreamPreset

OUT = Path(__file__).resolve().parents[2] / "resources" / "benchmarks" / "live.json"
SHOWN = ("fps", "latency_p50_s", "latency_p95_s", "ate_mm", "ate_share", "map_mae_mm", "stray_share", "psnr")
SESSIONS: dict[str, tuple[StreamPreset, str]] = {
    "cpu": (PRESETS["cpu"], "standard"),
    "breathing": (PRESETS["breathing"], "deforming"),
    "gpu": (PRESETS["standard"], "gpu"),
    "gpu-breathing": (replace(PRESETS["standard"], fps=15.0, breath_mm=2.9), "gpu-deforming"),
}
"""The stream and the method's preset of each session."""


def _alone() -> None:
    """As many processes as cores need no further threads."""
    numba.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def made(preset: StreamPreset, seed: int, numbers: Sequence[int]) -> list[tuple[int, Any, Any, Any]]:
    """Some frames of a stream, small enough to be handed from process to process."""
    phantom = StreamPhantom(preset, seed)
    frames = [phantom.frame(n) for n in numbers]
    return [
        (f.number, np.rint(f.image * 255).astype(np.uint8), f.depth_mm, np.packbits(f.occluded))
        for f in frames
    ]


class Played(PhantomSource):
    """Frames made beforehand, each given when its time has come; late ones are left out."""

    def __init__(self, phantom: StreamPhantom, frames: int, workers: int) -> None:
        super().__init__(phantom, "max", frames)
        preset = phantom.preset
        shape = preset.height_px, preset.width_px
        shares = [range(n, frames, workers) for n in range(min(workers, frames))]
        with ProcessPoolExecutor(workers, get_context("spawn"), _alone) as pool:
            found = pool.map(made, [preset] * len(shares), [phantom.seed] * len(shares), shares)
            told = sorted((frame for share in found for frame in share), key=lambda frame: frame[0])
        self.made = [
            LiveFrame(
                number,
                number / preset.fps,
                0.0,
                image.astype(np.float32) / np.float32(255),
                depth_mm=depth_mm,
                occluded=np.unpackbits(hidden, count=shape[0] * shape[1]).reshape(shape).astype(bool),
            )
            for number, image, depth_mm, hidden in told
        ]
        self._next = 0
        self._began_s: float | None = None

    def read(self, timeout_s: float) -> LiveFrame | None:
        """The frame whose time has come, or None within the timeout."""
        now_s = time.monotonic()
        if self._began_s is None:
            self._began_s = now_s
        fps = self.phantom.preset.fps
        due = int((now_s - self._began_s) * fps)
        if due < self._next:
            time.sleep(min(timeout_s, max(self._began_s + self._next / fps - now_s, 0.0) + 1e-4))
            return None
        due = min(due, self.frames - 1)
        self._dropped += due - self._next
        self._next = due + 1
        return self.made[due]


def measured(
    session: str, seed: int, seconds: float, device: str, settings: dict[str, Any]
) -> dict[str, Any]:
    """The figures of one session at the real rate."""
    preset, live_preset = SESSIONS[session]
    phantom = StreamPhantom(preset, seed)
    began_s = time.perf_counter()
    source = Played(phantom, round(seconds * preset.fps), os.cpu_count() or 1)
    made_s = time.perf_counter() - began_s
    stages: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        request = LiveRequest(
            "phantom", run, rate="real", preset=live_preset, settings=settings, device=device
        )
        for event in live(request, source):
            if isinstance(event, LiveStatus):
                stages = {name: value for name, value in event.metrics.items() if name.endswith("_ms")}
        metrics = json.loads((run / "metrics.json").read_text()) | against_phantom(RunFolder(run), phantom)
    metrics |= {"stages": stages, "frames_made_s": made_s, "stream_fps": preset.fps}
    metrics |= {"size_px": [preset.width_px, preset.height_px], "preset": live_preset, "settings": settings}
    return metrics | {"seed": seed, "stream_s": seconds, "machine": _machine(device)}


def _machine(device: str) -> dict[str, Any]:
    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    return {
        "software": splatomy.__version__,
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(0) if on_gpu else None,
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--sessions", default="", help=f"some of {', '.join(SESSIONS)}")
    parser.add_argument("--seed", type=int, default=0, help="of the stream; the kept figures are of 0")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--settings", default="{}", help="of the method, as JSON, over those of the preset")
    parser.add_argument("--note", default="", help="about the machine, kept in the file")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    on_gpu = arguments.device.startswith("cuda") or (arguments.device == "auto" and torch.cuda.is_available())
    chosen = arguments.sessions or ("gpu,gpu-breathing" if on_gpu else "cpu,breathing")
    results = json.loads(arguments.out.read_text())["sessions"] if arguments.out.is_file() else {}
    for session in chosen.split(","):
        settings = json.loads(arguments.settings)
        found = measured(session, arguments.seed, arguments.seconds, arguments.device, settings)
        results[session] = found | {"note": arguments.note}
        print(f"{session:<14}" + "  ".join(f"{k} {found[k]:.3f}" for k in SHOWN if found.get(k) is not None))
        print(" " * 14 + "  ".join(f"{name} {value:.1f}" for name, value in found["stages"].items()))
        write_json(arguments.out, {"contract": 1, "sessions": results})


if __name__ == "__main__":
    main()
