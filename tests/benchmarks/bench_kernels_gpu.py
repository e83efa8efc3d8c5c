"""Times our GPU kernels on any CUDA device: ``python tests/benchmarks/bench_kernels_gpu.py``.

Forward and backward through the public functions, the median of 30 runs between device events, with the
spread (5 % to 95 %) and the peak of the memory. "both" starts every kernel from Python, "here" the same with
the backward pass on the calling thread, and "graph" replays it as a CUDA graph, which leaves out what the
host takes. Then how the cost grows with the Gaussians and the pixels, and, where gsplat is installed, gsplat
on the same surfels. Prints tables and writes resources/benchmarks/kernels_gpu.json and .png. Nothing is
asserted.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from splatomy.kernels.spherical_harmonics import colours_from_sh
from splatomy.kernels.surfel import splat_surfels
from splatomy.kernels.voxelize import voxelize
from splatomy.kernels.xray import splat, splat_many

OUT = Path(__file__).parents[2] / "resources" / "benchmarks" / "kernels_gpu.json"
SOURCE_TO_ISOCENTRE_MM, SOURCE_TO_DETECTOR_MM, DETECTOR_MM, CUBE_MM = 750.0, 1200.0, 300.0, 150.0
XRAY = [(20_000, 512, 1.0, 0.20), (50_000, 1024, 1.0, 0.50), (200_000, 1024, 0.6, 0.90)]
"""Gaussians, pixels a side, factor of the sigmas, and the goal in ms."""
SURFELS = [(50_000, 0.6), (200_000, 1.4)]
"""Surfels of an image of 640 x 512, and the goal in ms."""
REPEATS = 30

Run = Callable[[], Tensor]


@dataclass
class Row:
    """One case; times in ms, memory in MiB over what was held before."""

    case: str
    kernel: str
    gaussians: int
    points: int
    """Pixels or voxels."""
    forward_ms: float
    both_ms: float
    both_5_percent_ms: float
    both_95_percent_ms: float
    here_ms: float
    graph_ms: float | None
    peak_mib: float
    goal_ms: float | None = None


def median_ms(run: Callable[[], object]) -> list[float]:
    """Sorted times of a run that is already warm."""
    times = []
    for _ in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return sorted(times)


def replayed(run: Callable[[], object]) -> float | None:
    """Median time of the run as a CUDA graph, or None if it cannot be captured."""
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            kept = run()
    except RuntimeError:
        return None
    times = median_ms(graph.replay)
    del kept
    return times[len(times) // 2]


def measure(
    kernel: str,
    case: str,
    points: int,
    forward: Run,
    inputs: list[Tensor],
    goal_ms: float | None,
    graph: bool,
) -> Row:
    """Times of ``forward`` alone and with the gradients of its inputs."""
    weights = torch.randn_like(forward())

    def both() -> tuple[Tensor, ...]:
        return torch.autograd.grad(forward(), inputs, weights)

    def alone() -> Tensor:
        with torch.no_grad():
            return forward()

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    # Long enough for the clocks of an idle device to rise.
    with torch.cuda.stream(side):
        start = time.perf_counter()
        while time.perf_counter() - start < 0.4:
            both()
            torch.cuda.synchronize()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    times, first = median_ms(both), median_ms(alone)
    peak = (torch.cuda.max_memory_allocated() - held) / 2**20
    at = (len(times) // 2, len(times) // 20, len(times) - 1 - len(times) // 20)
    spread = [times[k] for k in at]
    with torch.autograd.set_multithreading_enabled(False):
        here = median_ms(both)
    graph_ms = replayed(both) if graph else None
    what = (case, kernel, len(inputs[0]), points)
    return Row(*what, first[len(first) // 2], *spread, here[len(here) // 2], graph_ms, peak, goal_ms)


def gaussians(num: int, factor: float) -> list[Tensor]:
    """Gaussians uniform in a cube, with sigmas uniform in [0.3, 1.3] mm times a factor."""
    g = torch.Generator("cuda").manual_seed(0)
    options: dict[str, object] = {"generator": g, "device": "cuda"}
    means = (torch.rand(num, 3, **options) - 0.5) * CUBE_MM  # type: ignore[call-overload]
    quats = torch.randn(num, 4, **options)  # type: ignore[call-overload]
    scales = (0.3 + torch.rand(num, 3, **options)) * factor  # type: ignore[call-overload]
    density = torch.rand(num, **options)  # type: ignore[call-overload]
    return [t.requires_grad_() for t in (means, quats, scales, density)]


def xray_camera(size: int) -> tuple[Tensor, Tensor]:
    focal, centre = SOURCE_TO_DETECTOR_MM / (DETECTOR_MM / size), (size - 1) / 2
    intrinsics = torch.tensor([[focal, 0, centre], [0, focal, centre], [0, 0, 1]], dtype=torch.float64)
    pose = torch.eye(4, dtype=torch.float64)
    pose[2, 3] = SOURCE_TO_ISOCENTRE_MM
    return intrinsics.cuda(), pose.cuda()


def bench_xray(num: int, size: int, factor: float, goal_ms: float | None = None) -> Row:
    inputs, camera = gaussians(num, factor), xray_camera(size)
    case = f"X-ray, {num // 1000} k, {size}x{size}, sigma x {factor}"

    def forward() -> Tensor:
        return splat(*inputs, *camera, size, size)  # type: ignore[arg-type]

    return measure(f"X-ray, sigma x {factor}", case, size**2, forward, inputs, goal_ms, True)


def bench_views(num: int, size: int, views: int) -> Row:
    """Many cameras in one launch."""
    inputs = gaussians(num, 1.0)
    inputs[3] = inputs[3].detach().expand(views, -1).contiguous().requires_grad_()
    camera = [t.expand(views, *t.shape).contiguous() for t in xray_camera(size)]
    case = f"X-ray, {num // 1000} k, {size}x{size}, {views} views at once"

    def forward() -> Tensor:
        return splat_many(*inputs, *camera, size, size)  # type: ignore[arg-type]

    return measure("X-ray, many views", case, views * size**2, forward, inputs, None, True)


def bench_voxels(num: int, side: int, average: bool, columns: int = 1) -> Row:
    inputs = gaussians(num, 1.0)
    inputs[3] = torch.rand(num, columns, device="cuda").requires_grad_()
    spacing = CUBE_MM / side
    affine = torch.diag(torch.tensor([spacing, spacing, spacing, 1.0]))
    affine[:3, 3] = -CUBE_MM / 2 + spacing / 2
    case = f"voxelise, {num // 1000} k, {side}^3" + (", means" if average else ", points")
    case += f", {columns} columns" if columns > 1 else ""

    def forward() -> Tensor:
        return voxelize(*inputs, (side,) * 3, affine, box_average=average)  # type: ignore[arg-type]

    return measure("voxelise", case, side**3, forward, inputs, None, False)


def surfels(num: int) -> list[Tensor]:
    """Surfels all over the frame at depths of 1 to 1.5, scales 0.002 to 0.008, with harmonics of degree 3."""
    g = torch.Generator("cuda").manual_seed(0)
    options: dict[str, object] = {"generator": g, "device": "cuda"}
    z = 1 + 0.5 * torch.rand(num, **options)  # type: ignore[call-overload]
    x, y = torch.rand(2, num, **options) - 0.5  # type: ignore[call-overload]
    means = torch.stack([x * 640 / 570 * z, y * 512 / 570 * z, z], 1)
    quats = torch.randn(num, 4, **options)  # type: ignore[call-overload]
    scales = 0.002 + 0.006 * torch.rand(num, 2, **options)  # type: ignore[call-overload]
    opacity = torch.rand(num, **options)  # type: ignore[call-overload]
    sh = 0.2 * torch.randn(num, 16, 3, **options)  # type: ignore[call-overload]
    return [t.requires_grad_() for t in (means, quats, scales, opacity, sh)]


def bench_surfels(
    num: int,
    goal_ms: float | None,
    backend: str = "gpu",
    harmonics: bool = True,
    size: tuple[int, int] = (640, 512),
) -> Row:
    """Colour and depth of one image; without ``harmonics`` the colours are given."""
    inputs, (width, height) = surfels(num), size
    focal = 570.0 * width / 640
    k = torch.tensor(
        [[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=torch.float64, device="cuda"
    )
    pose = torch.eye(4, dtype=torch.float64, device="cuda")
    if not harmonics:
        inputs[4] = torch.rand(num, 3, device="cuda").requires_grad_()

    def forward() -> Tensor:
        means, quats, scales, opacity, colours = inputs
        if harmonics:
            colours = colours_from_sh(colours, means)
        render = splat_surfels(
            *(means, quats, scales, opacity, colours, k, pose, width, height),
            near_mm=0.1,
            backend=backend,  # type: ignore[arg-type]
        )
        return torch.cat([render.colour, render.depth_mm[..., None]], 2)

    case = f"surfels, {num // 1000} k, {width}x{height}" + (", SH 3" if harmonics else "") + f", {backend}"
    kernel = f"surfels, {backend}" + (", SH 3" if harmonics else "")
    return measure(kernel, case, width * height, forward, inputs, goal_ms, backend == "gpu")


def profile(run: Callable[[], object]) -> list[tuple[str, float]]:
    """Mean time in ms of each kernel of a run."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    with record(activities=[ProfilerActivity.CUDA]) as found:
        for _ in range(10):
            run()
        torch.cuda.synchronize()
    rows = [(e.key[:60], e.self_device_time_total / 1e4) for e in found.key_averages()]
    return sorted(rows, key=lambda row: -row[1])


