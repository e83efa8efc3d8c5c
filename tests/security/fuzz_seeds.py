"""Small valid inputs of every format that is read, as folders {relative name: content}."""

from __future__ import annotations

import io
import json
import struct
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.uid import RLELossless
from safetensors.numpy import save
from scipy.io import savemat

from splatomy.capture import Grid
from splatomy.events import finish
from splatomy.geometry.cameras import Cameras
from splatomy.geometry.conebeam import cone_beam
from splatomy.io.calibration import Calibration, Lens
from splatomy.io.case import Case, autosave_case, save_case
from splatomy.io.completed import CompletedParts, write_completed
from splatomy.io.dicom_write import XaRun, write_xa
from splatomy.io.dsa import write_case
from splatomy.io.endonerf import write_endonerf
from splatomy.io.gaussians import write_gaussians
from splatomy.io.mesh import write_mesh
from splatomy.io.options import InputOptions
from splatomy.io.prepared import PreparedParts, write_prepared
from splatomy.io.stereomis import write_stereomis
from splatomy.io.views import Views, write_views
from splatomy.io.volume import write_sequence, write_volume
from splatomy.review import FrameReview, MaskReview, ReviewState
from splatomy.scene import Mesh, Volume

Folder = dict[str, bytes]
H, W, T = 16, 20, 3
K = np.array([[30.0, 0, 9.5], [0, 30.0, 7.5], [0, 0, 1]])


