"""What every training step does, recorded as a CUDA graph: the host then starts one graph, not 200 kernels.

A step of splatting takes the device a fraction of a millisecond, and the host ten times as long to start its
kernels one by one from Python.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from splatomy.gaussians.adam import Adam
from splatomy.gaussians.store import GaussianStore

Inputs = Mapping[str, Tensor | float]
Work = Callable[[Mapping[str, Tensor]], None]


class Recorded:
    """Work on tensors: done as it is on the CPU; on CUDA recorded once and replayed with other inputs.

    work: takes tensors by name, and changes others that stay where they are (gradients, sums, parameters).
        It must not look at their values, nor replace them by new ones.
    replay: False does the work as it is on CUDA too.
    """

    def __init__(self, work: Work, device: torch.device, replay: bool = True) -> None:
        self._work, self._device = work, device
        self._replay = replay and device.type == "cuda"
        self._seen: Hashable = None
        self._recorded: Hashable = None
        self._inputs: dict[str, Tensor] = {}
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, key: Hashable, inputs: Inputs | None = None) -> None:
        """Does the work with these inputs: tensors on the device, and numbers, which become float32 ().

        key: all that the work depends on besides its inputs; not None. The first time with a key the work is
        done as it is, so that what is made lazily exists; then it is recorded.
        """
        given = inputs or {}
        if self._graph is not None and key == self._recorded:
            self._set(given)
            self._graph.replay()
        elif not self._replay or key != self._seen:
            self._seen = key
            self._work({name: self._tensor(value) for name, value in given.items()})
        else:
            self._record(key, given)

    def _tensor(self, value: Tensor | float) -> Tensor:
        return value if isinstance(value, Tensor) else torch.tensor(value, device=self._device)

    def _set(self, given: Inputs) -> None:
        alike: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        for name, value in given.items():
            own = self._inputs[name]
            if isinstance(value, Tensor):
                for tensors, each in zip(alike.setdefault(own.dtype, ([], [])), (own, value), strict=True):
                    tensors.append(each)
            else:
                own.fill_(value)
        # One call for many: to begin each copy takes the host longer than the device needs for it.
        for owns, values in alike.values():
            torch._foreach_copy_(owns, values)

    def _record(self, key: Hashable, given: Inputs) -> None:
        """Records the work and does it once; what cannot be recorded is done as it is from then on."""
        self._inputs = {name: self._tensor(value).clone() for name, value in given.items()}
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(self._device)
        # The memory of the recording before is taken over; it is never replayed again.
        pool = None if self._graph is None else self._graph.pool()
        # The kernels make room by what the last call asked for: it must have told.
        torch.cuda.current_stream(self._device).synchronize()
        try:
            with torch.cuda.device(self._device), torch.cuda.stream(stream):
                # Other threads make frames ready meanwhile.
                graph.capture_begin(pool=pool, capture_error_mode="thread_local")
                try:
                    self._work(self._inputs)
                except BaseException:
                    with suppress(RuntimeError):
                        graph.capture_end()
                    raise
                graph.capture_end()
        except RuntimeError as error:
            self._replay, self._graph = False, None
            warnings.warn(f"a slower way to train is taken on the GPU: {error}", RuntimeWarning, stacklevel=3)
            self._work(self._inputs)
            return
        torch.cuda.current_stream(self._device).wait_stream(stream)
        self._graph, self._recorded = graph, key
        graph.replay()


class SumsOfStep(Protocol):
    """What the pictures of a step add up to; on the device, and in the same place in every step."""

    loss: Tensor
    last_loss: Tensor


S = TypeVar("S", bound=SumsOfStep)


class Steps(ABC, Generic[S]):
    """The parts of every training step on one store: what each picture adds, and the move that ends the step.

    optimisers: what moves the store and what belongs to it. blank: zeros for so many rows. replay: False does
    everything as it is on CUDA too.
    """

    def __init__(
        self,
        store: GaussianStore,
        optimisers: Sequence[Adam],
        blank: Callable[[int, torch.device], S],
        replay: bool,
    ) -> None:
        self.store, self.optimisers, self._blank = store, optimisers, blank
        self.device = next(iter(store.parameters.values())).device
        # Under it lists are as long as they are, which the host must ask for.
        replay = replay and not torch.are_deterministic_algorithms_enabled()
        self._adding = Recorded(self._add, self.device, replay)
        self._moving = Recorded(lambda _: self._end(), self.device, replay)
        self._whole = Recorded(self._add_and_end, self.device, replay)
        self._generation = -1
        self.begin()

    def begin(self) -> S:
        """The sums of a step, blank; the same ones until rows come or go."""
        if self._generation != self.store.generation:
            self._generation = self.store.generation
            self.sums = self._blank(len(self.store), self.device)
        return self.sums

    def parameters(self) -> list[Tensor]:
        """All that is moved."""
        return [p for each in self.optimisers for p in each.parameters]

    def end(self) -> None:
        """Moves everything by its gradients, gathers the sums and clears both."""
        self._moving(self.store.generation)

    def add(self, key: Hashable, inputs: Inputs, is_all: bool = False) -> None:
        """One picture's part; key: all that it depends on besides its inputs and the rows.

        is_all: nothing else belongs to the step, which ends with it.
        """
        work = self._whole if is_all else self._adding
        work((self.store.generation, key), inputs)

    @abstractmethod
    def _add(self, inputs: Mapping[str, Tensor]) -> None:
        """Adds one picture's gradients, loss and sums."""

    @abstractmethod
    def _gather(self) -> None:
        """Keeps the sums, clears all but the loss, and holds the parameters within their limits."""

    def _add_and_end(self, inputs: Mapping[str, Tensor]) -> None:
        self._add(inputs)
        self._end()

    @torch.no_grad()
    def _end(self) -> None:
        for each in self.optimisers:
            each.step()
            # A recorded step adds to gradients that stay where they are.
            each.zero_grad(set_to_none=self.device.type == "cpu")
        self._gather()
        self.sums.last_loss.copy_(self.sums.loss)
        self.sums.loss.zero_()
