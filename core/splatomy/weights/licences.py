"""Whose weights a published file is, and under which terms, so that using it never happens unsaid."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Licence:
    """name: of the work. terms: its licence as its publisher names it. restricted: not free to all uses."""

    name: str
    terms: str
    restricted: bool = False

    @property
    def text(self) -> str:
        """The work and its terms in one line."""
        return f"{self.name}: {self.terms}"


_BY_FOLDER = {
    "diffinpaint": Licence(
        "DiffuEraser as fine-tuned by Diff2DGS",
        "Apache-2.0 for DiffuEraser; the fine-tuned weights as their publisher says",
    ),
    "stable-diffusion-v1-5": Licence(
        "Stable Diffusion 1.5", "CreativeML OpenRAIL-M (restrictions of use)", restricted=True
    ),
    "sd-vae-ft-mse": Licence("sd-vae-ft-mse", "MIT"),
    "PCM_Weights": Licence(
        "Phased Consistency Model", "as its publisher says; derived from OpenRAIL-M weights"
    ),
    "animatediff-motion-adapter-v1-5-2": Licence("AnimateDiff motion adapter v1.5.2", "Apache-2.0"),
}
_BY_FILE = {
    "ProPainter.pth": Licence("ProPainter", "NTU S-Lab License 1.0 (non-commercial)", restricted=True),
    "recurrent_flow_completion.pth": Licence(
        "ProPainter", "NTU S-Lab License 1.0 (non-commercial)", restricted=True
    ),
    "raft-things.pth": Licence("RAFT", "BSD-3-Clause"),
}


def licence_of(path: str) -> Licence:
    """The licence of a file of the layout, given relative to the weights folder with forward slashes.

    Raises:
        ValueError: the path is none of the layout.
    """
    parts = path.split("/")
    found = _BY_FILE.get(parts[-1]) or _BY_FOLDER.get(parts[0])
    if found is None:
        raise ValueError(f"no licence is known of {path}")
    return found
