"""``dynamic_tissue`` on hard tissue phantoms: what each way of filling the holes is worth.

``python tests/benchmarks/bench_hard_tissue.py [--clips hard:21 hard_moving:22] [--feeds own true ...]``

A clip is prepared as the engine does it, from the noisy pictures of both eyes and the masks alone: depth by
stereo, then poses, then the inpainting. Then one scene is trained for each feed of the hidden pixels:

own      the default pipeline                     nearest  the nearest frame that shows the pixel, no flow
masked   nothing: hidden pixels are left out      telea    each frame for itself (OpenCV, Telea 2004)
true     the bare tissue itself, an upper bound of any inpainting; depth and poses are measured as ever

``--agree`` trains the demo's phantom on the CPU and on CUDA and draws one scene with both. ``--keep FOLDER``
keeps prepared clips. With ``--jobs`` above 1 runs share the machine, and their times count as no measurement.
Prints a table and updates resources/benchmarks/hard_tissue.json. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import splatomy  # first: it sets how torch's idle threads wait

# isort: split

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from splatomy.capture import Capture, Modality
from splatomy.errors import MissingBackendError
from splatomy.events import finish
from splatomy.geometry.cameras import Cameras
from splatomy.kernels.surfel import splat_surfels
from splatomy.method import find_method, load_symbol, make_config
from splatomy.metrics.endoscopy import depth_metrics, hidden_metrics
from splatomy.metrics.image import psnr
from splatomy.phantoms.tissue import make_tissue
from splatomy.prepare.depth import StereoPair, StereoRig, estimate_depth
from splatomy.prepare.inpaint import SYNTHESISED, inpaint_frames
from splatomy.prepare.poses import estimate_poses

OUT = Path(__file__).parents[2] / "resources" / "benchmarks" / "hard_tissue.json"
FEEDS = ("own", "masked", "nearest", "telea", "true")
_RECORD = "record "
Arrays = dict[str, NDArray[Any]]
_COLUMNS = (
    ("psnr", "whole", 7, 2), ("psnr_masked", "seen", 7, 2), ("psnr_hidden", "hidden", 7, 2),
    ("psnr_feed", "feed", 7, 2), ("depth_mae_mm", "MAE", 6, 2), ("depth_rmse_mm", "RMSE", 6, 2),
    ("hidden_mae_mm", "hid MAE", 8, 2), ("hidden_rmse_mm", "hid RMSE", 9, 2),
    ("depth_worst_mm", "worst", 7, 1), ("seconds", "s", 7, 1), ("memory_mb", "MB", 8, 0),
)  # fmt: skip


def prepared(preset: str, seed: int) -> Arrays:
    """A clip as a method gets it, and its truth; the times of the preparation in s."""
    start = time.perf_counter()
    phantom = finish(make_tissue(preset, seed))
    made = time.perf_counter()
    if phantom.images_right is None:
        raise ValueError("the pipeline needs both eyes")
    frames = len(phantom.images)
    # The own poses are looked for: only the lens is known.
    still = replace(phantom.cameras, camera_from_world=np.repeat(np.eye(4)[None], frames, 0))
    capture = Capture(
        Modality.COLOUR, phantom.images, phantom.times_s, cameras=still, occluded=phantom.occluded
    )
    k, shift = phantom.cameras.intrinsics[0], np.eye(4)
    shift[0, 3] = -phantom.baseline_mm
    rig = StereoRig(k, k, shift, np.zeros(5), np.zeros(5))
    capture = finish(estimate_depth(capture, StereoPair(phantom.images_right, rig)))
    capture = finish(estimate_poses(capture))
    placed = time.perf_counter()
    filled = finish(inpaint_frames(phantom.images, phantom.occluded))
    done = time.perf_counter()
    if capture.cameras is None or capture.depth_mm is None or capture.depth_confidence is None:
        raise ValueError("a prepared clip has cameras and depth")
    return {
        "images": _codes(phantom.images),
        "filled": _codes(filled.images),
        "synthetic": filled.provenance == SYNTHESISED,
        "occluded": phantom.occluded,
        "depth_mm": capture.depth_mm,
        "confidence": capture.depth_confidence,
        "intrinsics": capture.cameras.intrinsics,
        "camera_from_world": capture.cameras.camera_from_world,
        "times_s": phantom.times_s,
        "true_rgb": phantom.rgb,
        "true_depth_mm": phantom.depth_mm,
        "never_seen": phantom.never_seen,
        "seconds": np.array([made - start, placed - made, done - placed]),
    }


def _codes(images: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.rint(images.clip(0, 1) * 255).astype(np.uint8)


def clip_of(folder: Path, clip: str) -> Arrays:
    """The prepared clip, from the folder when it is there."""
    path = folder / f"{clip.replace(':', '_')}.npz"
    if not path.exists():
        preset, seed = clip.split(":")
        np.savez(path, **prepared(preset, int(seed)))
    with np.load(path) as kept:
        return dict(kept)


def fed(clip: Arrays, feed: str) -> Capture:
    """The clip with its holes filled in one way."""
    images = clip["images"].astype(np.float32) / np.float32(255)
    occluded, synthetic = clip["occluded"], clip["synthetic"]
    if feed == "own":
        images = clip["filled"].astype(np.float32) / np.float32(255)
    elif feed == "true":
        images = np.where(occluded[..., None], clip["true_rgb"], images)
        synthetic = clip["never_seen"]
    elif feed == "telea":
        images, synthetic = _telea(images, occluded), occluded
    elif feed == "nearest":
        images, synthetic = _nearest(images, occluded)
    cameras = Cameras(clip["intrinsics"], clip["camera_from_world"], images.shape[2], images.shape[1])
    return Capture(
        Modality.COLOUR,
        images,
        clip["times_s"],
        cameras=cameras,
        occluded=occluded,
        synthetic=None if feed == "masked" else synthetic,
        depth_mm=clip["depth_mm"],
        depth_confidence=clip["confidence"],
    )


def _telea(images: NDArray[np.float32], occluded: NDArray[np.bool_]) -> NDArray[np.float32]:
    pairs = zip(_codes(images), occluded.astype(np.uint8), strict=True)
    with ThreadPoolExecutor() as pool:
        filled = pool.map(lambda pair: cv2.inpaint(*pair, 5, cv2.INPAINT_TELEA), pairs)
        return np.stack(list(filled)).astype(np.float32) / np.float32(255)


def _nearest(
    images: NDArray[np.float32], occluded: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Each hidden pixel from the nearest frame that shows that place; where none does, Telea's filling."""
    out, missing = images.copy(), occluded.copy()
    for t in range(len(images)):
        for other in sorted(range(len(images)), key=lambda n: abs(n - t)):
            take = missing[t] & ~occluded[other]
            out[t][take] = images[other][take]
            missing[t] &= ~take
    return np.where(missing[..., None], _telea(out, missing), out), missing


