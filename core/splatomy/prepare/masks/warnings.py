"""What looks wrong in the masks of a clip."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from splatomy.review import Mask

WarningCode = Literal["over-half", "sudden-change", "empty-among-full"]

_HALF = 0.5
_SUDDEN_FACTOR = 2.0
_SUDDEN_SHARE = 0.03
_NEIGHBOURS = 2


@dataclass(frozen=True)
class MaskWarning:
    """One frame to look at, and why."""

    frame: int
    code: WarningCode
    text: str


def mask_warnings(masks: Iterable[Mask]) -> tuple[MaskWarning, ...]:
    """Frames whose masks cover over half of the picture, change suddenly, or are empty among full ones.

    masks: (H, W) each, True = hidden, in order.

    A change is sudden when the area is over twice, or under half, the median of the four frames around it
    and differs from it by over 3 % of the picture.
    """
    return share_warnings([float(mask.mean()) for mask in masks])


def share_warnings(hidden_shares: Sequence[float]) -> tuple[MaskWarning, ...]:
    """The same from the shares (T,) of the pictures that are hidden, in order."""
    shares = np.asarray(hidden_shares, dtype=np.float64)
    found: list[MaskWarning] = []
    for frame, share in enumerate(shares.tolist()):
        near = [i for i in range(frame - _NEIGHBOURS, frame + _NEIGHBOURS + 1) if i != frame]
        around = shares[[i for i in near if 0 <= i < len(shares)]]
        usual = float(np.median(around)) if len(around) else share
        if share > _HALF:
            found.append(
                MaskWarning(
                    frame,
                    "over-half",
                    f"Frame {frame}: the mask hides {100 * share:.0f} % of the picture; is it the right way "
                    "round?",
                )
            )
        if share == 0 and len(around) and (around > 0).all():
            found.append(
                MaskWarning(frame, "empty-among-full", f"Frame {frame}: nothing is hidden, unlike around it.")
            )
        elif abs(share - usual) > _SUDDEN_SHARE and not (
            usual / _SUDDEN_FACTOR <= share <= usual * _SUDDEN_FACTOR
        ):
            found.append(
                MaskWarning(
                    frame,
                    "sudden-change",
                    f"Frame {frame}: the mask hides {100 * share:.0f} % of the picture, against "
                    f"{100 * usual:.0f} % around it.",
                )
            )
    return tuple(found)
