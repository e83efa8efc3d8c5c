"""Held-out views of ``pulled_surface`` beside those of gsplat's 2DGS, trained on the same pictures.

``python tests/benchmarks/bench_novel_views.py pack SOURCE OUT.npz [--folder FOLDER] [--seed 31] [--bin 2]``
    SOURCE: ``temple`` (FOLDER with Middlebury's pictures and ``*_par.txt``), ``nerf`` (FOLDER with
    ``transforms_train.json``), or a preset of the phantom ``object``. What is not the object is black.
``python tests/benchmarks/bench_novel_views.py run FILE.npz --trainer ours [--preset standard] [--set K=V]``
``python tests/benchmarks/bench_novel_views.py run FILE.npz --trainer gsplat [--steps 7000]``

Packed files need torch, numba, OpenCV, scipy and scikit-image alone to be run. Every sixth view is held out.
PSNR is that of the object's box in the held-out views, before black; ``train_psnr`` that of some training
views. ``--pictures FOLDER`` keeps the former as PNG: as it is, as drawn, difference. Both trainers see the
same binned pictures and masks, start from the same points and know the same silhouettes (the same weight).
gsplat runs its own density control with its defaults, in proportion to the number of steps; spherical
harmonics of degree 3; 0.8 L1 + 0.2 DSSIM; normal consistency 0.05 after a quarter. Prints one JSON line a run
and adds it to resources/benchmarks/novel_views.json. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import splatomy  # first: it sets how torch's idle threads wait

# isort: split

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from torch import Tensor

from splatomy.capture import Capture, Modality
from splatomy.events import Progress, Task, finish
from splatomy.gaussians.losses import dssim
from splatomy.geometry.cameras import Cameras
from splatomy.geometry.visibility import first_hits
from splatomy.kernels.spherical_harmonics import sh_from_colours
from splatomy.method import find_method, load_symbol, make_config
from splatomy.methods.pulled_surface.config import Config
from splatomy.methods.pulled_surface.model import PulledScene, draw
from splatomy.methods.pulled_surface.start import start_cloud
from splatomy.methods.pulled_surface.views import HALF, Frame, Pictures, View
from splatomy.metrics.surface import point_metrics, sample_surface
from splatomy.scene import Mesh

OUT = Path(__file__).parents[2] / "resources" / "benchmarks" / "novel_views.json"
HOLD_EVERY = 6
_DARK, _BRIGHT, _WARM = 36, 80, 16
_SMALL_HOLE_PX = 400
_TEMPLE_BOX = np.stack(
    np.meshgrid(*((-0.075, 0.030), (0.020, 0.183), (-0.014, 0.064)), indexing="ij"), -1
).reshape(-1, 3)
"""Corners of the box that Middlebury gives for the temple and a millimetre about it, metres."""
_TRAINED = 4
"""Every so manieth training view is looked at, too."""
_NORMAL_FROM = 0.25
_NORMAL_WEIGHT = 0.05

Packed = dict[str, NDArray[Any]]


# -- packing -----------------------------------------------------------------------------------


def packed_temple(folder: Path) -> Packed:
    """Middlebury's temple: masks by threshold, without small holes."""
    images, masks, intrinsics, poses = [], [], [], []
    for line in next(folder.glob("*_par.txt")).read_text().split("\n")[1:]:
        words = line.split()
        if not words or not (folder / words[0]).exists():
            continue
        numbers = np.array(words[1:], np.float64)
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = numbers[9:18].reshape(3, 3), numbers[18:]
        picture = cv2.imread(str(folder / words[0]))[:, :, ::-1]
        # The stone is brighter and more yellow than the table below it.
        warm = picture[:, :, 0].astype(int) - picture[:, :, 2] > _WARM
        bright = (picture.max(2) > _BRIGHT) | ((picture.max(2) > _DARK) & warm)
        corners = (_TEMPLE_BOX @ pose[:3, :3].T + pose[:3, 3]) @ numbers[:9].reshape(3, 3).T
        hull = cv2.convexHull((corners[:, :2] / corners[:, 2:]).astype(np.float32)).astype(np.int32)
        bright &= cv2.fillConvexPoly(np.zeros(bright.shape, np.uint8), hull, 1) > 0
        solid = ndimage.binary_closing(bright, np.ones((3, 3)), iterations=2)
        solid = ndimage.binary_opening(solid, np.ones((3, 3)), iterations=2)
        piece, _ = ndimage.label(solid)
        stone = piece == 1 + np.argmax(np.bincount(piece.ravel())[1:])
        hole, count = ndimage.label(~stone)
        small = 1 + np.flatnonzero(np.bincount(hole.ravel(), minlength=count + 1)[1:] < _SMALL_HOLE_PX)
        images.append(picture)
        masks.append(stone | np.isin(hole, small))
        intrinsics.append(numbers[:9].reshape(3, 3))
        poses.append(pose)
    return _packed(images, masks, intrinsics, poses)


