"""What a run remembers of its input, above all of one that is named after its patient."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from splatomy.engine.own_input import find_own_input, input_record, recorded_options
from splatomy.engine.resuming import check_same_input
from splatomy.errors import InputError
from splatomy.io.dicom_write import XaRun, write_xa
from splatomy.io.options import InputOptions
from splatomy.io.patient_words import without_patient
from splatomy.io.run import RunFolder


def write_run(path: Path, patient_name: str) -> Path:
    """A short rotational run, with its folder."""
    frames = np.random.default_rng(5).integers(500, 4000, (6, 12, 16)).astype(np.uint16)
    path.parent.mkdir(parents=True, exist_ok=True)
    angles = np.linspace(-100, 100, 6)
    run = XaRun(
        *(frames, angles, np.zeros(6), 750.0, 1200.0, (2.0, 2.0), np.arange(6) / 4),
        patient_name=patient_name,
    )
    write_xa(path, run, PatientID="Q-90417", PatientBirthDate="19010203")
    return path


def begun(folder: Path, source: Path, options: InputOptions | None = None) -> RunFolder:
    """A run folder that holds the record of its input."""
    run = RunFolder(folder)
    run.write_record({"state": "done", **input_record(run, source, options or InputOptions())})
    return run


def test_a_folder_named_after_its_patient_is_not_recorded(tmp_path: Path) -> None:
    patient = tmp_path / "archive" / "Müllerin_erika 19010203"
    write_run(patient / "MÜLLERIN_90417.dcm", "Müllerin^Erika^^Dr")
    mask = write_run(patient / "mask of Mullerin.dcm", "Müllerin^Erika^^Dr")
    options = InputOptions(mask=mask)
    run = begun(tmp_path / "run", patient, options)
    text = (run.path / "run.json").read_text().lower()
    for word in ("müllerin", "mullerin", json.dumps("müllerin")[1:-1], "erika", "90417", "19010203"):
        assert word not in text
    assert "archive" in text and "mask of" in text
    with pytest.raises(InputError, match="give it with --input"):
        find_own_input(run)
    with pytest.raises(InputError, match="option mask"):
        recorded_options(run)
    # Resuming names the input anew, which must then count as the same one.
    check_same_input(run.record(), input_record(run, patient, options))


def test_a_changed_file_is_noticed_though_its_name_is_hidden(tmp_path: Path) -> None:
    patient = tmp_path / "Erika"
    write_run(patient / "erika.dcm", "Muster^Erika")
    run = begun(tmp_path / "run", patient)
    with (patient / "erika.dcm").open("ab") as file:
        file.write(b"more")
    with pytest.raises(InputError, match="not the one") as error:
        check_same_input(run.record(), input_record(run, patient, InputOptions()))
    assert "erika" not in str(error.value).lower()


def test_a_neutral_folder_is_recorded_and_found_again(tmp_path: Path) -> None:
    source = write_run(tmp_path / "case 7" / "IM0001.dcm", "Li^An")
    run = begun(tmp_path / "clip of an angiogram", source.parent)
    assert run.record()["input_path"] == "../case 7"
    assert find_own_input(run).resolve() == source.parent
    assert recorded_options(run) == InputOptions()


def test_short_names_are_taken_as_whole_words_only() -> None:
    words = frozenset({"Li", "An"})
    assert without_patient("clip/an angiogram_LI.dcm", words) == "clip/PATIENT angiogram_PATIENT.dcm"