def folder_of(write: Callable[[Path], object]) -> Folder:
    """What a writer leaves in an empty folder."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write(root)
        return {
            p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()
        }


def picture(seed: int = 0, suffix: str = ".png", channels: int = 3, dtype: type = np.uint8) -> bytes:
    """A picture of smooth noise."""
    shape = (H, W, channels) if channels > 1 else (H, W)
    noise = np.random.default_rng(seed).uniform(0, np.iinfo(dtype).max, shape).astype(dtype)
    return bytes(cv2.imencode(suffix, cv2.GaussianBlur(noise, (0, 0), 2))[1].tobytes())


def _mask() -> bytes:
    mask = np.zeros((H, W), np.uint8)
    mask[:5, :5] = 255
    return bytes(cv2.imencode(".png", mask)[1].tobytes())


def _npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def _rows(matrix: np.ndarray) -> bytes:
    return ("\n".join(" ".join(f"{x:.9g}" for x in row) for row in np.atleast_2d(matrix)) + "\n").encode()


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _cameras() -> Cameras:
    poses = np.tile(np.eye(4), (T, 1, 1))
    poses[:, 0, 3] = np.arange(T)
    return Cameras(np.tile(K, (T, 1, 1)), poses, W, H)


def dsa_folders() -> list[Folder]:
    """4DRGS folders: mask and fill run, and subtracted with exact cameras."""
    stack = np.random.default_rng(0).uniform(500, 1000, (T, H, W)).astype(np.float32)
    angles = np.linspace(-1, 1, T)
    grid, times = Grid.centred((8, 8, 8), (2.0, 2.0, 2.0)), np.arange(T) * 0.1
    cameras = cone_beam(angles, np.zeros(T), 750, 1200, W, H, (4.0, 4.0))
    return [
        folder_of(
            lambda f: write_case(f, stack, stack * 0.8, times, angles, np.zeros(T), 750, 1200, (4, 4), grid)
        ),
        folder_of(
            lambda f: write_case(
                f, None, stack / 1000, times, angles, np.zeros(T), 750, 1200, (4, 4), grid, cameras
            )
        ),
    ]


def dicom_files() -> list[Folder]:
    """XA runs: classic, enhanced, run-length encoded, single-frame."""
    frames = np.random.default_rng(1).integers(100, 4000, (T, H, W)).astype(np.uint16)
    run = XaRun(
        frames, np.linspace(-60, 60, T), np.full(T, 5.0), 750.0, 1200.0, (0.4, 0.4), np.arange(T) * 0.1,
        mask_frames=(0,), rescale=(1.0, 0.0), patient_name="Doe^Jane",
    )  # fmt: skip
    out = [folder_of(lambda f, e=e: write_xa(f / "run.dcm", run, enhanced=e)) for e in (False, True)]
    dataset = pydicom.dcmread(io.BytesIO(out[0]["run.dcm"]))
    dataset.compress(RLELossless)
    packed = io.BytesIO()
    dataset.save_as(packed)
    out.append({"run.dcm": packed.getvalue()})
    for syntax in (".50", ".90"):
        coded = _gdcm(out[0]["run.dcm"], syntax)
        if coded:
            out.append({"run.dcm": coded})
    return out


def _gdcm(data: bytes, syntax: str) -> bytes | None:
    """The same run as JPEG or JPEG 2000."""
    import gdcm

    kinds = {".50": gdcm.TransferSyntax.JPEGLosslessProcess14_1, ".90": gdcm.TransferSyntax.JPEG2000Lossless}
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "a.dcm", Path(name) / "b.dcm"
        source.write_bytes(data)
        reader = gdcm.ImageReader()
        reader.SetFileName(str(source))
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(kinds[syntax]))
        if not reader.Read():
            return None
        change.SetInput(reader.GetImage())
        if not change.Change():
            return None
        writer = gdcm.ImageWriter()
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(str(target))
        return target.read_bytes() if writer.Write() else None


def _volume() -> Volume:
    affine = np.diag([1.0, 1.5, 2.0, 1.0])
    return Volume(np.random.default_rng(2).uniform(0, 1, (6, 5, 4)).astype(np.float32), affine)


def _four(suffix: str) -> Folder:
    image = sitk.JoinSeries([sitk.GetImageFromArray(np.full((4, 5, 6), t, np.float32)) for t in range(3)])
    return folder_of(lambda f: sitk.WriteImage(image, str(f / f"volume{suffix}")))


def nifti_files() -> list[Folder]:
    """Volumes of three and four axes, packed and plain."""
    three = [folder_of(lambda f, s=s: write_volume(f / f"volume{s}", _volume())) for s in (".nii", ".nii.gz")]
    return [*three, _four(".nii")]


def nrrd_files() -> list[Folder]:
    """NRRD, MHA and a sequence of Slicer."""
    three = [folder_of(lambda f, s=s: write_volume(f / f"volume{s}", _volume())) for s in (".nrrd", ".mha")]
    times = np.array([0.0, 0.5])
    grid = Grid.centred((4, 5, 6), (1.0, 1.0, 1.0))
    volumes = [np.full((4, 5, 6), t, np.float32) for t in (1, 2)]
    sequence = [
        folder_of(
            lambda f, e=e: write_sequence(f / "volume.seq.nrrd", iter(volumes), times, grid, encoding=e)
        )
        for e in ("gzip", "raw")
    ]
    return [*three, *sequence, _four(".mha")]


def geometry_files() -> list[Folder]:
    """Projection matrices, angles and RTK's circular geometry."""
    angles = np.linspace(-1, 1, T)
    matrices = cone_beam(angles, np.zeros(T), 750, 1200, W, H, (4.0, 4.0)).world_to_pixel.reshape(T, 12)
    rows = "\n".join(",".join(f"{x:.9g}" for x in row) for row in matrices)
    times = "\n".join(f"{row},{i * 0.1}" for i, row in enumerate(rows.splitlines()))
    header = ",".join(f"p{i}" for i in range(12)) + ",time_s\n"
    projections = "".join(
        f"<Projection><GantryAngle>{30 * i}</GantryAngle><SourceOffsetX>1</SourceOffsetX></Projection>"
        for i in range(T)
    )
    matrix = " ".join(f"{x:g}" for x in np.r_[-1200, 0, 0, 0, 0, -1200, 0, 0, 0, 0, 1, -750])
    rtk = '<?xml version="1.0"?>\n<!DOCTYPE RTKGEOMETRY>\n<RTKThreeDCircularGeometry version="3">'
    shared = (
        "<SourceToIsocenterDistance>750</SourceToIsocenterDistance>"
        "<SourceToDetectorDistance>1200</SourceToDetectorDistance>"
    )
    given = f"<Projection><Matrix>{matrix}</Matrix></Projection>" * T
    end = "</RTKThreeDCircularGeometry>\n"
    generic = {"sad_mm": 750, "sid_mm": 1200, "pixel_mm": [4, 4], "primary_deg": [0, 10, 20],
               "secondary_deg": 5, "frame_time_s": 0.1}  # fmt: skip
    return [
        {"geometry.csv": rows.encode()},
        {"geometry.csv": (header + times).encode()},
        {"geometry.xml": (rtk + shared + projections + end).encode()},
        {"geometry.xml": (rtk + given + end).encode()},
        {"geometry.json": _json(generic)},
        {"geometry.json": _json({"matrices": matrices.tolist(), "times_s": [0, 1, 2]})},
        {"geometry.json": dsa_folders()[1]["transforms.json"]},
        folder_of(lambda f: write_views(f / "geometry.json", Views(_cameras(), np.arange(T) * 0.1))),
    ]


