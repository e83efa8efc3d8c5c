"""What each command does."""

from __future__ import annotations

import json
import platform
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import splatomy
from splatomy.capture import Capture
from splatomy.cli.progress import drive
from splatomy.engine import (
    ProductOptions,
    RunRequest,
    evaluate,
    load_scene,
    open_capture,
    run,
    vessels_of,
    write_vessels,
)
from splatomy.engine.products import save_png
from splatomy.errors import InputError
from splatomy.events import Task, finish
from splatomy.extract.mesh import vessel_surface
from splatomy.extract.vessels import vessel_label
from splatomy.geometry.conebeam import cone_beam
from splatomy.io.atomic import atomic_path, write_json
from splatomy.io.detect import inspect_input
from splatomy.io.dsa import InputOptions, write_case
from splatomy.io.mesh import write_mesh
from splatomy.io.run import RunFolder, prepare_run
from splatomy.io.truth import Truth, write_truth
from splatomy.io.volume import read_volume, write_volume
from splatomy.method import config_schema, list_methods
from splatomy.phantoms.vessels import VesselPhantom, make_vessels


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
    )


def show_version(as_json: bool) -> None:
    """Versions, devices and memory."""
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    facts = {
        "contract": 1,
        "splatomy": splatomy.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda_devices": cuda,
        "cpu_threads": torch.get_num_threads(),
    }
    _say(json.dumps(facts) if as_json else "\n".join(f"{k}: {v}" for k, v in facts.items()))


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


def _new_folder(path: Path, force: bool) -> None:
    if path.exists() and any(path.iterdir()):
        if not force:
            raise InputError(f"{path} is not empty. Use --force to overwrite it, or choose another --out.")
        shutil.rmtree(path)
    path.mkdir(parents=True, exist_ok=True)


def _phantom(arguments: Namespace) -> None:
    _new_folder(arguments.out, arguments.force)
    volume = read_volume(arguments.volume) if arguments.volume else None
    phantom = drive(make_vessels(arguments.preset, arguments.seed, volume))
    write_phantom(arguments.out, phantom)
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
    request = RunRequest(
        source=arguments.input,
        out=arguments.out,
        method=arguments.method,
        preset=arguments.preset,
        settings=parse_settings(arguments.config, arguments.set),
        options=_options(arguments),
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


def _vessels(arguments: Namespace) -> None:
    folder = prepare_run(arguments.out, force=arguments.force, resume=False)
    volume = read_volume(arguments.volume)
    product = drive(vessels_of(volume, None, 0, arguments.threshold))
    write_vessels(folder, product)
    found = product.line
    folder.write_record({"state": "done", "kind": "vessels", "software": splatomy.__version__})
    if found is not None and product.label is not None:
        _say(
            f"{found.num_branches} branches, {found.length_mm:.0f} mm, {product.label.volume_ml:.2f} ml; "
            f"radius {found.radius_mm.min():.2f} to {found.radius_mm.max():.2f} mm"
        )
    _say(f"Folder: {folder.path}")


def _render(arguments: Namespace) -> None:
    folder = RunFolder(arguments.run)
    scene = load_scene(folder)
    try:
        primary, secondary = (float(x) for x in arguments.angles.split(","))
        start, end = scene.time_range_s
        chosen = arguments.times
        times = (
            np.linspace(start, end, 24)
            if chosen == "all"
            else np.array([float(t) for t in chosen.split(",")])
        )
    except ValueError:
        raise InputError(
            "--angles expects PRIMARY,SECONDARY degrees and --times seconds with commas."
        ) from None
    size_mm = float((scene.bounds_mm[1] - scene.bounds_mm[0]).max())
    pitch = 1.8 * size_mm / arguments.size
    cameras = cone_beam(
        np.radians(primary),
        np.radians(secondary),
        750.0,
        1200.0,
        arguments.size,
        arguments.size,
        (pitch, pitch),
    )
    out = RunFolder(arguments.out)
    images = [scene.render(cameras, float(t)).colour[0, ..., 0] for t in times]
    top = float(np.quantile(np.stack(images), 0.9995))
    for time_s, image in zip(times, images, strict=True):
        name = f"dsa_{primary:+.0f}_{secondary:+.0f}_{time_s:.3f}s"
        if arguments.format == "png":
            save_png(out, f"{name}.png", image, top)
        else:
            with atomic_path(out.file("renders", f"{name}.npy")) as temporary:
                np.save(temporary, image)
    _say(f"{len(images)} pictures: {arguments.out / 'renders'}")


def _export(arguments: Namespace) -> None:
    folder = RunFolder(arguments.run)
    if arguments.what == "gaussians":
        source = folder.path / "scene" / "gaussians.ply"
        if not source.exists():
            raise InputError(
                f"{folder.path.name} holds no Gaussians: its method makes voxels. Export the volume."
            )
        with atomic_path(arguments.out) as temporary:
            shutil.copyfile(source, temporary)
        return
    volume = read_volume(folder.path / "volumes" / "volume.nii.gz")
    if arguments.time is not None:
        volume = load_scene(folder).volume(volume.grid, arguments.time)
    if arguments.what == "volume":
        write_volume(arguments.out, volume)
    else:
        write_mesh(arguments.out, vessel_surface(vessel_label(volume)))
    _say(f"Written: {arguments.out}")


def _evaluate(arguments: Namespace) -> None:
    folder = RunFolder(arguments.run)
    folder.record()
    capture: Capture | None = None
    if arguments.input is not None:
        capture = finish(open_capture(arguments.input, InputOptions()))
    found = drive(evaluate(folder, arguments.truth, capture, arguments.protocol))
    if arguments.json:
        _say(json.dumps({"contract": 1, **found}))
    else:
        for key, value in found.items():
            _say(f"{key:<28} {'-' if value is None else f'{value:.4g}'}")


def _demo_task(out: Path, seed: int) -> Task[Path]:
    """Phantom, reconstructions by our method and by FDK, and both against the truth."""
    phantom = yield from make_vessels("demo", seed)
    case = out / "case"
    write_phantom(case, phantom)
    figures: dict[str, dict[str, Any]] = {}
    report = out / "run" / "report.html"
    for method, name in (("fdk", "run_fdk"), ("dynamic_vessels", "run")):
        request = RunRequest(
            source=case,
            out=out / name,
            method=method,
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
    _new_folder(arguments.out, force=True)
    report = drive(_demo_task(arguments.out, arguments.seed))
    table = json.loads((arguments.out / "comparison.json").read_text())
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
    "reconstruct": _reconstruct,
    "vessels": _vessels,
    "render": _render,
    "export": _export,
    "evaluate": _evaluate,
    "demo": _demo,
}
