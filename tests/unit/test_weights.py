"""The published weight layout, on tiny random checkpoints in its true shape."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from splatomy.cli.main import main
from splatomy.errors import InputError
from splatomy.weights import (
    DIFF2DGS,
    ConvertLimits,
    WeightsCheck,
    check,
    convert,
    licence_of,
    open_weights,
)

_GENERATOR = torch.Generator().manual_seed(7)


def _tensors() -> dict[str, torch.Tensor]:
    return {
        "conv_in.weight": torch.randn(8, 4, 3, 3, generator=_GENERATOR).half(),
        "conv_in.bias": torch.randn(8, generator=_GENERATOR),
    }


def _write(root: Path, pickled: tuple[str, ...] = ()) -> None:
    """Every part of the layout under its first name, or as .bin for parts whose purpose is in ``pickled``."""
    for part in DIFF2DGS:
        folder = root / part.folder
        folder.mkdir(parents=True, exist_ok=True)
        names = [name for name in part.names if name.endswith(".bin")]
        path = folder / (names[0] if part.purpose in pickled else part.names[0])
        if path.suffix == ".safetensors":
            save_file(_tensors(), path)
        elif path.suffix in (".bin", ".pth"):
            torch.save(_tensors(), path)
        elif path.suffix == ".json":
            path.write_text(json.dumps({"_class_name": part.purpose}))
        else:
            path.write_text("#version: 0.2\n")


def _finish(folder: Path, out: Path, limits: ConvertLimits | None = None) -> WeightsCheck:
    task = convert(folder, out, limits)
    while True:
        try:
            next(task)
        except StopIteration as stop:
            found: WeightsCheck = stop.value
            return found


def _state(found: WeightsCheck, path: str) -> str:
    return next(file.state for file in found.files if file.path == path)


def test_a_complete_folder_is_complete_and_its_headers_are_read(tmp_path: Path) -> None:
    _write(tmp_path)
    found = check(tmp_path)
    assert found.complete
    brushnet = next(f for f in found.files if f.path.startswith("diffinpaint/brushnet/diffusion"))
    assert brushnet.facts is not None
    assert brushnet.facts.dtypes == ("F16", "F32")
    assert brushnet.facts.num_tensors == 2
    assert brushnet.facts.num_parameters == 8 * 4 * 9 + 8


def test_optional_and_unused_files_may_be_missing(tmp_path: Path) -> None:
    _write(tmp_path)
    for part in DIFF2DGS:
        if part.need != "required":
            (tmp_path / part.folder / part.names[0]).unlink()
    assert check(tmp_path).complete


def test_files_of_propainter_are_found_and_not_used(tmp_path: Path) -> None:
    _write(tmp_path)
    unused = [f for f in check(tmp_path).files if f.need == "unused" and f.path.startswith("propainter")]
    assert [f.state for f in unused] == ["pickled"] * 3
    assert all(f.usable for f in unused)


@pytest.mark.parametrize("part", [p for p in DIFF2DGS if p.need == "required"], ids=lambda p: p.purpose)
def test_every_required_file_is_missed_by_name(tmp_path: Path, part: object) -> None:
    _write(tmp_path)
    path = f"{part.folder}/{part.names[0]}"  # type: ignore[attr-defined]
    (tmp_path / path).unlink()
    found = check(tmp_path)
    assert not found.complete
    assert _state(found, path) == "missing"
    assert path in found.sentence


@pytest.mark.parametrize("how", ["cut", "empty", "header", "noise", "offsets"])
def test_a_damaged_safetensors_file_is_named(tmp_path: Path, how: str) -> None:
    _write(tmp_path)
    name = "sd-vae-ft-mse/diffusion_pytorch_model.safetensors"
    data = (tmp_path / name).read_bytes()
    wrong = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}).encode()
    damaged = {
        "cut": data[:-20],
        "empty": b"",
        "header": struct.pack("<Q", 1 << 60) + data[8:],
        "noise": os.urandom(4096),
        "offsets": struct.pack("<Q", len(wrong)) + wrong + bytes(4),
    }[how]
    (tmp_path / name).write_bytes(damaged)
    found = check(tmp_path)
    assert _state(found, name) == "damaged"
    problem = next(f.problem for f in found.files if f.path == name)
    assert problem is not None and "diffusion_pytorch_model.safetensors is damaged" in problem
    assert str(tmp_path) not in problem


def test_a_cut_pickle_and_broken_json_are_damaged(tmp_path: Path) -> None:
    _write(tmp_path, pickled=("text encoder",))
    encoder = tmp_path / "stable-diffusion-v1-5/text_encoder/pytorch_model.bin"
    encoder.write_bytes(encoder.read_bytes()[:-100])
    (tmp_path / "sd-vae-ft-mse/config.json").write_text('{"a": ')
    found = check(tmp_path)
    assert _state(found, "stable-diffusion-v1-5/text_encoder/pytorch_model.bin") == "damaged"
    assert _state(found, "sd-vae-ft-mse/config.json") == "damaged"


def test_a_folder_of_something_else_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(InputError, match="no known weights"):
        check(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        check(tmp_path / "nothing")


def test_conversion_keeps_every_tensor_and_completes_the_folder(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    _write(source, pickled=("BrushNet with cross attention",))
    name = "diffinpaint/brushnet/diffusion_pytorch_model"
    assert not check(source).complete
    assert "weights convert" in check(source).sentence
    wanted = torch.load(source / f"{name}.bin", weights_only=True)
    torch.save({"state_dict": wanted}, source / f"{name}.bin")
    assert _finish(source, out).complete
    made = load_file(out / f"{name}.safetensors")
    assert made.keys() == wanted.keys()
    assert all(torch.equal(made[k], wanted[k]) and made[k].dtype == wanted[k].dtype for k in wanted)
    assert not [path for path in out.rglob(".*") if path.is_file()]


class _Hostile:
    """A pickle that would run a program."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self._mark}",)