def packed_nerf(folder: Path) -> Packed:
    """A synthetic scene of NeRF: RGBA pictures, camera-to-world in OpenGL axes."""
    record = json.loads((folder / "transforms_train.json").read_text())
    images, masks, intrinsics, poses = [], [], [], []
    for frame in record["frames"]:
        path = folder / (frame["file_path"] + ".png")
        if not path.exists():
            continue
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        height, width = picture.shape[:2]
        focal = 0.5 * width / math.tan(0.5 * record["camera_angle_x"])
        k = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
        world_from_camera = np.array(frame["transform_matrix"], np.float64)
        world_from_camera[:3, 1:3] *= -1
        images.append(picture[:, :, 2::-1])
        masks.append(picture[:, :, 3] > 127)
        intrinsics.append(k)
        poses.append(np.linalg.inv(world_from_camera))
    return _packed(images, masks, intrinsics, poses)


def packed_phantom(preset: str, seed: int) -> Packed:
    """The phantom ``object`` with its truth."""
    # Imported on use: a packed phantom needs no trimesh.
    from splatomy.phantoms.object import make_object

    phantom = finish(make_object(preset, seed))
    pictures = np.rint(phantom.images * 255).astype(np.uint8)
    cameras, truth = phantom.cameras, phantom.mesh
    packed = _packed(
        list(pictures), list(phantom.target), list(cameras.intrinsics), list(cameras.camera_from_world)
    )
    return packed | {"vertices": truth.vertices_mm, "faces": truth.faces}


def _packed(
    images: list[NDArray[Any]],
    masks: list[NDArray[np.bool_]],
    intrinsics: list[NDArray[np.float64]],
    poses: list[NDArray[np.float64]],
) -> Packed:
    target = np.stack(masks)
    return {
        "images": np.stack(images) * target[..., None],
        "target": target,
        "intrinsics": np.stack(intrinsics),
        "camera_from_world": np.stack(poses),
    }


def binned(packed: Packed, times: int) -> Packed:
    """Pictures of a ``times`` smaller size."""
    if times == 1:
        return packed
    images, target = packed["images"], packed["target"]
    height, width = (n // times for n in images.shape[1:3])
    cameras = Cameras(packed["intrinsics"], packed["camera_from_world"], images.shape[2], images.shape[1])

    def smaller(array: NDArray[Any]) -> NDArray[np.float32]:
        whole = np.ascontiguousarray(array[: height * times, : width * times], np.float32)
        return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA))

    share = np.stack([smaller(t) for t in target])
    colours = np.stack([smaller(i) for i in images]) / np.maximum(share, 1e-6)[..., None]
    mask = share > 0.5
    return packed | {
        "images": np.rint(colours.clip(0, 255) * mask[..., None]).astype(np.uint8),
        "target": mask,
        "intrinsics": cameras.resized(times).intrinsics,
    }


# -- what both trainers see --------------------------------------------------------------------


def read(path: Path) -> tuple[Capture, Mesh | None]:
    """All views of a packed file, and the true surface of a phantom."""
    with np.load(path) as file:
        packed = {name: file[name] for name in file.files}
    images = packed["images"].astype(np.float32) / 255
    cameras = Cameras(packed["intrinsics"], packed["camera_from_world"], images.shape[2], images.shape[1])
    capture = Capture(
        Modality.COLOUR, images, np.zeros(len(images)), cameras=cameras, target=packed["target"]
    )
    return capture, Mesh(packed["vertices"], packed["faces"]) if "vertices" in packed else None


