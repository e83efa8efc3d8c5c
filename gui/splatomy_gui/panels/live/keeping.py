"""Snapshots that a person takes: pictures and the newest surface, kept in the session's folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from PyQt6.QtGui import QImage

from splatomy.io.atomic import atomic_path, write_json


def keep_snapshot(
    run: Path, video: QImage, surface: QImage, files: Mapping[str, str], record: Mapping[str, object]
) -> Path:
    """Writes RUN/snapshots/NNN/: video.png, surface.png, snapshot.json, and copies of whole files.

    files: the newest ones that the engine announced, by kind; only surfaces and Gaussians are copied.
    """
    place = run / "snapshots"
    number = 1 + len(list(place.glob("[0-9]*"))) if place.is_dir() else 1
    folder = place / f"{number:03d}"
    folder.mkdir(parents=True)
    for name, image in (("video.png", video), ("surface.png", surface)):
        with atomic_path(folder / name) as temporary:
            if not image.isNull() and not image.save(str(temporary), "PNG"):
                raise OSError(f"{name} could not be written")
    for kind in ("mesh", "gaussians"):
        source = Path(files.get(kind, ""))
        if source.is_file():
            with atomic_path(folder / f"{kind}{source.suffix}") as temporary:
                shutil.copyfile(source, temporary)
    write_json(folder / "snapshot.json", {"contract": 1, **record})
    return folder
