"""Every reader of the product, with the seeds that its fuzzing starts from."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import fuzz_seeds as seeds
import numpy as np

from splatomy.batch.cases import read_cases
from splatomy.engine.live.commands import Replay
from splatomy.errors import InputError
from splatomy.events import finish
from splatomy.io.calibration import Calibration, read_calibration
from splatomy.io.case import open_case, recovered_case
from splatomy.io.completed import read_completed
from splatomy.io.depth_folder import read_depth, read_points
from splatomy.io.detect import inspect_input
from splatomy.io.endoscopy_detect import endoscopy_source
from splatomy.io.frames import read_picture, read_rgb
from splatomy.io.gaussians import read_gaussians
from splatomy.io.geometry_files import read_geometry
from splatomy.io.image_sets import image_set_source, load_image_set
from splatomy.io.live_poses import GrowingPoses
from splatomy.io.mesh import read_lines_vtp, read_mesh
from splatomy.io.options import InputOptions
from splatomy.io.poses import read_poses
from splatomy.io.prepared import read_prepared
from splatomy.io.run import RunFolder
from splatomy.io.truth import read_truth
from splatomy.io.truth_endoscopy import read_tissue_truth
from splatomy.io.truth_surface import read_surface_truth
from splatomy.io.video import is_video, video_source
from splatomy.io.views import read_views
from splatomy.io.volume import has_time_unit, is_volume_4d, read_volume, read_volume_4d
from splatomy.jobs.commands import Command, parse_command
from splatomy.jobs.pictures import render_request
from splatomy.jobs.request import read_job
from splatomy.prepare.onnx import OnnxModel, available_providers
from splatomy.weights.files import read_facts
from splatomy.weights.still import find_still_weights

Folder = dict[str, bytes]


@dataclass(frozen=True)
class Reader:
    """A reader under test. reads: for the table. seeds: made when needed. read: on a folder; it may raise
    InputError and nothing else. pictures: pictures beside other files are changed as well.
    """

    name: str
    reads: str
    seeds: Callable[[], list[Folder]]
    read: Callable[[Path], object]
    pictures: bool = False


def _tried(*readers: Callable[[], object]) -> None:
    """Calls every reader; the last InputError counts when none of them gave a value."""
    refusal: InputError | None = None
    accepted = False
    for reader in readers:
        try:
            reader()
            accepted = True
        except InputError as error:
            refusal = error
    if refusal is not None and not accepted:
        raise refusal


def _inspected(path: Path) -> None:
    report = inspect_input(path)
    if not report.usable:
        json.dumps(report.as_json())
        raise InputError(max(report.problems, key=len, default="unusable"))


def _only(folder: Path) -> Path:
    return next(p for p in sorted(folder.iterdir()) if p.is_file())


def _dsa(folder: Path) -> None:
    _inspected(folder)


def _dicom(folder: Path) -> None:
    _inspected(folder / "run.dcm")


def _volume(folder: Path) -> None:
    path = _only(folder)
    _tried(
        lambda: is_volume_4d(path),
        lambda: has_time_unit(path),
        lambda: read_volume(path),
        lambda: read_volume_4d(path),
    )


def _geometry(folder: Path) -> None:
    path = _only(folder)
    if path.suffix == ".xml":
        read_geometry(path, None, seeds.W, seeds.H, (4.0, 4.0))
    else:
        read_views(path, seeds.W, seeds.H)


def _mesh(folder: Path) -> None:
    path = _only(folder)
    lines = [lambda: read_lines_vtp(path)] if path.suffix == ".vtp" else []
    _tried(lambda: read_mesh(path), *lines)


def _fitted(calibration: Calibration) -> None:
    calibration.fitted(*(calibration.size_px or (seeds.W, seeds.H)))


def _image_set(folder: Path) -> None:
    source = image_set_source(folder, InputOptions())
    views = finish(load_image_set(source, InputOptions()))
    np.asarray(views.images)


def _clip(folder: Path) -> None:
    source = endoscopy_source(folder, InputOptions())
    frames = np.arange(min(2, source.left.count))
    for number, _ in source.left.read(frames):
        if source.depth is not None:
            source.depth.depth(number, source.left.height_px, source.left.width_px)
        if source.masks is not None and source.masks.files.get(number) is not None:
            read_picture(source.masks.files[number])


def _case(folder: Path) -> None:
    _tried(lambda: open_case(folder), lambda: recovered_case(folder))


def _run(folder: Path) -> None:
    run = RunFolder(folder)
    _tried(
        run.record,
        lambda: list(run.read_events()),
        run.load_checkpoint,
        run.load_scene_state,
        lambda: read_completed(folder / "prepared", "key"),
    )


def _job(folder: Path) -> None:
    path = _only(folder)
    if path.name == "job.json":
        read_job(path)
        return
    command = parse_command(path.read_bytes(), "stdin")
    if isinstance(command, Command) and command.name == "render":
        render_request(command.fields)


def _live(folder: Path) -> None:
    path = _only(folder)
    if path.suffix == ".jsonl":
        Replay(path).due(10_000, lambda command: None)
        return
    poses = GrowingPoses(path, None, 0.04)
    for number in range(seeds.T):
        poses.of(number, number * 0.04)


def _truth(folder: Path) -> None:
    _tried(lambda: read_truth(folder), lambda: read_tissue_truth(folder), lambda: read_surface_truth(folder))


def _batch(folder: Path) -> None:
    read_cases(str(_only(folder)), {})


def _picture(folder: Path) -> None:
    path = _only(folder)
    if path.suffix == ".npy":
        read_depth(path)
        return
    _tried(
        lambda: read_picture(path),
        lambda: read_rgb(path),
        lambda: read_depth(path),
        lambda: read_points(path),
    )


def _video(folder: Path) -> None:
    path = _only(folder)
    is_video(path)
    source = video_source(path)
    for _ in source.read(np.arange(min(2, source.count))):
        pass


def _weights(folder: Path) -> None:
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    _tried(*(lambda p=p: read_facts(p) for p in files), lambda: find_still_weights(folder).licences)


def _onnx(folder: Path) -> None:
    model = OnnxModel(folder / "model.onnx", "cpu", threads=1)
    model.class_names()
    model.refuse("another")


# Loading a library opens files, which a reader under test must not.
available_providers()

READERS: tuple[Reader, ...] = (
    Reader("dsa_folder", "DSA folders: transforms.json with image stacks", seeds.dsa_folders, _dsa),
    Reader("dicom", "DICOM XA: header and frames, plain, RLE, JPEG", seeds.dicom_files, _dicom),
    Reader("nifti", "NIfTI volumes and sequences, packed or not", seeds.nifti_files, _volume),
    Reader("nrrd", "NRRD, MHA and Slicer sequences", seeds.nrrd_files, _volume),
    Reader("geometry", "projection matrices CSV, RTK XML, angle JSON, views", seeds.geometry_files,
           _geometry),
    Reader("gaussians", "PLY of Gaussians", seeds.gaussian_files, lambda f: read_gaussians(_only(f))),
    Reader("mesh", "meshes PLY, OBJ, STL, GLB, VTP", seeds.mesh_files,
           _mesh),
    Reader("colmap_text", "COLMAP models in text", lambda: seeds.colmap_models(".txt"), _image_set),
    Reader("colmap_binary", "COLMAP models in binary", lambda: seeds.colmap_models(".bin"), _image_set),
    Reader("neus", "cameras_sphere.npz of NeuS and DTU", seeds.neus_folders, _image_set),
    Reader("nerf", "NeRF transforms.json, Middlebury", seeds.nerf_folders, _image_set),
    Reader("rgbd", "TUM, 7-Scenes and ScanNet folders", seeds.rgbd_folders, _image_set),
    Reader("poses", "poses_bounds.npy, pose JSON and tables", seeds.pose_files,
           lambda f: read_poses(_only(f), seeds.T, seeds.W, seeds.H, None)),
    Reader("case", "case.json, autosave and masks", seeds.case_folders, _case, pictures=True),
    Reader("run", "run.json, events, scenes, checkpoints", seeds.run_folders, _run),
    Reader("prepared", "clips that a run prepared", seeds.prepared_folders,
           lambda f: finish(read_prepared(f)), pictures=True),
    Reader("truth", "truth folders of runs, clips and surfaces", seeds.truth_folders, _truth, pictures=True),
    Reader("job", "job requests and commands", seeds.job_files, _job),
    Reader("live", "logs of live commands, poses that grow", seeds.live_files, _live),
    Reader("batch", "lists of cases CSV, JSON", seeds.batch_lists, _batch),
    Reader("calibration", "lenses: OpenCV YAML XML JSON, ROS, ini, text", seeds.calibration_files,
           lambda f: _fitted(read_calibration(_only(f)))),
    Reader("clip_folder", "EndoNeRF, Hamlyn, SCARED, SfM folders", seeds.clip_folders, _clip),
    Reader("stereomis", "StereoMIS sequences", seeds.stereo_folders, _clip),
    Reader("picture", "PNG, JPEG, TIFF, BMP, WebP, depth npy", seeds.picture_files, _picture),
    Reader("video", "video headers and packets", seeds.video_files, _video),
    Reader("weights", "safetensors, weight folders, pickles unopened", seeds.weight_files, _weights),
    Reader("onnx", "ONNX files and their metadata", seeds.onnx_files, _onnx),
)  # fmt: skip