def gaussian_files() -> list[Folder]:
    """Gaussians of both kinds."""
    rng = np.random.default_rng(3)
    arrays = {
        "means_mm": rng.normal(size=(9, 3)),
        "quats_wxyz": rng.normal(size=(9, 4)),
        "log_scales": rng.normal(size=(9, 3)),
        "opacity_logit": rng.normal(size=9),
        "sh": rng.normal(size=(9, 4, 3)),
    }
    return [folder_of(lambda f: write_gaussians(f / "gaussians.ply", arrays))]


def mesh_files() -> list[Folder]:
    """A tetrahedron in every format, and a PLY in text."""
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    faces = np.array([[0, 1, 2], [0, 1, 3], [1, 2, 3], [0, 2, 3]], np.int32)
    mesh = Mesh(points, faces, np.full((4, 3), 0.5, np.float32), np.ones(4, np.float32))
    out = [
        folder_of(lambda f, s=s: write_mesh(f / f"mesh{s}", mesh))
        for s in (".ply", ".obj", ".stl", ".glb", ".vtp")
    ]
    text = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    text += (
        "element face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"
    )
    return [*out, {"mesh.ply": text.encode()}]


def colmap_models(suffix: str) -> list[Folder]:
    """A COLMAP model, ``suffix`` .txt or .bin."""
    pictures = {f"images/v{i}.png": picture(i) for i in range(T)}
    where = "sparse/0/"
    if suffix == ".txt":
        rows = [f"{i + 1} 1 0 0 0 {i} 0 0 7 v{i}.png\n1.5 2.5 -1" for i in range(T)]
        return [
            {
                where + "cameras.txt": f"# c\n7 PINHOLE {W} {H} 30 30 10 8\n".encode(),
                where + "images.txt": ("# c\n" + "\n".join(rows) + "\n").encode(),
                where + "points3D.txt": b"3 0.5 0.25 1 255 0 51 0.3 1 0 2 1\n",
                **pictures,
            }
        ]
    lens = struct.pack("<QiiQQ4d", 1, 7, 1, W, H, 30, 30, 10, 8)
    images = struct.pack("<Q", T)
    for i in range(T):
        images += struct.pack("<i7di", i + 1, 1, 0, 0, 0, i, 0, 0, 7) + f"v{i}.png".encode() + b"\0"
        images += struct.pack("<Qddq", 1, 1.0, 2.0, -1)
    points = struct.pack("<QQ3d3Bd", 1, 3, 0.5, 0.25, 1, 255, 0, 51, 0.3) + struct.pack("<Qii", 1, 1, 0)
    model = {"cameras.bin": lens, "images.bin": images, "points3D.bin": points}
    return [{**{where + name: data for name, data in model.items()}, **pictures}]


