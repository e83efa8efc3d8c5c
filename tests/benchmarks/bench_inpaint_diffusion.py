"""Clip-trained diffusion on hard phantoms, on a GPU: ``python tests/benchmarks/bench_inpaint_diffusion.py``.

Hidden pixels against the un-occluded truth, for propagation and for the network trained on the clip, by where
the propagated pixel came from; the gate's figures in transplanted holes; times and memory. Prints JSON and
writes resources/benchmarks/inpaint_cuda.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from splatomy.events import finish
from splatomy.phantoms.tissue import PRESETS, TissuePhantom, make_tissue
from splatomy.prepare.inpaint import Inpainting, inpaint_frames
from splatomy.prepare.inpaint.diffusion.clip import learn_clip
from splatomy.prepare.inpaint.diffusion.keeping import KeptPropagation
from splatomy.prepare.inpaint.diffusion.network import ClipDiffusionConfig
from splatomy.prepare.inpaint.diffusion.writing import own_copy
from splatomy.prepare.inpaint.gate import score, transplants

OUT = Path(__file__).parents[2] / "resources" / "benchmarks" / "inpaint_cuda.json"
Bool = NDArray[np.bool_]


def psnr_by_class(
    filled: Inpainting, phantom: TissuePhantom, source: NDArray[np.signedinteger]
) -> dict[str, float]:
    """dB of hidden pixels by where propagation (source) had them from."""
    squared = ((filled.images - phantom.rgb) ** 2).mean(-1)
    classes: dict[str, Bool] = {
        "hidden": phantom.occluded,
        "carried": phantom.occluded & (source > 0),
        "made_up": phantom.occluded & (source < 0),
        "never_seen": phantom.never_seen,
    }
    return {
        name: round(float(-10 * np.log10(squared[part].mean())), 3)
        for name, part in classes.items()
        if part.any()
    }


def measured(preset: str, seed: int, config: ClipDiffusionConfig, device: torch.device) -> dict[str, Any]:
    """All figures of one phantom."""
    clock = [time.perf_counter()]

    def lap() -> float:
        clock.append(time.perf_counter())
        return round(clock[-1] - clock[-2], 1)

    phantom = finish(make_tissue(replace(PRESETS[preset], baseline_mm=0.0), seed))
    images, occluded = phantom.images, phantom.occluded
    row: dict[str, Any] = {"preset": preset, "seed": seed, "phantom_s": lap()}
    filled = finish(inpaint_frames(images, occluded))
    row["propagation_s"] = lap()
    trials = transplants(images, occluded, 0)
    own = finish(learn_clip(images, occluded, trials, config, device))
    row["learn_s"] = lap()
    if own is None:
        raise SystemExit("nothing to learn from")
    first = KeptPropagation()
    row["trials_propagation_db"] = round(finish(score(first, images, occluded, trials)).psnr_db, 3)
    row["trials_diffusion_db"] = round(finish(score(own.after(first), images, occluded, trials)).psnr_db, 3)
    row["judge_s"] = lap()
    refined = own_copy(filled)
    finish(own.refine(refined, occluded))
    row["refine_s"] = lap()
    row["propagation"] = psnr_by_class(filled, phantom, filled.provenance)
    row["diffusion"] = psnr_by_class(refined, phantom, filled.provenance)
    row["passes"] = row["trials_diffusion_db"] >= row["trials_propagation_db"] + config.gain_db
    if device.type == "cuda":
        row["peak_gpu_gb"] = round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
    return row


def main() -> None:
    """Runs every case and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--presets", nargs="+", default=["hard"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[101])
    parser.add_argument("--steps", type=int, default=ClipDiffusionConfig.steps)
    parser.add_argument("--sampling-steps", type=int, default=ClipDiffusionConfig.sampling_steps)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    config = ClipDiffusionConfig(steps=arguments.steps, sampling_steps=arguments.sampling_steps)
    device = torch.device(arguments.device)
    rows = []
    for preset in arguments.presets:
        for seed in arguments.seeds:
            rows.append(measured(preset, seed, config, device))
            print(json.dumps(rows[-1]), flush=True)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    facts = {"device": name, "config": asdict(config), "rows": rows}
    arguments.out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