def test_code_in_a_pickle_is_never_run(tmp_path: Path) -> None:
    source, mark = tmp_path / "source", tmp_path / "ran"
    _write(source, pickled=("image autoencoder",))
    file = source / "sd-vae-ft-mse/diffusion_pytorch_model.bin"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(_Hostile(mark), protocol=2))
        archive.writestr("archive/version", "3\n")
    with pytest.raises(InputError, match=r"diffusion_pytorch_model\.bin cannot be converted"):
        _finish(source, tmp_path / "out")
    assert not mark.exists()
    assert not list((tmp_path / "out").rglob("sd-vae-ft-mse/*.safetensors"))


def test_a_file_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    _write(tmp_path, pickled=("image autoencoder",))
    with pytest.raises(InputError, match="was not converted within"):
        _finish(tmp_path, tmp_path / "out", ConvertLimits(time_s=0.0))


def test_the_command_lists_and_answers_with_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(tmp_path)
    assert main(["weights", "check", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "found, not used" in text and "complete" in text
    (tmp_path / "sd-vae-ft-mse/config.json").unlink()
    assert main(["weights", "check", str(tmp_path), "--json"]) == 2
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert answer["complete"] is False
    assert len(answer["files"]) == len(DIFF2DGS)
    assert "sd-vae-ft-mse/config.json" in said.err
    assert main(["weights", "convert", str(tmp_path)]) == 2


def test_every_file_of_the_layout_has_a_licence_that_the_list_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in DIFF2DGS:
        assert all(licence_of(f"{part.folder}/{name}").terms for name in part.names)
    assert licence_of("propainter/ProPainter.pth").restricted
    with pytest.raises(ValueError, match="no licence"):
        licence_of("elsewhere/model.safetensors")
    _write(tmp_path)
    assert main(["weights", "check", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "OpenRAIL-M" in text and "NTU S-Lab" in text
    assert all(file.json()["licence"] for file in check(tmp_path).files)


def test_a_folder_is_opened_only_when_it_is_complete_and_read_by_purpose(tmp_path: Path) -> None:
    _write(tmp_path, pickled=("motion UNet",))
    with pytest.raises(InputError, match="weights convert"):
        open_weights(tmp_path)
    for _ in convert(tmp_path, tmp_path):
        pass
    folder = open_weights(tmp_path)
    assert folder.settings("settings of the motion UNet") == {"_class_name": "settings of the motion UNet"}
    assert set(folder.tensors("image autoencoder")) == {"conv_in.weight", "conv_in.bias"}
    assert folder.has("motion adapter")
    with pytest.raises(ValueError, match="the layout has no"):
        folder.file("nothing")
    reading = folder.record()
    while True:
        try:
            next(reading)
        except StopIteration as stop:
            record = stop.value
            break
    used = {entry["file"] for entry in record}
    assert "sd-vae-ft-mse/config.json" in used and not any("propainter" in name for name in used)


def test_a_file_damaged_after_the_check_is_refused(tmp_path: Path) -> None:
    _write(tmp_path)
    folder = open_weights(tmp_path)
    path = tmp_path / "sd-vae-ft-mse/diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"diffusion_pytorch_model\.safetensors cannot be read"):
        folder.tensors("image autoencoder")
