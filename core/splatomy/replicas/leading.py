"""A reconstruction by several processes: this one leads, and starts and ends those that follow."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from splatomy.background import beside
from splatomy.capture import Capture
from splatomy.errors import InputError
from splatomy.events import Checkpoint, Task
from splatomy.method import MethodSpec, load_symbol
from splatomy.replicas.capture_parcel import packed
from splatomy.replicas.following import EXIT_LOST, EXIT_MEMORY
from splatomy.replicas.group import STAGE, ReplicaLostError, Replicas
from splatomy.replicas.meeting import can_meet, meet, part
from splatomy.scene import Scene

_END_S = 1.0


def check_replicas(spec: MethodSpec, config: Any, device: torch.device, count: int) -> None:
    """Raises InputError when that many processes cannot train together, ``device`` being the first one's."""
    if count == 1:
        return
    if count < 1:
        raise InputError(f"--replicas is a number of processes: expected 1 or more, got {count}.")
    if spec.follow is None or spec.shared is None:
        raise InputError(
            f"Method {spec.name} trains in one process: expected --replicas 1, got {count}. Leave it out."
        )
    if getattr(config, spec.shared) < count:
        raise InputError(
            f"Replicas share the views of a step: expected {spec.shared} of at least {count}, got "
            f"{getattr(config, spec.shared)}. Add --set {spec.shared}={count}, or leave --replicas out."
        )
    if not can_meet():
        raise InputError(
            f"Replicas need Linux or macOS and torch.distributed: expected --replicas 1 here, got {count}. "
            "Leave it out."
        )
    there = torch.cuda.device_count() - (device.index or 0) if device.type == "cuda" else count
    if there < count:
        raise InputError(
            f"Each replica needs a GPU of its own: expected {count} from {device} on, found {there}. "
            "Use fewer --replicas."
        )


def replicated(
    spec: MethodSpec,
    capture: Capture,
    config: Any,
    device: torch.device,
    count: int,
    resume: Checkpoint | None = None,
) -> Task[Scene]:
    """The scene that ``count`` processes make of a capture together; 1 = this process alone.

    device: of this process; on CUDA the others take the devices after it, on the CPU all share its cores.

    Raises:
        MemoryError: one of the other GPUs has too little memory.
        InputError: one of the other processes ended, or the method says so.
    """
    reconstruct = load_symbol(spec.reconstruct)
    if count == 1:
        scene: Scene = yield from reconstruct([capture], config, device, resume=resume)
        return scene
    first = torch.device("cuda", device.index or 0) if device.type == "cuda" else device
    with _shared_threads(first, count) as threads, _Followers(spec, config, first, count, threads) as others:
        replicas = Replicas(0, count, others.ended)
        try:
            yield from others.joined()
            yield from replicas.parcel(packed(capture))
            scene = yield from reconstruct([capture], config, first, resume=resume, replicas=replicas)
        except ReplicaLostError as error:
            if first.type == "cuda" and others.lacked_memory():
                raise MemoryError(f"One of the {count} GPUs of this run {error}.") from error
            raise InputError(
                f"One of the {count} processes of this run {error}: expected all of them until the end. "
                "The checkpoint is kept: go on with --resume, with fewer --replicas if memory is short."
            ) from error
    return scene


@contextlib.contextmanager
def _shared_threads(device: torch.device, count: int) -> Iterator[int]:
    """This process's share of the cores, and its threads kept to that; on a GPU all may take all."""
    if device.type != "cpu":
        yield torch.get_num_threads()
        return
    # Imported on use: Numba takes a second to load, and a GPU run never needs it.
    import numba

    before = torch.get_num_threads(), numba.get_num_threads()
    share = max(1, max(before) // count)
    torch.set_num_threads(share)
    numba.set_num_threads(min(share, before[1]))
    try:
        yield share
    finally:
        torch.set_num_threads(before[0])
        numba.set_num_threads(before[1])


class _Followers:
    """The other processes of a training, from their start to their end."""

    def __init__(self, spec: MethodSpec, config: Any, device: torch.device, count: int, threads: int) -> None:
        self._device, self._count, self._threads = device, count, threads
        self._job = {
            "follow": spec.follow,
            "config": spec.config,
            "settings": dataclasses.asdict(config),
            "count": count,
            "deterministic": torch.are_deterministic_algorithms_enabled(),
        }
        self._processes: list[subprocess.Popen[bytes]] = []
        self._folder = ""

    def __enter__(self) -> _Followers:
        self._folder = tempfile.mkdtemp(prefix="splatomy-")
        return self

    def _started(self, rank: int) -> subprocess.Popen[bytes]:
        device = str(self._device)
        if self._device.type == "cuda":
            device = f"cuda:{(self._device.index or 0) + rank}"
        job = {**self._job, "rank": rank, "device": device, "meeting": self._folder}
        threads = {name: str(self._threads) for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
        process = subprocess.Popen(
            [sys.executable, "-m", "splatomy.replicas.following"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **threads},
            # A Ctrl-C is meant for the leader, which then ends the others.
            start_new_session=True,
        )
        assert process.stdin is not None
        # One that ended at once is noticed with all that end later.
        with contextlib.suppress(OSError):
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
        return process

    def joined(self) -> Task[None]:
        """Starts the other processes and waits until all have met.

        Raises:
            ReplicaLostError: one of them ended before.
        """
        for rank in range(1, self._count):
            self._processes.append(self._started(rank))
        work = partial(meet, self._folder, 0, self._count, self._device)
        for event in beside(STAGE, 0, 1, work):
            if (why := self.ended(0.0)) is not None:
                raise ReplicaLostError(why)
            yield event

    def ended(self, patience_s: float) -> str | None:
        """Why one of the processes has ended, within so many seconds; None = all live."""
        until = time.monotonic() + patience_s
        while True:
            codes = [code for p in self._processes if (code := p.poll()) is not None]
            # Those that ended because another one did know nothing of the reason.
            first = next((code for code in codes if code != EXIT_LOST), None)
            if first is not None or time.monotonic() >= until:
                break
            time.sleep(0.02)
        if not codes:
            return None
        if first == EXIT_MEMORY:
            return "ran out of memory"
        if first is not None and first < 0:
            return f"was killed by signal {-first}"
        return f"ended with exit code {first or EXIT_LOST}"

    def lacked_memory(self) -> bool:
        """True if one of the processes has ended for want of memory."""
        return any(process.poll() == EXIT_MEMORY for process in self._processes)

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()
        for process in self._processes:
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        part(self._device)
        shutil.rmtree(self._folder, ignore_errors=True)
