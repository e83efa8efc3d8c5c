"""Settings of the filtered back-projection."""

from dataclasses import dataclass, replace
from typing import Literal

from splatomy.method import setting


@dataclass(frozen=True)
class Config:
    """Settings of the filtered back-projection."""

    window: Literal["ramp", "hann"] = setting("hann", doc="Window of the ramp filter")
    cutoff: float = setting(1.0, 0.1, 2.0, "Nyquist", "Where the Hann window reaches zero")
    bin_volume: int = setting(1, 1, 8, "voxels", "Reconstruct on voxels this many times as large")


def halved(config: Config) -> Config | None:
    """Voxels twice as large; None = they are as large as they may be."""
    return replace(config, bin_volume=2 * config.bin_volume) if config.bin_volume <= 4 else None