def row_of(clip: Arrays, feed: str, preset: str, settings: dict[str, Any], device: str) -> dict[str, Any]:
    """Figures of one training against the exact truth, over all frames."""
    capture, truth, occluded = fed(clip, feed), clip["true_rgb"], clip["occluded"]
    spec = find_method("dynamic_tissue")
    config = make_config(spec, preset, settings)
    start = time.perf_counter()
    scene = finish(load_symbol(spec.reconstruct)([capture], config, torch.device(device)))
    row: dict[str, Any] = {"seconds": time.perf_counter() - start, "surfels": len(scene.surfels["means_mm"])}
    row["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if device != "cpu":
        row["memory_mb"] = torch.cuda.max_memory_allocated() / 2**20
        row["machine"] = torch.cuda.get_device_name()
    found = scene.render(capture.cameras, capture.times_s)
    row |= hidden_metrics(found.colour, truth, occluded, clip["never_seen"])
    row["psnr_feed"] = (
        float("nan") if feed == "masked" else psnr(capture.images, truth, occluded, data_range=1.0)
    )
    row |= depth_metrics(found.depth_mm, clip["true_depth_mm"])
    parts = {"hidden": occluded, "visible": ~occluded, "never_seen": occluded & clip["never_seen"]}
    for name, where in parts.items():
        figures = depth_metrics(found.depth_mm, clip["true_depth_mm"], where)
        row |= {f"{name}_{key.removeprefix('depth_')}": value for key, value in figures.items()}
    return row


def agreement(folder: Path, preset: str, settings: dict[str, Any]) -> dict[str, Any]:
    """CPU and CUDA: two trainings from one seed, and one scene drawn by every backend that is here."""
    clip = clip_of(folder, "demo:0")
    capture = fed(clip, "own")
    spec = find_method("dynamic_tissue")
    config = make_config(spec, preset, {"steps": 100})
    scene = finish(load_symbol(spec.reconstruct)([capture], config, torch.device("cpu")))
    reference = _drawn(scene, capture, "numba")
    gaps: dict[str, float] = {}
    left_out: dict[str, str] = {}
    for name in ("gpu", "gsplat") if torch.cuda.is_available() else ():
        try:
            drawn = _drawn(scene, capture, name)
        except MissingBackendError as error:
            left_out[name] = str(error)
            continue
        for part, one, two in zip(("colour", "alpha", "depth_mm"), reference, drawn, strict=True):
            both = torch.isfinite(one) & torch.isfinite(two)
            gaps[f"{name} {part}"] = float((one - two)[both].abs().max())
        gaps[f"{name} solid in one only"] = float((reference[2].isnan() != drawn[2].isnan()).float().mean())
    found: dict[str, Any] = {"same_scene_largest": gaps}
    if not torch.cuda.is_available():
        left_out = {"cuda": "this machine has none"}
    if left_out:
        found["left_out"] = left_out
    devices = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    found |= {device: row_of(clip, "own", preset, settings, device) for device in devices}
    if "cuda" in found:
        names = ("psnr", "psnr_hidden", "depth_rmse_mm", "hidden_mae_mm")
        found["difference"] = {name: found["cuda"][name] - found["cpu"][name] for name in names}
    return found


def _drawn(scene: Any, capture: Capture, backend: str) -> tuple[torch.Tensor, ...]:
    """Colours (T, H, W, 3), alphas and depths (T, H, W) mm, NaN where not solid, of a scene by a backend."""
    device = "cpu" if backend == "numba" else "cuda"
    if capture.cameras is None:
        raise ValueError("the clip has cameras")
    size = capture.cameras.width_px, capture.cameras.height_px
    found: list[list[torch.Tensor]] = [[], [], []]
    for frame, time_s in enumerate(capture.times_s.tolist()):
        moved = scene.surfels_at(time_s)
        opacity = torch.as_tensor(scene.surfels["opacity_logit"]).sigmoid()
        colours = torch.as_tensor(scene.surfels["sh"])[:, 0]
        surfels = (moved.means_mm, moved.quats_wxyz, moved.log_scales.exp(), opacity, colours)
        k, pose = capture.cameras.intrinsics[frame], capture.cameras.camera_from_world[frame]
        with torch.no_grad():
            picture = splat_surfels(
                *(t.to(device) for t in surfels), torch.as_tensor(k), torch.as_tensor(pose), *size,
                near_mm=scene.near_mm, backend=backend,
            )  # fmt: skip
        solid = torch.where(picture.alpha > 0.5, picture.depth_mm, torch.nan)
        for parts, part in zip(found, (picture.colour, picture.alpha, solid), strict=True):
            parts.append(part.cpu())
    return tuple(torch.stack(parts) for parts in found)


def _keep(key: str, row: dict[str, Any], note: str) -> None:
    """Writes the row, or hands it to the process that shares out the work."""
    if note == "alone":
        _write(key, row)
    else:
        print(_RECORD + json.dumps([key, row]), flush=True)


def _write(key: str, row: dict[str, Any]) -> None:
    record = json.loads(OUT.read_text()) if OUT.exists() else {}
    record[key] = row
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(record, indent=2) + "\n")


