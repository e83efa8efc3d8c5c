"""Tiny inputs and runs by the command line, once a session, and a MRML scene for each test."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from splatomy.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
EXTENSION = ROOT / "slicer_extension"
# As Slicer does with the folder of each module.
for module in sorted(EXTENSION.glob("Splatomy*/")):
    sys.path.insert(0, str(module))
sys.path.insert(0, str(Path(__file__).parent))

# The package `slicer` imports all of every folder of that name on the path, and this folder is one.
_path = sys.path.copy()
sys.path[:] = [entry for entry in sys.path if entry != str(ROOT / "tests")]
try:
    importlib.import_module("slicer")
    from mrml_scene import SlicerScene
except ImportError:
    collect_ignore_glob = ["test_*.py"]
    warnings.warn(
        "NOT TESTED: the Slicer extension needs the wheel slicer-core (Python 3.11 or 3.12)", stacklevel=1
    )
finally:
    sys.path[:] = _path


def splatomy(*words: str | Path) -> None:
    """A command that must succeed."""
    assert main([str(word) for word in words]) == 0


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 8 frames with masks and depth."""
    folder = tmp_path_factory.mktemp("slicer") / "clip"
    splatomy("phantom", "tissue", "--preset", "tiny", "--seed", "3", "--out", folder)
    return folder


@pytest.fixture(scope="session")
def clip_frames(clip: Path) -> Path:
    folder = clip.parent / "clip_frames"
    splatomy("frames", clip, "--out", folder)
    return folder


@pytest.fixture(scope="session")
def clip_run(clip: Path) -> Path:
    folder = clip.parent / "clip_run"
    splatomy("reconstruct", clip, "--out", folder, "--preset", "draft", "--set", "steps=40")
    return folder


@pytest.fixture(scope="session")
def clip_case(clip: Path) -> Path:
    """The clip's masks as a case."""
    folder = clip.parent / "clip.splatomy"
    splatomy("masks", clip, "--out", folder)
    return folder


@pytest.fixture(scope="session")
def dsa(tiny_case: Path) -> Path:
    """A DSA run of 24 frames."""
    return tiny_case


@pytest.fixture(scope="session")
def dsa_frames(dsa: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slicer") / "dsa_frames"
    splatomy("frames", dsa, "--out", folder)
    return folder


@pytest.fixture(scope="session")
def dsa_run(dsa: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slicer") / "dsa_run"
    words = ("--preset", "draft", "--views", "12", "--set", "steps=60", "--set", "num_start=400")
    splatomy("reconstruct", dsa, "--out", folder, *words)
    return folder


@pytest.fixture
def slicer_scene(tmp_path: Path) -> Iterator[SlicerScene]:
    """A scene with Slicer's logics."""
    made = SlicerScene(tmp_path / "slicer")
    yield made
    made.close()


@pytest.fixture
def scene(slicer_scene: SlicerScene) -> object:
    """The scene alone."""
    return slicer_scene.scene


@pytest.fixture
def app(slicer_scene: SlicerScene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[object]:
    """The application Slicer as far as panels need it, see application.py."""
    from application import application

    with application(monkeypatch, tmp_path) as made:
        yield made
