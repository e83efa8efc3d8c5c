"""A marker in every tag of the public dictionary that can hold text: it must come out nowhere."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.datadict import DicomDictionary
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from splatomy.cli.main import main
from splatomy.errors import InputError
from splatomy.io.detect import inspect_input
from splatomy.io.dicom_write import XaRun, write_xa
from splatomy.io.dicom_xa import angio_cameras

MARKER = "Zqxmarker"
TEXT = ("LO", "SH", "PN", "LT", "ST", "UT", "UC", "UR", "CS", "AE", "AS", "DA", "TM", "DT", "UI")
BYTES = ("OB", "UN", "OW")
NEEDED = (
    # What the pixels and their geometry are; the reader compares these and shows none of them.
    "SpecificCharacterSet", "ImageType", "SOPClassUID", "PhotometricInterpretation", "PatientPosition",
    "PixelIntensityRelationship", "PositionerMotion", "PatientOrientation", "FieldOfViewHorizontalFlip",
    "PixelData", "RescaleType", "AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime",
    "SeriesInstanceUID",
)  # fmt: skip
SIZE, FRAMES = 24, 14


def ball() -> XaRun:
    """A rotational run about a small ball, as intensities."""
    primary, secondary = np.linspace(-100, 95, FRAMES), np.zeros(FRAMES)
    cameras = angio_cameras(primary, secondary, 750.0, 1200.0, SIZE, SIZE, (3.0, 3.0))
    centre = cameras.project(np.array([[2.0, 1.0, -2.0]]))[0][:, 0]
    rows, columns = np.mgrid[:SIZE, :SIZE]
    far = np.hypot(columns[None] - centre[:, 0, None, None], rows[None] - centre[:, 1, None, None])
    frames = (3000 * np.exp(-np.clip(3.0 - far, 0, None) / 3)).astype(np.uint16)
    mask_like = {"mask_frames": (0,), "times_s": np.arange(FRAMES) / 7, "patient_name": MARKER}
    return XaRun(frames, primary, secondary, 750.0, 1200.0, (3.0, 3.0), **mask_like)


def marked(path: Path, enhanced: bool = False) -> int:
    """Writes a run with the marker in every such tag, also of private groups and inside sequences."""
    write_xa(path, ball(), enhanced=enhanced)
    dataset = pydicom.dcmread(path)
    count = 0
    with pydicom.config.disable_value_validation():
        for number, (kind, _, _, _, keyword) in DicomDictionary.items():
            tag, first = Tag(number), kind.split(" ")[0]
            if tag.group in (0, 2) or keyword in NEEDED or first not in (*TEXT, *BYTES) or tag in dataset:
                continue
            if " or " in kind or tag.group == 0x7FE0 or (tag.group & 0xFF00) in (0x5000, 0x6000):
                continue
            value = MARKER.encode() + b"\0" if first in BYTES else MARKER
            dataset.add(DataElement(tag, "UN" if first in BYTES else first, value))
            count += 1
        dataset.PatientName = f"{MARKER}^{MARKER}"
        block = dataset.private_block(0x0029, MARKER, create=True)
        block.add_new(0x01, "LO", MARKER)
        item = Dataset()
        item.PatientName, item.PatientID, item.StudyDescription = MARKER, MARKER, MARKER
        for keyword in ("ReferencedPatientSequence", "RequestAttributesSequence", "OtherPatientIDsSequence"):
            setattr(dataset, keyword, Sequence([item]))
        dataset.file_meta.add_new(0x00020016, "AE", MARKER)
        dataset.file_meta.PrivateInformationCreatorUID = "1.2.3"
        dataset.preamble = MARKER.encode().ljust(128, b"\0")
        dataset.save_as(path)
    assert path.read_bytes().count(MARKER.encode()) > count
    return count


def contents(data: bytes, depth: int = 0) -> Iterator[bytes]:
    """The bytes of a file, and of what is packed in it."""
    yield data
    if depth > 2:
        return
    if data[:2] == b"\x1f\x8b":
        yield from contents(gzip.decompress(data), depth + 1)
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield from contents(archive.read(name), depth + 1)
    if data[:4] == b"NRRD" and b"gzip" in data[:400]:
        yield zlib.decompressobj(31).decompress(data[data.index(b"\n\n") + 2 :])


def assert_unmarked(data: bytes, where: str) -> None:
    for content in contents(data):
        low = content.lower()
        assert MARKER.lower().encode() not in low, where
        assert MARKER.lower().encode("utf-16-le") not in low, where


@pytest.mark.parametrize("enhanced", [False, True])
def test_every_tag_stays_inside_the_reader(
    enhanced: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, run = tmp_path / "run.dcm", tmp_path / "out"
    assert marked(source, enhanced) > 1500
    report = inspect_input(source)
    assert report.usable and report.patient_fields, report.problems
    assert main(["inspect", str(source)]) == 0
    assert main(["inspect", str(source), "--json"]) == 0
    words = ["--method", "fdk", "--preset", "draft", "--events", "jsonl"]
    assert main(["reconstruct", str(source), "--out", str(run), *words]) == 0
    for name in () if enhanced else ("volume.nii.gz", "volume.nrrd", "mesh.ply", "mesh.glb"):
        what = name.split(".")[0]
        assert main(["export", str(run), "--what", what, "--out", str(tmp_path / "exports" / name)]) == 0, (
            name
        )
    shown = capsys.readouterr()
    assert_unmarked((shown.out + shown.err).encode(), "terminal")
    files = [p for p in tmp_path.rglob("*") if p.is_file() and p != source]
    assert len(files) > 8 and {"report.html", "run.json", "events.jsonl"} <= {p.name for p in files}
    for path in files:
        assert MARKER.lower() not in path.name.lower()
        assert_unmarked(path.read_bytes(), path.name)
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert record["state"] == "done"


SPOILT: list[Callable[[Dataset], None]] = [
    lambda d: setattr(d, "Rows", 0),
    lambda d: setattr(d, "NumberOfFrames", "999999999"),
    lambda d: setattr(d, "PhotometricInterpretation", MARKER),
    lambda d: setattr(d, "PixelIntensityRelationship", MARKER),
    lambda d: setattr(d, "PatientOrientation", [MARKER, MARKER]),
    lambda d: setattr(d, "DistanceSourceToDetector", "-5"),
    lambda d: setattr(d, "FrameTime", "0"),
    lambda d: setattr(d, "SOPClassUID", MARKER),
    lambda d: setattr(d, "SpecificCharacterSet", MARKER),
    lambda d: setattr(d, "BitsAllocated", 7),
    lambda d: delattr(d, "PixelData"),
]


@pytest.mark.parametrize("spoil", SPOILT)
def test_refusals_do_not_quote_the_header(
    spoil: Callable[[Dataset], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.dcm"
    write_xa(path, ball(), PatientID=MARKER, StudyDescription=MARKER)
    dataset = pydicom.dcmread(path)
    with pydicom.config.disable_value_validation():
        spoil(dataset)
        dataset.save_as(path)
    try:
        report = inspect_input(path)
        text = json.dumps(report.as_json()) + "\n".join(report.lines())
    except InputError as error:
        text = str(error)
    main(["inspect", str(path)])
    shown = capsys.readouterr()
    assert_unmarked((text + shown.out + shown.err).encode(), "refusal")


@pytest.mark.parametrize("length", [140, 400, 900, -500])
def test_cut_off_headers_are_not_quoted(
    length: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.dcm"
    write_xa(path, ball(), PatientID=MARKER)
    path.write_bytes(path.read_bytes()[:length])
    assert main(["inspect", str(path)]) == 2
    shown = capsys.readouterr()
    assert_unmarked((shown.out + shown.err).encode(), "cut off")