def split(count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Training and held-out views."""
    order = np.arange(count)
    return order[order % HOLD_EVERY != 3], order[order % HOLD_EVERY == 3]


def box_psnr(want: NDArray[np.floating], have: NDArray[np.floating], target: NDArray[np.floating]) -> float:
    """PSNR (dB) of a picture (H, W, 3) in the box of the object's mask (H, W)."""
    rows, columns = np.flatnonzero(target.any(1)), np.flatnonzero(target.any(0))
    box = np.ix_(range(rows[0], rows[-1] + 1), range(columns[0], columns[-1] + 1))
    error = np.square(want - have.clip(0, 1))[box].mean()
    return float(-10 * np.log10(max(float(error), 1e-12)))


def compared(
    pictures: Pictures,
    views: Iterable[int],
    shown: Callable[[View], Tensor],
    frame: Frame,
    folder: Path | None,
) -> float:
    """Mean PSNR (dB) of some views as ``shown`` draws them; each is kept as a PNG where a folder is named."""
    found = []
    for t in map(int, views):
        view = pictures.view(t, frame, whole=True)
        with torch.no_grad():
            have = shown(view).cpu().numpy().clip(0, 1)
        want = view.image.numpy()
        found.append(box_psnr(want, have, pictures.target[t]))
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            row = np.hstack([want, have, np.abs(want - have) * 2]).clip(0, 1)
            cv2.imwrite(str(folder / f"{t:03d}.png"), np.rint(row[..., ::-1] * 255).astype(np.uint8))
    return float(np.mean(found))


def finished(task: Task[Any]) -> tuple[Any, float, float]:
    """What a task returns, its seconds, and the seconds until its last training step."""
    start = last = time.perf_counter()
    while True:
        try:
            event = next(task)
        except StopIteration as stop:
            return stop.value, time.perf_counter() - start, last - start
        if isinstance(event, Progress) and event.stage == "train":
            last = time.perf_counter()


# -- ours --------------------------------------------------------------------------------------


def ours(
    capture: Capture,
    truth: Mesh | None,
    preset: str,
    settings: dict[str, Any],
    device: torch.device,
    folder: Path | None,
) -> dict[str, Any]:
    """One run of ``pulled_surface`` and its held-out views."""
    train, held = split(len(capture))
    spec = find_method("pulled_surface")
    config = make_config(spec, preset, settings)
    # Compiled once on a machine, and no part of the run.
    first_hits(np.eye(3) + 1.0, np.array([[0, 1, 2]], np.int32), np.eye(3), np.eye(4), 4, 4)
    scene, seconds, trained = finished(load_symbol(spec.reconstruct)([capture.frames(train)], config, device))
    assert isinstance(scene, PulledScene) and scene.mesh is not None
    pictures = Pictures(capture, config, torch.device("cpu"))
    frame = Frame(scene.centre, scene.scale)
    tensors = {k: torch.as_tensor(np.array(v), device=device) for k, v in scene.surfels.items()}

    def shown(view: View) -> Tensor:
        return draw(tensors, tensors["means_mm"], view.camera, scene.near, scene.background).colour

    row = {
        "preset": preset,
        "seconds": round(seconds, 1),
        "train_s": round(trained, 1),
        "psnr": round(compared(pictures, held, shown, frame, folder), 2),
        "train_psnr": round(compared(pictures, train[::_TRAINED], shown, frame, None), 2),
        "surfels": len(tensors["means_mm"]),
        "faces": len(scene.mesh.faces),
        "size_px": [pictures.cameras.width_px, pictures.cameras.height_px],
    }
    if truth is not None and len(scene.mesh.faces):
        points, true = sample_surface(scene.mesh, seed=0), sample_surface(truth, seed=1)
        metrics = point_metrics(points, true, (1.0,))
        row |= {k: round(metrics[k], 3) for k in ("chamfer_mean_mm", "accuracy_mm", "completeness_mm")}
    return row


# -- gsplat's 2DGS -----------------------------------------------------------------------------


class Peer:
    """2DGS with gsplat's rasteriser and density control, in the cube [-1, 1]^3 about the object."""

    def __init__(self, capture: Capture, config: Config, steps: int, device: torch.device) -> None:
        from gsplat import DefaultStrategy

        self.steps, self.device, self.config = steps, device, config
        self.pictures = Pictures(capture, config, torch.device("cpu"))
        cloud, frame = finish(start_cloud(self.pictures, config.start_points, config.seed))
        self.frame = Frame(frame.centre, frame.scale * HALF)
        points = self.frame.to_working(cloud.points)
        apart = cKDTree(points).query(points, k=4)[0][:, 1:].mean(1)
        rng = np.random.default_rng(config.seed)
        sh = np.zeros((len(points), 16, 3))
        sh[:, 0] = sh_from_colours(torch.from_numpy(cloud.colours)).numpy()
        centres = self.frame.cameras(self.pictures.cameras).centres_mm
        extent = 1.1 * float(np.linalg.norm(centres - centres.mean(0), axis=1).max())
        start = {
            "means": (points, 1.6e-4 * extent),
            "scales": (np.log(apart)[:, None].repeat(3, 1), 5e-3),
            "quats": (rng.normal(size=(len(points), 4)), 1e-3),
            "opacities": (np.full(len(points), math.log(0.1 / 0.9)), 5e-2),
            "sh0": (sh[:, :1], 2.5e-3),
            "shN": (sh[:, 1:], 2.5e-3 / 20),
        }
        self.rows = torch.nn.ParameterDict(
            {
                name: torch.nn.Parameter(torch.as_tensor(a, dtype=torch.float32, device=device))
                for name, (a, _) in start.items()
            }
        )
        self.optimisers = {
            name: torch.optim.Adam([self.rows[name]], lr=rate, eps=1e-15, fused=True)
            for name, (_, rate) in start.items()
        }
        self.decay = torch.optim.lr_scheduler.ExponentialLR(self.optimisers["means"], 0.01 ** (1 / steps))
        # The defaults of 30,000 steps, in proportion; the interval of density control stays.
        share = steps / 30_000
        self.strategy = DefaultStrategy(
            prune_opa=0.05,
            refine_start_iter=max(200, round(500 * share)),
            refine_stop_iter=round(15_000 * share),
            reset_every=max(1000, round(3000 * share)),
            key_for_gradient="gradient_2dgs",
        )
        self.strategy.check_sanity(self.rows, self.optimisers)
        self.state = self.strategy.initialize_state(scene_scale=extent)

    def render(self, view: View, degree: int) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Colour (H, W, 3), alpha (H, W), both normals (H, W, 3) and gsplat's own record."""
        from gsplat import rasterization_2dgs

        k = view.intrinsics.to(self.device, torch.float32).clone()
        k[:2, 2] += 0.5
        colour, alpha, normal, surface, _, _, meta = rasterization_2dgs(
            self.rows["means"],
            self.rows["quats"],
            self.rows["scales"].exp(),
            torch.sigmoid(self.rows["opacities"]),
            torch.cat([self.rows["sh0"], self.rows["shN"]], 1),
            view.camera_from_world.to(self.device, torch.float32)[None],
            k[None],
            view.width_px,
            view.height_px,
            near_plane=0.01,
            sh_degree=degree,
            render_mode="RGB+ED",
        )
        return colour[0, ..., :3], alpha[0, ..., 0], normal[0], surface.reshape(normal[0].shape), meta

    def train(self) -> Task[None]:
        """All steps, one picture each."""
        rng = np.random.default_rng(self.config.seed)
        views = [self.pictures.view(t, self.frame, whole=True) for t in range(len(self.pictures))]
        wanted = [(v.image.to(self.device), v.target.to(self.device)) for v in views]
        order: list[int] = []
        for step in range(self.steps):
            if not order:
                order = [int(v) for v in rng.permutation(len(views))]
            t = order.pop()
            degree = min(3, int(4 * step / (0.4 * self.steps)))
            colour, alpha, normal, surface, meta = self.render(views[t], degree)
            self.strategy.step_pre_backward(self.rows, self.optimisers, self.state, step, meta)
            image, target = wanted[t]
            likeness = torch.stack([dssim(colour[..., c], image[..., c]) for c in range(3)]).mean()
            loss = 0.8 * (colour - image).abs().mean() + 0.2 * likeness
            loss = loss + self.config.mask_weight * (alpha - target).abs().mean()
            if step > _NORMAL_FROM * self.steps:
                agree = (normal * (surface * alpha.detach()[..., None])).sum(-1)
                loss = loss + _NORMAL_WEIGHT * (1 - agree).mean()
            loss.backward()
            for optimiser in self.optimisers.values():
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
            self.decay.step()
            self.strategy.step_post_backward(self.rows, self.optimisers, self.state, step, meta)
            if step % 100 == 99:
                yield Progress("train", step + 1, self.steps, {"loss": float(loss.detach())})


def peer(
    capture: Capture, preset: str, steps: int, device: torch.device, folder: Path | None
) -> dict[str, Any]:
    """One training of gsplat's 2DGS and its held-out views."""
    train, held = split(len(capture))
    config = make_config(find_method("pulled_surface"), preset, {})
    trainer = Peer(capture.frames(train), config, steps, device)
    _, seconds, _ = finished(trainer.train())
    pictures = Pictures(capture, config, torch.device("cpu"))

    def shown(view: View) -> Tensor:
        return trainer.render(view, 3)[0]

    return {
        "steps": steps,
        "seconds": round(seconds, 1),
        "psnr": round(compared(pictures, held, shown, trainer.frame, folder), 2),
        "train_psnr": round(compared(pictures, train[::_TRAINED], shown, trainer.frame, None), 2),
        "surfels": len(trainer.rows["means"]),
        "size_px": [pictures.cameras.width_px, pictures.cameras.height_px],
    }


def main() -> None:
    """Packs or runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    pack = commands.add_parser("pack")
    pack.add_argument("source")
    pack.add_argument("out", type=Path)
    pack.add_argument("--folder", type=Path)
    pack.add_argument("--seed", type=int, default=31)
    pack.add_argument("--bin", type=int, default=1)
    run = commands.add_parser("run")
    run.add_argument("file", type=Path)
    run.add_argument("--trainer", choices=("ours", "gsplat"), default="ours")
    run.add_argument("--preset", default="standard")
    run.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    run.add_argument("--steps", type=int, default=7000, help="of gsplat")
    run.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    run.add_argument("--pictures", type=Path, metavar="FOLDER")
    run.add_argument("--no-write", action="store_true")
    arguments = parser.parse_args()
    if arguments.command == "pack":
        readers = {"temple": packed_temple, "nerf": packed_nerf}
        if arguments.source in readers:
            packed = readers[arguments.source](arguments.folder)
        else:
            packed = packed_phantom(arguments.source, arguments.seed)
        np.savez_compressed(arguments.out, **binned(packed, arguments.bin))  # type: ignore[arg-type]
        return
    device = torch.device(arguments.device)
    capture, truth = read(arguments.file)
    settings = dict(item.split("=", 1) for item in arguments.set)
    if arguments.trainer == "ours":
        found = ours(capture, truth, arguments.preset, settings, device, arguments.pictures)
    else:
        found = peer(capture, arguments.preset, arguments.steps, device, arguments.pictures)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    row = {"scene": arguments.file.stem, "trainer": arguments.trainer, "views": len(capture), **found}
    row |= {"set": settings, "device": name, "torch": torch.__version__, "splatomy": splatomy.__version__}
    print(json.dumps(row), flush=True)
    if not arguments.no_write:
        _write(row)


def _write(row: dict[str, Any]) -> None:
    """Adds a row, in place of an older one of the same scene, trainer, preset, settings and device."""
    kept = json.loads(OUT.read_text())["rows"] if OUT.exists() else []
    keys = ("scene", "trainer", "preset", "steps", "set", "device")
    kept = [r for r in kept if any(r.get(k) != row.get(k) for k in keys)]
    rows = sorted([*kept, row], key=lambda r: [str(r.get(k)) for k in keys])
    OUT.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
