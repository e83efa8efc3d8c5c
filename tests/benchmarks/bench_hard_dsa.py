"""Quality on hard vessel phantoms: ``python tests/benchmarks/bench_hard_dsa.py --seeds 101 102 103``.

For each seed: the phantom ``hard`` (512 x 512 detector, 280^3 voxels of 0.4 mm), a filtered
back-projection of 30 views with several windows, and ``dynamic_vessels`` with its curves and, with
``--grid-field``, with the paper's attenuation field; all through the command line, all against the exact
truth. Prints a table and writes resources/benchmarks/<preset>_dsa.json after every run; rows of other
seeds, methods and settings that it holds already are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from splatomy.io.truth import read_truth
from splatomy.io.volume import read_volume
from splatomy.metrics.volume import dice_best, recall_by_radius

OUT = Path(__file__).parents[2] / "resources" / "benchmarks"
FDK_CUTOFFS = (0.5, 0.7)
KEYS = (
    "dice_own",
    "dice_best",
    "cldice",
    "recall_thin",
    "recall_thin_best",
    "psnr",
    "chamfer_sum_mm",
    "hd95_mm",
    "arrival_error_s",
    "train_s",
    "total_s",
)


def splatomy(*words: object) -> float:
    """Runs one command; the seconds it took."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "splatomy", *map(str, words)], check=True)
    return time.perf_counter() - start


def measured(case: Path, run: Path, method: str, *settings: str) -> dict[str, Any]:
    """One method on one case: the figures of ``evaluate``, recall at the best level, and times."""
    words = [word for pair in settings for word in ("--set", pair)]
    options = ("--out", run, "--method", method, "--views", 30, "--force")
    total_s = splatomy("reconstruct", case, *options, *words)
    command = ("evaluate", run, "--truth", case / "truth", "--input", case, "--json")
    answer = subprocess.run(
        [sys.executable, "-m", "splatomy", *command],
        check=True,
        stdout=subprocess.PIPE,
    )
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    volume, truth = read_volume(run / "volumes" / "volume.nii.gz"), read_truth(case / "truth")
    if truth.label is None or truth.points_mm is None or truth.radius_mm is None:
        raise SystemExit("The phantom wrote no label or centreline.")
    _, level = dice_best(volume.values, truth.label.values)
    label = (volume.values >= level).astype(np.uint8)
    found["recall_thin_best"] = recall_by_radius(
        label, volume.affine_mm, truth.points_mm, truth.radius_mm, below_mm=0.5
    )
    found["total_s"] = total_s
    found["train_s"] = json.loads((run / "run.json").read_text()).get("timings_s", {}).get("train")
    return found


def keep_row(path: Path, preset: str, row: dict[str, Any]) -> None:
    """Puts one row into the file, in place of an older one of the same seed, method and settings."""
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    kept = [r for r in rows if any(r.get(key) != row[key] for key in ("seed", "method", "settings"))]
    kept = sorted([*kept, row], key=lambda r: r["seed"])
    facts = {"machine": platform.machine(), "cores": os.cpu_count(), "preset": preset, "rows": kept}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts, indent=1) + "\n")


def main() -> None:
    """Runs every case and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103])
    parser.add_argument("--preset", default="hard")
    parser.add_argument("--grid-field", action="store_true", help="also the paper's attenuation field")
    parser.add_argument("--only-grid-field", action="store_true", help="nothing but the paper's field")
    parser.add_argument("--set", nargs="*", default=[], help="settings of dynamic_vessels")
    parser.add_argument("--keep", type=Path, help="keep phantoms and runs here")
    arguments = parser.parse_args()
    path = OUT / f"{arguments.preset}_dsa.json"
    with tempfile.TemporaryDirectory() as scratch:
        root = arguments.keep or Path(scratch)
        for seed in arguments.seeds:
            case = root / f"{arguments.preset}_{seed}"
            if not (case / "truth").exists():
                splatomy("phantom", "vessels", "--preset", arguments.preset, "--seed", seed, "--out", case)
            for name, row in measured_methods(case, root, seed, arguments):
                settings = [] if name.startswith("fdk") else arguments.set
                figures = {k: _finite(row.get(k)) for k in KEYS}
                keep_row(
                    path, arguments.preset, {"seed": seed, "method": name, "settings": settings, **figures}
                )
                print(f"{seed} {name:<30}" + "".join(f" {k} {_text(row.get(k))}" for k in KEYS), flush=True)


def measured_methods(
    case: Path, root: Path, seed: int, arguments: argparse.Namespace
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The methods asked for, each with its figures as soon as they are there."""
    if not arguments.only_grid_field:
        fdk = [measured(case, root / f"fdk_{seed}", "fdk", f"cutoff={c}") for c in FDK_CUTOFFS]
        yield "fdk (best window)", max(fdk, key=lambda row: row["dice_best"])
        run = root / f"ours_{seed}"
        yield "dynamic_vessels", measured(case, run, "dynamic_vessels", *arguments.set)
    if arguments.grid_field or arguments.only_grid_field:
        run = root / f"grid_{seed}"
        yield (
            "dynamic_vessels, grid field",
            measured(case, run, "dynamic_vessels", "field=grid", *arguments.set),
        )


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else value


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
