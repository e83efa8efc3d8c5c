"""The mask files of a case folder: layers and labels of its frames, and how they are packed into JSON.

masks/{auto,add,erase}/NUMBER.png (8 bit, 255 = marked), labels/NUMBER.png (1 occluder, 2 specular,
3 outside).
"""

from __future__ import annotations

import base64
import zlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.io.frames import read_picture
from splatomy.io.picture import write_png
from splatomy.review import FrameReview, Mask, MaskReview

LAYERS = ("auto", "add", "erase")
LABELS = ("specular", "outside")
OCCLUDER, SPECULAR, OUTSIDE = 1, 2, 3
_FOLDERS = (*(f"masks/{layer}" for layer in LAYERS), "labels")
_MARKED = 255


def check_own_folders(folder: Path) -> None:
    """Refuses mask folders that are links: saving would write and remove pictures elsewhere.

    Raises:
        InputError: one is a link.
    """
    for name in ("masks", *_FOLDERS):
        if (folder / name).is_symlink():
            raise InputError(
                f"The folder {name} of the case {folder.name} is a link; expected a folder of its own: put a "
                "copy of it in its place."
            )


def write_labels(folder: Path, number: int, occluder: Mask, specular: Mask, outside: Mask | None) -> None:
    """Writes what each pixel of a frame is: 0 tissue, 1 occluder, 2 highlight on tissue, 3 outside."""
    labels = np.zeros(occluder.shape, np.uint8)
    labels[specular] = SPECULAR
    labels[occluder] = OCCLUDER
    if outside is not None:
        labels[outside] = OUTSIDE
    write_png(labels_file(folder, number), labels)


def labels_file(folder: Path, number: int) -> Path:
    """Where the labels of a frame are."""
    return folder / "labels" / f"{number:06d}.png"


def has_labels(frame: FrameReview) -> bool:
    """True if a frame has other labels than the occluder."""
    return frame.specular is not None or frame.outside is not None


def write_own_labels(folder: Path, number: int, frame: FrameReview, review: MaskReview) -> None:
    """The labels of a frame that has other ones than the occluder, which its mask says already."""
    if not has_labels(frame):
        labels_file(folder, number).unlink(missing_ok=True)
        return
    hidden = frame.hidden(review.height_px, review.width_px)
    specular = np.zeros(hidden.shape, bool) if frame.specular is None else frame.specular
    write_labels(folder, number, hidden & ~specular, specular, frame.outside)


def layer_file(folder: Path, layer: str, number: int) -> Path:
    """Where a layer of a frame is."""
    return folder / "masks" / layer / f"{number:06d}.png"


def write_layer(path: Path, layer: Mask | None) -> None:
    """Writes a layer's file, or removes it where there is no layer."""
    if layer is None:
        path.unlink(missing_ok=True)
    else:
        write_png(path, np.where(layer, np.uint8(_MARKED), np.uint8(0)))


def remove_strangers(folder: Path, own: set[str]) -> None:
    """Removes mask files of frames that the case no longer has."""
    for name in _FOLDERS:
        for path in (folder / name).glob("*.png"):
            if path.name not in own:
                path.unlink(missing_ok=True)


def read_labels(path: Path, shape: tuple[int, int]) -> dict[str, Mask | None]:
    """The label layers of a frame; None where a label marks nothing.

    Raises:
        InputError: the file is missing or of another size.
    """
    picture = _read_codes(path, f"labels/{path.name}", shape)
    found = {"specular": picture == SPECULAR, "outside": picture == OUTSIDE}
    return {name: np.asarray(mask) if mask.any() else None for name, mask in found.items()}


def read_layer(path: Path, shape: tuple[int, int]) -> Mask:
    """A layer's file as (H, W), True = marked.

    Raises:
        InputError: missing, of another size, or with other values than 0 and 255.
    """
    where = f"masks/{path.parent.name}/{path.name}"
    picture = _read_codes(path, where, shape)
    if not np.isin(picture, (0, _MARKED)).all():
        raise InputError(
            f"{where} holds other values than 0 and {_MARKED}; expected an 8-bit mask, {_MARKED} = marked: "
            "put the right file back."
        )
    return np.asarray(picture == _MARKED)


def _read_codes(path: Path, where: str, shape: tuple[int, int]) -> NDArray[np.uint8]:
    if not path.is_file():
        raise InputError(f"{where} is missing; case.json says that it is there: put the file back.")
    picture = read_picture(path, cv2.IMREAD_GRAYSCALE)
    if picture.shape != shape:
        raise InputError(
            f"{where} is {picture.shape[1]}x{picture.shape[0]} but the case has {shape[1]}x{shape[0]}; "
            "expected one size: put the right file back."
        )
    return np.asarray(picture, dtype=np.uint8)


def packed(layer: Mask | None) -> str | None:
    """A layer as text for JSON."""
    if layer is None:
        return None
    return base64.b64encode(zlib.compress(np.packbits(layer).tobytes())).decode("ascii")


def unpacked(text: str, shape: tuple[int, int]) -> Mask:
    """A layer (H, W) from its text.

    Raises:
        ValueError: it is another layer's.
    """
    num_bytes = -(-shape[0] * shape[1] // 8)
    # One byte more than wanted: a text that unpacks to gigabytes is not unpacked.
    bits = np.frombuffer(zlib.decompressobj().decompress(base64.b64decode(text), num_bytes + 1), np.uint8)
    if len(bits) != num_bytes:
        raise ValueError(f"a layer of {len(bits)} bytes is not {shape}")
    return np.asarray(np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape) > 0)
