"""Batches before and after their cases run: the list, the shares, the outcomes, the tables, the exit code."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from splatomy.batch import Batch, BatchRequest, LocalEngine, RayEngine, Table, read_cases
from splatomy.batch.cases import Case
from splatomy.batch.local import workers_for
from splatomy.batch.shares import Share, share_of
from splatomy.batch.table import make_table
from splatomy.batch.working import Outcome, Work, done_before, newest_progress
from splatomy.cli.batch import exit_code
from splatomy.cli.main import main
from splatomy.errors import InputError, MissingBackendError
from splatomy.events import Progress, finish
from splatomy.io.atomic import write_json


def listed(folder: Path, text: str, name: str = "cases.csv") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def work(out: Path, name: str = "a", **given: Any) -> Work:
    return Work(Case(name, out / "input", **given), Share(), out)


def test_a_csv_gives_every_part_of_a_case(tmp_path: Path) -> None:
    text = (
        "input,name,method,preset,config,options,device,replicas,seed,views,config.steps,options.masks\n"
        'sub/one.mp4,a,dynamic_tissue,draft,"{""num_start"": 5}","{""bin"": 2}",cpu,2,7,30,40,masks\n'
        "/data/two,,,,,,,,,,,\n"
    )
    first, second = read_cases(listed(tmp_path, text), {"preset": "best", "seed": 1, "config": {"steps": 9}})
    assert first.source == tmp_path / "sub" / "one.mp4" and first.name == "a"
    assert (first.method, first.preset, first.device, first.seed, first.views) == (
        "dynamic_tissue", "draft", "cpu", 7, 30,
    )  # fmt: skip
    assert (first.replicas, second.replicas) == (2, 1)
    assert first.config == {"num_start": 5, "steps": 40}
    assert first.options == {"bin": 2, "masks": str(tmp_path / "masks")}
    assert second.source == Path("/data/two") and (second.preset, second.seed) == ("best", 1)
    assert second.config == {"steps": 9} and second.method is None


def test_json_lists_and_patterns_give_the_same_cases(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "study" / name).mkdir(parents=True)
    rows = [{"input": f"study/{name}"} for name in ("one", "two")]
    plain = read_cases(listed(tmp_path, json.dumps(rows), "a.json"), {})
    wrapped = read_cases(listed(tmp_path, json.dumps({"contract": 1, "cases": rows}), "b.json"), {})
    matched = read_cases(str(tmp_path / "study" / "*"), {})
    assert plain == wrapped == matched and len(plain) == 2


def test_names_made_for_cases_tell_nothing_and_stay(tmp_path: Path) -> None:
    """The name of a folder may be a patient's; and a new case must not rename the others."""
    first = read_cases(listed(tmp_path, "input\nBarbara Doe/run\n"), {})
    again = read_cases(listed(tmp_path, "input\nAnother/run\nBarbara Doe/run\n"), {})
    assert first[0].name == again[1].name and "Doe" not in first[0].name


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("input,name\n,a\n", "Case 1 has no input"),
        ("input,name\nx,../../etc\n", "name of case 1"),
        ("input,name\nx,a/b\n", "name of case 1"),
        ("input,name\nx,..\n", "name of case 1"),
        ("input,name\nx,a\ny,A\n", "Case 2 has the name"),
        ("input\nx\nx\n", "Case 2 has the name or the input"),
        ("input,colour\nx,red\n", "a column 'colour'"),
        ("input,seed\nx,many\n", "seed: expected a whole number"),
        ("input,seed\nx,true\n", "seed: expected a whole number"),
        ("input,replicas\nx,two\n", "replicas: expected a whole number"),
        ("input,replicas\nx,0\n", "replicas: expected 1 or more"),
        ("input,config\nx,[1]\n", "config: expected a JSON object"),
        ("input\nx,y\n", "more cells than columns"),
        ("input\n", "0 cases"),
    ],
)
def test_wrong_lists_are_one_sentence(text: str, part: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        read_cases(listed(tmp_path, text), {})
    assert part in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["[NaN]", "[[1]]", "{", '{"cases": 3}', '{"rows": []}', "[" * 100_000])