def neus_folders() -> list[Folder]:
    """cameras_sphere.npz with pictures and masks."""
    arrays = {}
    for i, matrix in enumerate(_cameras().world_to_pixel):
        arrays[f"world_mat_{i}"] = np.vstack([matrix, [0, 0, 0, 1]])
        arrays[f"scale_mat_{i}"] = np.diag([2.0, 2.0, 2.0, 1.0])
    out = io.BytesIO()
    np.savez(out, **arrays)
    pictures = {f"image/{i:03d}.png": picture(i) for i in range(T)}
    masks = {f"mask/{i:03d}.png": picture(i, channels=1) for i in range(T)}
    return [{"cameras_sphere.npz": out.getvalue(), **pictures, **masks}]


def nerf_folders() -> list[Folder]:
    """transforms.json of NeRF and of nerfstudio, a Middlebury set."""
    frames = [{"file_path": f"images/v{i}", "transform_matrix": np.eye(4).tolist()} for i in range(T)]
    pictures = {f"images/v{i}.png": picture(i) for i in range(T)}
    lens = {"fl_x": 30, "fl_y": 30, "cx": 10, "cy": 8, "w": W, "h": H, "k1": 0.01}
    fish = {**lens, "camera_model": "OPENCV_FISHEYE", "frames": frames, "depth_unit_scale_factor": 0.001}
    return [
        {"transforms.json": _json({"camera_angle_x": 0.8, "frames": frames}), **pictures},
        {"transforms.json": _json({**lens, "frames": frames}), **pictures},
        {"transforms.json": _json(fish), **pictures},
        {
            "things_par.txt": "\n".join(
                [str(T)] + [f"v{i}.png 30 0 10 0 30 8 0 0 1 1 0 0 0 1 0 0 0 1 {i} 0 0" for i in range(T)]
            ).encode(),
            "README.txt": b"The box is\n(-1 0.5 2)\n(1.0 -0.5 4)\n",
            **{f"v{i}.png": picture(i) for i in range(T)},
        },
    ]


def rgbd_folders() -> list[Folder]:
    """TUM, 7-Scenes and ScanNet."""
    depth = picture(9, channels=1, dtype=np.uint16)
    tum: Folder = {
        "rgb.txt": "".join(f"{i}.0 rgb/{i}.png\n" for i in range(T)).encode(),
        "depth.txt": "".join(f"{i}.01 depth/{i}.png\n" for i in range(T)).encode(),
        "groundtruth.txt": "".join(f"{i}.0 {i} 0 0 0 0 0 1\n" for i in range(T)).encode(),
    }
    seven: Folder = {"camera-intrinsics.txt": _rows(K)}
    scan: Folder = {
        f"intrinsic/intrinsic_{n}.txt": _rows(np.eye(4) * [30, 30, 1, 1]) for n in ("color", "depth")
    }
    scan["semantic.txt"] = b"chair"
    for i in range(T):
        pose = np.eye(4)
        pose[0, 3] = i
        tum |= {f"rgb/{i}.png": picture(i), f"depth/{i}.png": depth}
        seven |= {f"frame-{i:06d}.color.png": picture(i), f"frame-{i:06d}.depth.png": depth,
                  f"frame-{i:06d}.pose.txt": _rows(pose)}  # fmt: skip
        scan |= {f"color/{i}.png": picture(i), f"depth/{i}.png": depth, f"pose/{i}.txt": _rows(pose)}
        scan[f"mask/{i}.png"] = picture(i, channels=1)
    return [tum, seven, scan]


def pose_files() -> list[Folder]:
    """Poses in every form."""
    bounds = np.zeros((T, 17))
    bounds[:, :15] = np.c_[
        np.tile(np.eye(3), (T, 1, 1)), np.zeros((T, 3, 1)), np.tile([[H], [W], [30]], (T, 1, 1))
    ].reshape(T, 15)
    bounds[:, 15:] = (1, 100)
    matrices = np.tile(np.eye(4), (T, 1, 1))
    frames = [{"transform_matrix": np.eye(4).tolist()} for _ in range(T)]
    return [
        {"poses.npy": _npy(bounds)},
        {"poses.npy": _npy(matrices)},
        {"poses.json": _json({"frames": frames})},
        {"poses.json": _json(matrices.tolist())},
        {"poses.txt": "".join(f"{i} {i} 0 0 0 0 0 1\n" for i in range(T)).encode()},
        {"poses.csv": b"".join(_rows(m[:3].reshape(1, 12)).replace(b" ", b",") for m in matrices)},
    ]


