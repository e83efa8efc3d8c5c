"""Folders of mask pictures, with the evidence for what their non-zero pixels mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.io.frames import name_numbers, picture_files, read_picture
from splatomy.io.options import MaskMeaning

_HIDDEN_WORDS = ("hidden", "occlu", "tool", "instrument", "gt_mask", "specular", "inpaint", "remove")
_VISIBLE_WORDS = ("visible", "tissue", "valid", "keep", "inside", "fov", "background")
_LOW, _HIGH = 0.4, 0.6
_SAMPLED = 24
_FEW_VALUES = 16


@dataclass(frozen=True)
class MaskFolder:
    """Masks of a clip, of which a few were read.

    files: frame index -> mask file. mean: what non-zero pixels are. evidence: why, for the user.
    height_px, width_px: size of the masks as stored (of the first one).
    """

    files: Mapping[int, Path]
    mean: MaskMeaning
    evidence: str
    height_px: int
    width_px: int
    name: str
    resizable: bool = False
    problems: tuple[str, ...] = ()

    def hidden(self, frame: int, height_px: int, width_px: int) -> NDArray[np.bool_] | None:
        """The mask of a frame at the frame's size, (H, W), True = hidden; None where there is none.

        Raises:
            InputError: unreadable or of another size.
        """
        path = self.files.get(frame)
        if path is None:
            return None
        mask = foreground(read_picture(path))
        if mask.shape != (height_px, width_px):
            if not self.resizable:
                raise other_size(path, mask.shape, height_px, width_px, "masks")
            small = mask.astype(np.uint8)
            mask = cv2.resize(small, (width_px, height_px), interpolation=cv2.INTER_NEAREST).astype(bool)
        return mask if self.mean == "hidden" else ~mask


def other_size(path: Path, shape: tuple[int, ...], height_px: int, width_px: int, what: str) -> InputError:
    """The error about a picture of another size than its frame."""
    return InputError(
        f"{path.name} is {shape[1]}x{shape[0]} but its frame is {width_px}x{height_px}; expected {what} of "
        "the "
        "frames' size: export them at that size, or choose the frames that they were made on."
    )


def foreground(picture: NDArray[Any]) -> NDArray[np.bool_]:
    """Non-zero pixels, (H, W); of a picture with many values (lossy or smoothed) the upper half."""
    if picture.ndim == 3:
        colours = picture[..., :3] if picture.shape[2] >= 3 else picture[..., :1]
        # Some editors paint into the alpha channel alone.
        in_alpha = picture.shape[2] == 4 and not np.ptp(colours, axis=(0, 1)).any()
        picture = picture[..., 3] if in_alpha and np.ptp(picture[..., 3]) else colours.max(-1)
    top = float(picture.max())
    # Labels come in a few values and all count; smoothing and JPEG give many.
    few = picture.dtype != np.uint8 or np.count_nonzero(np.bincount(picture.ravel())) <= _FEW_VALUES
    return np.asarray(picture > (0 if few or top <= _FEW_VALUES else top / 2))


def match_files(files: list[Path], frame_names: list[str] | None, count: int) -> tuple[dict[int, Path], str]:
    """Frame index -> file: by equal names, by equal numbers of files, or by the numbers in the names.

    Raises:
        InputError: they cannot be matched.
    """
    if frame_names is not None:
        by_stem = {name: i for i, name in enumerate(frame_names)}
        found = {by_stem[p.stem]: p for p in files if p.stem in by_stem}
        if found and len(found) == len(files):
            return found, "by name"
    if len(files) == count:
        return dict(enumerate(files)), "in order"
    numbers = name_numbers(files)
    if numbers is not None and len(np.unique(numbers)) == len(numbers):
        if frame_names is not None:
            own = name_numbers([Path(n) for n in frame_names])
            index = {} if own is None else {int(n): i for i, n in enumerate(own)}
            if set(numbers.tolist()) <= set(index):
                return {index[n]: p for n, p in zip(numbers.tolist(), files, strict=True)}, "by number"
        elif numbers.max() < count:
            return dict(zip(numbers.tolist(), files, strict=True)), "by number, counted from 0"
    raise InputError(
        f"{files[0].parent.name} holds {len(files)} files for {count} frames; expected one per frame, or "
        "names "
        "with the frames' numbers: rename them, or choose the folder that belongs to this clip."
    )


def mask_folder(
    folder: Path,
    count: int,
    frame_names: list[str] | None,
    given: MaskMeaning | None,
    convention: tuple[MaskMeaning, str] | None = None,
    resizable: bool = False,
    files: list[Path] | None = None,
) -> MaskFolder:
    """The masks of a folder, with their meaning decided and explained.

    given: the user's word, which decides. convention: meaning in a known layout, and its name; it is
        refused when the masks' content contradicts it. files: the masks, when not all pictures are.

    Raises:
        InputError: no masks, no match to the frames, or the meaning is not clear.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; expected a folder of mask pictures: check --masks.")
    files = picture_files(folder) if files is None else files
    if not files:
        raise InputError(f"{folder.name} holds no pictures; expected masks as PNG: choose another --masks.")
    matched, how = match_files(files, frame_names, count)
    problems = []
    if len(matched) < count:
        problems.append(
            f"There are masks for {len(matched)} of {count} frames (matched {how}); in the others nothing is "
            "taken as hidden."
        )
    sampled = [files[i] for i in np.unique(np.linspace(0, len(files) - 1, _SAMPLED).round().astype(int))]
    masks = [foreground(read_picture(p)) for p in sampled]
    shares = np.array([m.mean() for m in masks])
    mean, evidence = _meaning(folder.name, shares, given, convention)
    covered = shares if mean == "hidden" else 1 - shares
    if float(np.median(covered)) > _HIGH:
        problems.append(
            f"The masks hide {100 * float(np.median(covered)):.0f} % of the pixels, more than instruments "
            "usually do: check --masks-mean."
        )
    elif not covered.any():
        problems.append("The masks hide nothing in the frames looked at.")
    height, width = masks[0].shape
    return MaskFolder(matched, mean, evidence, height, width, folder.name, resizable, tuple(problems))


