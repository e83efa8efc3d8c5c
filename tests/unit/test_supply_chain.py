"""The lock, the constraints, the bill of materials and what is installed tell of the same packages."""

from __future__ import annotations

import json
import re
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


def folded(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(lines: list[str]) -> dict[str, str]:
    found = {}
    for line in lines:
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        assert specifier.operator == "=="
        found[folded(requirement.name)] = specifier.version
    return found


@pytest.fixture(scope="module")
def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return pinned([line for line in lines if line and not line.startswith("#")])


@pytest.fixture(scope="module")
def lock() -> dict[str, str]:
    blocks = re.split(r"(?m)^(?=[A-Za-z])", (ROOT / "requirements.lock").read_text())[1:]
    for block in blocks:
        hashes = re.findall(r"--hash=sha256:([0-9a-f]{64})", block)
        assert hashes, f"no hash of {block.splitlines()[0]}"
    return pinned([block.split("\\")[0].strip() for block in blocks])


def test_the_lock_pins_what_the_constraints_pin(constraints: dict[str, str], lock: dict[str, str]) -> None:
    assert {name: lock.get(name) for name in constraints} == constraints


def test_everything_installed_is_pinned(constraints: dict[str, str]) -> None:
    """Only those of the environment's packages count that the constraints know: others are the user's own."""
    installed = {folded(d.name): d.version.partition("+")[0] for d in distributions()}
    wrong = {n: (v, constraints[n]) for n, v in installed.items() if n in constraints and v != constraints[n]}
    # Older Pythons and other systems may get other versions; the pinned ones are those of `make env-dev`.
    assert not wrong


def test_the_bill_of_materials_is_of_the_pinned_packages(constraints: dict[str, str]) -> None:
    bill = json.loads((ROOT / "resources" / "supply_chain" / "sbom.cdx.json").read_text())
    told = {folded(c["name"]): c["version"].partition("+")[0] for c in bill["components"]}
    unpinned = set(told) - set(constraints) - {"pip", "splatomy"}
    assert not unpinned
    assert {n: v for n, v in told.items() if n in constraints} == {
        n: constraints[n] for n in told if n in constraints
    }
    report = (ROOT / "resources" / "supply_chain" / "licences.md").read_text()
    assert all(f"| {c['name']} | {c['version']} |" in report for c in bill["components"])


def test_every_requirement_of_the_product_is_locked(lock: dict[str, str]) -> None:
    text = (ROOT / "pyproject.toml").read_text()
    words = re.findall(r'"([A-Za-z][A-Za-z0-9_.-]*)\s*(?:>=|==)', text.split("[project.scripts]")[0])
    names = {folded(word) for word in words} - {"hatchling", "python-version"}
    assert names <= set(lock)
