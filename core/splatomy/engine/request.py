"""What a user asks of a run, and whether it can be had."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from splatomy.capture import Capture, Modality
from splatomy.checks import is_whole_number
from splatomy.engine.holdout import NumViews
from splatomy.engine.products import ProductOptions
from splatomy.errors import InputError
from splatomy.io.dsa import InputOptions
from splatomy.io.endoscopy import EndoscopyInput
from splatomy.io.run import RunFolder
from splatomy.kernels import surfel, xray
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
    replicas: int = 1
    """Processes that train together, each on a GPU of its own, or on its share of the cores."""
    seed: int = 0
    deterministic: bool = False
    """On a GPU too, the same work gives the same bits; on the CPU it always does."""
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
    if kind != "cuda" or not (index == "" or is_whole_number(index)):
        raise InputError(f"Device {name!r} is unknown: expected auto, cpu, cuda or cuda:K.")
    if not torch.cuda.is_available() or int(index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"Device {name} is not on this machine (CUDA devices: {torch.cuda.device_count()}). "
            "Use --device cpu."
        )
    return torch.device(name)


def kernel_backends(modality: Modality, device: torch.device) -> dict[str, Any]:
    """Which backend runs each kernel on a device (``backends``), and that of the method's main one."""
    reference = torch.empty(0, device=device)
    parts: dict[str, str] = {
        "surfel": surfel.resolve_backend("auto", reference),
        "xray": xray.resolve_backend("auto", reference),
        "voxelize": xray.resolve_backend("auto", reference),
    }
    return {"backend": parts["surfel" if modality is Modality.COLOUR else "xray"], "backends": parts}


_HOW = {
    "cameras": "a set with poses, or --poses and --calibration",
    "target": "masks of the wanted object; give them with --target DIR",
    "depth_mm": "depth maps; give them with --depth DIR",
    "occluded": "masks of what hides the object; give them with --masks DIR",
}


def _check_scene(spec: MethodSpec, capture: Capture, clip: EndoscopyInput | None) -> None:
    """Raises InputError when a method for recordings gets views of a still scene."""
    is_set = capture.modality is Modality.COLOUR and clip is None
    if is_set and not spec.still:
        raise InputError(
            f"Method {spec.name} works on recordings over time: expected a clip, got an image set of a still "
            "scene. Use --method pulled_surface, or leave --method out."
        )


def check_requirements(spec: MethodSpec, capture: Capture, clip: EndoscopyInput | None) -> None:
    """Raises InputError when the capture lacks what the method needs; what a clip lacks is prepared."""
    if spec.modality is not capture.modality:
        raise InputError(
            f"Method {spec.name} works on {spec.modality} images: expected those, got "
            f"{capture.modality}. Leave --method out for the one that fits."
        )
    _check_scene(spec, capture, clip)
    for name in () if clip is not None else spec.requires:
        if getattr(capture, name) is None and spec.still:
            raise InputError(
                f"Method {spec.name} needs {name}, which the input does not have: expected "
                f"{_HOW.get(name, 'an input that has it')}."
            )
        if getattr(capture, name) is None:
            raise InputError(
                f"Method {spec.name} needs {name}, which the input does not have. "
                "Give the geometry with --geometry FILE (3x4 matrices as CSV, RTK XML or JSON)."
            )
    if len(capture) < 2:
        raise InputError(f"Method {spec.name} needs at least 2 frames, got {len(capture)}. Give a whole run.")
