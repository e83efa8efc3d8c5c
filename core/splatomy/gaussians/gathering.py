"""Rows of a table by index, with gradients that each kind of device adds up well.

On the CPU the embeddings of torch add in a fixed order, which plain indexing does not. On CUDA they sort all
indices in every step; plain adding is faster there, and has a fixed order under
``torch.use_deterministic_algorithms``.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import embedding, embedding_bag


def rows_of(table: Tensor, index: Tensor) -> Tensor:
    """The rows (N, C) of a table (M, C) at an index (N,)."""
    return embedding(index, table) if table.device.type == "cpu" else table.index_select(0, index)


def blended(table: Tensor, index: Tensor, share: Tensor) -> Tensor:
    """Sums (N, C) of the rows (M, C) at an index (N, k), weighted by shares (N, k) that get no gradient."""
    if table.device.type == "cpu":
        return embedding_bag(index, table, per_sample_weights=share, mode="sum")
    rows = table.index_select(0, index.reshape(-1)).view(*index.shape, -1)
    return (rows * share[..., None]).sum(1)
