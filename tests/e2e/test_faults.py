"""Hostile input through the real command line: exit code 2, one sentence, nothing lost, nothing shown."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from splatomy.cli.main import main
from splatomy.io.dicom_write import XaRun, write_xa

QUICK = ["--set", "steps=20", "--set", "num_start=300"]
Spoil = Callable[[Path], Any]


def stack(case: Path, change: Callable[[np.ndarray], np.ndarray], *names: str) -> None:
    """Changes the pixels of runs of a case."""
    for name in names or ("fill_run.nii.gz", "mask_run.nii.gz"):
        image = sitk.ReadImage(str(case / name))
        out = sitk.GetImageFromArray(change(sitk.GetArrayFromImage(image).astype(np.float32)))
        out.SetSpacing(image.GetSpacing())
        sitk.WriteImage(out, str(case / name))


def transforms(case: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes the values of transforms.json."""
    value = json.loads((case / "transforms.json").read_text())
    change(value)
    (case / "transforms.json").write_text(json.dumps(value))


def spoilt(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(pixels: np.ndarray) -> np.ndarray:
        pixels[3, 5:9, 5:9] = value
        return pixels

    return change


def halve(name: str) -> Spoil:
    def change(case: Path) -> None:
        data = (case / name).read_bytes()
        (case / name).write_bytes(data[: len(data) // 2])

    return change


def truncated_nrrd(case: Path) -> None:
    sitk.WriteImage(sitk.ReadImage(str(case / "fill_run.nii.gz")), str(case / "fill_run.nrrd"))
    (case / "fill_run.nii.gz").unlink()
    halve("fill_run.nrrd")(case)


def swapped(case: Path) -> None:
    stack(case, lambda p: p[:, :, :48].transpose(0, 2, 1).copy())
    transforms(case, lambda v: v.update(proj_resolution=[48, 64]))


def first_frames(case: Path, frames: list[int], angles: list[int]) -> None:
    def change(value: dict[str, Any]) -> None:
        value["frames"] = [value["frames"][i] for i in angles]
        value["times_s"] = value["times_s"][: len(angles)]
        value["N_views"] = len(angles)

    stack(case, lambda p: p[frames])
    transforms(case, change)


def degrees(value: dict[str, Any]) -> None:
    for frame in value["frames"]:
        frame["PrimaryAngle"] = float(np.degrees(frame["PrimaryAngle"]))


def metres_per_pixel(value: dict[str, Any]) -> None:
    value["proj_spacing"] = [s / 1000 for s in value["proj_spacing"]]


def claims(case: Path) -> Path:
    """A NIfTI header of 27 million million voxels with nothing behind it."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.float32)
    header["dim"] = [3, 30000, 30000, 30000, 1, 1, 1, 1]
    header["magic"], header["vox_offset"] = b"n+1", 352
    (case.parent / "huge.nii").write_bytes(header.binaryblock + bytes(1000))
    return case.parent / "huge.nii"


def nrrd_claims(case: Path) -> Path:
    lines = (
        "NRRD0004\ntype: float\ndimension: 3\nsizes: 100000 100000 100000\nencoding: raw\nendian: little\n\n"
    )
    (case.parent / "huge.nrrd").write_bytes(lines.encode() + bytes(1000))
    return case.parent / "huge.nrrd"


def written(text: str | bytes) -> Spoil:
    data = text if isinstance(text, bytes) else text.encode()
    return lambda case: (case / "transforms.json").write_bytes(data) and None


def emptied(case: Path) -> None:
    shutil.rmtree(case)
    case.mkdir()


def other(name: str, data: bytes) -> Spoil:
    def make(case: Path) -> Path:
        (case.parent / name).write_bytes(data)
        return case.parent / name

    return make


def changed(name: str, value: Any) -> Spoil:
    return lambda case: transforms(case, lambda v: v.update({name: value}))


def angle(value: Any) -> Spoil:
    return lambda case: transforms(case, lambda v: v["frames"][2].update(PrimaryAngle=value))


def far_away(value: dict[str, Any]) -> None:
    value["volume_affine"][0][3] = 1e6


# What is wrong, how it comes about, a word that the sentence must hold.
UNUSABLE: list[tuple[str, Spoil, str]] = [
    ("truncated NIfTI", halve("fill_run.nii.gz"), "fill_run"),
    ("truncated NRRD", truncated_nrrd, "fill_run.nrrd"),
    ("NaN pixels", lambda c: stack(c, spoilt(np.nan), "fill_run.nii.gz"), "NaN"),
    ("infinite pixels", lambda c: stack(c, spoilt(np.inf), "mask_run.nii.gz"), "infinite"),
    ("all zero", lambda c: stack(c, lambda p: 0 * p, "fill_run.nii.gz"), "every pixel"),
    ("all constant", lambda c: stack(c, lambda p: 0 * p + 7, "mask_run.nii.gz"), "every pixel"),
    ("negative", lambda c: stack(c, lambda p: -p, "fill_run.nii.gz"), "positive X-ray intensities"),
    ("swapped rows and columns", swapped, "swapped"),
    ("metres", lambda c: transforms(c, lambda v: v.update(sad=0.75, sid=1.2)), "metres"),
    ("centimetres", lambda c: transforms(c, lambda v: v.update(sad=75.0, sid=120.0)), "millimetres"),
    ("pixel size in metres", lambda c: transforms(c, metres_per_pixel), "millimetres"),
    ("micrometres", lambda c: transforms(c, lambda v: v.update(sad=750e3, sid=1200e3)), "micrometres"),
    ("distances swapped", lambda c: transforms(c, lambda v: v.update(sad=1200.0, sid=750.0)), "swapped"),
    ("degrees", lambda c: transforms(c, degrees), "degrees"),
    (
        "milliseconds",
        lambda c: transforms(c, lambda v: v.update(times_s=[1000 * t for t in v["times_s"]])),
        "milliseconds",
    ),
    ("other mask size", lambda c: stack(c, lambda p: p[:, :40], "mask_run.nii.gz"), "same number and size"),
    ("other mask count", lambda c: stack(c, lambda p: p[:9], "mask_run.nii.gz"), "same number and size"),
    ("binary geometry", written(bytes(range(256)) * 20), "JSON"),
    ("empty geometry", written(""), "JSON"),
    ("geometry without end", written("[" * 100_000), "JSON"),
    ("geometry of text", written('"text"'), "transforms.json"),
    ("geometry of numbers", written("[1, 2]"), "3x4"),
    ("distance as text", changed("sad", "750"), "sad"),
    ("no distance", lambda c: transforms(c, lambda v: v.pop("sad")), "sad"),
    ("distance NaN", changed("sad", float("nan")), "sad"),
    (
        "angle NaN",
        lambda c: transforms(c, lambda v: v["frames"][2].update(PrimaryAngle=float("nan"))),
        "Angle",
    ),
    ("angle as list", angle([1]), "Angle"),
    ("fewer angles", lambda c: transforms(c, lambda v: v["frames"].pop()), "N_views"),
    ("fewer times", lambda c: transforms(c, lambda v: v["times_s"].pop()), "times_s"),
    ("times as text", changed("times_s", "soon"), "times_s"),
    ("affine of a number", changed("volume_affine", 5), "volume_affine"),
    ("ragged affine", changed("volume_affine", [[1, 2], [3]]), "volume_affine"),
    (
        "volume far away",
        lambda c: transforms(c, lambda v: v["volume_affine"][0].__setitem__(3, 1e6)),
        "outside",
    ),
    ("volume too large", changed("volume_resolution", [100_000] * 3), "volume_resolution"),
    ("empty folder", emptied, "no readable run"),
    ("no such file", lambda c: c / "nothing.nii.gz", "nothing.nii.gz"),
    ("a text", other("notes.txt", b"hello"), "notes.txt"),
    ("a file of no bytes", other("empty.nii.gz", b""), "empty.nii.gz"),
    ("no NIfTI", other("noise.nii.gz", bytes(range(256)) * 16), "noise.nii.gz"),
    ("a header that claims terabytes", claims, "GiB"),
    ("an NRRD header that claims terabytes", nrrd_claims, "GiB"),
]


def one_sentence(error: str) -> str:
    """The message of the last lines; rich's bars and notes stand before it."""
    assert "Traceback" not in error and "defect" not in error, error
    assert error.count("splatomy: ") == 1, error
    return error[error.index("splatomy: ") :]


@pytest.mark.parametrize(("spoil", "word"), [u[1:] for u in UNUSABLE], ids=[u[0] for u in UNUSABLE])
def test_unusable_input_gets_one_sentence(
    spoil: Spoil, word: str, case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = spoil(case)
    source = source if isinstance(source, Path) else case
    assert main(["inspect", str(source)]) == 2
    shown = capsys.readouterr()
    one_sentence(shown.err)
    assert word in re.sub(r"\s+", " ", shown.out + shown.err)
    out = tmp_path / "run"
    assert main(["reconstruct", str(source), "--out", str(out), *QUICK]) == 2
    assert word in one_sentence(capsys.readouterr().err)
    assert not out.exists(), "a wrong input leaves no trace"


@pytest.mark.parametrize(
    ("spoil", "lacking", "word"),
    [
        (lambda c: first_frames(c, [0], [0]), "a second frame", "at least 2 frames"),
        (lambda c: first_frames(c, [0, 1], [0, 0]), None, ""),
        (lambda c: (c / "transforms.json").unlink(), "--geometry", "--geometry"),
        (
            lambda c: shutil.copy(c / "mask_run.nii.gz", c / "fill_run.nii.gz"),
            None,
            "brighter than the noise",
        ),
    ],
    ids=["one frame", "one direction", "no geometry", "no contrast"],
)
def test_readable_input_that_cannot_be_reconstructed(
    spoil: Spoil,
    lacking: str | None,
    word: str,
    case: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(case)
    assert main(["inspect", str(case)]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("lacking for")]
    assert len(told) == (lacking is not None) and (lacking or "") in "".join(told)
    assert main(["reconstruct", str(case), "--out", str(tmp_path / "run"), *QUICK]) == 2
    assert word in one_sentence(capsys.readouterr().err)


def test_a_dropped_frame_is_told_and_ignored(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def drop(pixels: np.ndarray) -> np.ndarray:
        pixels[5] = 1000
        return pixels

    stack(case, drop, "fill_run.nii.gz")
    assert main(["inspect", str(case)]) == 0
    assert "one value everywhere" in capsys.readouterr().out


@pytest.fixture
def spin() -> XaRun:
    """A short rotational run of noise, of a patient with a telling name."""
    rng = np.random.default_rng(5)
    frames = rng.integers(500, 4000, (6, 12, 16)).astype(np.uint16)
    return XaRun(
        frames,
        primary_deg=np.linspace(-100, 100, 6),
        secondary_deg=np.zeros(6),
        sad_mm=750.0,
        sid_mm=1200.0,
        pixel_mm=(2.0, 2.0),
        times_s=np.arange(6) / 4,
        patient_name="Telling^Name",
    )


def test_dicom_faults(spin: XaRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = tmp_path / "run.dcm"
    write_xa(whole, spin)
    data = whole.read_bytes()
    cut = tmp_path / "cut.dcm"
    for length in (140, 400, len(data) - 500):
        cut.write_bytes(data[:length])
        assert main(["inspect", str(cut)]) == 2
        one_sentence(capsys.readouterr().err)
    unknown = tmp_path / "unknown.dcm"
    unknown.write_bytes(data.replace(b"1.2.840.10008.1.2.1\x00", b"1.2.840.10008.1.2.9\x00", 1))
    assert main(["inspect", str(unknown)]) == 2
    one_sentence(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("change", "word"),
    [({"sad_mm": None, "sid_mm": None}, "lacks"), ({"primary_deg": np.full(6, 10.0)}, "share one")],
    ids=["no distances", "constant angles"],
)
def test_dicom_geometry(
    change: dict[str, Any], word: str, spin: XaRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_xa(tmp_path / "run.dcm", XaRun(**{**vars(spin), **change}))
    main(["inspect", str(tmp_path / "run.dcm")])
    assert word in capsys.readouterr().out
    assert main(["reconstruct", str(tmp_path / "run.dcm"), "--out", str(tmp_path / "run"), *QUICK]) == 2
    one_sentence(capsys.readouterr().err)


def test_patient_names_stay_inside(
    spin: XaRun, case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dicom = tmp_path / "TELLING_NAME"
    dicom.mkdir()
    write_xa(dicom / "a.dcm", spin, PatientID="Telling-4711", PatientBirthDate="19010203")
    main(["inspect", str(dicom)])
    main(["inspect", str(dicom), "--json"])
    main(["reconstruct", str(dicom), "--out", str(tmp_path / "dicom_run"), *QUICK])
    shown = capsys.readouterr()
    named = case.rename(tmp_path / "TELLING_NAME ü")
    out = tmp_path / "run"
    assert main(["reconstruct", str(named), "--out", str(out), "--events", "jsonl", *QUICK]) == 0
    later = capsys.readouterr()
    texts = {"terminal": shown.out + shown.err + later.out + later.err}
    for path in out.rglob("*"):
        assert "telling" not in path.name.lower()
        if path.suffix in (".json", ".jsonl", ".html"):
            # Pictures are coded as random letters and digits, among them any short number.
            texts[path.name] = re.sub(r"base64,[^\"]*", "", path.read_text())
    record = json.loads(texts["run.json"])
    # The contract wants the input's path in the record; nothing else may hold it.
    assert "TELLING_NAME" in record.pop("input_path")
    texts["run.json"] = json.dumps(record)
    for name, text in texts.items():
        assert "telling" not in text.lower() and "4711" not in text and "19010203" not in text, name


def folder_state(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_folder_that_must_not_be_touched(
    case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["reconstruct", str(case), *QUICK, "--out"]
    empty, photos, text = tmp_path / "empty", tmp_path / "photos", tmp_path / "text"
    empty.mkdir()
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"mine")
    text.write_text("mine")
    for folder, extra in (
        (empty, "--resume"),
        (tmp_path / "none", "--resume"),
        (photos, "--force"),
        (text, "--force"),
    ):
        assert main([*words, str(folder), extra]) == 2
        one_sentence(capsys.readouterr().err)
    assert folder_state(photos) == {"a.jpg": b"mine"} and text.read_text() == "mine"
    finished = tmp_path / "finished"
    finished.mkdir()
    (finished / "run.json").write_text(json.dumps({"contract": 1, "state": "done"}))
    (finished / "report.html").write_text("mine")
    before = folder_state(finished)
    assert main([*words, str(finished)]) == 2
    assert "--force" in one_sentence(capsys.readouterr().err) and folder_state(finished) == before


HOLD = """
import sys, time
from pathlib import Path
from splatomy.io.run import RunFolder
with RunFolder(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_live_process_keeps_others_out_and_a_dead_one_does_not(
    case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "run.json").write_text(json.dumps({"contract": 1, "state": "running"}))
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(out)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    words = [
        "reconstruct",
        str(case),
        "--out",
        str(out),
        "--force",
        "--method",
        "fdk",
        "--set",
        "bin_volume=4",
    ]
    before = folder_state(out)
    try:
        assert main(words) == 2
        assert str(holder.pid) in one_sentence(capsys.readouterr().err)
        assert folder_state(out) == before
    finally:
        holder.kill()
        holder.wait()
    assert (out / "lock").exists()
    assert main(words) == 0 and not (out / "lock").exists()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read and write everything")
def test_rights(case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    assert main(["reconstruct", str(case), "--out", str(closed / "run"), *QUICK]) == 2
    one_sentence(capsys.readouterr().err)
    (case / "fill_run.nii.gz").chmod(0)
    assert main(["reconstruct", str(case), "--out", str(tmp_path / "run"), *QUICK]) == 2
    one_sentence(capsys.readouterr().err)


FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
from splatomy.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.name != "posix", reason="the limit on file sizes is POSIX")
def test_no_room_on_the_disk_keeps_what_was_there(case: Path, tmp_path: Path) -> None:
    """A limit on file sizes stands for the full disk: every writer meets it in the middle of a file."""
    out = tmp_path / "run"
    words = ["reconstruct", str(case), "--out", str(out), "--views", "12", "--set", "num_start=300"]
    assert main([*words, "--set", "steps=20"]) == 0
    before = folder_state(out / "checkpoint")
    child = subprocess.run(
        [sys.executable, "-c", FULL, *words, "--set", "steps=40", "--resume"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert child.returncode == 2, child.stderr
    assert "too large" in one_sentence(child.stderr)
    assert folder_state(out / "checkpoint") == before
    assert json.loads((out / "run.json").read_text())["state"] == "failed"
    assert not list(out.rglob(".*")), "no half-written file is left"
    assert main([*words, "--set", "steps=40", "--resume"]) == 0
    assert json.loads((out / "run.json").read_text())["state"] == "done"
