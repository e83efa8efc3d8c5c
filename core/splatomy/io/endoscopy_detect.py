"""Which endoscopic input a path is, and the report on it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.events import Task
from splatomy.io.dicom_xa import is_dicom
from splatomy.io.endonerf import endonerf_source, is_endonerf
from splatomy.io.endoscopy import EndoscopyInput, EndoscopySource, whole_box
from splatomy.io.endoscopy_load import load_endoscopy
from splatomy.io.endoscopy_options import crop_of, scale_source, with_options
from splatomy.io.frame_source import FrameSource, cut
from splatomy.io.frames import frame_folder_source, picture_files, read_rgb
from splatomy.io.hamlyn import hamlyn_source, is_hamlyn
from splatomy.io.mask_folder import mask_folder
from splatomy.io.options import InputOptions, chosen_frames
from splatomy.io.quality import FrameQuality, frame_quality
from splatomy.io.scared import is_scared, scared_source
from splatomy.io.sfm_folder import is_sfm_folder, sfm_source
from splatomy.io.stacks import is_case_folder
from splatomy.io.stereomis import is_stereomis, stereomis_source
from splatomy.io.video import VIDEO_SUFFIXES, is_video, video_source
from splatomy.io.volume import has_volume_suffix

Reader = Callable[[Path, InputOptions], EndoscopySource]

_EXAMINED = 96
_EXAMINED_RUN = 8
_COLOURED = 6.0
"""Frames whose colours differ by fewer grey levels than this are X-ray pictures."""

_LAYOUTS: tuple[tuple[Callable[[Path], bool], Reader], ...] = (
    (is_stereomis, stereomis_source),
    (is_scared, scared_source),
    (is_sfm_folder, sfm_source),
    (is_hamlyn, hamlyn_source),
    (is_endonerf, endonerf_source),
)


def endoscopy_reader(path: Path, options: InputOptions) -> Reader | None:
    """The reader of an endoscopic input, or None if the path is something else.

    A folder of grey frames is angiography unless an option of endoscopy was given.
    """
    if path.is_file():
        known = has_volume_suffix(path) or path.suffix.lower() in (
            ".json",
            ".csv",
            ".txt",
            ".npy",
            ".obj",
            ".ply",
        )
        return _video if not known and not is_dicom(path) and is_video(path) else None
    if not path.is_dir() or is_case_folder(path):
        return None
    for is_layout, reader in _LAYOUTS:
        if is_layout(path):
            return reader
    eyes = _eyes(path)
    if eyes is not None and eyes[0].is_file():
        return _two_eyes
    if _videos(path):
        return _video_folder
    if options.of_angiography or (path / "geometry.json").is_file():
        return None
    masked = _frames_with_masks(path)
    where = path / "frames" if (path / "frames").is_dir() else path
    choices: tuple[tuple[Path | None, Reader], ...] = (
        (eyes[0] if eyes else None, _two_eyes),
        (masked[0] if masked else None, _masked_frames),
        (where, _frame_folder),
    )
    for folder, reader in choices:
        files = [] if folder is None else picture_files(folder)
        # Grey runs may also lie in folders named left and right, or beside one named mask.
        if files and (options.of_endoscopy or _is_coloured(files)):
            return reader
    return None


def _videos(folder: Path) -> list[Path]:
    return [
        p
        for p in sorted(folder.iterdir())
        if p.is_file() and p.suffix.lower() in VIDEO_SUFFIXES and not p.name.startswith(".")
    ]


def _is_coloured(files: list[Path]) -> bool:
    """True if the first readable of a few frames has colours."""
    for path in files[:3]:
        try:
            picture = read_rgb(path).astype(np.float32)
        except InputError:
            continue
        # Against the brightest value there is: cameras store 10 or 12 bits as 16.
        white = max(255.0, float(picture.max()))
        return float(np.ptp(picture, axis=-1).mean()) * 255 / white > _COLOURED
    return False


def _side(name: str) -> str | None:
    """ "left" or "right" if a name says so."""
    words = re.split(r"[^a-z]+", name.lower())
    left, right = {"left", "l"} & set(words), {"right", "r"} & set(words)
    return "left" if left and not right else "right" if right and not left else None


def _eyes(folder: Path) -> tuple[Path, Path] | None:
    """The folders or videos of the left and the right eye, or None."""
    entries = [p for p in sorted(folder.iterdir()) if not p.name.startswith(".")]
    for group in ([p for p in entries if p.is_dir() and picture_files(p)], _videos(folder)):
        sides = {side: [p for p in group if _side(p.stem) == side] for side in ("left", "right")}
        if len(sides["left"]) == len(sides["right"]) == 1:
            return sides["left"][0], sides["right"][0]
    return None


def _frames_with_masks(folder: Path) -> tuple[Path, Path] | None:
    """Two folders X and X_mask(s), or frames and masks, or None."""
    folders = [p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".")]
    masks = [p for p in folders if re.search(r"(^|[_-])masks?$", p.name.lower()) and picture_files(p)]
    frames = [p for p in folders if p not in masks and picture_files(p)]
    if len(masks) != 1 or len(frames) != 1:
        return None
    return frames[0], masks[0]


def _video(path: Path, options: InputOptions) -> EndoscopySource:
    return _plain(video_source(path, options.frame_time_s), "video")


def _video_folder(folder: Path, options: InputOptions) -> EndoscopySource:
    videos = _videos(folder)
    if len(videos) > 1:
        raise InputError(
            f"{folder.name} holds {len(videos)} videos ({', '.join(p.name for p in videos[:4])}); expected "
            "one clip "
            "or a left and a right eye: open one of the files."
        )
    source = _video(videos[0], options)
    others = picture_files(folder)
    if not others:
        return source
    return replace(source, found=(*source.found, f"{len(others)} pictures beside the video are not used"))


def _frame_folder(folder: Path, options: InputOptions) -> EndoscopySource:
    where = folder / "frames" if (folder / "frames").is_dir() else folder
    return _plain(frame_folder_source(where, frame_time_s=options.frame_time_s), "frame folder")


def _plain(frames: FrameSource, layout: str) -> EndoscopySource:
    """A recording about which nothing but its frames is known."""
    names = tuple(f.stem for f in frames.input_files) if frames.kind == "frame folder" else None
    return EndoscopySource(
        layout=layout,
        left=frames,
        left_box=whole_box(frames),
        frame_names=names,
        plain=True,
        found=frames.found,
        assumed=frames.assumed,
        problems=frames.problems,
    )


def _masked_frames(folder: Path, options: InputOptions) -> EndoscopySource:
    """A folder of frames beside a folder of their masks."""
    frames, masks = _frames_with_masks(folder) or (folder, folder)
    source = _plain(frame_folder_source(frames, frame_time_s=options.frame_time_s), "frame folder with masks")
    if options.masks is not None:
        return source
    found = mask_folder(masks, source.left.count, source.names, options.masks_mean)
    return replace(source, masks=found)


def _two_eyes(folder: Path, options: InputOptions) -> EndoscopySource:
    """Two folders of frames, or two videos, of a left and a right eye."""
    paths = _eyes(folder) or (folder, folder)
    if options.layout is not None:
        raise InputError(
            f"{folder.name} holds a left and a right eye in files of their own; expected no --layout: leave "
            "it out, "
            "or open one of the two."
        )
    if paths[0].is_dir():
        left, right = (frame_folder_source(p, frame_time_s=options.frame_time_s) for p in paths)
    else:
        left, right = (video_source(p, options.frame_time_s) for p in paths)
    if (left.width_px, left.height_px) != (right.width_px, right.height_px):
        raise InputError(
            f"{left.name} is {left.width_px}x{left.height_px} but {right.name} "
            f"{right.width_px}x{right.height_px}; "
            "expected two eyes of one size: export them again."
        )
    if left.count != right.count:
        raise InputError(
            f"{left.name} has {left.count} frames but {right.name} {right.count}; expected the same moments "
            "in "
            "both: remove those without a partner."
        )
    source = _plain(left, "stereo frame folders" if paths[0].is_dir() else "stereo videos")
    found = (*source.found, f"{left.name} is the left eye, {right.name} the right one, by their names")
    if source.frame_names is not None and [f.stem for f in right.input_files] != source.names:
        note = "The names of left and right frames differ, so they are paired in order."
        source = replace(source, problems=(*source.problems, note))
    return replace(source, right=right, right_box=whole_box(right), stereo="two files", found=found)


def endoscopy_source(path: Path, options: InputOptions) -> EndoscopySource:
    """The clip at a path with everything found out, decided and told; few frames are read.

    Raises:
        InputError: it is no endoscopic clip, unreadable, or the options do not fit.
    """
    reader = endoscopy_reader(path, options)
    if reader is None:
        raise InputError(
            f"{path.name} is no endoscopic clip; expected a video, a folder of colour frames, or an "
            "EndoNeRF, "
            "StereoMIS, SCARED or Hamlyn folder: choose another."
        )
    if options.of_angiography:
        raise InputError(
            f"{path.name} is an endoscopic clip; expected no --mask, --geometry, --already-subtracted or "
            "--view, "
            "which are for angiography: leave them out (masks are given with --masks)."
        )
    return with_options(reader(path, options), options)


def open_endoscopy(path: Path, options: InputOptions) -> Task[EndoscopyInput]:
    """The opened clip at a path.

    Raises:
        InputError: see ``endoscopy_source`` and ``load_endoscopy``.
    """
    return (yield from load_endoscopy(endoscopy_source(path, options), options))


@dataclass(frozen=True)
class EndoscopyReport:
    """What an endoscopic input is and what is wrong with it."""

    kind: str
    facts: dict[str, Any]
    found: tuple[str, ...]
    assumed: tuple[str, ...]
    problems: tuple[str, ...]
    usable: bool
    quality: FrameQuality | None = None

    def as_json(self) -> dict[str, Any]:
        """The report as a JSON object of the command line's contract."""
        return {
            "contract": 1,
            "kind": self.kind,
            "usable": self.usable,
            **self.facts,
            "found": list(self.found),
            "assumed": list(self.assumed),
            "problems": list(self.problems),
            "quality": None if self.quality is None else self.quality.as_json(),
        }

    def lines(self) -> list[str]:
        """The report for people, one fact a line."""
        out = [f"kind: {self.kind}", f"usable: {'yes' if self.usable else 'no'}"]
        if self.facts:
            facts = self.facts
            out.append(f"layout: {facts['layout']} ({facts['stereo']})")
            out.append(
                f"frames: {facts['frames']} of {facts['width_px']} x {facts['height_px']} pixels (width x "
                "height) "
                f"over {facts['duration_s']:.2f} s"
            )
            scale = facts["scale_source"]
            out.append("scale: unknown" if scale is None else f"scale: millimetres, from {scale}")
        out += [f"found: {text}" for text in self.found]
        out += [f"assumed: {text}" for text in self.assumed]
        return out + [f"note: {p}" if self.usable else f"problem: {p}" for p in self.problems]


