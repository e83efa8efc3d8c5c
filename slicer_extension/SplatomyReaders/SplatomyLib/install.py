"""The engine's own environment: found, checked, and, after a person agreed, created.

Nothing is ever installed into Slicer's Python: the engine's libraries clash with Slicer's own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SplatomyLib.process import clean_environment

CONTRACT = 1
OLDEST_PYTHON = (3, 11)
_PYTHONS = ("python3.14", "python3.13", "python3.12", "python3.11", "python3", "python")
_CHECK_S = 15.0
VERSION_WORDS = ("--version", "--json")


@dataclass(frozen=True)
class Engine:
    """A command that runs the engine, and what it says of itself."""

    command: tuple[str, ...]
    version: str
    torch: str
    devices: tuple[str, ...]
    memory_gib: float

    def text(self) -> str:
        """One line for a person."""
        where = ", ".join(self.devices) if self.devices else "no GPU: it works on the processor, slowly"
        return f"Engine {self.version}, torch {self.torch}, {where}, {self.memory_gib:.0f} GB of memory"


def engine_folder(data_folder: Path) -> Path:
    """Where an environment of our own lies under the user's data folder."""
    return data_folder / "splatomy-engine"


def program(environment_folder: Path, name: str) -> Path:
    """A program of a virtual environment."""
    if sys.platform == "win32":
        return environment_folder / "Scripts" / f"{name}.exe"
    return environment_folder / "bin" / name


def engine_candidates(
    chosen: str, data_folder: Path, environment: Mapping[str, str], checkout: Path | None = None
) -> list[tuple[str, ...]]:
    """Commands that may run the engine, best first: the chosen one, our own, a checkout's, the path's.

    chosen: a program ``splatomy``, a Python that has the package, or an environment's folder; "" = none.
    """
    found: list[tuple[str, ...]] = []
    if chosen:
        path = Path(chosen).expanduser()
        if path.is_dir():
            found.append((str(program(path, "splatomy")),))
        elif path.name.lower().startswith("python"):
            found.append((str(path), "-m", "splatomy"))
        else:
            found.append((str(path),))
    own = program(engine_folder(data_folder), "splatomy")
    beside = program(checkout / ".venv", "splatomy") if checkout is not None else None
    on_path = shutil.which("splatomy", path=environment.get("PATH", ""))
    for candidate in (own, beside, on_path):
        if candidate is not None and Path(candidate).is_file():
            found.append((str(candidate),))
    return list(dict.fromkeys(found))


def engine_of(command: Sequence[str], answer: str) -> Engine:
    """The engine that gave this answer to ``VERSION_WORDS``.

    Raises:
        ValueError: it is no engine of this contract; the text says why.
    """
    try:
        facts: dict[str, Any] = json.loads(answer)
        contract = facts["contract"]
        devices = tuple(_device_name(device) for device in facts["cuda_devices"])
        engine = Engine(
            tuple(command), str(facts["splatomy"]), str(facts["torch"]), devices, float(facts["memory_gib"])
        )
    except (ValueError, KeyError, TypeError):
        raise ValueError("This program is no Splatomy engine: it does not tell its version.") from None
    if contract != CONTRACT:
        raise ValueError(
            f"The engine speaks contract {contract}, this extension {CONTRACT}: update the older one."
        )
    return engine


def _device_name(device: Any) -> str:
    return str(device.get("name", "GPU")) if isinstance(device, dict) else str(device)


def pythons(environment: Mapping[str, str], forbidden: Sequence[Path]) -> Iterator[Path]:
    """Pythons of the system that may make an environment, newest names first.

    forbidden: folders whose Pythons are never taken: Slicer's own.
    """
    seen: set[Path] = set()
    for name in _PYTHONS:
        found = shutil.which(name, path=environment.get("PATH", ""))
        if found is None:
            continue
        path = Path(found).resolve()
        inside = any(path.is_relative_to(folder.resolve()) for folder in forbidden)
        if path not in seen and not inside and "slicer" not in path.name.lower():
            seen.add(path)
            if python_problem(Path(found), environment) == "":
                yield Path(found)


def python_problem(python: Path, environment: Mapping[str, str]) -> str:
    """Why a Python cannot make the environment; "" when it can."""
    code = "import ensurepip, sys, venv; print(*sys.version_info[:2])"
    try:
        done = subprocess.run(
            [str(python), "-c", code], capture_output=True, text=True, timeout=_CHECK_S, check=False,
            env=clean_environment(environment), stdin=subprocess.DEVNULL,
        )  # fmt: skip
        major, minor = (int(word) for word in done.stdout.split())
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return f"{python.name} cannot make virtual environments. Install Python 3.12 with venv."
    if (major, minor) < OLDEST_PYTHON:
        return f"{python.name} is Python {major}.{minor}: expected 3.11 or newer. Install Python 3.12."
    return ""


def source_problem(source: Path) -> str:
    """Why something cannot be installed as the engine; "" when it can: its source folder or its wheel."""
    if source.is_file() and source.suffix == ".whl" and source.name.startswith("splatomy-"):
        return ""
    project = source / "pyproject.toml"
    if project.is_file() and 'name = "splatomy"' in project.read_text(encoding="utf-8"):
        return ""
    return "Expected Splatomy's source folder, or its wheel splatomy-VERSION.whl. Choose one of them."


def checkout_beside(here: Path) -> Path | None:
    """The source folder that this extension lies in, when it was not installed as a package."""
    return next((parent for parent in here.resolve().parents if source_problem(parent) == ""), None)


def install_steps(python: Path, target: Path, source: Path, gpu: bool) -> list[tuple[str, list[str]]]:
    """(what it does, command) of each step that makes the environment, in order."""
    inside = str(program(target, "python"))
    pip = [inside, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    constraints = source / "constraints.txt"
    pinned = ["-c", str(constraints)] if constraints.is_file() else []
    wanted = f"{source}[gpu]" if gpu else str(source)
    return [
        ("Making an environment", [str(python), "-m", "venv", str(target)]),
        ("Installing torch, the largest part", [*pip, *pinned, "torch"]),
        ("Installing the engine", [*pip, *pinned, wanted]),
        ("Checking the engine", [str(program(target, "splatomy")), *VERSION_WORDS]),
    ]


def install_question(python: Path, target: Path, source: Path) -> str:
    """What a person agrees to."""
    return (
        f"Splatomy's engine will be installed from {source} into a folder of its own:\n\n{target}\n\n"
        f"with {python}. It downloads about 1 to 4 GB (torch and scientific libraries, under their own open "
        "licences) from the Python Package Index and takes some minutes. Slicer's own Python is not changed; "
        "removing the folder removes everything.\n\nNo model weights are downloaded. Go on?"
    )


def remove_unfinished(target: Path) -> None:
    """Removes an environment whose installation failed; only what ``venv`` marked as one."""
    if (target / "pyvenv.cfg").is_file() and not program(target, "splatomy").is_file():
        shutil.rmtree(target, ignore_errors=True)


def start_environment() -> dict[str, str]:
    """The variables that Slicer was started with, or this process's own outside Slicer."""
    import slicer

    given = getattr(slicer.util, "startupEnvironment", None)
    return dict(given()) if given is not None and hasattr(slicer, "app") else dict(os.environ)