def plot(rows: list[Row], path: Path) -> None:
    """How the replayed time grows with the Gaussians, and with the pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    by_num = (
        ("X-ray, sigma x 0.6", 1024**2, "X-ray 1024 x 1024"),
        ("surfels, gpu", 640 * 512, "surfels 640 x 512"),
    )
    for kernel, points, label in by_num:
        found = sorted((r.gaussians, r.graph_ms) for r in rows if (r.kernel, r.points) == (kernel, points))
        left.loglog(*zip(*found, strict=True), "o-", label=label)
    by_points = (("X-ray, sigma x 1.0", 50_000, "X-ray, 50 k"), ("surfels, gpu", 100_000, "surfels, 100 k"))
    for kernel, num, label in by_points:
        found = sorted((r.points, r.graph_ms) for r in rows if (r.kernel, r.gaussians) == (kernel, num))
        right.loglog(*zip(*found, strict=True), "o-", label=label)
    left.set(xlabel="Gaussians", ylabel="forward and backward, ms")
    right.set(xlabel="pixels")
    for axes in (left, right):
        axes.grid(True, which="both", alpha=0.3)
        axes.legend()
    figure.suptitle(f"GPU kernels as CUDA graphs on {torch.cuda.get_device_name()}")
    FigureCanvasAgg(figure).print_png(str(path))


def show(rows: list[Row]) -> None:
    names = ("forward", "both", "5 %", "95 %", "here", "graph")
    print(f"{'case':46}" + "".join(f"{name:>9}" for name in names) + f"{'MiB':>8}{'goal':>7}")
    for r in rows:
        graph, goal = (f"{v:.3f}" if v is not None else "-" for v in (r.graph_ms, r.goal_ms))
        print(
            f"{r.case:46}{r.forward_ms:9.3f}{r.both_ms:9.3f}{r.both_5_percent_ms:9.3f}"
            f"{r.both_95_percent_ms:9.3f}{r.here_ms:9.3f}{graph:>9}{r.peak_mib:8.1f}{goal:>7}",
            flush=True,
        )


def show_profile(title: str, run: Callable[[], object]) -> None:
    print(title)
    for name, time_ms in profile(run)[:14]:
        print(f"    {time_ms:8.4f} ms  {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", action="store_true", help="also print the time of each kernel")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    start = time.perf_counter()
    camera = xray_camera(64)
    splat(*gaussians(8, 1.0), *camera, 64, 64)  # type: ignore[arg-type]
    torch.cuda.synchronize()
    print(f"first X-ray image, with the compilation: {time.perf_counter() - start:.2f} s")
    rows = [bench_xray(*case) for case in XRAY]
    rows.append(bench_views(20_000, 512, 8))
    rows += [bench_xray(num, 1024, 0.6) for num in (10_000, 100_000, 400_000)]
    rows += [bench_xray(50_000, size, 1.0) for size in (256, 512, 2048)]
    rows += [bench_voxels(num, 256, average) for num in (20_000, 200_000) for average in (True, False)]
    rows.append(bench_voxels(20_000, 256, True, 8))
    rows += [bench_surfels(num, goal) for num, goal in SURFELS]
    rows += [bench_surfels(num, None, harmonics=False) for num, _ in SURFELS]
    rows += [bench_surfels(num, None, harmonics=False) for num in (25_000, 100_000, 400_000)]
    rows += [bench_surfels(100_000, None, harmonics=False, size=size) for size in ((320, 256), (1280, 1024))]
    if importlib.util.find_spec("gsplat"):
        rows += [bench_surfels(num, None, "gsplat") for num, _ in SURFELS]
    show(rows)
    if arguments.profile:
        for num, size, factor, _ in XRAY:
            inputs, camera = gaussians(num, factor), xray_camera(size)
            weights = torch.randn(size, size, device="cuda")

            def both(inputs=inputs, camera=camera, size=size, weights=weights) -> object:  # type: ignore[no-untyped-def]
                return torch.autograd.grad(splat(*inputs, *camera, size, size), inputs, weights)

            show_profile(f"X-ray, {num} Gaussians, {size}x{size}", both)
    machine = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    machine["gsplat"] = "yes" if importlib.util.find_spec("gsplat") else "no"
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    plot(rows, arguments.out.with_suffix(".png"))
    arguments.out.write_text(
        json.dumps({"machine": machine, "results": [asdict(r) for r in rows]}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
