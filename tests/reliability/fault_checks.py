"""Whether a run folder is whole, and whether two runs came to the same result."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import nibabel
import numpy as np
import SimpleITK as sitk
from safetensors.numpy import load_file

from splatomy.engine import load_scene
from splatomy.errors import InputError
from splatomy.io.mesh import read_mesh
from splatomy.io.run import RunFolder

SAME = 1e-4
"""Results may differ by this share of their largest value."""
_TEMPORARY = re.compile(r"\.[0-9a-f]{8}\..+")
_MOST_TEMPORARY = 4
"""A killed process can have had this many files in the making: its own and those of its helper threads."""


def _picture(path: Path) -> None:
    if cv2.imread(str(path), cv2.IMREAD_UNCHANGED) is None:
        raise ValueError("no picture")


def _film(path: Path) -> None:
    with av.open(str(path)) as film:
        if not sum(1 for _ in film.decode(video=0)):
            raise ValueError("no picture")


def _lines(path: Path) -> None:
    data = path.read_bytes()
    for line in data.splitlines():
        json.loads(line)
    if data and not data.endswith(b"\n"):
        raise ValueError("the last line is broken off")


def _page(path: Path) -> None:
    if not path.read_text(encoding="utf-8").rstrip().endswith("</html>"):
        raise ValueError("the page is broken off")


def _polygons(path: Path) -> None:
    if not path.read_bytes().rstrip().endswith(b"</VTKFile>"):
        raise ValueError("the file is broken off")


def _ply(path: Path) -> None:
    """The body of a PLY of Gaussians is as long as its header says; a mesh can be read."""
    head, _, body = path.read_bytes().partition(b"end_header\n")
    if b"element face" in head:
        read_mesh(path)
        return
    count = int(re.findall(rb"element vertex (\d+)", head)[0])
    width = 4 * head.count(b"property float")
    if len(body) != count * width:
        raise ValueError(f"{len(body)} bytes for {count} Gaussians of {width}")


_OPENERS: dict[str, Callable[[Path], Any]] = {
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".jsonl": _lines,
    ".safetensors": load_file,
    ".gz": lambda path: np.asanyarray(nibabel.load(path).dataobj),
    ".nrrd": lambda path: sitk.ReadImage(str(path)),
    ".png": _picture,
    ".jpg": _picture,
    ".mp4": _film,
    ".npy": lambda path: np.load(path, allow_pickle=False),
    ".npz": lambda path: [np.load(path, allow_pickle=False)[n] for n in np.load(path).files],
    ".html": _page,
    ".ply": _ply,
    ".vtp": _polygons,
}
"""How a file is opened to the end; a file that none of these opens counts as damaged."""
_PLAIN = {".txt", ".csv", ""}
_known: dict[Path, tuple[int, int]] = {}
"""Files that were whole already, by their time and size: they need no second look."""


def folder_problems(folder: Path) -> list[str]:
    """What is damaged in a run folder or case folder, one text each."""
    problems = []
    temporary = 0
    for path in sorted(folder.rglob("*")) if folder.exists() else ():
        if not path.is_file() or path.name == "lock":
            continue
        if _TEMPORARY.match(path.name):
            temporary += 1
            continue
        state = path.stat()
        stamp = (state.st_mtime_ns, state.st_size)
        if _known.get(path) == stamp or path.suffix in _PLAIN:
            continue
        try:
            _OPENERS[path.suffix](path)
            _known[path] = stamp
        except Exception as error:  # noqa: BLE001 - whatever a reader says, the file is damaged
            problems.append(f"{path.relative_to(folder)}: {type(error).__name__} {error}")
    if temporary > _MOST_TEMPORARY:
        problems.append(f"{temporary} temporary files")
    return problems


def run_problems(folder: Path) -> list[str]:
    """What is damaged in the folder of a killed or failed run: files, scene, checkpoint, lock."""
    problems = folder_problems(folder)
    run = RunFolder(folder)
    try:
        if (folder / "checkpoint").exists():
            run.load_checkpoint()
        if (folder / "scene" / "scene.json").exists():
            load_scene(run)
        if folder.exists():
            with run.lock():
                pass
    except (InputError, OSError, ValueError, RuntimeError, KeyError) as error:
        problems.append(f"{type(error).__name__}: {error}")
    return problems


def finished_problems(folder: Path, reference: Path) -> list[str]:
    """What is wrong with a finished run that should have come out like another one."""
    problems = run_problems(folder)
    record = json.loads((folder / "run.json").read_text())
    if record["state"] != "done":
        problems.append(f"the state is {record['state']}")
    left = [p.name for p in folder.rglob(".*") if _TEMPORARY.match(p.name)]
    if left:
        problems.append(f"{len(left)} temporary files are left")
    ours, theirs = ({str(p.relative_to(f)) for p in _results(f)} for f in (folder, reference))
    if ours != theirs:
        problems.append(f"other files: {sorted(ours ^ theirs)[:4]}")
        return problems
    for path in _results(reference):
        name = path.relative_to(reference)
        if path.suffix in (".safetensors", ".gz", ".ply"):
            problems += [f"{name}: {p}" for p in _differences(_arrays(folder / name), _arrays(path))]
    return problems


def _results(folder: Path) -> list[Path]:
    """What a user keeps of a run: scene, volumes, meshes, pictures and the report."""
    names = ("scene", "volumes", "meshes", "renders", "prepared")
    found = [p for n in names for p in (folder / n).rglob("*") if p.is_file()]
    return sorted(p for p in (*found, *folder.glob("*.html")) if not p.name.startswith("."))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".safetensors":
        return load_file(path)
    if path.suffix == ".gz":
        return {"values": np.asarray(nibabel.load(path).dataobj, np.float64)}
    if path.name == "gaussians.ply":
        body = path.read_bytes().partition(b"end_header\n")[2]
        return {"gaussians": np.frombuffer(body, "<f4").astype(np.float64)}
    mesh = read_mesh(path)
    return {"vertices": mesh.vertices_mm, "faces": mesh.faces}


def _differences(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> list[str]:
    if ours.keys() != theirs.keys():
        return ["other arrays"]
    problems = []
    for name, one in ours.items():
        other = theirs[name]
        if one.shape != other.shape:
            problems.append(f"{name} is {one.shape} instead of {other.shape}")
            continue
        if not one.size:
            continue
        # NaN stands for what is not known, so it must be at the same places.
        a, b = (np.nan_to_num(x.astype(np.float64), nan=-1e9) for x in (one, other))
        largest = max(float(np.abs(b[b != -1e9]).max(initial=0)), 1e-12)
        if (off := float(np.abs(a - b).max())) > SAME * largest:
            problems.append(f"{name} differs by {off / largest:.1e} of its largest value")
    return problems
