"""A batch on this machine, through the command line: two cases and a wrong one, then the same again."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from splatomy.cli.main import main

EXIT_PARTIAL = 5


def test_a_wrong_case_stops_nobody_and_what_is_done_stays(case: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.nii.gz").write_bytes((case / "fill_run.nii.gz").read_bytes()[:2000])
    cases = tmp_path / "cases.csv"
    cases.write_text("input,name,options.bin\ncase,one,2\nbroken.nii.gz,wrong,1\ncase,two,4\n")
    out = tmp_path / "batch"
    words = ["batch", str(cases), "--out", str(out), "--method", "fdk", "--preset", "draft"]
    with pytest.raises(SystemExit) as end:
        main([*words, "--workers", "2"])
    assert end.value.code == EXIT_PARTIAL

    rows = {row["case"]: row for row in csv.DictReader((out / "results.csv").open(newline=""))}
    assert {name: row["state"] for name, row in rows.items()} == {
        "one": "done",
        "wrong": "failed",
        "two": "done",
    }
    # A wrong input is not tried again, and its sentence names no folder of the user's.
    assert rows["wrong"]["code"] == "input" and rows["wrong"]["attempts"] == "1"
    assert str(tmp_path) not in (out / "results.csv").read_text() + (out / "results.html").read_text()
    records = {name: json.loads((out / "runs" / name / "run.json").read_text()) for name in ("one", "two")}
    assert all(record["state"] == "done" for record in records.values())
    assert [records[name]["input_options"]["bin"] for name in ("one", "two")] == [2, 4]
    assert not (out / "runs" / "wrong").exists() and not (out / "lock").exists()

    # The same command again, without the case that cannot be done: nothing is run.
    cases.write_text("input,name,options.bin\ncase,one,2\ncase,two,4\n")
    assert main([*words, "--workers", "2"]) == 0
    again = {row["case"]: row for row in csv.DictReader((out / "results.csv").open(newline=""))}
    assert [again[name]["attempts"] for name in ("one", "two")] == ["0", "0"]
    for name, record in records.items():
        assert json.loads((out / "runs" / name / "run.json").read_text()) == record

    cases.write_text("input,name,options.bin\ncase,one,4\ncase,two,4\n")
    assert main([*words, "--workers", "2"]) == 2
    assert json.loads((out / "runs" / "one" / "run.json").read_text()) == records["one"]
