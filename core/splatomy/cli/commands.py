"""What each command does."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from splatomy.cli.evaluate import evaluate
from splatomy.cli.export import export
from splatomy.cli.job import job
from splatomy.cli.machine import machine_facts, machine_lines
from splatomy.cli.masks import masks
from splatomy.cli.phantom_folder import own_folder
from splatomy.cli.progress import drive
from splatomy.cli.render import render
from splatomy.cli.tissue import Layout, demo_endoscopy, written_tissue
from splatomy.cli.vessels import vessels
from splatomy.cli.weights import weights
from splatomy.engine import ProductOptions, RunRequest, default_method, run
from splatomy.engine.background import beside
from splatomy.errors import InputError
from splatomy.events import Progress, Task
from splatomy.io.atomic import write_json
from splatomy.io.detect import inspect_input
from splatomy.io.dsa import InputOptions, write_case
from splatomy.io.truth import Truth, write_truth
from splatomy.io.volume import read_volume
from splatomy.method import config_schema, list_methods
from splatomy.phantoms.vessels import VesselPhantom, make_vessels

# What these commands write into --out: --force removes nothing else.
_PHANTOM_FILES = (
    "mask_run.nii.gz", "fill_run.nii.gz", "DSA.nii.gz", "transforms.json", "truth",
    "images", "masks", "depth", "poses_bounds.npy", "splatomy.json",
    "stereo.mp4", "groundtruth.txt", "StereoCalibration.ini",
)  # fmt: skip
_DEMO_FILES = ("case", "run", "run_fdk", "comparison.json")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _options(arguments: Namespace) -> InputOptions:
    return InputOptions(
        crop=arguments.crop,
        frames=arguments.frames,
        bin=arguments.bin,
        mask=arguments.mask,
        geometry=arguments.geometry,
        frame_time_s=arguments.frame_time_s,
        already_subtracted=arguments.already_subtracted,
        view=arguments.view,
        target=arguments.target,
        layout=arguments.layout,
        masks=arguments.masks,
        masks_mean=arguments.masks_mean,
        depth=arguments.depth,
        depth_scale_mm=arguments.depth_scale_mm,
        calibration=arguments.calibration,
        poses=arguments.poses,
        poses_convention=arguments.poses_convention,
    )


def show_version(as_json: bool) -> None:
    """Versions, devices and memory."""
    _say(json.dumps(machine_facts()) if as_json else "\n".join(machine_lines()))


def _methods(arguments: Namespace) -> None:
    specs = list_methods().values()
    if arguments.json:
        table = [
            {
                "name": s.name,
                "title": s.title,
                "modality": s.modality,
                "requires": s.requires,
                "presets": {k: dict(v) for k, v in s.presets.items()},
                "citation": s.citation,
                "config": config_schema(s),
            }
            for s in specs
        ]
        _say(json.dumps({"contract": 1, "methods": table}))
        return
    for s in specs:
        _say(f"{s.name:<16} {s.title}  [{s.modality}; needs {', '.join(s.requires)}]")
        _say(f"{'':<16} presets: {', '.join(s.presets)}  ({s.citation})")


def _inspect(arguments: Namespace) -> None:
    report = inspect_input(arguments.input, _options(arguments))
    _say(json.dumps(report.as_json()) if arguments.json else "\n".join(report.lines()))
    if not report.usable:
        raise InputError("The input cannot be used as it is; see the problems above.")


def write_phantom(case: Path, phantom: VesselPhantom) -> None:
    """The phantom as a case folder with truth/."""
    shifted = not np.allclose(phantom.cameras.camera_from_world, phantom.nominal_cameras.camera_from_world)
    write_case(
        case,
        phantom.mask_run,
        phantom.fill_run,
        phantom.times_s,
        phantom.primary_rad,
        phantom.secondary_rad,
        phantom.source_to_isocentre_mm,
        phantom.source_to_detector_mm,
        (phantom.pixel_mm, phantom.pixel_mm),
        phantom.grid,
        phantom.cameras if shifted else None,
    )
    label = replace(phantom.volume_mean, values=phantom.label.astype(np.float32))
    truth = Truth(
        phantom.volume_mean,
        label,
        phantom.arrival,
        phantom.surface,
        phantom.projections,
        phantom.centreline_mm,
        phantom.radius_mm,
    )
    write_truth(case / "truth", truth, {"volume": "mean over time", "provenance": list(phantom.provenance)})


def _phantom(arguments: Namespace) -> None:
    own_folder(arguments.out, arguments.force, _PHANTOM_FILES, "a phantom")
    if arguments.kind == "tissue":
        if arguments.volume:
            raise InputError("--volume fills vessels: expected it with phantom vessels only. Leave it out.")
        layout: Layout = arguments.layout or "endonerf"
        drive(written_tissue(arguments.out, arguments.preset, arguments.seed, layout))
        _say(f"Phantom: {arguments.out}")
        return
    if arguments.layout:
        raise InputError("--layout is for the tissue phantom: expected it with phantom tissue. Leave it out.")
    volume = read_volume(arguments.volume) if arguments.volume else None
    drive(_written_phantom(arguments.out, make_vessels(arguments.preset, arguments.seed, volume)))
    _say(f"Phantom: {arguments.out}")


def parse_settings(config: Path | None, pairs: list[str]) -> dict[str, Any]:
    """Settings of a JSON file, overridden by KEY=VALUE words.

    Raises:
        InputError: the file or a word cannot be read.
    """
    settings: dict[str, Any] = {}
    if config is not None:
        try:
            settings = json.loads(config.read_text())
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise InputError(f"{config.name} cannot be read: expected a JSON object of settings.") from None
        if not isinstance(settings, dict):
            raise InputError(f"{config.name}: expected a JSON object of settings, got another value.")
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"--set expects KEY=VALUE, got {pair!r}.")
        settings[key] = value
    return settings


def _reconstruct(arguments: Namespace) -> None:
    options = _options(arguments)
    request = RunRequest(
        source=arguments.input,
        out=arguments.out,
        method=arguments.method or default_method(arguments.input, options),
        preset=arguments.preset,
        settings=parse_settings(arguments.config, arguments.set),
        options=options,
        num_views=arguments.views,
        device=arguments.device,
        seed=arguments.seed,
        resume=arguments.resume,
        force=arguments.force,
        products=ProductOptions(threshold_per_mm=arguments.threshold),
    )
    json_lines = arguments.events == "jsonl"
    folder = drive(run(request), json_lines=json_lines)
    if json_lines:
        _say(json.dumps({"event": "done", "run": str(folder.path)}))
    else:
        _say(f"Run: {folder.path}\nReport: {folder.path / 'report.html'}")


def _written_phantom(case: Path, making: Task[VesselPhantom]) -> Task[None]:
    phantom = yield from making
    yield from beside("write", 0, 1, partial(write_phantom, case, phantom))
    yield Progress("write", 1, 1)


def _demo_task(out: Path, seed: int) -> Task[Path]:
    """Phantom, reconstructions by our method and by FDK, and both against the truth."""
    case = out / "case"
    yield from _written_phantom(case, make_vessels("demo", seed))
    figures: dict[str, dict[str, Any]] = {}
    report = out / "run" / "report.html"
    # A volume of 128^3 needs fewer steps than the preset, which is made for 280^3.
    runs: list[tuple[str, str, dict[str, Any]]] = [
        ("fdk", "run_fdk", {}),
        ("dynamic_vessels", "run", {"steps": 3000}),
    ]
    for method, name, settings in runs:
        request = RunRequest(
            source=case,
            out=out / name,
            method=method,
            settings=settings,
            num_views=30,
            seed=seed,
            force=True,
            peer_metrics=figures.copy(),
            truth=case / "truth",
            products=ProductOptions(report=method != "fdk"),
        )
        folder = yield from run(request)
        figures[method] = json.loads((folder.path / "evaluation.json").read_text())
    write_json(out / "comparison.json", {"contract": 1, **figures})
    return report


def _demo(arguments: Namespace) -> None:
    if arguments.kind == "angiography":
        _demo_angiography(arguments.out, arguments.seed)
    elif arguments.kind == "endoscopy":
        demo_endoscopy(arguments.out, arguments.seed)
    else:
        own_folder(arguments.out, True, ("angiography", "endoscopy"), "earlier demos")
        _demo_angiography(arguments.out / "angiography", arguments.seed)
        demo_endoscopy(arguments.out / "endoscopy", arguments.seed)


def _demo_angiography(out: Path, seed: int) -> None:
    own_folder(out, True, _DEMO_FILES, "an earlier demo")
    report = drive(_demo_task(out, seed))
    table = json.loads((out / "comparison.json").read_text())
    keys = (
        "dice_own",
        "dice_best",
        "cldice",
        "recall_all",
        "chamfer_sum_mm",
        "hd95_mm",
        "arrival_error_s",
        "psnr",
    )
    _say(f"{'':<18}" + "".join(f"{name:>17}" for name in table if name != "contract"))
    for key in keys:
        cells = [row.get(key) for name, row in table.items() if name != "contract"]
        _say(f"{key:<18}" + "".join(f"{'-' if c is None else f'{c:.3f}':>17}" for c in cells))
    _say(f"Report: {report}")


COMMANDS: dict[str, Callable[[Namespace], None]] = {
    "methods": _methods,
    "inspect": _inspect,
    "phantom": _phantom,
    "masks": lambda arguments: masks(arguments, _options(arguments)),
    "reconstruct": _reconstruct,
    "vessels": vessels,
    "render": render,
    "export": export,
    "evaluate": evaluate,
    "demo": _demo,
    "weights": weights,
    "job": job,
}