def test_wrong_json_lists_are_one_sentence(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        read_cases(listed(tmp_path, text, "cases.json"), {})


def test_a_list_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    for words in (str(tmp_path), str(tmp_path / "missing.csv"), str(tmp_path / "none" / "*")):
        with pytest.raises(InputError):
            read_cases(words, {})


def test_a_case_becomes_a_job_of_the_protocol(tmp_path: Path) -> None:
    from splatomy.jobs.request import read_job

    case = Case("a", tmp_path / "in", "fdk", "draft", {}, {"bin": 2, "frames": [0, 9, None]}, "cpu", 3, 5)
    write_json(tmp_path / "job.json", {**case.job(tmp_path / "run"), "resume": False})
    run = read_job(tmp_path / "job.json").run
    assert (run.method, run.preset, run.device, run.seed, run.num_views) == ("fdk", "draft", "cpu", 3, 5)
    assert run.options.bin == 2 and run.options.frames == (0, 9, None) and run.source == tmp_path / "in"
    assert run.replicas == 1 and "replicas" not in case.job(tmp_path / "run")
    write_json(tmp_path / "job.json", Case("b", tmp_path / "in", "fdk", replicas=4).job(tmp_path / "run"))
    assert read_job(tmp_path / "job.json").run.replicas == 4


def test_shares_grow_with_the_case_and_a_wrong_one_has_a_small_one(tiny_case: Path, tmp_path: Path) -> None:
    quick = share_of(Case("a", tiny_case, "fdk", "draft"), False)
    slow = share_of(Case("b", tiny_case, "dynamic_vessels", "best"), False)
    fast = share_of(Case("b", tiny_case, "dynamic_vessels", "best"), True)
    wrong = share_of(Case("c", tmp_path / "missing"), False)
    assert quick.seconds < slow.seconds and (quick.cpus, quick.gpus) == (1, 0)
    assert (slow.cpus, slow.gpus, fast.gpus) == (2, 0, 1) and wrong == Share()
    assert share_of(Case("d", tiny_case, "fdk", device="cpu"), True, cpus=3).gpus == 0
    four = share_of(Case("b", tiny_case, "dynamic_vessels", "best", replicas=4), True)
    assert (four.gpus, four.cpus) == (4, 4) and four.gib == pytest.approx(4 * fast.gib)
    both = share_of(Case("e", tiny_case, "dynamic_vessels", device="cpu", replicas=2), True)
    assert (both.gpus, both.cpus) == (0, 2)


def test_as_many_cases_run_as_fit(tmp_path: Path) -> None:
    works = [work(tmp_path, str(n)) for n in range(20)]
    assert workers_for(works, 8, None, 0) == 8
    assert workers_for(works, 8, 3 << 30, 0) == 3
    assert workers_for(works, 8, 0, 0) == 1
    assert workers_for(works[:2], 8, None, 0) == 2
    heavy = Work(works[0].case, Share(cpus=2, gpus=1), tmp_path)
    assert workers_for([*works, heavy], 8, None, 2) == 2
    shared = Work(works[0].case, Share(gpus=2), tmp_path)
    assert workers_for([heavy, shared], 8, None, 5) == 2 and workers_for([shared], 8, None, 1) == 1


def begun(out: Path, state: str, **given: Any) -> Work:
    made = work(out, **given)
    write_json(made.job, {**made.case.job(made.run), "resume": False})
    write_json(made.run / "run.json", {"contract": 1, "state": state})
    return made


def test_finished_runs_are_known_and_others_never_taken_for_them(tmp_path: Path) -> None:
    assert done_before(begun(tmp_path / "1", "done"))
    assert not done_before(begun(tmp_path / "2", "running"))
    assert not done_before(work(tmp_path / "3"))
    other = begun(tmp_path / "4", "done")
    with pytest.raises(InputError, match="other settings"):
        done_before(Work(Case("a", other.case.source, seed=8), Share(), other.out))
    failed = begun(tmp_path / "5", "failed")
    assert not done_before(Work(Case("a", failed.case.source, seed=8), Share(), failed.out))


class OneCase:
    """An engine that runs one case at a time and begins the first by a clock that was just set back."""

    def __init__(self) -> None:
        self._works: Sequence[Work] = ()
        self._polled = False

    def has_gpus(self) -> bool:
        return False

    def start(self, works: Sequence[Work]) -> int:
        self._works = works
        write_json(works[0].job, {"begun": True})
        os.utime(works[0].job, (0, 0))
        return 1

    def poll(self, timeout_s: float) -> list[Outcome]:
        polled, self._polled = self._polled, True
        return [Outcome(work.case.name, "done") for work in self._works] if polled else []

    def stop(self) -> list[Outcome]:
        return []


def test_a_clock_that_is_set_does_not_change_what_runs(tmp_path: Path) -> None:
    cases = [Case(name, tmp_path / f"{name}.mp4") for name in ("first", "second", "third")]
    for case in cases:
        case.source.write_bytes(b"no video")
    out = tmp_path / "out"
    batch = Batch(BatchRequest(cases, out), OneCase)
    # Those of before, which were written when the clock was ahead.
    for made in batch.works[1:]:
        write_json(made.job, {"begun": "before"})
        os.utime(made.job, (4e9, 4e9))
    write_json(out / "batch.json", {"contract": 1})
    seen = []
    for event in batch.run():
        if isinstance(event, Progress) and event.stage == "cases":
            seen.append([work.case.name for work in batch.running()])
            assert all(batch.running_s(made) >= 0 for made in batch.works)
    assert seen == [["first"], []]


def test_the_newest_progress_is_read_past_a_broken_line(tmp_path: Path) -> None:
    line = json.dumps({"event": "progress", "stage": "train", "step": 4, "total": 9})
    (tmp_path / "events.jsonl").write_text(f'{line}\n{{"event": "notice"}}\n{{"event": "progr')
    assert newest_progress(tmp_path)["step"] == 4
    assert newest_progress(tmp_path / "missing") == {}


def results(out: Path, values: list[float], **others: Outcome) -> Table:
    """The table of runs with these figures, and of cases that are not done."""
    works, outcomes = [], {}
    for number, value in enumerate(values):
        name = f"c{number}"
        one = work(out, name)
        record = {"state": "done", "method": "fdk", "timings_s": {"train": 2.0, "report": 1.5}}
        write_json(one.run / "run.json", record | {"peak_memory_mb": 400.0})
        write_json(one.run / "metrics.json", {"contract": 1, "psnr": value, "lpips": None, "dice_own": 0.9})
        works.append(one)
        outcomes[name] = Outcome(name, "done")
    return make_table([*works, *(work(out, name) for name in others)], {**outcomes, **others})


def test_the_table_has_figures_outliers_and_what_failed(tmp_path: Path) -> None:
    failed = Outcome("wrong", "failed", "input", "It is broken.")
    table = results(tmp_path, [30.0, 30.5, 31.0, 30.2, 30.8, 12.0], wrong=failed)
    rows = list(csv.DictReader(io.StringIO(table.csv())))
    assert [row["case"] for row in rows] == ["c0", "c1", "c2", "c3", "c4", "c5", "wrong"]
    assert float(rows[5]["psnr"]) == 12.0 and float(rows[0]["seconds"]) == 3.5 and "lpips" not in rows[0]
    assert rows[6]["state"] == "failed" and rows[6]["text"] == "It is broken." and rows[6]["psnr"] == ""
    spread = {item.figure: item for item in table.distributions()}
    assert spread["psnr"].outliers == ("c5",) and spread["dice_own"].outliers == ()


class Page(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.words += data


def test_no_string_acts_in_the_tables(tmp_path: Path) -> None:
    evil = "=1+1<script>alert('x')</script>\"><img src=x>"
    table = results(tmp_path, [1.0, 2.0, 3.0, 4.0, 5.0], bad=Outcome("bad", "failed", "input", evil))
    page = Page(table.html())
    assert not page.tags & {"script", "img", "a", "link", "iframe"} and evil in page.words
    row = list(csv.DictReader(io.StringIO(table.csv())))[-1]
    assert row["text"] == f"'{evil}"


@pytest.mark.parametrize(
    ("values", "codes", "wanted"),
    [
        ([1.0], [], 0),
        ([1.0], ["input"], 5),
        ([1.0], ["crash", "limit"], 5),
        ([], ["input", "input"], 2),
        ([], ["backend"], 3),
        ([], ["input", "backend"], 5),
        ([], ["crash"], 5),
    ],
)
def test_the_exit_code_tells_partial_failure(
    values: list[float], codes: list[str], wanted: int, tmp_path: Path
) -> None:
    others = {f"x{n}": Outcome(f"x{n}", "failed", code, "No.") for n, code in enumerate(codes)}
    assert exit_code(results(tmp_path, values, **others)) == wanted


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    batch = Batch(BatchRequest([Case("a", tmp_path / "in")], tmp_path), LocalEngine)
    with pytest.raises(InputError, match="not the folder of a batch"):
        finish(batch.run())
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_sentences_in_tables_show_no_path(tmp_path: Path) -> None:
    from splatomy.batch.driving import without_source

    case = Case("a", tmp_path / "Doe^Barbara")
    text = without_source(f"{case.source} does not exist; Doe^Barbara is missing.", case)
    assert text == "the input does not exist; the input is missing."


def test_ray_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingBackendError, match=r"splatomy\[cluster\]"):
        RayEngine()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--workers", "0"], "--workers"),
        (["--retries", "-1"], "--retries"),
        (["--limit-min", "0"], "--limit-min"),
        (["--address", "10.0.0.1:6379"], "--engine ray"),
    ],
)
def test_wrong_words_of_a_batch_are_one_sentence(
    words: list[str], part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = listed(tmp_path, "input\nx\n")
    assert main(["batch", cases, "--out", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert part in error and error.count("\n") == 1 and not (tmp_path / "out").exists()