def case_folders() -> list[Folder]:
    """A case under review, with and without an autosave."""
    rng = np.random.default_rng(4)
    masks = [rng.uniform(size=(H, W)) < 0.3 for _ in range(4)]
    plain = (
        FrameReview(),
        FrameReview(auto=masks[0], state=ReviewState.PROPOSED, confidence=0.75),
        FrameReview(masks[1], masks[2], masks[3], ReviewState.CONFIRMED, 0.5, specular=masks[0]),
    )

    def write(folder: Path, autosave: bool) -> None:
        (folder / "clip.mp4").write_bytes(b"frames")
        case = Case(
            source=folder / "clip.mp4",
            options=InputOptions(crop=(1, 2, W, H), frames=(4, None, 3), masks=folder / "masks_given"),
            frames=np.arange(T) * 3 + 4,
            times_s=np.arange(T) * 0.1,
            review=MaskReview(H, W, plain),
            geometry={"crop": [1, 2, W, H]},
            mm_per_unit=1.5,
            notes=("non-zero = hidden",),
        )
        save_case(folder, case)
        if autosave:
            later = (plain[0], FrameReview(add=masks[3], state=ReviewState.PROPOSED), plain[2])
            changed = Case(**{**vars(case), "review": MaskReview(H, W, later)})
            autosave_case(folder, changed, case.review)

    return [folder_of(lambda f, a=a: write(f, a)) for a in (False, True)]


def run_folders() -> list[Folder]:
    """A finished run: record, scene, checkpoint, events, prepared parts."""
    arrays = {"means_mm": np.zeros((3, 3), np.float32), "log_scales": np.zeros((3, 3), np.float32)}
    record = {"contract": 1, "method": "fdk", "state": "done", "config": {"a": 1}, "input": {"path": "x"}}
    state = {"contract": 1, "values": {"metric": True, "bounds_mm": [[0, 0, 0], [1, 1, 1]]}}
    event = {"event": "progress", "stage": "train", "step": 1, "total": 2, "metrics": {"loss": 0.5}}
    parts = CompletedParts(
        "key", np.ones((2, 4, 5), bool), np.zeros((2, 4, 5), bool), np.zeros((40, 3), np.float32),
        np.zeros(40, np.float32), np.zeros(40, np.int16), {"note": "x"},
    )  # fmt: skip
    completed = folder_of(lambda f: write_completed(f, parts))
    return [
        {
            "run.json": _json(record),
            "events.jsonl": b"\n".join([_json(event)] * 3),
            "scene/scene.json": _json(state),
            "scene/fields.safetensors": save(arrays),
            "checkpoint/newest/state.json": _json({"software": "0", "sha256": "x", "values": {}}),
            "checkpoint/newest/state.safetensors": save(arrays),
            **{f"prepared/{name}": data for name, data in completed.items()},
        }
    ]


