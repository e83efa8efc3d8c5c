"""What the end-to-end tests share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def case(tiny_case: Path, tmp_path: Path) -> Path:
    """A copy of the smallest case that a test may spoil."""
    folder = tmp_path / "case"
    folder.mkdir()
    for name in ("fill_run.nii.gz", "mask_run.nii.gz", "transforms.json"):
        shutil.copy(tiny_case / name, folder / name)
    return folder
