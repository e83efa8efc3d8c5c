"""Commands where streams are closed, nobody reads, a path is empty, or nothing can be written."""

import os
import sys
from pathlib import Path

import pytest

import splatomy
from splatomy.cli.main import EXIT_CANCELLED, EXIT_INPUT, main


@pytest.mark.parametrize("names", [["stdout"], ["stderr"], ["stdout", "stderr"]])
def test_closed_streams_are_no_defect(monkeypatch, names):
    # What Python makes of `>&-` and `2>&-`.
    for name in names:
        monkeypatch.setattr(sys, name, None)
    assert main(["methods"]) == 0
    assert main(["inspect", "/nowhere"]) == EXIT_INPUT


def test_nobody_reads(monkeypatch, capfd):
    read, write = os.pipe()
    os.close(read)
    monkeypatch.setattr(sys, "stdout", os.fdopen(write, "w", buffering=1))
    assert main(["methods"]) == EXIT_CANCELLED
    assert capfd.readouterr().err == "splatomy: Stopped, since nobody reads the output any more.\n"
    # Nothing is left to fail when the program ends.
    sys.stdout.close()


def test_an_empty_path_is_not_the_working_folder(capsys):
    assert main(["inspect", ""]) == EXIT_INPUT
    assert "empty" in capsys.readouterr().err


def test_kernels_are_kept_where_neither_package_nor_home_can_be_written(monkeypatch):
    monkeypatch.setattr(splatomy, "__file__", "/dev/null/splatomy/__init__.py")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/dev/null/kernels")
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/cache")
    splatomy._keep_kernels()
    folder = Path(os.environ["NUMBA_CACHE_DIR"])
    assert folder.is_dir()
    assert folder.stat().st_mode & 0o077 == 0
    folder.rmdir()
