"""RUN/prepared/: what was derived of a clip before training, without loss.

occluded/000000.png     255 = hidden              depth/000000.npy       z depth, float32, NaN = unknown
inpainted/000000.png    8 or 16 bit, as the clip  confidence/000000.png  of the depth, 65535 = sure
provenance/000000.png   16 bit: 0 = made up, 1 = observed, k + 2 = taken from frame k
outside.png             255 = no frame shows anything there (hidden too); only if there is such a place
frames/000000.png       only if the lens's distortion was taken out
poses.json              cameras and times         prepared.json          what was done; written last
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.ahead import made_ahead
from splatomy.errors import InputError
from splatomy.events import Progress, Task
from splatomy.geometry.cameras import Cameras
from splatomy.io.atomic import write_json
from splatomy.io.depth_folder import read_depth
from splatomy.io.frame_source import storage
from splatomy.io.frames import read_picture, read_rgb, write_picture
from splatomy.io.geometry_files import read_json
from splatomy.io.picture import write_array
from splatomy.io.views import Views, read_views, write_views

_RECORD = "prepared.json"
_SURE = 65535
_WRITTEN_AT_ONCE = 8


@dataclass(frozen=True)
class PreparedParts:
    """What was derived of a clip of T frames, exactly as it is stored.

    occluded: (T, H, W) bool. depth_mm: (T, H, W) float32, NaN = unknown. confidence: (T, H, W) uint16.
    frames: (T, H, W, 3) codes, or None when the input's pictures are used as they are.
    train: (N,) the frames that are trained on. inpainted: (N, H, W, 3) codes and provenance: (N, H, W) whole
        numbers (0 = observed, k + 1 = taken from frame k, -1 = made up), or both None when nothing is hidden.
    record: JSON values: key, metric, world, provenance, details.
    outside: (H, W), the part of ``occluded`` where no frame shows anything, or None.
    """

    cameras: Cameras
    times_s: NDArray[np.float64]
    occluded: NDArray[np.bool_]
    depth_mm: NDArray[np.float32]
    confidence: NDArray[np.uint16]
    train: NDArray[np.intp]
    record: Mapping[str, Any]
    frames: NDArray[Any] | None = None
    inpainted: NDArray[Any] | None = None
    provenance: NDArray[np.signedinteger] | None = None
    outside: NDArray[np.bool_] | None = None

    @property
    def share_sure(self) -> NDArray[np.float32]:
        """The confidence as (T, H, W) float32 in [0, 1]."""
        out = storage(self.confidence.shape, np.float32)
        for t, codes in enumerate(self.confidence):
            out[t] = codes / np.float32(_SURE)
        return out


def confidence_codes(confidence: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Confidence in [0, 1] as it is stored."""
    return np.rint(np.nan_to_num(confidence).clip(0, 1) * _SURE).astype(np.uint16)


def prepared_key(folder: Path) -> str | None:
    """The key of what a folder holds, None when it holds nothing whole."""
    path = folder / _RECORD
    if not path.is_file():
        return None
    value = read_json(path)
    return str(value.get("key")) if isinstance(value, dict) else None


def write_prepared(folder: Path, parts: PreparedParts) -> Task[None]:
    """Writes everything, frame by frame; prepared.json comes last, so a broken-off write counts as none."""
    (folder / _RECORD).unlink(missing_ok=True)
    place = {int(frame): n for n, frame in enumerate(parts.train)}
    count = len(parts.times_s)

    def write(t: int) -> None:
        name = f"{t:06d}"
        hidden = parts.occluded[t].astype(np.uint8) * np.uint8(255)
        write_picture(folder / "occluded" / f"{name}.png", hidden)
        write_array(folder / "depth" / f"{name}.npy", np.asarray(parts.depth_mm[t], np.float32))
        write_picture(folder / "confidence" / f"{name}.png", np.asarray(parts.confidence[t]))
        if parts.frames is not None:
            write_picture(folder / "frames" / f"{name}.png", np.asarray(parts.frames[t]))
        if t in place and parts.inpainted is not None and parts.provenance is not None:
            write_picture(folder / "inpainted" / f"{name}.png", np.asarray(parts.inpainted[place[t]]))
            source = parts.provenance[place[t]].astype(np.int32) + 1
            write_picture(folder / "provenance" / f"{name}.png", source.astype(np.uint16))

    for t, _ in enumerate(made_ahead(write, count, _WRITTEN_AT_ONCE)):
        yield Progress("keep prepared", t, count)
    if parts.outside is not None:
        write_picture(folder / "outside.png", parts.outside.astype(np.uint8) * np.uint8(255))
    write_views(folder / "poses.json", Views(parts.cameras, parts.times_s))
    write_json(
        folder / _RECORD,
        {
            "contract": 1,
            "masks_mean": "hidden",
            "depth": "along the optical axis, " + ("mm" if parts.record["metric"] else "without a unit"),
            "provenance_values": "0 = made up, 1 = observed, k + 2 = taken from frame k",
            "train": parts.train.tolist(),
            "has_frames": parts.frames is not None,
            "has_inpainted": parts.inpainted is not None,
            "has_outside": parts.outside is not None,
            **parts.record,
        },
    )
    yield Progress("keep prepared", count, count)