def job_files() -> list[Folder]:
    """Jobs and commands of the protocol."""
    job = {"contract": 1, "input": "in", "out": "run", "method": "fdk", "preset": "draft", "config": {"a": 1},
           "device": "cpu", "seed": 3, "views": 2, "options": {"crop": [0, 0, 4, 4], "bin": 1, "masks": "m"},
           "detached": False, "resume": True}  # fmt: skip
    live = {"contract": 1, "input": "in", "out": "run", "live": {"rate": "max", "replay": "log.jsonl"}}
    camera = {"intrinsics": K.tolist(), "camera_from_world": np.eye(4).tolist()}
    commands = [
        {"command": "pause"},
        {"command": "continue", "steps": 5},
        {"command": "render", "id": 1, "camera": camera, "time_s": 0.5, "size": [20, 16]},
        {"command": "render", "id": "a", "camera": {"primary_deg": 1, "secondary_deg": 2}, "size": [8, 8]},
        {"command": "region", "id": "b", "action": "ignore", "box": [0, 0, 4, 4], "from_s": 0, "to_s": 1},
        {"command": "mask", "id": "c", "frame": 3, "png": "iVBORw0KGgo="},
        {"command": "mark", "id": "d", "pixel": [3, 4], "label": "x"},
        {"command": "scale", "id": "e", "mm_per_unit": 2.0},
        {"command": "rewind", "id": "f", "time_s": 1.0},
    ]
    return [{"job.json": _json(value)} for value in (job, live)] + [
        {"command.json": _json(c)} for c in commands
    ]


def batch_lists() -> list[Folder]:
    """Lists of cases."""
    rows = [
        {"input": "a", "name": "one", "seed": 1, "config": {"x": 1}},
        {"input": "b", "options": {"masks": "m"}},
    ]
    text = "input,name,method,seed,config.steps,options.masks\na,one,fdk,1,5,m\nb,two,,2,,\n"
    return [
        {"cases.csv": text.encode()},
        {"cases.json": _json(rows)},
        {"cases.json": _json({"contract": 1, "cases": rows})},
    ]


def calibration_files() -> list[Folder]:
    """Lenses in every form."""
    storage = (
        "%YAML:1.0\n---\nM1: !!opencv-matrix\n   rows: 3\n   cols: 3\n   dt: d\n"
        "   data: [ 30., 0., 10., 0., 30., 8., 0., 0., 1. ]\nD1: !!opencv-matrix\n   rows: 1\n   cols: 5\n"
        "   dt: d\n   data: [ 0.1, 0., 0., 0., 0. ]\nM2: !!opencv-matrix\n   rows: 3\n   cols: 3\n   dt: d\n"
        "   data: [ 30., 0., 10., 0., 30., 8., 0., 0., 1. ]\nR: !!opencv-matrix\n   rows: 3\n   cols: 3\n"
        "   dt: d\n   data: [ 1., 0., 0., 0., 1., 0., 0., 0., 1. ]\nT: [ -4.2, 0., 0. ]\n"
    )
    ros = "image_width: 20\nimage_height: 16\ncamera_matrix:\n  rows: 3\n  cols: 3\n"
    ros += "  data: [30, 0, 10, 0, 30, 8, 0, 0, 1]\n"
    xml = (
        '<?xml version="1.0"?>\n<opencv_storage>\n<K type_id="opencv-matrix"><rows>3</rows><cols>3</cols>'
        "<dt>d</dt><data>30. 0. 10. 0. 30. 8. 0. 0. 1.</data></K>\n<w>20</w><h>16</h></opencv_storage>\n"
    )
    shared = {
        "M1": K.tolist(),
        "M2": K.tolist(),
        "R": np.eye(3).tolist(),
        "T": [-4.2, 0, 0],
        "image_size": [W, H],
    }
    return [
        {"calibration.yaml": storage.encode()},
        {"calibration.yaml": ros.encode()},
        {"calibration.xml": xml.encode()},
        {"calibration.json": _json(shared)},
        {"calibration.json": _json({"camera": {"fx": 30, "fy": 30, "cx": 10, "cy": 8}})},
        {"calibration.txt": _rows(K)},
        {"calibration.txt": b"30 30 10 8\n"},
        {"calibration.ini": stereo_folders()[0]["StereoCalibration.ini"]},
    ]


