"""Which image set a path is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from splatomy.errors import InputError
from splatomy.io.image_sets.colmap import colmap_source, is_colmap
from splatomy.io.image_sets.middlebury import is_middlebury, middlebury_source
from splatomy.io.image_sets.nerf import is_nerf, nerf_source
from splatomy.io.image_sets.neus import is_neus, neus_source
from splatomy.io.image_sets.photos import is_photos, photo_source
from splatomy.io.image_sets.rgbd import (
    is_scannet,
    is_seven_scenes,
    is_tum,
    scannet_source,
    seven_scenes_source,
    tum_source,
)
from splatomy.io.image_sets.source import ImageSetSource
from splatomy.io.options import InputOptions

Reader = Callable[[Path, InputOptions], ImageSetSource]

_FOLDERS: tuple[tuple[Callable[[Path], bool], Reader], ...] = (
    (is_neus, neus_source),
    (is_nerf, nerf_source),
    (is_colmap, colmap_source),
    (is_seven_scenes, seven_scenes_source),
    (is_scannet, scannet_source),
    (is_tum, tum_source),
    (is_middlebury, middlebury_source),
)


def image_set_reader(path: Path, *, photos: bool = False) -> Reader | None:
    """The reader of an image set, or None if the path is something else.

    photos: a plain folder of pictures counts too; without a method that wants still pictures it is a clip.
    """
    if path.is_file():
        return nerf_source if path.suffix.lower() == ".json" and is_nerf(path) else None
    if not path.is_dir():
        return None
    for is_layout, reader in _FOLDERS:
        if is_layout(path):
            return reader
    return photo_source if photos and is_photos(path) else None


def image_set_source(path: Path, options: InputOptions, *, photos: bool = False) -> ImageSetSource:
    """The image set at a path, headers only.

    Raises:
        InputError: it is none, or is damaged.
    """
    reader = image_set_reader(path, photos=photos)
    if reader is None:
        raise InputError(
            f"{path.name} is no image set; expected COLMAP, cameras_sphere.npz, transforms.json, an RGB-D "
            "folder, or a folder of photographs: choose another folder."
        )
    return reader(path, options)
