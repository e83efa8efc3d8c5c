"""What the command line says: help with examples, JSON with its contract, one sentence for wrong words."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from splatomy.cli.commands import COMMANDS
from splatomy.cli.main import main


def strict_json(text: str) -> dict[str, object]:
    """The JSON object, refusing NaN and Infinity, which other programs cannot read."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    value: dict[str, object] = json.loads(text, parse_constant=refuse)
    return value


@pytest.mark.parametrize(
    "words", [["--version", "--json"], ["methods", "--json"], ["inspect", "CASE", "--json"]]
)
def test_json_carries_the_contract(
    words: list[str], tiny_case: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([w.replace("CASE", str(tiny_case)) for w in words]) == 0
    assert strict_json(capsys.readouterr().out)["contract"] == 1


def test_methods_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--json"]) == 0
    methods = json.loads(capsys.readouterr().out)["methods"]
    assert {"dynamic_vessels", "fdk", "classical_4d"} <= {m["name"] for m in methods}
    assert all(m["config"] is not None and m["requires"] and m["presets"] for m in methods)


def test_version_tells_devices_and_memory(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    shown = capsys.readouterr().out
    assert "threads" in shown and "memory" in shown and ("CUDA" in shown or "cuda:0" in shown)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_shows_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    assert f"  splatomy {name} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["nonsense"], "nonsense"),
        (["render"], "required"),
        (["render", "RUN", "--out", "x", "--nonsense"], "--nonsense"),
        (["render", "RUN", "--out", "x", "--cameras", "input", "--angles", "0,0"], "not allowed with"),
        (["export", "RUN", "--what", "bones", "--out", "x"], "bones"),
        (["reconstruct", "CASE", "--out", "x", "--views", "many"], "--views"),
        (["reconstruct", "CASE", "--out", "x", "--crop", "1,2,3"], "X,Y,W,H"),
        (["reconstruct", "CASE", "--out", "x", "--frames", "a:b"], "--frames"),
        (["reconstruct", "CASE", "--out", "x", "--res"], "--res"),
    ],
)
def test_wrong_words_are_one_sentence(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert part in error and error.count("\n") == 1 and "usage" not in error and "--help" in error


def test_vtk_is_imported_only_when_it_is_needed() -> None:
    """A surface or a .vtp file needs VTK; starting the command line does not."""
    code = "import sys, splatomy.cli.commands; sys.exit('vtkmodules' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("words", [["demo"], ["phantom", "vessels", "--force", "--preset", "tiny"]])
def test_force_never_empties_somebody_elses_folder(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    precious = tmp_path / "thesis.txt"
    precious.write_text("years of work")
    assert main([*words, "--out", str(tmp_path)]) == 2
    assert "thesis.txt" in capsys.readouterr().err and precious.read_text() == "years of work"
