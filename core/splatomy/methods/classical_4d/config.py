"""Settings of the classical 4D-DSA."""

from dataclasses import dataclass, replace

from splatomy.method import setting


@dataclass(frozen=True)
class Config:
    """Settings of the classical 4D-DSA."""

    bin_volume: int = setting(1, 1, 8, "voxels", "Reconstruct on voxels this many times as large")
    blur_px: float = setting(2.0, 0.0, 20.0, "px", "Smoothing of the projections before their ratio")
    clip_share: float = setting(0.1, 0.0, 1.0, "", "Constraint voxels under this share of the peak are zero")
    max_ratio: float = setting(6.0, 1.0, 100.0, "", "Largest factor of the static volume")


def halved(config: Config) -> Config | None:
    """Voxels twice as large; None = they are as large as they may be."""
    return replace(config, bin_volume=2 * config.bin_volume) if config.bin_volume <= 4 else None
