"""Run alone, ``python -m splatomy.weights._unpickle SOURCE TARGET LIMIT_BYTES``: tensors of a pickle.

A separate process, because even restricted unpickling of a hostile file may exhaust memory or hang.
"""

from __future__ import annotations

import sys
from typing import Any


def tensors_of(loaded: Any) -> dict[str, Any]:
    """The named tensors of a checkpoint, out of the wrappers that trainers put around them.

    Raises:
        ValueError: there are no named tensors.
    """
    import torch

    for _ in range(3):
        if not isinstance(loaded, dict):
            break
        found = {str(k): v for k, v in loaded.items() if isinstance(v, torch.Tensor)}
        if found:
            # A copy of each: safetensors refuses tensors that share memory.
            return {name: tensor.detach().clone().contiguous() for name, tensor in found.items()}
        loaded = next((loaded[k] for k in ("state_dict", "model", "module", "params") if k in loaded), None)
    raise ValueError("the file holds no named tensors")


def main() -> int:
    """Converts one file; 0 = done, else the reason is one line on stderr."""
    source, target, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (ImportError, ValueError, OSError):
        # Windows has no such limit, macOS may refuse it: the time limit of the parent remains.
        pass
    import torch
    from safetensors.torch import save_file

    try:
        loaded = torch.load(source, map_location="cpu", weights_only=True)
        save_file(tensors_of(loaded), target, metadata={"format": "pt"})
    except Exception as error:  # noqa: BLE001 - whatever a broken file makes the reader say becomes one line
        sys.stderr.write(f"{type(error).__name__}: {error}".splitlines()[0][:300] + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
