"""What is said before a run begins, so that a lack of memory need not end it without a word."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from splatomy.capture import Capture
from splatomy.engine.foreseeing import foreseen
from splatomy.extract.room import free_bytes
from splatomy.method import find_method, make_config

CPU = torch.device("cpu")
LIMITED = (
    "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)); "
    "from splatomy.extract.room import free_bytes; print(free_bytes())"
)


def test_too_little_memory_is_said_before_the_run(tiny_capture: Capture) -> None:
    config = make_config(find_method("dynamic_vessels"), "draft", {})
    (warning,) = foreseen("dynamic_vessels", config, tiny_capture, CPU, 8, free=1 << 20)
    assert warning.code == "memory" and "\n" not in warning.text and "--resume" in warning.text
    assert foreseen("dynamic_vessels", config, tiny_capture, CPU, 1, free=1 << 45) == []


@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's")
def test_a_limit_of_the_process_counts_as_all_there_is() -> None:
    limited = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=True)
    assert 0 <= int(limited.stdout) < 1 << 30
    assert (free_bytes() or 0) > 0
