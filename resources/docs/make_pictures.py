"""The README's pictures, from the folder of a finished demo: ``make pictures``."""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path

OUT = Path(__file__).parent / "images"
# A part of the figure's alternative text in the report, and the name of the picture.
WANTED = {
    "Shaded surface": "vessels-surface",
    "maximum intensity": "vessels-mip",
    "arrival map": "vessels-arrival",
    "Agreement of the vessel label": "vessels-agreement",
}
_IMAGE = re.compile(r'<img class="[^"]*" alt="([^"]*)" src="data:image/png;base64,([^"]*)"')


def main(demo: Path) -> None:
    """Copies the wanted figures out of the report, which holds them inline."""
    OUT.mkdir(exist_ok=True)
    found = {}
    for text, data in _IMAGE.findall((demo / "run" / "report.html").read_text()):
        for part, name in WANTED.items():
            if part in text:
                found[name] = base64.b64decode(data)
    missing = sorted(set(WANTED.values()) - set(found))
    if missing:
        raise SystemExit(f"The report has no figure for {', '.join(missing)}.")
    for name, data in found.items():
        (OUT / f"{name}.png").write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
