"""Cases on a Ray cluster; the only module that imports Ray."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from splatomy.batch.working import Outcome, Work, run_case
from splatomy.errors import InputError, MissingBackendError

_GIB = 1 << 30
_OBJECT_STORE_BYTES = 80 << 20
"""Outcomes are a few words each; cases exchange files."""


class RayEngine:
    """A cluster of this machine alone, or the one at an address.

    Ray gives each case its share of cores, memory and GPUs, starts it again elsewhere when its worker or
    machine dies, and keeps the order. The batch's folder must lie at the same path on all machines.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        """Connects. workers: cases at a time at most, None = as many as Ray finds room for.

        Raises:
            MissingBackendError: Ray is not installed.
            InputError: no cluster answers at the address.
        """
        self._ray = _ray()
        self._workers = workers
        self._queue: deque[Work] = deque()
        self._waiting: dict[Any, Work] = {}
        self._largest: dict[str, float] = {}
        # The processes of Ray end with the thread that started them, so that one lives as long as the engine.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="splatomy ray")
        quiet: dict[str, Any] = {
            "include_dashboard": False,
            "log_to_driver": False,
            "logging_level": "ERROR",
        }
        where: dict[str, Any] = {"address": address}
        if address is None:
            # Bound to the loopback address, so that nothing outside the machine can talk to it.
            where = {
                "address": "local",
                "object_store_memory": _OBJECT_STORE_BYTES,
                "_node_ip_address": "127.0.0.1",
            }
        try:
            self._starter.submit(partial(self._ray.init, **where, **quiet)).result()
        except (ConnectionError, RuntimeError, ValueError) as error:
            self._starter.shutdown(wait=False)
            what = "here" if address is None else "at the address"
            raise InputError(
                f"No Ray cluster can be had {what} ({type(error).__name__}): expected one that runs the same "
                "version of Ray and Python. Check --address and `ray status`, or use --engine local."
            ) from None

    def has_gpus(self) -> bool:
        """True if the cluster offers GPUs."""
        return bool(self._ray.cluster_resources().get("GPU", 0))

    def start(self, works: Sequence[Work]) -> int:
        """Gives the cases to Ray, in order; how many fit the cluster at a time, about."""
        machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        for name, usual in (("CPU", 1.0), ("GPU", 0.0), ("memory", float(_GIB))):
            self._largest[name] = max((float(m.get(name, usual)) for m in machines), default=usual)
        self._queue.extend(works)
        self._submit()
        cores = sum(int(machine.get("CPU", 1)) for machine in machines)
        fits = max(1, cores // max((work.share.cpus for work in works), default=1))
        return fits if self._workers is None else min(fits, self._workers)

    def poll(self, timeout_s: float) -> list[Outcome]:
        """The outcomes of the cases that ended."""
        references = list(self._waiting)
        if not references:
            return []
        done, _ = self._ray.wait(references, num_returns=len(references), timeout=timeout_s)
        outcomes = [self._outcome(reference) for reference in done]
        self._submit()
        return outcomes

    def stop(self) -> list[Outcome]:
        """Kills the workers that are left; their engines notice, keep their results and end."""
        for reference in self._waiting:
            with contextlib.suppress(Exception):
                self._ray.cancel(reference, force=True)
        self._queue.clear()
        self._waiting.clear()
        self._ray.shutdown()
        self._starter.shutdown(wait=False)
        return []

    def _submit(self) -> None:
        most = self._workers or len(self._queue)
        while self._queue and len(self._waiting) < most:
            work = self._queue.popleft()
            task = self._ray.remote(_supervised).options(
                # More than the largest machine has would wait for ever.
                num_cpus=min(work.share.cpus, int(self._largest["CPU"])),
                num_gpus=min(work.share.gpus, int(self._largest["GPU"])),
                memory=int(min(work.share.gib * _GIB, self._largest["memory"])),
                max_retries=work.retries,
                name="splatomy case",
            )
            self._waiting[task.remote(work)] = work

    def _outcome(self, reference: Any) -> Outcome:
        work = self._waiting.pop(reference)
        try:
            outcome: Outcome = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            text = f"The worker of the case died in every attempt ({type(error).__name__})."
            return Outcome(work.case.name, "failed", "crash", text, attempts=work.retries + 1)
        return outcome


def _supervised(work: Work) -> Outcome:
    """One case in a Ray worker, which Ray ends by killing it."""
    return run_case(work, lambda: False)


def _ray() -> Any:
    """The module Ray, told to report nothing to anybody.

    Raises:
        MissingBackendError: it is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # An engine whose worker goes notices it, keeps its result and ends; killed, it would lose some seconds.
    os.environ.setdefault("RAY_kill_child_processes_on_worker_exit", "0")
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise MissingBackendError(
            "Ray is not installed: expected it for --engine ray. Install it with "
            "`pip install splatomy[cluster]`, or use --engine local."
        ) from None
    return ray
