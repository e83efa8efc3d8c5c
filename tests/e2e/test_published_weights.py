"""`reconstruct --weights DIR` on a tiny clip, with random weights in the published layout."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from splatomy.cli.main import main

sys.path.append(str(Path(__file__).parents[1] / "unit" / "prepare" / "inpaint_diffusion"))
from tiny_weights import write_tiny_weights

pytestmark = pytest.mark.verify


def test_a_clip_is_reconstructed_with_weights_that_are_judged_named_and_licensed(tmp_path: Path) -> None:
    clip, weights, run = tmp_path / "clip", tmp_path / "weights", tmp_path / "run"
    write_tiny_weights(weights)
    assert main(["phantom", "tissue", "--preset", "tiny", "--seed", "3", "--out", str(clip)]) == 0
    words = ["reconstruct", clip, "--out", run, "--preset", "draft", "--set", "steps=20"]
    words += ["--weights", weights]
    assert main([str(word) for word in words]) == 0
    record = json.loads((run / "run.json").read_text())
    inpainting = record["inpainting"]
    # Random weights make noise: the held-out holes must show it.
    assert inpainting["by"] == "propagation"
    assert inpainting["transplants_diffusion_db"] < inpainting["transplants_db"]
    assert {entry["name"] for entry in inpainting["weights"]} >= {"Stable Diffusion 1.5", "sd-vae-ft-mse"}
    assert all(len(entry["sha256"]) == 64 and entry["licence"] for entry in inpainting["weights"])
    assert "published diffusion weights" in (run / "report.html").read_text()
    hidden = cv2.imread(str(run / "prepared/occluded/000003.png"), cv2.IMREAD_UNCHANGED) > 127
    filled = cv2.imread(str(run / "prepared/inpainted/000003.png"))
    seen = cv2.imread(str(sorted((clip / "images").iterdir())[3]))
    assert np.array_equal(filled[~hidden], seen[~hidden])


def test_an_incomplete_folder_is_refused_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, weights = tmp_path / "clip", tmp_path / "weights"
    write_tiny_weights(weights)
    (weights / "sd-vae-ft-mse/config.json").unlink()
    assert main(["phantom", "tissue", "--preset", "tiny", "--out", str(clip)]) == 0
    words = ["reconstruct", clip, "--out", tmp_path / "run", "--weights", weights]
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    error = capsys.readouterr().err
    assert "sd-vae-ft-mse/config.json" in error.splitlines()[-1]
    assert not (tmp_path / "run").exists()


class Touch:
    """An object whose unpickling makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["cut", "shapes", "code"])
def test_a_corrupt_folder_is_refused_in_one_sentence_and_runs_nothing(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, weights, trap = tmp_path / "clip", tmp_path / "weights", tmp_path / "trap"
    write_tiny_weights(weights)
    path = weights / "sd-vae-ft-mse/diffusion_pytorch_model.safetensors"
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-64])
    elif how == "shapes":
        save_file({name: torch.zeros(*t.shape, 2) for name, t in load_file(path).items()}, path)
    else:
        path.unlink()
        torch.save({"conv_in.weight": Touch(trap)}, path.with_suffix(".bin"))
    assert main(["phantom", "tissue", "--preset", "tiny", "--out", str(clip)]) == 0
    words = ["reconstruct", clip, "--out", tmp_path / "run", "--preset", "draft", "--weights", weights]
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    said = capsys.readouterr().err
    sentence = said[said.index("splatomy: ") :]
    assert "Traceback" not in said and path.stem in sentence
    assert str(tmp_path) not in sentence and len(sentence.strip().splitlines()) == 1
    if how != "shapes":
        # Told by the files' heads, before any work.
        assert not (tmp_path / "run").exists()
    if how == "code":
        assert main(["weights", "convert", str(weights), "--out", str(tmp_path / "converted")]) == 2
        assert "Traceback" not in capsys.readouterr().err
    assert not trap.exists()
