"""What a user asks of a run, and whether it can be had."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from splatomy.capture import Capture
from splatomy.engine.holdout import NumViews
from splatomy.engine.products import ProductOptions
from splatomy.errors import InputError
from splatomy.io.dsa import InputOptions
from splatomy.io.endoscopy import EndoscopyInput
from splatomy.io.run import RunFolder
from splatomy.method import MethodSpec


@dataclass(frozen=True)
class RunRequest:
    """What a user asked for."""

    source: Path
    out: Path
    method: str = "dynamic_vessels"
    preset: str = "standard"
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: InputOptions = field(default_factory=InputOptions)
    num_views: NumViews = None
    device: str = "auto"
    seed: int = 0
    resume: bool = False
    force: bool = False
    products: ProductOptions = field(default_factory=ProductOptions)
    truth: Path | None = None
    """A truth folder: the run is evaluated and its report shows the figures."""
    peer_metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Figures of other methods on the same input, for the report."""
    on_held: Callable[[RunFolder], None] | None = None
    """Called once when the folder is ready; from then on the caller writes events.jsonl."""


def pick_device(name: str) -> torch.device:
    """The torch device of "auto", "cpu", "cuda" or "cuda:K".

    Raises:
        InputError: it does not exist here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, index = name.partition(":")
    if kind != "cuda" or not (index == "" or index.isdigit()):
        raise InputError(f"Device {name!r} is unknown: expected auto, cpu, cuda or cuda:K.")
    if not torch.cuda.is_available() or int(index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"Device {name} is not on this machine (CUDA devices: {torch.cuda.device_count()}). "
            "Use --device cpu."
        )
    return torch.device(name)


def check_requirements(spec: MethodSpec, capture: Capture, clip: EndoscopyInput | None) -> None:
    """Raises InputError when the capture lacks what the method needs; what a clip lacks is prepared."""
    if spec.modality is not capture.modality:
        raise InputError(
            f"Method {spec.name} works on {spec.modality} images: expected those, got {capture.modality}."
        )
    for name in () if clip is not None else spec.requires:
        if getattr(capture, name) is None:
            raise InputError(
                f"Method {spec.name} needs {name}, which the input does not have. "
                "Give the geometry with --geometry FILE (3x4 matrices as CSV, RTK XML or JSON)."
            )
    if len(capture) < 2:
        raise InputError(f"Method {spec.name} needs at least 2 frames, got {len(capture)}. Give a whole run.")
