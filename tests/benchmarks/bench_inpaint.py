"""Weight-free inpainting on hard phantoms: ``python tests/benchmarks/bench_inpaint.py --seeds 103 104``.

For each preset and seed: hidden pixels against the un-occluded truth, for flow propagation, per-frame Telea
and copying from the nearest frame without flow; processor seconds; flicker; the gate's forecast as the
engine makes it. Prints a table and writes resources/benchmarks/inpaint_cpu.json after every case.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.events import finish
from splatomy.metrics.endoscopy import flicker, hidden_metrics, unsteadiness
from splatomy.phantoms.tissue import PRESETS, make_tissue
from splatomy.prepare.inpaint import PropagationConfig, inpaint_frames
from splatomy.prepare.inpaint.gate import score, transplants

OUT = Path(__file__).parents[2] / "resources" / "benchmarks" / "inpaint_cpu.json"
Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]


def telea(images: Float32, occluded: Bool, chosen: NDArray[np.int64]) -> Float32:
    """Every chosen frame filled on its own; the others as they are."""
    filled = images.copy()
    for frame in chosen:
        codes, hidden = np.rint(images[frame] * 255).astype(np.uint8), occluded[frame].astype(np.uint8)
        filled[frame] = cv2.inpaint(codes, hidden, 5, cv2.INPAINT_TELEA) / np.float32(255)
    return filled


def nearest_copy(images: Float32, occluded: Bool, chosen: NDArray[np.int64]) -> Float32:
    """Hidden pixels of chosen frames from the nearest frame that shows the image position; else Telea."""
    filled = telea(images, occluded, chosen)
    for frame in chosen:
        wanted = occluded[frame].copy()
        for other in sorted(range(len(images)), key=lambda k: abs(k - frame))[1:]:
            take = wanted & ~occluded[other]
            filled[frame][take] = images[other][take]
            wanted &= ~take
    return filled


def _share(part: Bool, whole: Bool) -> float:
    return float(part.sum() / whole.sum())


def figures(filled: Float32, phantom: Any, chosen: NDArray[np.int64]) -> dict[str, float]:
    """Errors of the hidden pixels of the chosen frames, dB; of whole clips also flicker."""
    found = hidden_metrics(
        filled[chosen], phantom.rgb[chosen], phantom.occluded[chosen], phantom.never_seen[chosen]
    )
    if len(chosen) == len(filled):
        found["flicker"] = flicker(filled, phantom.occluded)
        found["unsteadiness"] = unsteadiness(filled, phantom.rgb, phantom.occluded)
    return {name: round(value, 5) for name, value in found.items()}


def main() -> None:
    """Runs every case and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[101])
    parser.add_argument("--presets", nargs="+", default=["hard", "hard_moving"])
    parser.add_argument("--every", type=int, default=1, help="fill and score every N-th frame only")
    parser.add_argument("--gate", action="store_true", help="also the forecast from transplanted holes")
    parser.add_argument("--note", default="", help="what else ran on the machine, kept beside the figures")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for preset in arguments.presets:
        for seed in arguments.seeds:
            phantom = finish(make_tissue(replace(PRESETS[preset], baseline_mm=0.0), seed))
            start, processor = time.perf_counter(), time.process_time()
            chosen = np.arange(0, len(phantom.images), arguments.every)
            found = finish(inpaint_frames(phantom.images, phantom.occluded, chosen))
            facts = {
                "wall_s": round(time.perf_counter() - start, 1),
                "processor_s": round(time.process_time() - processor, 1),
                "synthesised_of_hidden": round(_share(found.synthetic[chosen], phantom.occluded[chosen]), 5),
                "scored_frames": len(chosen),
            }
            if arguments.gate:
                start = time.process_time()
                inpainter = partial(inpaint_frames, config=PropagationConfig(key_stride=6))
                trials = transplants(phantom.images, phantom.occluded)
                error = finish(score(inpainter, phantom.images, phantom.occluded, trials))
                facts["gate_psnr_db"] = round(error.psnr_db, 3)
                facts["gate_processor_s"] = round(time.process_time() - start, 1)
            methods = {
                "propagation": (found.images, facts),
                "nearest copy": (nearest_copy(phantom.images, phantom.occluded, chosen), {}),
                "telea": (telea(phantom.images, phantom.occluded, chosen), {}),
            }
            for name, (filled, more) in methods.items():
                rows.append(
                    {
                        "preset": preset,
                        "seed": seed,
                        "method": name,
                        **figures(filled, phantom, chosen),
                        **more,
                    }
                )
                print(json.dumps(rows[-1]), flush=True)
            _write(rows, arguments.note)


def _write(rows: list[dict[str, Any]], note: str) -> None:
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({**machine, "note": note, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
