"""What each command does."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from splatomy.cli.batch import batch
from splatomy.cli.demo import demo
from splatomy.cli.evaluate import evaluate
from splatomy.cli.export import export
from splatomy.cli.frames import frames
from splatomy.cli.gui import gui
from splatomy.cli.job import job
from splatomy.cli.live import live_session
from splatomy.cli.machine import machine_facts, machine_lines
from splatomy.cli.masks import masks
from splatomy.cli.objects import objects
from splatomy.cli.phantom import phantom
from splatomy.cli.progress import drive
from splatomy.cli.render import render
from splatomy.cli.vessels import vessels
from splatomy.cli.weights import weights
from splatomy.engine import ProductOptions, RunRequest, default_method, run
from splatomy.engine.still_views import with_checked_poses
from splatomy.errors import InputError
from splatomy.io.detect import inspect_input
from splatomy.io.dsa import InputOptions
from splatomy.io.image_sets import ImageSetReport
from splatomy.method import config_schema, list_methods


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _mask_frames(chosen: int | tuple[int, ...] | None) -> tuple[int, ...] | None:
    return (chosen,) if isinstance(chosen, int) else chosen


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
        mask_frames=_mask_frames(arguments.mask_frames),
        target=arguments.target,
        layout=arguments.layout,
        masks=arguments.masks,
        masks_mean=arguments.masks_mean,
        depth=arguments.depth,
        depth_scale_mm=arguments.depth_scale_mm,
        calibration=arguments.calibration,
        poses=arguments.poses,
        poses_convention=arguments.poses_convention,
        fov_deg=arguments.fov_deg,
        camera=arguments.camera,
        instrument_diameter_mm=arguments.instrument_diameter_mm,
        depth_source=arguments.depth_source,
        depth_model=arguments.depth_model,
        depth_model_output=arguments.depth_model_output,
        mask_model=arguments.mask_model,
        mask_classes=arguments.mask_classes,
        weights=arguments.weights,
        init=arguments.init,
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
                "still": s.still,
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
    options = _options(arguments)
    report = inspect_input(arguments.input, options)
    if isinstance(report, ImageSetReport) and report.usable:
        report = drive(with_checked_poses(report, arguments.input, options))
    _say(json.dumps(report.as_json()) if arguments.json else "\n".join(report.lines()))
    if not report.usable:
        raise InputError("The input cannot be used as it is; see the problems above.")


def parse_settings(config: Path | None, pairs: list[str]) -> dict[str, Any]:
    """Settings of a JSON file, overridden by KEY=VALUE words.

    Raises:
        InputError: the file or a word cannot be read.
    """
    settings: dict[str, Any] = {}
    if config is not None:
        try:
            settings = json.loads(config.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
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
        replicas=arguments.replicas,
        seed=arguments.seed,
        deterministic=arguments.deterministic,
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


def _live(arguments: Namespace) -> None:
    live_session(arguments, _options(arguments), parse_settings(arguments.config, arguments.set))


COMMANDS: dict[str, Callable[[Namespace], None]] = {
    "methods": _methods,
    "inspect": _inspect,
    "phantom": phantom,
    "frames": lambda arguments: frames(arguments, _options(arguments)),
    "masks": lambda arguments: masks(arguments, _options(arguments)),
    "reconstruct": _reconstruct,
    "live": _live,
    "objects": objects,
    "vessels": vessels,
    "render": render,
    "export": export,
    "evaluate": evaluate,
    "demo": demo,
    "batch": lambda arguments: batch(
        arguments, _options(arguments), parse_settings(arguments.config, arguments.set)
    ),
    "weights": weights,
    "job": job,
    "gui": gui,
}