def prepared_frame(folder: Path, frame: int) -> tuple[NDArray[np.float32] | None, NDArray[np.bool_]]:
    """The picture (H, W, 3) of a frame, None where the input's is used as it is, and its hidden pixels.

    Raises:
        InputError: the run prepared no such frame.
    """
    name = f"{frame:06d}.png"
    try:
        hidden = np.asarray(read_picture(folder / "occluded" / name) > 127)
        if not (folder / "frames" / name).is_file():
            return None, hidden
        picture = read_rgb(folder / "frames" / name)
    except (OSError, ValueError):
        raise _damaged(f"frame {frame}") from None
    return picture.astype(np.float32) / np.float32(np.iinfo(picture.dtype).max), hidden


def read_prepared(folder: Path) -> Task[PreparedParts]:
    """What ``write_prepared`` wrote.

    Raises:
        InputError: a file is missing or damaged.
    """
    record = read_json(folder / _RECORD)
    views = read_views(folder / "poses.json", 1, 1)
    times, cameras = views.times_s, views.cameras
    if times is None or not isinstance(record, dict):
        raise _damaged("poses.json")
    try:
        train = np.asarray(record["train"], dtype=np.intp)
        has_frames, has_inpainted = bool(record["has_frames"]), bool(record["has_inpainted"])
        if train.ndim != 1 or not ((train >= 0) & (train < len(times))).all():
            raise ValueError("frames that the clip has not")
    except (KeyError, TypeError, ValueError, OverflowError):
        raise _damaged(_RECORD) from None
    place = {int(frame): n for n, frame in enumerate(train)}
    size = (cameras.height_px, cameras.width_px)
    occluded = storage((len(times), *size), np.bool_)
    depth = storage((len(times), *size), np.float32)
    confidence = storage((len(times), *size), np.uint16)
    frames = inpainted = provenance = None
    if has_inpainted:
        provenance = storage((len(train), *size), np.int32)
    for t in range(len(times)):
        yield Progress("read prepared", t, len(times))
        name = f"{t:06d}"
        try:
            occluded[t] = read_picture(folder / "occluded" / f"{name}.png") > 127
            depth[t] = read_depth(folder / "depth" / f"{name}.npy")
            confidence[t] = read_picture(folder / "confidence" / f"{name}.png")
            if has_frames:
                picture = read_rgb(folder / "frames" / f"{name}.png")
                if frames is None:
                    frames = storage((len(times), *picture.shape), picture.dtype.type)
                frames[t] = picture
            if t in place and provenance is not None:
                picture = read_rgb(folder / "inpainted" / f"{name}.png")
                if inpainted is None:
                    inpainted = storage((len(train), *picture.shape), picture.dtype.type)
                inpainted[place[t]] = picture
                source = read_picture(folder / "provenance" / f"{name}.png")
                provenance[place[t]] = source.astype(np.int32) - 1
        except (OSError, ValueError):
            raise _damaged(f"frame {t}") from None
    yield Progress("read prepared", len(times), len(times))
    outside = None
    if record.get("has_outside"):
        try:
            outside = np.asarray(read_picture(folder / "outside.png") > 127)
        except OSError:
            raise _damaged("outside.png") from None
    return PreparedParts(
        cameras, times, occluded, depth, confidence, train, record, frames, inpainted, provenance, outside
    )


def _damaged(what: str) -> InputError:
    return InputError(
        f"The prepared clip of this run is damaged ({what}): expected every file that the run wrote. "
        "Start the run again with --force."
    )
