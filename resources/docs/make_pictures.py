"""The README's pictures, from the folder of a finished demo: ``make pictures``."""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path

OUT = Path(__file__).parent / "images"
# For each demo a part of the figure's alternative text in its report, and the name of the picture.
WANTED = {
    "angiography": {
        "Shaded surface": "vessels-surface",
        "maximum intensity": "vessels-mip",
        "arrival map": "vessels-arrival",
        "Agreement of the vessel label": "vessels-agreement",
    },
    "endoscopy": {"frame 13": "tissue-frame", "Deformation of": "tissue-deformation"},
    "surface": {"from several sides": "object-sides"},
}
_IMAGE = re.compile(r'<img class="[^"]*" alt="([^"]*)" src="data:image/png;base64,([^"]*)"')


def main(demo: Path) -> None:
    """Copies the wanted figures out of the reports, which hold them inline."""
    OUT.mkdir(exist_ok=True)
    for kind, wanted in WANTED.items():
        figures = _IMAGE.findall((demo / kind / "run" / "report.html").read_text())
        for part, name in wanted.items():
            data = [data for text, data in figures if part in text]
            if not data:
                raise SystemExit(f"The {kind} report has no figure for {name}.")
            (OUT / f"{name}.png").write_bytes(base64.b64decode(data[0]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