def inspect_endoscopy(path: Path, options: InputOptions) -> EndoscopyReport:
    """The report on an endoscopic input; an unusable one gives a report too."""
    try:
        source = endoscopy_source(path, options)
        wanted = chosen_frames(source.left.count, options)
        quality = _quality(source, wanted)
    except InputError as error:
        return EndoscopyReport("endoscopic clip", {}, (), (), (str(error),), False)
    problems = list(source.problems) + ([] if quality is None else list(quality.notes()))
    times = source.left.times_s[wanted]
    x, y, w, h = crop_of(source)
    facts: dict[str, Any] = {
        "layout": source.layout,
        "stereo": source.stereo,
        "frames": len(wanted),
        "frames_in_clip": source.left.count,
        "width_px": w // options.bin,
        "height_px": h // options.bin,
        "crop": [x, y, w, h],
        "duration_s": float(times[-1] - times[0]),
        "times_known": source.left.times_known,
        "interlaced": source.deinterlace,
        "picture": "full" if source.active is None else source.active.shape,
        "masks": None
        if source.masks is None
        else {
            "frames": len(source.masks.files),
            "mean": source.masks.mean,
            "evidence": source.masks.evidence,
        },
        "depth": None
        if source.depth is None
        else {"frames": len(source.depth.files), "millimetres": source.depth.metric},
        "lens_known": source.calibration is not None
        or (source.poses is not None and source.poses.intrinsics is not None),
        "baseline_mm": None if source.calibration is None else source.calibration.baseline_mm,
        "poses": None if source.poses is None else source.poses.source,
        "metric": scale_source(source, options) is not None,
        "scale_source": scale_source(source, options),
    }
    return EndoscopyReport(
        "endoscopic clip", facts, source.found, source.assumed, tuple(dict.fromkeys(problems)), True, quality
    )


def _quality(source: EndoscopySource, wanted: NDArray[np.int64]) -> FrameQuality | None:
    """The quality strip of all frames of a short clip, of a few runs of neighbours of a long one."""
    if len(wanted) > _EXAMINED:
        starts = np.linspace(0, len(wanted) - _EXAMINED_RUN, _EXAMINED // _EXAMINED_RUN).astype(np.int64)
        wanted = wanted[np.unique((starts[:, None] + np.arange(_EXAMINED_RUN)).ravel())]
    crop = crop_of(source)
    frames = source.left.read(wanted)
    return frame_quality((number, cut(cut(frame, source.left_box), crop)) for number, frame in frames)
