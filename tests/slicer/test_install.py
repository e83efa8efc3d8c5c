"""The engine's environment: found, checked, made and, when it fails, removed; never Slicer's own Python."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from SplatomyLib import install
from SplatomyLib.logic import EngineLogic, Run
from SplatomyLib.process import PlainPipe
from SplatomyLib.protocol import State

FAKE = Path(__file__).with_name("fake_engine.py")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def logic(scene: Any) -> EngineLogic:
    return EngineLogic(scene, PlainPipe, dict(os.environ))


def over(logic: EngineLogic, patience_s: float = 120.0) -> list[Run]:
    end = time.monotonic() + patience_s
    while logic.active():
        assert time.monotonic() < end
        logic.poll()
        time.sleep(0.02)
    return logic.runs


def script(folder: Path, name: str, body: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_the_real_engine_is_found_and_tells_its_version(logic: EngineLogic, tmp_path: Path) -> None:
    chosen = str(Path(sys.executable).parent.parent)
    candidates = install.engine_candidates(chosen, tmp_path, {"PATH": ""})
    assert candidates == [(str(Path(sys.executable).with_name("splatomy")),)]
    told: list[str] = []
    logic.check(candidates[0], told.append)
    over(logic)
    from splatomy import __version__

    assert logic.engine is not None
    assert logic.engine.version == __version__
    assert told[0].startswith(f"Engine {__version__}, torch 2")


@pytest.mark.parametrize(
    "mode, words", [("newer", "contract 2"), ("crash", "killed"), ("unfinished", "no Splatomy")]
)
def test_what_is_no_engine_is_told(logic: EngineLogic, mode: str, words: str) -> None:
    told: list[str] = []
    logic.check([sys.executable, str(FAKE), mode], told.append)
    over(logic)
    assert logic.engine is None
    assert words in told[0]


def test_places_are_tried_in_order(tmp_path: Path) -> None:
    data = tmp_path / "data"
    own = install.program(install.engine_folder(data), "splatomy")
    script(own.parent, own.name, "true")
    on_path = script(tmp_path / "bin", "splatomy", "true")
    found = install.engine_candidates("/chosen/python3.12", data, {"PATH": str(on_path.parent)})
    assert found == [("/chosen/python3.12", "-m", "splatomy"), (str(own),), (str(on_path),)]


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins for Pythons are shell scripts")
def test_slicers_own_python_is_never_used(tmp_path: Path) -> None:
    slicer_home = tmp_path / "Slicer"
    script(slicer_home / "bin", "python3.12", f'exec "{sys.executable}" "$@"')
    script(tmp_path / "old", "python3", "echo 3 9")
    script(tmp_path / "broken", "python3.11", "exit 1")
    good = script(tmp_path / "good", "python", f'exec "{sys.executable}" "$@"')
    path = os.pathsep.join(
        str(p) for p in (slicer_home / "bin", tmp_path / "broken", tmp_path / "old", good.parent)
    )
    assert list(install.pythons({"PATH": path}, [slicer_home])) == [good]
    assert "expected 3.11" in install.python_problem(tmp_path / "old" / "python3", {})


def test_only_splatomy_itself_is_installed(tmp_path: Path) -> None:
    assert install.source_problem(ROOT) == ""
    assert install.checkout_beside(Path(install.__file__)) == ROOT
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "pyproject.toml").write_text('[project]\nname = "other"\n')
    assert "Splatomy's source folder" in install.source_problem(tmp_path / "other")
    steps = install.install_steps(Path("/usr/bin/python3"), tmp_path / "target", ROOT, gpu=False)
    commands = [command for _, command in steps]
    assert commands[0][:3] == ["/usr/bin/python3", "-m", "venv"]
    # Everything after the first step runs inside the new environment; a name from an index is only torch.
    assert all(command[0].startswith(str(tmp_path / "target")) for command in commands[1:])
    assert commands[1][-1] == "torch"
    assert commands[2][-1] == str(ROOT)
    question = install.install_question(Path("/usr/bin/python3"), tmp_path / "target", ROOT)
    assert "Slicer's own Python is not changed" in question
    assert "Go on?" in question


def test_an_environment_is_made_step_by_step(logic: EngineLogic, tmp_path: Path) -> None:
    target = tmp_path / "engine"
    made = [sys.executable, "-m", "venv", "--without-pip", str(target)]
    check = [sys.executable, str(FAKE), "version"]
    told: list[str] = []
    logic.install([("Making", made), ("Checking", [*check, *install.VERSION_WORDS])], target, told.append)
    over(logic)
    assert told[:2] == ["Making ...", "Checking ..."]
    assert told[2].startswith("Engine 9.9")
    assert logic.engine is not None
    assert list(logic.engine.command) == check
    assert install.program(target, "python").exists()


def test_a_failed_installation_leaves_nothing(logic: EngineLogic, tmp_path: Path) -> None:
    target = tmp_path / "engine"
    made = [sys.executable, "-m", "venv", "--without-pip", str(target)]
    told: list[str] = []
    logic.install(
        [("Making", made), ("Installing", [sys.executable, str(FAKE), "refuse"])], target, told.append
    )
    runs = over(logic)
    assert runs[-1].job.state is State.FAILED
    assert "Installing did not work" in told[-1]
    assert not target.exists()
    # Somebody else's folder is never removed.
    (tmp_path / "mine").mkdir()
    install.remove_unfinished(tmp_path / "mine")
    assert (tmp_path / "mine").exists()


def test_without_an_engine_nothing_starts(logic: EngineLogic, tmp_path: Path) -> None:
    from SplatomyLib.files import UnusableFile

    with pytest.raises(UnusableFile, match="no engine yet"):
        logic.command("masks", ["masks"], lambda _run: None)
