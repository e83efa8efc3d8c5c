"""Every reader on changed inputs, the same ones each time, and on all that once broke one of them.

``make fuzz`` goes on from here with hundreds of thousands of inputs; see table.py.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fuzz_mutate import mutated
from fuzz_readers import READERS, Reader
from fuzz_worker import judged, place, unpacked
from hypothesis import given, settings
from hypothesis import strategies as st

from splatomy.errors import InputError

FOUND = sorted((Path(__file__).parent / "found").glob("*/*.zip"))
BY_NAME = {reader.name: reader for reader in READERS}
TRIES = 10


@pytest.mark.parametrize("reader", READERS, ids=lambda r: r.name)
def test_seeds_are_read(reader: Reader, tmp_path: Path) -> None:
    accepted = 0
    for folder in reader.seeds():
        place(folder, tmp_path / "input")
        outcome = judged(reader, tmp_path / "input", guarded=False)
        assert outcome.kind != "finding", outcome.text
        accepted += outcome.kind == "accepted"
    assert accepted == len(reader.seeds())


@pytest.mark.parametrize("reader", READERS, ids=lambda r: r.name)
def test_changed_inputs_give_a_value_or_one_sentence(reader: Reader, tmp_path: Path) -> None:
    rng, seeds = random.Random(7), reader.seeds()
    for _ in range(TRIES):
        folder = dict(rng.choice(seeds))
        name = rng.choice(list(folder))
        folder[name] = mutated(name, folder[name], [], rng)
        place(folder, tmp_path / "input")
        outcome = judged(reader, tmp_path / "input", guarded=False)
        assert outcome.kind != "finding", outcome.text


@pytest.mark.parametrize("path", FOUND, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_what_once_broke_a_reader(path: Path, tmp_path: Path) -> None:
    place(unpacked(path.read_bytes()), tmp_path / "input")
    outcome = judged(BY_NAME[path.parent.name], tmp_path / "input", guarded=False)
    assert outcome.kind != "finding", outcome.text


@settings(derandomize=True, max_examples=200, deadline=None, database=None)
@given(st.text())
def test_a_refusal_is_one_line_that_can_be_shown(text: str) -> None:
    shown = str(InputError(f"The file {text} is wrong; expected another: change it."))
    assert shown.isprintable() and len(shown) <= 480 and shown.endswith("change it.")
