"""The StereoMIS folder: stacked stereo video, ini calibration, kinematic poses, masks (non-zero = tissue)."""

from __future__ import annotations

import configparser
import csv
from fractions import Fraction
from io import StringIO
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.geometry.cameras import Cameras
from splatomy.geometry.rigid import inverse
from splatomy.io.atomic import atomic_path, write_text
from splatomy.io.calibration import Calibration, Lens, read_calibration
from splatomy.io.endoscopy import EndoscopySource
from splatomy.io.frame_source import FrameSource, LazyImages
from splatomy.io.frames import picture_files, write_picture
from splatomy.io.mask_folder import MaskFolder, mask_folder
from splatomy.io.options import InputOptions, MaskMeaning
from splatomy.io.picture_analysis import eye_boxes
from splatomy.io.poses import (
    Poses,
    breaks,
    poses_from_world_from_camera,
    quaternion_matrices,
    read_rows,
)
from splatomy.io.video import VIDEO_SUFFIXES, video_source

CALIBRATION = "StereoCalibration.ini"
_MM_PER_M = 1000.0
_TICK = Fraction(1, 90_000)


def is_stereomis(folder: Path) -> bool:
    """True if a folder holds StereoMIS's calibration."""
    return (folder / CALIBRATION).is_file()


def stereomis_source(folder: Path, options: InputOptions) -> EndoscopySource:
    """The clip of a StereoMIS sequence folder.

    The video's upper half is the left eye. Poses are camera-to-world in metres with OpenCV axes; in
    masks, which exist for a part of the frames, non-zero is tissue: the opposite of EndoNeRF.

    Raises:
        InputError: files are missing, unreadable or do not fit each other.
    """
    videos = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in VIDEO_SUFFIXES and p.name[0] != "."]
    if len(videos) != 1:
        raise InputError(
            f"{folder.name} holds {len(videos)} videos beside {CALIBRATION}; expected one stacked stereo "
            "video: "
            "leave one there."
        )
    video = video_source(videos[0], options.frame_time_s)
    left_box, right_box = eye_boxes("tb", video.width_px, video.height_px)
    calibration, scaled = read_calibration(folder / CALIBRATION).fitted(left_box[2], left_box[3])
    problems = [] if scaled is None else [scaled]
    found = [f"stereo calibration of {CALIBRATION}, baseline {calibration.baseline_mm:.2f} mm"]
    poses = None
    if (folder / "groundtruth.txt").is_file() and options.poses is None:
        poses = _poses(folder / "groundtruth.txt", video)
    masks = _masks(folder, video, options)
    split = next((folder / n for n in ("train_split.csv", "test_split.csv") if (folder / n).is_file()), None)
    if split is not None:
        found.append(f"usable frames by {split.name}: {_split_text(split)}")
    return EndoscopySource(
        layout="StereoMIS folder",
        left=video,
        left_box=left_box,
        right=video,
        right_box=right_box,
        stereo="tb",
        calibration=calibration if options.calibration is None else None,
        masks=masks,
        poses=poses,
        found=(*video.found, *found),
        assumed=video.assumed,
        problems=(*video.problems, *problems),
    )


def _masks(folder: Path, video: FrameSource, options: InputOptions) -> MaskFolder | None:
    """Masks of the left eye: names end with l, those of the right eye with r."""
    where = folder / "masks"
    if options.masks is not None or not where.is_dir():
        return None
    files = picture_files(where)
    left = [p for p in files if not p.stem.lower().endswith("r")]
    if not left:
        return None
    convention: tuple[MaskMeaning, str] = ("visible", "StereoMIS")
    return mask_folder(where, video.count, None, options.masks_mean, convention, True, left)


def _poses(path: Path, video: FrameSource) -> Poses:
    """The rows of groundtruth.txt: frame, translation in metres, quaternion x y z w."""
    rows = read_rows(path)
    if rows.shape[1] != 8:
        raise InputError(
            f"{path.name} has {rows.shape[1]} numbers a row; expected frame, translation (m) and quaternion, "
            "8 "
            "numbers: copy it again."
        )
    problems = []
    if len(rows) < video.count:
        raise InputError(
            f"{path.name} holds {len(rows)} poses for {video.count} frames; expected one per frame: copy it "
            "again."
        )
    if len(rows) > video.count:
        problems.append(
            f"{path.name} holds {len(rows)} poses for {video.count} frames; the first {video.count} are used."
        )
    rows = rows[: video.count]
    matrices = quaternion_matrices(rows[:, 1:4] * _MM_PER_M, rows[:, 4:8], path)
    camera = poses_from_world_from_camera(matrices, "opencv", path)
    jumps = breaks(camera)
    if len(jumps):
        problems.append(
            f"The poses break at {len(jumps)} frames (first: {int(jumps[0])}): steps over 5 mm or 5 degrees."
        )
    if np.ptp(camera[:, :3, 3]) > 1e-9:
        problems.append(
            "Poses are from robot kinematics, and in some sequences of this data set they are a few frames "
            "off "
            "the video: check them before trusting them."
        )
    source = f"{path.name} (camera-to-world in metres, opencv axes)"
    return Poses(camera, True, source, None, tuple(problems))


