"""ONNX models that a user supplies: loaded, checked against a tensor layout, and run."""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.checks import is_whole_number
from splatomy.errors import InputError, MissingBackendError
from splatomy.events import Notice

Array = NDArray[Any]
Shape = tuple[int | str, ...]

_TYPES: Mapping[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}
_GPU_MEMORY_BYTES = 3 << 29
_LONGEST_NAMES = 1 << 20
_INSTALL = (
    "ONNX models need the package onnxruntime, which cannot be loaded here: install it with "
    '`pip install "splatomy[onnx]"` (on a machine with a CUDA device: onnxruntime-gpu instead, never both).'
)


@dataclass(frozen=True)
class Tensor:
    """An input or output of a model; unknown sizes are names."""

    name: str
    shape: Shape
    dtype: type[np.generic]

    def text(self) -> str:
        """The tensor for people."""
        return f"{self.name} ({', '.join(map(str, self.shape))})"


@functools.cache
def _runtime() -> Any:
    """The onnxruntime module, or the error that loading it gave; tried once."""
    try:
        import onnxruntime
    except ImportError as error:
        return error
    return onnxruntime


def available_providers() -> tuple[str, ...]:
    """Execution providers that the installed runtime offers, best first.

    Raises:
        MissingBackendError: no runtime is installed.
    """
    runtime = _runtime()
    if isinstance(runtime, ImportError):
        raise MissingBackendError(_INSTALL)
    return tuple(runtime.get_available_providers())


class OnnxModel:
    """A loaded model.

    inputs, outputs: its tensors. provider: what really runs it. sha256: of the file.
    metadata: the strings that the exporter left. notices: what a user should know of the load.
    """

    def __init__(self, path: Path, device: str = "auto", threads: int = 0) -> None:
        """Loads ``path`` on ``device``: auto, cpu, cuda or cuda:K. threads: on the CPU, 0 = all cores.

        Raises:
            InputError: missing or no ONNX model, or an unknown device.
            MissingBackendError: no runtime is installed.
        """
        offered = available_providers()
        if not path.is_file():
            raise InputError(f"{path.name} does not exist; expected an ONNX model: check the path.")
        runtime = _runtime()
        wanted = _providers(device, offered)
        options = runtime.SessionOptions()
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Idle threads that spin starve everything else on the machine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=wanted)
        except Exception as error:  # noqa: BLE001 - the runtime's errors have no common base
            reason = str(error).replace(str(path), path.name).split("\n")[0].split(" : ")[-1][:160]
            raise InputError(
                f"{path.name} cannot be loaded as an ONNX model ({reason}); expected a complete model of a "
                "supported opset: export it again."
            ) from None
        self.name = path.name
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        self.provider = str(self._session.get_providers()[0])
        try:
            self.inputs = tuple(_tensor(item) for item in self._session.get_inputs())
            self.outputs = tuple(_tensor(item) for item in self._session.get_outputs())
            self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        except UnicodeDecodeError:
            raise InputError(
                f"{path.name} names its tensors or its metadata in another code than UTF-8; expected a "
                "complete ONNX model: export it again."
            ) from None
        self.notices = _load_notices(self.name, device, wanted, self.provider)

    def find_input(self, *names: str) -> Tensor | None:
        """The input of one of these names, or None."""
        return next((tensor for name in names for tensor in self.inputs if tensor.name == name), None)

    def class_names(self) -> dict[int, str]:
        """Class names that the exporter left under ``names`` as a literal dictionary; empty without."""
        try:
            value = ast.literal_eval(self.metadata.get("names", "{}")[:_LONGEST_NAMES])
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return {}
        if not isinstance(value, dict):
            return {}
        return {int(key): str(name) for key, name in value.items() if isinstance(key, int)}

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name; inputs are converted to the types that the model wants.

        Raises:
            ValueError: a missing or unknown input, or one of another shape.
        """
        if set(feeds) != {tensor.name for tensor in self.inputs}:
            wanted = ", ".join(tensor.name for tensor in self.inputs)
            raise ValueError(f"{self.name} wants the inputs {wanted}, got {', '.join(sorted(feeds))}")
        converted = {}
        for tensor in self.inputs:
            value = np.ascontiguousarray(feeds[tensor.name], dtype=tensor.dtype)
            if not fits(value.shape, tensor.shape):
                raise ValueError(f"{self.name}: input {tensor.text()} got shape {value.shape}")
            converted[tensor.name] = value
        results = self._session.run(None, converted)
        return {tensor.name: np.asarray(value) for tensor, value in zip(self.outputs, results, strict=True)}

    def refuse(self, expected: str) -> InputError:
        """The error that the model's tensors are not what an adapter can use."""
        tensors = "; ".join(
            f"{kind} {', '.join(tensor.text() for tensor in side)}"
            for kind, side in (("inputs", self.inputs), ("outputs", self.outputs))
        )
        return InputError(
            f"{self.name} has {tensors}; expected {expected}: choose a model of that layout, or export it "
            "again."
        )


def fits(shape: Sequence[int], pattern: Sequence[int | str]) -> bool:
    """True if a shape has the pattern's rank and its fixed sizes; named sizes are free."""
    return len(shape) == len(pattern) and all(
        isinstance(wanted, str) or size == wanted for size, wanted in zip(shape, pattern, strict=True)
    )


def may_be(shape: Shape, pattern: Shape) -> bool:
    """True if a declared shape does not contradict a pattern: same rank, and fixed sizes that agree."""
    return len(shape) == len(pattern) and all(
        isinstance(a, str) or isinstance(b, str) or a == b for a, b in zip(shape, pattern, strict=True)
    )


def _tensor(item: Any) -> Tensor:
    if item.type not in _TYPES:
        raise InputError(f"The tensor {item.name} has the type {item.type}; expected plain numbers.")
    shape = tuple(
        size if isinstance(size, int) and size > 0 else str(size) if isinstance(size, str) else "?"
        for size in item.shape
    )
    return Tensor(str(item.name), shape, _TYPES[item.type])


def _providers(device: str, offered: Sequence[str]) -> list[Any]:
    """Providers to ask for, best first."""
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (number and not is_whole_number(number)):
        raise InputError(f"There is no device {device!r}; expected auto, cpu, cuda or cuda:K: choose one.")
    wanted: list[Any] = []
    if kind != "cpu" and "CUDAExecutionProvider" in offered:
        settings = {
            "device_id": int(number or 0),
            # The exhaustive search takes seconds for the first frame of every size.
            "cudnn_conv_algo_search": "HEURISTIC",
            "arena_extend_strategy": "kSameAsRequested",
            "gpu_mem_limit": _GPU_MEMORY_BYTES,
        }
        wanted.append(("CUDAExecutionProvider", settings))
    return [*wanted, "CPUExecutionProvider"]


def _load_notices(name: str, device: str, wanted: Sequence[Any], provider: str) -> tuple[Notice, ...]:
    text = f"{name} runs on {provider.removesuffix('ExecutionProvider')}."
    asked_for_cuda = device.startswith("cuda") or len(wanted) > 1
    if asked_for_cuda and provider != "CUDAExecutionProvider":
        text += " The CUDA device cannot be used by the installed onnxruntime."
        return (Notice("warning", "onnx-provider", text),)
    return (Notice("info", "onnx-provider", text),)
