"""COLMAP models, text and binary: cameras, images and points3D.

Source: COLMAP's documentation of its output format. Pixel centres lie at 0.5 there, at 0 here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.geometry.rigid import rigid, rotation_from_quat
from splatomy.io.frames import natural_key
from splatomy.io.image_sets.source import ImageSetSource, LensKind, View
from splatomy.io.listed import listed_file
from splatomy.io.options import InputOptions

_MODELS: tuple[tuple[str, int], ...] = (
    ("SIMPLE_PINHOLE", 3),
    ("PINHOLE", 4),
    ("SIMPLE_RADIAL", 4),
    ("RADIAL", 5),
    ("OPENCV", 8),
    ("OPENCV_FISHEYE", 8),
    ("FULL_OPENCV", 12),
    ("FOV", 5),
    ("SIMPLE_RADIAL_FISHEYE", 4),
    ("RADIAL_FISHEYE", 5),
)
"""Name and number of parameters, at the position of the model's number."""
_NUM_PARAMETERS = {model: size for model, size in _MODELS if model != "FOV"}
_ONE_FOCAL = ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE")
_FOLDERS = ("sparse/0", "sparse", "colmap/sparse/0", "dense/sparse", "")
_PICTURES = ("images", "input", "rgb", "image", "")
_MOST_POINTS = 20_000_000
_LONGEST_NAME = 4096


@dataclass(frozen=True)
class _Lens:
    model: str
    width_px: int
    height_px: int
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class _Image:
    name: str
    lens: int
    camera_from_world: NDArray[np.float64]


def colmap_folder(folder: Path) -> Path | None:
    """The folder of a COLMAP model in a folder or below it, or None."""
    for name in _FOLDERS:
        where = folder / name
        for suffix in (".bin", ".txt"):
            if (where / f"cameras{suffix}").is_file() and (where / f"images{suffix}").is_file():
                return where
    return None


def is_colmap(folder: Path) -> bool:
    """True if a folder holds a COLMAP model."""
    return colmap_folder(folder) is not None


def colmap_source(folder: Path, options: InputOptions) -> ImageSetSource:
    """The views of a COLMAP model, in the order of their names.

    Raises:
        InputError: the model is damaged, uses a lens model that is not supported, or pictures are missing.
    """
    model = colmap_folder(folder)
    if model is None:
        raise InputError(f"{folder.name} holds no COLMAP model; expected cameras and images (.txt or .bin).")
    suffix = ".bin" if (model / "cameras.bin").is_file() and (model / "images.bin").is_file() else ".txt"
    try:
        if suffix == ".bin":
            lenses = _binary_lenses(_Bytes(model / "cameras.bin"))
            images = _binary_images(_Bytes(model / "images.bin"))
        else:
            lenses, images = _text_lenses(model / "cameras.txt"), _text_images(model / "images.txt")
    except (ValueError, IndexError, struct.error) as error:
        raise InputError(
            f"The COLMAP model in {model.name} cannot be read ({error}); expected complete "
            f"cameras{suffix} and images{suffix}: export the model again."
        ) from None
    if not images:
        raise InputError(
            f"images{suffix} lists no pictures; expected a reconstructed model: run COLMAP again."
        )
    pictures = _picture_folder(folder, model, images[0].name)
    images.sort(key=lambda i: natural_key(i.name))
    views, missing = [], []
    for image in images:
        if image.lens not in lenses:
            raise InputError(
                f"images{suffix} names the camera {image.lens}, which cameras{suffix} lacks; expected both "
                "of one model: export it again."
            )
        path = listed_file(pictures, image.name)
        # A listed name must not lead out of the folder of pictures.
        if path is None and {"..", "/"} & {*Path(image.name).parts}:
            raise InputError(f"images{suffix} names a picture outside of its folder: export the model again.")
        if path is not None:
            views.append(_view(path, image, lenses[image.lens]))
        else:
            missing.append(image.name)
    if not views:
        raise InputError(
            f"None of the {len(images)} pictures that the COLMAP model lists is there (first: {missing[0]}); "
            "expected them in a folder named images: copy it beside the model."
        )
    problems = []
    if missing:
        problems.append(
            f"{len(missing)} of {len(images)} listed pictures are missing and left out (first: {missing[0]})."
        )
    points, colours = _points(model, suffix)
    problems.append("The poses have an arbitrary unit, so nothing is measured in mm by them.")
    return ImageSetSource(
        layout=f"COLMAP model ({suffix[1:]})",
        views=tuple(views),
        axes="COLMAP, world-to-camera, opencv axes",
        points=points,
        colours=colours,
        found=(f"{len(lenses)} cameras, {len(views)} placed pictures",)
        + (() if points is None else (f"{len(points)} sparse points",)),
        problems=tuple(problems),
        input_files=(model / f"cameras{suffix}", model / f"images{suffix}"),
    )