def stereo_folders() -> list[Folder]:
    """A StereoMIS sequence."""
    rng = np.random.default_rng(6)
    clip = rng.uniform(0, 1, (2, 32, 48, 3)).astype(np.float32)
    lens = Lens(np.array([[60.0, 0, 23.5], [0, 60.0, 15.5], [0, 0, 1]]), np.zeros(5))
    right = np.eye(4)
    right[0, 3] = -4.2
    cameras = Cameras(np.tile(lens.intrinsics, (2, 1, 1)), np.tile(np.eye(4), (2, 1, 1)), 48, 32)
    calibration = Calibration(lens, lens, right, (48, 32))
    hidden = np.zeros((2, 32, 48), bool)
    hidden[:, :8, :8] = True
    return [
        folder_of(lambda f: write_stereomis(f, clip, clip, np.arange(2) / 30, cameras, calibration, hidden))
    ]


def clip_folders() -> list[Folder]:
    """EndoNeRF, Hamlyn, SCARED and structure-from-motion folders."""
    clip = np.random.default_rng(7).uniform(0, 1, (T, H, W, 3)).astype(np.float32)
    hidden = np.zeros((T, H, W), bool)
    hidden[:, :4, :4] = True
    depth = np.full((T, H, W), 50.0, np.float32)
    endonerf = folder_of(lambda f: write_endonerf(f, clip, np.arange(T) / 30, _cameras(), hidden, depth))
    hamlyn: Folder = {"intrinsics.txt": _rows(K)}
    scared: Folder = {}
    sfm: Folder = {
        "camera_intrinsics_per_view": b"30\n30\n9.5\n7.5\n",
        "visible_view_indexes": b"0\n1\n2\n",
        "motion.yaml": ("poses[]:\n" + "".join(
            f"  poses[{i}]: \n    position: \n      x: {i}.0\n      y: 0.0\n      z: 0.0\n    orientation: \n"
            "      x: 0.0\n      y: 0.0\n      z: 0.6\n      w: 0.8\n" for i in range(T))).encode(),
    }  # fmt: skip
    q = np.zeros((4, 4))
    q[2, 3], q[3, 2] = 30.0, 1 / 4.2
    for i in range(T):
        hamlyn |= {f"images/{i}.png": picture(i), f"gt_masks/{i}.png": _mask(),
                   f"gt_depth/{i}.png": picture(i, channels=1, dtype=np.uint16)}  # fmt: skip
        table = {"camera-calibration": {"KL": K.tolist()}, "camera-pose": np.eye(4).tolist()}
        disparity = bytes(cv2.imencode(".tiff", np.full((H, W), 5.0, np.float32))[1].tobytes())
        scared |= {
            f"data/left_finalpass/f{i:06d}.png": picture(i),
            f"data/frame_data/f{i:06d}.json": _json(table),
            f"data/disparity/f{i:06d}.tiff": disparity,
            f"data/reprojection_data/f{i:06d}.json": _json({"reprojection-matrix": q.tolist()}),
        }
        sfm[f"{i:08d}.jpg"] = picture(i, ".jpg")
    return [endonerf, hamlyn, scared, sfm]


def picture_files() -> list[Folder]:
    """Pictures of every kind, and depth as an array."""
    kinds = ((".png", 3, np.uint8), (".png", 1, np.uint16), (".jpg", 3, np.uint8), (".tiff", 3, np.uint8),
             (".tiff", 1, np.uint16), (".bmp", 3, np.uint8), (".webp", 3, np.uint8),
             (".png", 4, np.uint8))  # fmt: skip
    out = [{f"picture{s}": picture(i, s, c, d)} for i, (s, c, d) in enumerate(kinds)]
    points = bytes(cv2.imencode(".tiff", np.ones((H, W, 3), np.float32))[1].tobytes())
    return [*out, {"picture.tiff": points}, {"picture.npy": _npy(np.ones((H, W), np.float32))}]


def video_files() -> list[Folder]:
    """Short clips in the containers of the field."""
    out = []
    for suffix, codec in ((".mp4", "mpeg4"), (".mp4", "libx264"), (".mkv", "libx264"), (".avi", "mpeg4")):

        def write(folder: Path, suffix: str = suffix, codec: str = codec) -> None:
            with av.open(str(folder / f"clip{suffix}"), "w") as container:
                stream = container.add_stream(codec, rate=Fraction(25))
                stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
                for i in range(4):
                    frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 40 * i, np.uint8), format="rgb24")
                    container.mux(stream.encode(frame))
                container.mux(stream.encode())

        out.append(folder_of(write))
    return out


