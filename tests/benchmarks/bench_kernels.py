"""Times the X-ray and voxel kernels on the CPU: ``python tests/benchmarks/bench_kernels.py``.

Prints a table and writes resources/benchmarks/kernels_cpu.json. Nothing is asserted.
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numba
import torch
from torch import Tensor

from splatomy.kernels.voxelize import voxelize
from splatomy.kernels.xray import CUTOFF_SIGMA, splat

OUT = Path(__file__).parents[2] / "resources" / "benchmarks" / "kernels_cpu.json"
SIZE_PX = 512
SOURCE_TO_ISOCENTRE_MM = 750.0
FOCAL_PX = 1200 / 0.616


@dataclass
class Row:
    """One case: the best of several runs, milliseconds, and forward pair evaluations per second."""

    case: str
    backend: str
    gaussians: int
    forward_ms: float
    backward_ms: float
    giga_pairs_per_s: float


def scene(num: int, sigma_px: float, shape: float = 1.0) -> list[Tensor]:
    """Random Gaussians that fill a 512 x 512 image; the footprint's sigma is about ``sigma_px``."""
    generator = torch.Generator().manual_seed(0)
    mm_per_px = SOURCE_TO_ISOCENTRE_MM / FOCAL_PX
    means = (torch.rand(num, 3, generator=generator) - 0.5) * (0.9 * SIZE_PX * mm_per_px)
    quats = torch.randn(num, 4, generator=generator)
    scales = torch.full((num, 3), sigma_px * mm_per_px) * torch.tensor([shape, 1.0, 1 / shape])
    density = torch.rand(num, generator=generator)
    return [t.requires_grad_() for t in (means, quats, scales, density)]


def best_ms(run: Callable[[], Tensor], repeats: int) -> tuple[float, float]:
    """The shortest forward and backward time, after one run that compiles."""
    forward, backward = math.inf, math.inf
    for repeat in range(repeats + 1):
        start = time.perf_counter()
        out = run()
        middle = time.perf_counter()
        out.backward(torch.ones_like(out))
        end = time.perf_counter()
        if repeat:
            forward, backward = min(forward, middle - start), min(backward, end - middle)
    return forward * 1e3, backward * 1e3


def bench_splat(case: str, num: int, sigma_px: float, shape: float, backend: str, repeats: int) -> Row:
    parameters = scene(num, sigma_px, shape)
    centre = (SIZE_PX - 1) / 2
    intrinsics = torch.tensor([[FOCAL_PX, 0, centre], [0, FOCAL_PX, centre], [0, 0, 1.0]])
    pose = torch.eye(4)
    pose[2, 3] = SOURCE_TO_ISOCENTRE_MM
    screen_gradient = torch.zeros(num, 2)

    def run() -> Tensor:
        return splat(
            *(*parameters, intrinsics, pose, SIZE_PX, SIZE_PX),
            backend=backend,  # type: ignore[arg-type]
            screen_gradient=screen_gradient,
        )

    forward, backward = best_ms(run, repeats)
    pairs = num * (2 * CUTOFF_SIGMA * sigma_px) ** 2 if shape == 1 else math.nan
    return Row(case, backend, num, forward, backward, pairs / forward / 1e6)


def bench_voxelize(case: str, num: int, sigma_voxels: float, columns: int, backend: str, repeats: int) -> Row:
    means, quats, scales, _ = scene(num, 1.0)
    density = torch.rand(num, columns, requires_grad=True)
    scales = torch.full_like(scales, sigma_voxels).requires_grad_()
    extent = float(means.detach().abs().max())
    affine = torch.eye(4)
    affine[:3, 3] = -63.5
    means = (means.detach() * (60 / extent)).requires_grad_()
    forward, backward = best_ms(
        lambda: voxelize(means, quats, scales, density, (128, 128, 128), affine, backend=backend),  # type: ignore[arg-type]
        repeats,
    )
    half = CUTOFF_SIGMA * math.sqrt(sigma_voxels**2 + 1 / 12)
    return Row(case, backend, num, forward, backward, num * (2 * half) ** 3 / forward / 1e6)


def main() -> None:
    rows = [
        bench_splat("splat 512^2, sigma 2.67 px (radius 8)", 20_000, 8 / 3, 1.0, "numba", 8),
        bench_splat("splat 512^2, sigma 1.3 px", 35_000, 1.3, 1.0, "numba", 8),
        bench_splat("splat 512^2, sigma 1.3 px, needles 9:1", 35_000, 1.3, 3.0, "numba", 8),
        bench_splat("splat 512^2, sigma 1.3 px", 35_000, 1.3, 1.0, "torch", 1),
        bench_voxelize("voxelize 128^3, sigma 1", 20_000, 1.0, 1, "numba", 4),
        bench_voxelize("voxelize 128^3, sigma 1, 8 columns", 20_000, 1.0, 8, "numba", 4),
        bench_voxelize("voxelize 128^3, sigma 1", 20_000, 1.0, 1, "torch", 1),
    ]
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load_at_start": round(os.getloadavg()[0], 2),
        "threads": numba.get_num_threads(),
        "torch": torch.__version__,
        "numba": numba.__version__,
    }
    print(f"{'case':42}{'backend':9}{'N':>7}{'forward ms':>12}{'backward ms':>13}{'G pairs/s':>11}")
    for row in rows:
        print(
            f"{row.case:42}{row.backend:9}{row.gaussians:7}{row.forward_ms:12.1f}"
            f"{row.backward_ms:13.1f}{row.giga_pairs_per_s:11.2f}"
        )
    OUT.parent.mkdir(parents=True, exist_ok=True)
    results = [
        {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(r).items()} for r in rows
    ]
    OUT.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