def _picture_folder(folder: Path, model: Path, name: str) -> Path:
    """Where the listed pictures lie: beside the model or above it."""
    above = [folder, *[p for p in model.parents if p == folder or folder in p.parents]]
    for base in dict.fromkeys(above):
        for sub in _PICTURES:
            if listed_file(base / sub, name) is not None:
                return base / sub
    return folder / "images"


def _view(path: Path, image: _Image, lens: _Lens) -> View:
    intrinsics, distortion, kind = _lens_of(lens)
    return View(
        picture=path,
        intrinsics=intrinsics,
        camera_from_world=image.camera_from_world,
        width_px=lens.width_px,
        height_px=lens.height_px,
        distortion=distortion,
        lens=kind,
    )


def _lens_of(lens: _Lens) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, LensKind]:
    """Intrinsics (3, 3), distortion in OpenCV's order or None, and its kind."""
    if lens.model not in _NUM_PARAMETERS:
        raise InputError(
            f"The COLMAP camera model {lens.model} is not supported; expected one of "
            f"{', '.join(_NUM_PARAMETERS)}: undistort the pictures with `colmap image_undistorter`."
        )
    p = np.asarray(lens.parameters, dtype=np.float64)
    if len(p) != _NUM_PARAMETERS[lens.model] or not np.isfinite(p).all():
        raise InputError(
            f"A COLMAP camera {lens.model} has {len(p)} parameters; expected "
            f"{_NUM_PARAMETERS[lens.model]} finite numbers: export the model again."
        )
    single = lens.model in _ONE_FOCAL
    fx, fy = (p[0], p[0]) if single else (p[0], p[1])
    cx, cy = p[1 if single else 2 :][:2]
    if min(fx, fy) <= 0:
        raise InputError(f"A COLMAP camera has the focal length {min(fx, fy):g} px; expected a positive one.")
    rest = p[3 if single else 4 :]
    intrinsics = np.array([[fx, 0, cx - 0.5], [0, fy, cy - 0.5], [0, 0, 1]])
    if not rest.any():
        return intrinsics, None, "polynomial"
    if single:
        rest = np.concatenate([rest, np.zeros(4 - len(rest))])
    return intrinsics, rest, "fisheye" if lens.model.endswith("FISHEYE") else "polynomial"


def _text_rows(path: Path) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.lstrip().startswith("#"):
            yield line.strip()


def _text_lenses(path: Path) -> dict[int, _Lens]:
    found = {}
    for line in _text_rows(path):
        words = line.split()
        if words:
            number, model, width, height = int(words[0]), words[1], int(words[2]), int(words[3])
            found[number] = _Lens(model, width, height, tuple(float(w) for w in words[4:]))
    return found


def _text_images(path: Path) -> list[_Image]:
    """Every first of two lines; the second one, of image points, may be empty."""
    rows = list(_text_rows(path))
    while rows and not rows[0]:
        rows.pop(0)
    found = []
    for line in rows[::2]:
        if not line:
            continue
        words = line.split(maxsplit=9)
        if len(words) < 10:
            raise ValueError(f"a row of {path.name} has {len(words)} entries instead of 10")
        numbers = np.array([float(w) for w in words[1:8]])
        found.append(_Image(words[9], int(words[8]), _pose(numbers)))
    return found