def weight_files() -> list[Folder]:
    """A checkpoint, a packed pickle that is never opened, and folders of published weights."""
    import zipfile

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("model/version", b"3")
    tensors = save({"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.float16)}, {"format": "pt"})
    return [
        {"model.safetensors": tensors},
        {"model.pth": packed.getvalue()},
        {"model.pth": b"\x80\x02}q\x00."},
        {"pipeline/model_index.json": _json({"_class_name": "StableDiffusionInpaintPipeline"}),
         "clip/config.json": _json({"model_type": "clip"}), "clip/model.safetensors": tensors},
    ]  # fmt: skip


def live_files() -> list[Folder]:
    """The log of a live session's commands, and poses that grow."""
    commands = [
        {"at_frame": 3, "command": "scale", "id": 1, "mm_per_unit": 2.0},
        {
            "at_frame": 5,
            "command": "region",
            "id": "b",
            "kind": "ignore",
            "polygon": [[0, 0], [4, 0], [4, 4]],
        },
        {"at_frame": 9, "command": "freeze", "id": None},
    ]
    rows = "".join(f"{i * 0.04:g} {i} 0 0 0 0 0 1\n" for i in range(T))
    return [
        {"commands.jsonl": b"\n".join(_json(c) for c in commands) + b"\n"},
        {"poses.txt": rows.encode()},
        {"poses.txt": _rows(np.tile(np.eye(4)[:3].reshape(1, 12), (T, 1)))},
    ]


def truth_folders() -> list[Folder]:
    """The truth of a DSA run, of a clip, and of a surface."""
    mesh = mesh_files()[0]["mesh.ply"]
    volume = nifti_files()[1]["volume.nii.gz"]
    vessels = {"volume.nii.gz": volume, "vessels.nii.gz": volume, "mesh.ply": mesh,
               "projections.npy": _npy(np.ones((T, H, W), np.float32)),
               "centreline.npy": _npy(np.ones((5, 4)))}  # fmt: skip
    tissue: Folder = {"truth.json": _json({"contract": 1, "depth_scale_mm": 0.01})}
    for i in range(T):
        tissue |= {f"rgb/{i}.png": picture(i), f"depth/{i}.npy": _npy(np.ones((H, W), np.float32)),
                   f"masks/{i}.png": _mask(), f"meshes/frame_{i}.ply": mesh}  # fmt: skip
    surface = {"mesh.ply": mesh, "truth.json": _json({"contract": 1, "kind": "object"})}
    matlab = io.BytesIO()
    table = {"ObsMask": np.ones((3, 3, 3), np.uint8), "BB": np.array([[0, 0, 0], [1, 1, 1.0]]), "Res": 0.5}
    savemat(matlab, table, do_compression=True)
    return [vessels, tissue, surface, {"mesh.ply": mesh, "ObsMask1.mat": matlab.getvalue()}]


def prepared_folders() -> list[Folder]:
    """What a run keeps of a clip that it prepared."""
    shape = (T, H, W)
    parts = PreparedParts(
        _cameras(), np.arange(T) * 0.1, np.zeros(shape, bool), np.ones(shape, np.float32),
        np.ones(shape, np.uint16), np.arange(T), {"key": "k", "metric": True, "world": "w"},
        np.zeros((*shape, 3), np.uint8), np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.int32),
    )  # fmt: skip
    return [folder_of(lambda f: finish(write_prepared(f, parts)))]


def onnx_files() -> list[Folder]:
    """A tiny network with metadata."""
    import onnx
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, "h", "w"])
    y = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 3, "h", "w"])
    graph = helper.make_graph([helper.make_node("Relu", ["images"], ["out"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.helper.set_model_props(model, {"names": "{0: 'tool', 1: 'tissue'}", "stride": "32"})
    return [{"model.onnx": model.SerializeToString()}]
