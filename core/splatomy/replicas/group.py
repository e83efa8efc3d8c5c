"""What the processes of one training tell each other: gradients, decisions and whole states."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
import torch.distributed as distributed
from numpy.typing import NDArray
from torch import Tensor

from splatomy.events import Checkpoint, Progress, Task, finish

T = TypeVar("T")
STAGE = "replicas"
_LOOK_S = (5e-5, 5e-3)
"""Pauses between two looks at an exchange: the longer it takes, the longer they become."""
_DYING_S = 2.0
"""A process whose connection broke is gone for good within this time."""
_PIECE_BYTES = 1 << 26
_COMPARE_EVERY = 50
"""Steps between two looks whether all replicas still hold the same scene."""


class ReplicaLostError(RuntimeError):
    """Another process of the training ended, or came to hold another scene."""


class Trainer(Protocol):
    """The state between two steps of a training."""

    def checkpoint(self) -> Checkpoint:
        """Everything needed to go on from here."""

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes back to a checkpoint."""


class Replicas:
    """The ``count`` processes that train one scene; this one is number ``rank``, and number 0 leads.

    All take the same steps in the same order. The leader alone starts, seeds, decides and publishes, and
    tells the others what came of it; a step's gradients are added up. So all hold the same bits.

    ended: why another process has ended, waiting for its end up to so many seconds, or None. Only the leader
    can know.
    """

    def __init__(
        self, rank: int = 0, count: int = 1, ended: Callable[[float], str | None] = lambda _: None
    ) -> None:
        self.rank, self.count, self._ended = rank, count, ended
        self._forget()

    @property
    def is_leader(self) -> bool:
        """True for the process that decides, and for one that is alone."""
        return self.rank == 0

    def own(self, items: Sequence[T]) -> Sequence[T]:
        """This replica's share of what a step works on."""
        return items[self.rank :: self.count]

    # -- every step ----------------------------------------------------------------------------

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor, all of one type and device, by its sum over the replicas.

        They travel as one flat bucket: many small all-reduces would mostly wait.

        Raises:
            ReplicaLostError: another process ended.
        """
        if self.count == 1:
            return
        bucket = torch.cat([t.detach().reshape(-1) for t in tensors])
        self._sums_s.append(self._finish(lambda: distributed.all_reduce(bucket, async_op=True)))
        self._reduced_bytes += bucket.nbytes
        with torch.no_grad():
            for tensor, part in zip(tensors, bucket.split([t.numel() for t in tensors]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def take_largest(self, tensor: Tensor) -> None:
        """Replaces each element by the largest one over the replicas; raises as ``add_up``."""
        if self.count > 1:
            largest = distributed.ReduceOp.MAX
            self._finish(lambda: distributed.all_reduce(tensor, op=largest, async_op=True))
            self._reduced_bytes += tensor.nbytes

    def obey(self, *decisions: Tensor) -> None:
        """Replaces boolean tensors by the leader's: ties need not fall alike on all devices."""
        if self.count > 1:
            for decision in decisions:
                self._broadcast(decision.view(torch.uint8))

    def compare(self, step: int, tensors: Sequence[Tensor]) -> None:
        """Looks, every so many steps, whether float32 tensors have the same bits in all replicas.

        Raises:
            ReplicaLostError: they do not.
        """
        if self.count == 1 or step % _COMPARE_EVERY:
            return
        sums = torch.stack([t.detach().view(torch.int32).sum(dtype=torch.int64) for t in tensors])
        both = torch.cat([sums, -sums])
        self.take_largest(both)
        if not torch.equal(both[: len(sums)], -both[len(sums) :]):
            raise ReplicaLostError(f"no longer held the same scene at step {step}")

    def figures(self) -> dict[str, float]:
        """What the exchange cost since the last call; empty when there was none.

        reduced_mb: what each replica gives to the all-reduces of a step, 1e6 bytes. reduce_share: of the time
        in them, waiting for the slowest replica included. reduce_fastest_s: the shortest sum, in which nobody
        waited for long.
        """
        if not self._sums_s:
            return {}
        found = {
            "reduced_mb": self._reduced_bytes / len(self._sums_s) / 1e6,
            "reduce_share": self._exchange_s / (time.perf_counter() - self._since),
            "reduce_fastest_s": min(self._sums_s),
        }
        self._forget()
        return found

    def _forget(self) -> None:
        self._sums_s: list[float] = []
        self._reduced_bytes, self._exchange_s, self._since = 0, 0.0, time.perf_counter()

    # -- whole states --------------------------------------------------------------------------

    def adopt(self, trainer: Trainer) -> None:
        """Puts the trainers of all replicas into the state of the leader's; raises as ``add_up``."""
        if self.count == 1:
            return
        state = finish(self.parcel(trainer.checkpoint() if self.is_leader else None))
        if not self.is_leader:
            trainer.restore(state)
        self._forget()

    def parcel(self, content: Checkpoint | None) -> Task[Checkpoint]:
        """The leader's arrays and JSON values, which the others call for with None; raises as ``add_up``."""
        header = b""
        if content is not None:
            arrays = {name: (array.dtype.str, array.shape) for name, array in content.arrays.items()}
            header = json.dumps({"arrays": arrays, "values": dict(content.values)}).encode()
        length = torch.tensor([len(header)])
        self._broadcast(length)
        text = torch.from_numpy(np.frombuffer(header.ljust(int(length)), np.uint8).copy())
        self._broadcast(text)
        told: Mapping[str, Any] = json.loads(text.numpy().tobytes())
        received: dict[str, NDArray[Any]] = {}
        for done, (name, (kind, shape)) in enumerate(told["arrays"].items()):
            yield Progress(STAGE, done, len(told["arrays"]))
            array = np.empty(shape, kind) if content is None else np.ascontiguousarray(content.arrays[name])
            flat = array.reshape(-1).view(np.uint8)
            for first in range(0, flat.size, _PIECE_BYTES):
                piece = torch.from_numpy(flat[first : first + _PIECE_BYTES].copy())
                self._broadcast(piece)
                if content is None:
                    flat[first : first + _PIECE_BYTES] = piece.numpy()
                yield Progress(STAGE, done, len(told["arrays"]))
            received[name] = array
        return Checkpoint(received, told["values"])

    def _broadcast(self, tensor: Tensor) -> None:
        self._finish(lambda: distributed.broadcast(tensor, 0, async_op=True))

    def _finish(self, begin: Callable[[], Any]) -> float:
        """Waits for an exchange, looking meanwhile whether the others live, and says how long it took in s.

        Not every backend tells of a dead process by itself.
        """
        began = time.perf_counter()
        try:
            work = begin()
            while not work.is_completed():
                if (why := self._ended(0.0)) is not None:
                    raise ReplicaLostError(why)
                time.sleep(min(max(_LOOK_S[0], 0.1 * (time.perf_counter() - began)), _LOOK_S[1]))
            work.wait()
        except ReplicaLostError:
            raise
        except RuntimeError as error:
            raise ReplicaLostError(self._ended(_DYING_S) or "could not be reached") from error
        taken = time.perf_counter() - began
        self._exchange_s += taken
        return taken
