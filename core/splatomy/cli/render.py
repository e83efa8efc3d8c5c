"""`splatomy render`: pictures of a run from any camera at any time."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.cli.progress import drive
from splatomy.cli.shots import Shot, choose_shots
from splatomy.engine import load_scene
from splatomy.errors import InputError
from splatomy.events import Progress, Task
from splatomy.geometry.cameras import Cameras
from splatomy.io.picture import write_array, write_png
from splatomy.io.run import RunFolder
from splatomy.io.views import Views, write_views
from splatomy.scene import Render, Scene

FIELDS = {"colour": "colour", "depth": "depth_mm", "alpha": "alpha", "normals": "normals"}
DEPTH_STEP_MM = 0.01
_SAMPLES = 8


def parse_quantities(text: str) -> list[str]:
    """The quantities of "colour,depth,...", each once.

    Raises:
        InputError: an unknown one, or none.
    """
    wanted = list(dict.fromkeys(part.strip() for part in text.split(",")))
    unknown = [name for name in wanted if name not in FIELDS]
    if unknown:
        raise InputError(
            f"--what expects any of {', '.join(FIELDS)} with commas, got {unknown[0]!r}. Use --what colour."
        )
    return wanted


def check_quantities(made: Render, wanted: list[str]) -> None:
    """Raises InputError for a quantity that the scene's pictures do not have."""
    has = [name for name, field in FIELDS.items() if getattr(made, field) is not None]
    missing = [name for name in wanted if name not in has]
    if missing:
        raise InputError(
            f"This scene has no {' and no '.join(missing)}: expected {', '.join(has)}. "
            f"Use --what {','.join(name for name in wanted if name in has) or has[0]}."
        )


def grey_top(scene: Scene, shots: list[Shot]) -> float:
    """The line integral that becomes black: one level for all pictures, from a few spread over them."""
    chosen = sorted(set(np.linspace(0, len(shots) - 1, min(_SAMPLES, len(shots))).astype(int).tolist()))
    sample = [scene.render(shots[n].camera, shots[n].time_s).colour for n in chosen]
    return max(float(np.quantile(np.concatenate([s.ravel() for s in sample]), 0.9995)), 1e-9)


def grey_of(image: NDArray[np.floating], top: float) -> NDArray[np.uint8]:
    """Line integrals (H, W) as 8-bit grey, dark vessels on white as on an angiogram."""
    clean = np.nan_to_num(np.asarray(image), nan=0.0)
    return (255 - np.clip(clean / top, 0, 1) * 255).astype(np.uint8)


def picture_of(what: str, image: NDArray[np.floating], top: float) -> NDArray[Any]:
    """A quantity as the pixels of a PNG.

    Attenuation (H, W, 1) becomes dark on white; colour (H, W, 3) stays; depth (H, W) mm becomes 16 bit
    in steps of 0.01 mm, 0 = unknown; alpha (H, W) 0 to 255; normals (H, W, 3) have their -1 to 1 at
    0 to 255.
    """
    if what == "colour" and image.shape[-1] == 1:
        return grey_of(image[..., 0], top)
    clean = np.nan_to_num(np.asarray(image, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    if what == "depth":
        return np.asarray(np.rint(np.clip(clean / DEPTH_STEP_MM, 0, 65535)), dtype=np.uint16)
    if what == "normals":
        clean = (clean + 1) / 2
    return np.asarray(np.rint(np.clip(clean, 0, 1) * 255), dtype=np.uint8)


def _render_task(
    scene: Scene, shots: list[Shot], out: Path, wanted: list[str], suffix: str, metric: bool
) -> Task[int]:
    """The number of pictures written; views.json lists them with cameras and times.

    metric: False = the scene's lengths have no unit.
    """
    yield Progress("render", 0, len(shots))
    first = scene.render(shots[0].camera, shots[0].time_s)
    check_quantities(first, wanted)
    is_grey = suffix == "png" and "colour" in wanted and first.colour.shape[-1] == 1
    top = grey_top(scene, shots) if is_grey else 0.0
    files = []
    for n, shot in enumerate(shots):
        made = scene.render(shot.camera, shot.time_s)
        for what in wanted:
            image = getattr(made, FIELDS[what])[0]
            name = f"{shot.name}.{suffix}" if what == "colour" else f"{shot.name}_{what}.{suffix}"
            if suffix == "png":
                write_png(out / name, picture_of(what, image, top))
            else:
                write_array(out / name, image[..., 0] if what == "colour" and image.shape[-1] == 1 else image)
            files.append(name)
        yield Progress("render", n + 1, len(shots))
    extra: dict[str, Any] = {"files": files, "what": wanted}
    if is_grey:
        extra["black_line_integral"] = top
    if suffix == "png" and "depth" in wanted:
        extra["depth_scale_mm" if metric else "depth_scale"] = DEPTH_STEP_MM
    cameras = Cameras.concatenate([shot.camera for shot in shots])
    write_views(out / "views.json", Views(cameras, np.array([shot.time_s for shot in shots])), **extra)
    return len(files)


def check_folder(out: Path, force: bool) -> None:
    """Raises InputError if pictures would be mixed with what a folder holds already."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: expected a folder for the pictures. Choose another --out.")
    if out.exists() and any(out.iterdir()) and not force:
        raise InputError(
            f"{out} is not empty: expected a new folder. Use --force to add to it and replace files of the "
            "same name, or choose another --out."
        )


def render(arguments: Namespace) -> None:
    """Writes the pictures that were asked for."""
    wanted = parse_quantities(arguments.what)
    check_folder(arguments.out, arguments.force)
    folder = RunFolder(arguments.run)
    scene = load_scene(folder)
    shots = choose_shots(folder, scene, arguments)
    metric = folder.record().get("metric", True) is not False
    count = drive(_render_task(scene, shots, arguments.out, wanted, arguments.format, metric))
    sys.stdout.write(f"{count} pictures: {arguments.out}\n")
