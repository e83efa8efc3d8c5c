"""Named-shape checks for arrays and tensors."""

from __future__ import annotations

from typing import Any

_MOST_DIGITS = 18


def is_whole_number(text: str) -> bool:
    """True for a few digits 0 to 9: what else Python calls digits it may not read as a number."""
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


def check_shapes(**named: tuple[Any, str]) -> dict[str, int]:
    """Sizes bound to the dimension names, after checking every array against its pattern.

    A pattern is a blank-separated list of dimension names and literal sizes; a name is bound
    on its first use and must agree everywhere else: ``check_shapes(means_mm=(m, "N 3"))``.

    Raises:
        ValueError: a rank or a size disagrees, with the argument's name.
    """
    bound: dict[str, int] = {}
    for name, (array, pattern) in named.items():
        dims = pattern.split()
        shape = tuple(int(n) for n in array.shape)
        wanted = tuple(int(d) if d.isdigit() else bound.get(d, d) for d in dims)
        agrees = len(shape) == len(dims) and all(
            isinstance(w, str) or w == n for w, n in zip(wanted, shape, strict=True)
        )
        if not agrees:
            known = ", ".join(f"{d}={bound[d]}" for d in dims if d in bound)
            text = ", ".join(dims)
            raise ValueError(
                f"{name} must have shape ({text}), got {shape}" + (f" with {known}" if known else "")
            )
        for dim, size in zip(dims, shape, strict=True):
            if not dim.isdigit() and bound.setdefault(dim, size) != size:
                raise ValueError(f"{name} must have shape {pattern!r}: {dim} is {bound[dim]} and {size}")
    return bound