def _meaning(
    name: str,
    shares: NDArray[np.float64],
    given: MaskMeaning | None,
    convention: tuple[MaskMeaning, str] | None,
) -> tuple[MaskMeaning, str]:
    """What non-zero pixels mean, and why."""
    share = f"{100 * float(np.median(shares)):.0f} % of the pixels are non-zero"
    if given is not None:
        return given, f"non-zero = {given}, as --masks-mean says ({share})"
    by_share: MaskMeaning | None = None
    if (shares < _LOW).mean() > 0.75:
        by_share = "hidden"
    elif (shares > _HIGH).mean() > 0.75:
        by_share = "visible"
    words = [w for w in re.split(r"[^a-z_]+", name.lower()) if w]
    says: list[tuple[MaskMeaning, str]] = []
    if any(key in word for word in words for key in _HIDDEN_WORDS):
        says.append(("hidden", f"the folder's name {name!r}"))
    if any(key in word for word in words for key in _VISIBLE_WORDS):
        says.append(("visible", f"the folder's name {name!r}"))
    if convention is not None:
        says = [(convention[0], f"the {convention[1]} layout")]
    told = {meaning for meaning, _ in says}
    if len(told) == 1:
        meaning, source = says[0]
        if by_share is None or by_share == meaning:
            return meaning, f"non-zero = {meaning}, by {source} ({share})"
        raise _unclear(name, f"{source} says that they are {meaning}, but {share} in most frames")
    if not told and by_share is not None:
        return by_share, f"non-zero = {by_share}, because {share} in most frames"
    raise _unclear(name, share)


def _unclear(name: str, reason: str) -> InputError:
    return InputError(
        f"It is not clear what the non-zero pixels of the masks in {name} are ({reason}); expected masks "
        "that "
        "say it: give --masks-mean hidden (they cover instruments) or --masks-mean visible (they cover "
        "tissue)."
    )