def _split_text(path: Path) -> str:
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
        return ", ".join(f"{int(float(r['start']))} to {int(float(r['end']))}" for r in rows)
    except (UnicodeDecodeError, KeyError, TypeError, ValueError):
        return "unreadable, not used"


def write_stereomis(
    folder: Path,
    left: NDArray[np.floating] | LazyImages,
    right: NDArray[np.floating] | LazyImages,
    times_s: NDArray[np.floating],
    cameras: Cameras,
    calibration: Calibration,
    occluded: NDArray[np.bool_] | None = None,
) -> None:
    """Writes a StereoMIS sequence folder; the calibration comes last, so a broken-off write is none.

    left, right: (T, H, W, 3) sRGB in [0, 1], stored without loss where the encoder allows it.
    calibration: both eyes and right_from_left in mm. occluded: True = hidden, of the left eye.
    """
    if calibration.right is None or calibration.right_from_left is None:
        raise ValueError("a StereoMIS folder needs the lens of the right eye and its pose")
    count, height, width, _ = left.shape
    if tuple(right.shape) != tuple(left.shape) or len(times_s) != count or len(cameras) != count:
        raise ValueError(
            f"left {left.shape}, right {right.shape}, {len(times_s)} times, {len(cameras)} cameras"
        )
    _write_video(folder / "stereo.mp4", left, right, times_s)
    world_from_camera = inverse(cameras.camera_from_world)
    lines = []
    for i, pose in enumerate(world_from_camera):
        numbers = [*(pose[:3, 3] / _MM_PER_M), *_quat_xyzw(pose[:3, :3])]
        lines.append(" ".join([str(i), *(repr(float(n)) for n in numbers)]))
        if occluded is not None:
            mask = np.where(occluded[i], 0, 255).astype(np.uint8)
            write_picture(folder / "masks" / f"{i:06d}l.png", mask)
    write_text(folder / "groundtruth.txt", "\n".join(lines) + "\n")
    write_text(
        folder / CALIBRATION,
        _ini_text(calibration.left, calibration.right, calibration.right_from_left, (width, height)),
    )


def _write_video(path: Path, left: Any, right: Any, times_s: NDArray[np.floating]) -> None:
    # RGB keeps the colours exact; an encoder without it is a build of the library without H.264.
    exact = "libx264rgb" in av.codecs_available
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264rgb" if exact else "mpeg4", rate=Fraction(30))
        stream.width, stream.height = left.shape[2], 2 * left.shape[1]
        stream.pix_fmt = "rgb24" if exact else "yuv420p"
        stream.time_base = stream.codec_context.time_base = _TICK
        stream.options = {"qp": "0", "preset": "veryfast"} if exact else {"qscale": "1"}
        for i, time_s in enumerate(times_s):
            both = np.concatenate([np.asarray(left[i]), np.asarray(right[i])])
            picture = np.round(np.clip(both, 0, 1) * 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(float(time_s - times_s[0]) / _TICK), _TICK
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _quat_xyzw(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """The quaternion x, y, z, w of a rotation (3, 3): the largest eigenvector of Bar-Itzhack's matrix."""
    m = rotation
    k = np.array([
        [m[0, 0] - m[1, 1] - m[2, 2], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[2, 1] - m[1, 2]],
        [m[0, 1] + m[1, 0], m[1, 1] - m[0, 0] - m[2, 2], m[1, 2] + m[2, 1], m[0, 2] - m[2, 0]],
        [m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], m[2, 2] - m[0, 0] - m[1, 1], m[1, 0] - m[0, 1]],
        [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], m[0, 0] + m[1, 1] + m[2, 2]],
    ])  # fmt: skip
    quat = np.asarray(np.linalg.eigh(k)[1][:, -1])
    return quat if quat[3] >= 0 else -quat


def _ini_text(left: Lens, right: Lens, right_from_left: NDArray[np.float64], size_px: tuple[int, int]) -> str:
    parser = configparser.ConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]

    def section(lens: Lens) -> dict[str, str]:
        k = lens.intrinsics
        out = {"res_x": str(size_px[0]), "res_y": str(size_px[1])}
        out |= {"fc_x": repr(float(k[0, 0])), "fc_y": repr(float(k[1, 1]))}
        out |= {"cc_x": repr(float(k[0, 2])), "cc_y": repr(float(k[1, 2]))}
        return out | {f"kc_{i}": repr(float(c)) for i, c in enumerate(lens.distortion)}

    rotation = {f"R_{i}": repr(float(r)) for i, r in enumerate(right_from_left[:3, :3].ravel())}
    translation = {f"T_{i}": repr(float(t)) for i, t in enumerate(right_from_left[:3, 3])}
    parser["StereoLeft"] = section(left)
    parser["StereoRight"] = section(right) | rotation | translation
    buffer = StringIO()
    parser.write(buffer)
    return buffer.getvalue()
