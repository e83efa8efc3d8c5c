"""`splatomy demo`: each main job on an embedded phantom, and its result against the exact truth."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splatomy.cli.own_folder import own_folder
from splatomy.cli.phantom.object import written_object
from splatomy.cli.phantom.tissue import written_tissue
from splatomy.cli.phantom.vessels import written_vessels
from splatomy.cli.progress import drive
from splatomy.engine import ProductOptions, RunRequest, run
from splatomy.engine.live import LiveRequest, PhantomSource, live
from splatomy.engine.live.measuring import against_phantom
from splatomy.events import Task
from splatomy.io.atomic import write_json
from splatomy.io.run import RunFolder
from splatomy.phantoms.stream import StreamPhantom

Figures = Mapping[str, Any]
"""What was measured, by name."""


@dataclass(frozen=True)
class _Demo:
    """One main job: what it makes, and which of its figures are printed.

    made: from the folder and a seed to the figures of each reconstruction, ours last.
    own: everything that the job writes into its folder.
    """

    made: Callable[[Path, int], Task[Mapping[str, Figures]]]
    own: tuple[str, ...]
    shown: tuple[str, ...]


def demo(arguments: Namespace) -> None:
    """Makes one demo, or all of them, and prints their figures.

    Raises:
        InputError: the folder holds other things.
    """
    out: Path = arguments.out
    if arguments.kind != "all":
        _make(arguments.kind, out, arguments.seed)
        return
    own_folder(out, True, tuple(_DEMOS), "earlier demos")
    for name in _DEMOS:
        _make(name, out / name, arguments.seed)


def _make(name: str, out: Path, seed: int) -> None:
    job = _DEMOS[name]
    own_folder(out, True, job.own, "an earlier demo")
    table = drive(job.made(out, seed))
    lines = [f"{'':<24}" + "".join(f"{method:>17}" for method in table)]
    for key in job.shown:
        cells = [figures.get(key) for figures in table.values()]
        lines.append(f"{key:<24}" + "".join(f"{'-' if c is None else f'{c:.3f}':>17}" for c in cells))
    sys.stdout.write("\n".join([*lines, f"Report: {out / 'run' / 'report.html'}"]) + "\n")


def angiography_demo(out: Path, seed: int) -> Task[Mapping[str, Figures]]:
    """A simulated rotational run, reconstructed from 30 of its views by our method and by FDK."""
    case = out / "case"
    yield from written_vessels(case, "demo", seed)
    table: dict[str, Figures] = {}
    # A volume of 128^3 needs fewer steps than the preset, which is made for 280^3. In these the curves take
    # up less noise, and need less of their neighbours.
    runs: list[tuple[str, str, dict[str, Any]]] = [
        ("fdk", "run_fdk", {}),
        ("dynamic_vessels", "run", {"steps": 3000, "kinship": 0.1}),
    ]
    for method, name, settings in runs:
        folder = yield from run(
            RunRequest(
                source=case,
                out=out / name,
                method=method,
                settings=settings,
                num_views=30,
                seed=seed,
                force=True,
                peer_metrics=dict(table),
                truth=case / "truth",
                products=ProductOptions(report=method != "fdk"),
            )
        )
        table[method] = _evaluation(folder)
    write_json(out / "comparison.json", {"contract": 1, **table})
    return table


def endoscopy_demo(out: Path, seed: int) -> Task[Mapping[str, Figures]]:
    """A simulated stereo clip: its tissue, with the instruments taken out."""
    case = out / "case"
    # Stereo, so that depth is found in noisy pictures and not handed over from the simulation.
    yield from written_tissue(case, "demo", seed, "stereomis")
    folder = yield from run(
        RunRequest(
            source=case,
            out=out / "run",
            method="dynamic_tissue",
            preset="draft",
            seed=seed,
            force=True,
            truth=case / "truth",
        )
    )
    return {"dynamic_tissue": _evaluation(folder)}


def surface_demo(out: Path, seed: int) -> Task[Mapping[str, Figures]]:
    """Simulated views of an object: its mesh."""
    case = out / "case"
    yield from written_object(case, "small", seed, None)
    folder = yield from run(
        RunRequest(
            source=case,
            out=out / "run",
            method="pulled_surface",
            preset="draft",
            # Small pictures need fewer steps than the preset, which is made for four times as many pixels.
            settings={"splat_steps": 200, "joint_steps": 400, "finish_steps": 300, "mesh_resolution": 112},
            num_views=14,
            seed=seed,
            force=True,
            truth=case / "truth",
        )
    )
    return {"pulled_surface": _evaluation(folder)}


def live_demo(out: Path, seed: int, preset: str = "small") -> Task[Mapping[str, Figures]]:
    """A simulated live stream with smoke, darkness and instruments, mapped while it arrives."""
    phantom = StreamPhantom(preset, seed)
    request = LiveRequest(f"phantom:{preset}", out / "run", rate="max", seed=seed, force=True)
    folder: RunFolder = yield from live(request, PhantomSource(phantom, "max"))
    write_json(folder.path / "evaluation.json", {"contract": 1, **against_phantom(folder, phantom)})
    metrics = json.loads((folder.path / "metrics.json").read_text())
    return {"live_scene": {**metrics, **_evaluation(folder)}}


def _evaluation(folder: RunFolder) -> Figures:
    found: dict[str, Any] = json.loads((folder.path / "evaluation.json").read_text())
    return found


_DEMOS = {
    "angiography": _Demo(
        angiography_demo,
        ("case", "run", "run_fdk", "comparison.json"),
        (
            "dice_own", "dice_best", "cldice", "recall_all", "chamfer_sum_mm", "hd95_mm", "arrival_error_s",
            "psnr",
        ),
    ),
    "endoscopy": _Demo(
        endoscopy_demo,
        ("case", "run"),
        (
            "psnr", "psnr_masked", "psnr_hidden", "psnr_hidden_seen", "psnr_zero_filled", "ssim",
            "depth_mae_mm", "depth_rmse_mm", "depth_rmse_clipped_mm", "depth_hidden_mae_mm",
            "chamfer_mean_mm", "flicker",
        ),
    ),
    "surface": _Demo(
        surface_demo,
        ("case", "run"),
        (
            "accuracy_mm", "completeness_mm", "chamfer_mean_mm", "hd95_mm", "fscore_1mm", "fscore_2mm",
            "completeness_seen_mm", "completeness_hidden_mm", "psnr", "psnr_masked", "ssim", "depth_mae_mm",
        ),
    ),
    "live": _Demo(
        live_demo,
        ("run",),
        (
            "ate_mm", "path_mm", "ate_share", "map_mae_mm", "map_p95_mm", "stray_share", "psnr", "ssim",
            "depth_residual", "tracked_share", "relocalisations", "fps", "latency_p50_s", "latency_p95_s",
        ),
    ),
}  # fmt: skip