def _line(name: str, row: dict[str, Any]) -> str:
    return f"{name:36}" + "".join(f"{row[key]:{width}.{digits}f}" for key, _, width, digits in _COLUMNS)


def _shared_out(options: argparse.Namespace, folder: Path) -> None:
    """Every clip and then every row in a process of its own, ``--jobs`` at a time."""
    threads = str(max(1, (os.cpu_count() or 1) // options.jobs))
    names = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, threads)}
    base = [sys.executable, __file__, "--keep", str(folder), "--preset", options.preset]
    base += ["--device", options.device, "--jobs", "1", "--note", f"{options.jobs} runs at a time", "--set"]
    base += [f"{key}={json.dumps(value)}" for key, value in options.set]

    print(f"{'':36}" + "".join(f"{title:>{width}}" for _, title, width, _ in _COLUMNS))

    def start(arguments: list[str]) -> None:
        # Only this process writes the record.
        done = subprocess.run(
            [*base, *arguments], env=environment, check=True, capture_output=True, text=True
        )
        for line in done.stdout.splitlines():
            if line.startswith(_RECORD):
                key, row = json.loads(line.removeprefix(_RECORD))
                _write(key, row)
            else:
                print(line, flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(start, [["--clips", clip, "--feeds"] for clip in options.clips]))
        rows = [["--clips", c, "--feeds", f] for c in options.clips for f in options.feeds]
        list(pool.map(start, rows))


def _setting(text: str) -> tuple[str, Any]:
    key, value = text.split("=", 1)
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", nargs="*", default=["hard:21", "hard_moving:22"], help="PRESET:SEED")
    parser.add_argument("--feeds", nargs="*", default=list(FEEDS), choices=FEEDS)
    parser.add_argument("--preset", default="standard")
    parser.add_argument("--set", nargs="*", default=[], type=_setting, metavar="KEY=VALUE")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--agree", action="store_true")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--note", default="alone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if options.jobs > 1:
            _shared_out(options, folder)
            options.clips = []
        machine = {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
            "software": splatomy.__version__,
            "runs": options.note,
        }
        if options.clips and options.feeds and options.note == "alone":
            print(f"{'':36}" + "".join(f"{title:>{width}}" for _, title, width, _ in _COLUMNS))
        for clip in options.clips:
            arrays = clip_of(folder, clip)
            for feed in options.feeds:
                row = row_of(arrays, feed, options.preset, dict(options.set), options.device)
                changed = "".join(f", {key}={value}" for key, value in options.set)
                name = f"{clip}, {options.preset}{changed}, {feed}, {options.device}"
                print(_line(name, row), flush=True)
                prepared_s = dict(
                    zip(("phantom", "depth_poses", "inpaint"), arrays["seconds"].tolist(), strict=True)
                )
                _keep(name, {**row, "prepared_s": prepared_s, **machine}, options.note)
        if options.agree:
            found = agreement(folder, "draft", dict(options.set))
            print(json.dumps({k: v for k, v in found.items() if k not in ("cpu", "cuda")}), flush=True)
            _write(
                "agreement of backends: demo:0, draft, own",
                {**found, "settings": dict(options.set), **machine},
            )


if __name__ == "__main__":
    main()
