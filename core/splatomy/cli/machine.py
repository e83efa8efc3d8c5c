"""What this machine offers: versions, devices and memory."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path
from typing import Any

import torch

import splatomy

_GIB = 1 << 30
_CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def machine_facts() -> dict[str, Any]:
    """The facts by name; memory in GiB, None where the system does not tell."""
    devices = []
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        devices.append(
            {
                "device": f"cuda:{number}",
                "name": torch.cuda.get_device_name(number),
                "memory_gib": round(total / _GIB, 1),
                "free_gib": round(free / _GIB, 1),
            }
        )
    return {
        "contract": 1,
        "splatomy": splatomy.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu_threads": torch.get_num_threads(),
        "memory_gib": _memory_gib(),
        "cuda_devices": devices,
    }


def machine_lines() -> list[str]:
    """The facts for people, one a line."""
    facts = machine_facts()
    memory = "unknown" if facts["memory_gib"] is None else f"{facts['memory_gib']:.1f} GiB"
    lines = [f"{name}: {facts[name]}" for name in ("splatomy", "python", "torch")]
    lines += [f"device cpu: {facts['cpu_threads']} threads, memory {memory}"]
    lines += [
        f"device {d['device']}: {d['name']}, memory {d['memory_gib']} GiB ({d['free_gib']} free)"
        for d in facts["cuda_devices"]
    ]
    return lines if facts["cuda_devices"] else [*lines, "no CUDA device"]


def _memory_gib() -> float | None:
    """Memory that this process may use: the machine's, or its container's limit."""
    found = []
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for name in _CONTAINER_LIMITS:
        # "max" stands for no limit.
        with contextlib.suppress(OSError, ValueError):
            found.append(int(Path(name).read_text()))
    return round(min(found) / _GIB, 1) if found else None
