"""Times the surfel kernels: ``python tests/benchmarks/bench_surfels.py``.

Numba and torch on the CPU, and gsplat where there is a CUDA device with it. Prints a table and writes
resources/benchmarks/surfels_cpu.json or surfels_cuda.json. Nothing is asserted.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from splatomy.kernels.surfel import splat_surfels

FOLDER = Path(__file__).parents[2] / "resources" / "benchmarks"
DEPTH_MM = 60.0


@dataclass
class Row:
    """One case: the best of several runs, milliseconds; the CPU time is that of all threads together."""

    case: str
    backend: str
    surfels: int
    forward_ms: float
    backward_ms: float
    processor_ms: float


def tissue(num: int, width: int, height: int, device: str) -> tuple[list[Tensor], Tensor, Tensor]:
    """A wavy wall of surfels about as large as their spacing, opacity 0.35 to 0.95, that fills the frame."""
    g = torch.Generator().manual_seed(0)
    focal = 1.1 * width
    x, y = torch.rand(num, generator=g) * width, torch.rand(num, generator=g) * height
    z = DEPTH_MM + 8 * torch.sin(6 * x / width) + 6 * torch.cos(5 * y / height)
    z = z + 0.2 * torch.randn(num, generator=g)
    means = torch.stack([(x - width / 2) / focal * z, (y - height / 2) / focal * z, z], 1)
    size = 0.9 * math.sqrt(width * height / num) / focal * DEPTH_MM
    scales = size * (0.6 + 0.8 * torch.rand(num, 2, generator=g))
    quats = torch.tensor([1.0, 0, 0, 0]) + 0.15 * torch.randn(num, 4, generator=g)
    opacity, colours = 0.35 + 0.6 * torch.rand(num, generator=g), torch.rand(num, 3, generator=g)
    k = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    surfels = [t.to(device).requires_grad_() for t in (means, quats, scales, opacity, colours)]
    return surfels, k, torch.eye(4)


def bench(num: int, width: int, height: int, backend: str, repeats: int, everything: bool) -> Row:
    """Time one case; the loss has colour and inverse depth, or also normals and distortion."""
    device = "cuda" if backend == "gsplat" else "cpu"
    surfels, k, pose = tissue(num, width, height, device)
    screen_gradient = torch.zeros(num, 2, device=device)
    forward = backward = processor = math.inf
    for repeat in range(repeats + 1):
        start, start_processor = _now(device), time.process_time()
        render = splat_surfels(
            *(*surfels, k, pose, width, height),
            backend=backend,  # type: ignore[arg-type]
            screen_gradient=screen_gradient,
        )
        middle = _now(device)
        loss = render.colour.square().mean() + (1 / render.depth_mm.clamp_min(1)).mean()
        if everything:
            loss = loss + render.normal.square().mean() + render.distortion.mean()
        loss.backward()
        end = _now(device)
        # The first run compiles.
        if repeat:
            forward, backward = min(forward, middle - start), min(backward, end - middle)
            processor = min(processor, time.process_time() - start_processor)
    case = f"{width} x {height}, " + ("all losses" if everything else "colour, depth")
    return Row(case, backend, num, 1e3 * forward, 1e3 * backward, 1e3 * processor)


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    on_cuda = torch.cuda.is_available() and importlib.util.find_spec("gsplat") is not None
    sizes = [(10_000, 256, 208), (30_000, 640, 512), (100_000, 640, 512)]
    if on_cuda:
        rows = [bench(*size, "gsplat", 20, all_losses) for size in sizes for all_losses in (False, True)]
        processor = torch.cuda.get_device_name()
    else:
        rows = [bench(*size, "numba", 8, all_losses) for size in sizes for all_losses in (False, True)]
        rows.append(bench(2_000, 128, 104, "torch", 1, False))
        processor = platform.processor() or platform.machine()
    machine = {
        "processor": processor,
        "cores": os.cpu_count(),
        "load_at_end": round(os.getloadavg()[0], 2),
        "torch": torch.__version__,
    }
    print(f"{'case':28}{'backend':9}{'N':>8}{'forward ms':>12}{'backward ms':>13}{'processor ms':>14}")
    for row in rows:
        print(
            f"{row.case:28}{row.backend:9}{row.surfels:8}{row.forward_ms:12.1f}{row.backward_ms:13.1f}"
            f"{row.processor_ms:14.1f}"
        )
    FOLDER.mkdir(parents=True, exist_ok=True)
    out = FOLDER / ("surfels_cuda.json" if on_cuda else "surfels_cpu.json")
    out.write_text(json.dumps({"machine": machine, "results": [asdict(r) for r in rows]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