def _pose(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """camera_from_world (4, 4) of w, x, y, z and a translation."""
    if not np.isfinite(numbers).all() or not numbers[:4].any():
        raise ValueError("a pose is not finite or has no rotation")
    return rigid(rotation_from_quat(numbers[:4]), numbers[4:])


class _Bytes:
    """A binary file that is read from front to back and never beyond its end."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._data = path.read_bytes()
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes not yet read."""
        return len(self._data) - self._at

    def numbers(self, form: str) -> tuple[float, ...]:
        """The next values, in the form of ``struct``."""
        size = struct.calcsize("<" + form)
        if size > self.left:
            raise ValueError(f"{self.name} ends early")
        values = struct.unpack_from("<" + form, self._data, self._at)
        self._at += size
        return values

    def count(self, least_bytes: int) -> int:
        """The next number of entries, which cannot need more bytes than the file has."""
        (count,) = self.numbers("Q")
        if count * least_bytes > self.left:
            raise ValueError(f"{self.name} claims {count} entries, more than it can hold")
        return int(count)

    def skip(self, size: int) -> None:
        """Leaves bytes out."""
        if size > self.left:
            raise ValueError(f"{self.name} ends early")
        self._at += size

    def word(self) -> str:
        """Text up to a zero byte."""
        end = self._data.find(b"\0", self._at, self._at + _LONGEST_NAME)
        if end < 0:
            raise ValueError(f"{self.name} holds a name without an end")
        text = self._data[self._at : end].decode("utf-8", errors="replace")
        self._at = end + 1
        return text


def _binary_lenses(data: _Bytes) -> dict[int, _Lens]:
    found = {}
    for _ in range(data.count(24)):
        number, model, width, height = (int(v) for v in data.numbers("iiQQ"))
        if not 0 <= model < len(_MODELS):
            raise InputError(
                f"The COLMAP camera model number {model} is not supported; expected one of "
                f"{', '.join(_NUM_PARAMETERS)}: undistort the pictures with `colmap image_undistorter`."
            )
        name, size = _MODELS[model]
        found[number] = _Lens(name, width, height, data.numbers(f"{size}d"))
    return found


def _binary_images(data: _Bytes) -> list[_Image]:
    found = []
    for _ in range(data.count(72)):
        data.numbers("i")
        pose = _pose(np.array(data.numbers("7d")))
        (lens,) = data.numbers("i")
        name = data.word()
        data.skip(24 * data.count(24))
        found.append(_Image(name, int(lens), pose))
    return found


def _points(model: Path, suffix: str) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Sparse points and colours; damaged ones are left out, since they only help the start."""
    path = model / f"points3D{suffix}"
    readers: dict[str, Callable[[Path], NDArray[np.float64]]] = {".bin": _binary_points, ".txt": _text_points}
    if not path.is_file():
        return None, None
    try:
        table = readers[suffix](path)
    except (ValueError, IndexError, struct.error):
        return None, None
    table = table[np.isfinite(table).all(1)] if len(table) else table
    if not len(table):
        return None, None
    return table[:, :3], table[:, 3:] / 255


def _text_points(path: Path) -> NDArray[np.float64]:
    rows = [[float(w) for w in line.split()[1:7]] for line in _text_rows(path) if line]
    return np.array(rows, dtype=np.float64).reshape(-1, 6)


def _binary_points(path: Path) -> NDArray[np.float64]:
    data = _Bytes(path)
    count = data.count(51)
    if count > _MOST_POINTS:
        raise ValueError("too many points")
    table = np.empty((count, 6))
    for row in range(count):
        values = data.numbers("Q3d3Bd")
        table[row] = values[1:7]
        data.skip(8 * data.count(8))
    return table
