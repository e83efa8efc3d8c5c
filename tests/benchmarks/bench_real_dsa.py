"""Real vessel anatomy, projected and reconstructed: ``python tests/benchmarks/bench_real_dsa.py WORK``.

Every case of ``../shared/data`` is filled with contrast, spun, and reconstructed from 30 of its 133 views
by filtered back-projection and by 4D radiative Gaussians; both are measured against the exact truth.
Finished parts in the folder WORK are kept, so that a stopped benchmark goes on. Prints a table and
writes resources/benchmarks/real_dsa.json. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import torch

from splatomy.cli.phantom.vessels import write_vessel_phantom
from splatomy.engine import RunRequest, evaluate, open_capture, run
from splatomy.events import finish
from splatomy.io.options import InputOptions
from splatomy.io.run import RunFolder
from splatomy.io.volume import read_volume
from splatomy.phantoms.vessels import make_vessels

ROOT = Path(__file__).parents[2]
OUT = ROOT / "resources" / "benchmarks" / "real_dsa.json"
DATA = ROOT.parent / "shared" / "data"
CASES = {
    "circle of Willis (TopCoW CT 003)": "topcow-masks/topcow_ct_roi_003.nii.gz",
    "arteriovenous malformation (CT angiogram)": "niivue-ct-avm/CT_AVM.nii.gz",
}
METHODS = (("fdk", "standard"), ("dynamic_vessels", "draft"))
VIEWS = 30
KEYS = (
    "dice_own", "dice_best", "cldice", "chamfer_sum_mm", "hd95_mm", "psnr", "arrival_error_s",
    "volume_rmse_per_mm",
)  # fmt: skip


def is_done(folder: Path) -> bool:
    """True if the folder holds a finished run."""
    return (folder / "run.json").exists() and RunFolder(folder).record().get("state") == "done"


def measure(case: Path, out: Path, method: str, preset: str) -> dict[str, Any]:
    """One method on one case: the evaluation's figures, the time it took and the memory of the process."""
    if not is_done(out):
        start = time.process_time()
        finish(run(RunRequest(case, out, method=method, preset=preset, num_views=VIEWS, seed=0, force=True)))
        (out / "cpu_s.json").write_text(json.dumps(time.process_time() - start))
    figures = out / "evaluation.json"
    if not figures.exists():
        capture = finish(open_capture(case, InputOptions()))
        found = finish(evaluate(RunFolder(out), case / "truth", capture, "default"))
        figures.write_text(json.dumps(found))
    found = json.loads(figures.read_text())
    spent = out / "cpu_s.json"
    record = RunFolder(out).record()
    return {
        "method": method,
        "preset": preset,
        "timings_s": record["timings_s"],
        "cpu_s": round(json.loads(spent.read_text()), 1) if spent.exists() else None,
        **{key: None if found.get(key) is None else round(found[key], 4) for key in KEYS},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    work = parser.parse_args().work
    results = []
    for name, file in CASES.items():
        case = work / Path(file).parent.name
        volume = read_volume(DATA / file)
        if not (case / "truth" / "truth.json").exists():
            write_vessel_phantom(case, finish(make_vessels("demo", 0, volume)))
        rows = [measure(case, work / f"{case.name}_{method}", method, preset) for method, preset in METHODS]
        results.append({"case": name, "grid": list(volume.values.shape), "views": VIEWS, "methods": rows})
        print(f"\n{name}, {VIEWS} of 133 views\n{'':22}" + "".join(f"{row['method']:>17}" for row in rows))
        for key in KEYS:
            print(f"{key:22}" + "".join(f"{'-' if r[key] is None else r[key]:>17}" for r in rows))
        machine = {
            "cores": os.cpu_count(),
            "torch": torch.__version__,
            "load_at_end": round(os.getloadavg()[0], 2),
            "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }
        OUT.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
