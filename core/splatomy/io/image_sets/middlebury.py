"""Middlebury multi-view sets: pictures with ``NAME_par.txt`` (name, K, R, t per line)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.geometry.rigid import rigid
from splatomy.io.image_sets.source import ImageSetSource, View
from splatomy.io.listed import listed_file
from splatomy.io.options import InputOptions

_NUMBERS = 21
_BOX = re.compile(r"\(\s*([-+0-9.eE]+)[,\s]+([-+0-9.eE]+)[,\s]+([-+0-9.eE]+)\s*\)")
_METRES = 1000.0


def _parameters(folder: Path) -> Path | None:
    found = sorted(folder.glob("*_par.txt"))
    return found[0] if len(found) == 1 else None


def is_middlebury(folder: Path) -> bool:
    """True if a folder holds one file of such parameters."""
    return _parameters(folder) is not None


def middlebury_source(folder: Path, options: InputOptions) -> ImageSetSource:
    """The views of a Middlebury set, whose unit is the metre.

    Raises:
        InputError: the parameters are damaged or no picture is there.
    """
    path = _parameters(folder)
    if path is None:
        raise InputError(f"{folder.name} holds no *_par.txt; expected one with name, K, R and t per line.")
    views, missing = [], 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if len(words) != _NUMBERS + 1:
            continue
        picture = listed_file(folder, Path(words[0]).name)
        if picture is not None:
            views.append(_view(picture, words[1:], path))
        else:
            missing += 1
    if not views:
        raise InputError(
            f"{path.name} places no picture that is there; expected lines of a name and 21 numbers (K, R, t) "
            "with the pictures beside it: copy the set again."
        )
    bounds = _bounds(folder)
    return ImageSetSource(
        layout="Middlebury multi-view set",
        views=tuple(views),
        unit_mm=_METRES,
        axes=f"{path.name}, K [R | t], opencv axes",
        bounds=bounds,
        found=(f"{len(views)} pictures",)
        + (("box of the object in README.txt",) if bounds is not None else ()),
        assumed=("lengths are metres, as in all sets of this benchmark",),
        problems=(f"{missing} listed pictures are missing and left out.",) if missing else (),
        input_files=(path,),
    )


def _view(picture: Path, words: list[str], path: Path) -> View:
    try:
        numbers = np.array([float(w) for w in words])
        rotation = numbers[9:18].reshape(3, 3)
        if not np.isfinite(numbers).all() or np.abs(rotation @ rotation.T - np.eye(3)).max() > 0.01:
            raise ValueError
    except ValueError:
        raise InputError(
            f"{path.name}: the line of {picture.name} holds no rotation; expected K, R and t: copy it again."
        ) from None
    return View(picture, numbers[:9].reshape(3, 3), rigid(rotation, numbers[18:]))


def _bounds(folder: Path) -> NDArray[np.float64] | None:
    """The object's box (2, 3) from the two corners that README.txt gives, or None."""
    path = folder / "README.txt"
    if not path.is_file():
        return None
    corners = _BOX.findall(path.read_text(encoding="utf-8", errors="replace"))
    if len(corners) < 2:
        return None
    try:
        box = np.array(corners[:2], dtype=np.float64)
    except ValueError:
        return None
    return np.stack([box.min(0), box.max(0)])
