"""What ``splatomy inspect`` tells of an image set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from splatomy.errors import InputError
from splatomy.io.frames import read_picture
from splatomy.io.image_sets.layouts import image_set_source
from splatomy.io.image_sets.source import ImageSetSource
from splatomy.io.mask_folder import foreground
from splatomy.io.options import InputOptions, chosen_crop, chosen_frames


@dataclass(frozen=True)
class ImageSetReport:
    """What an image set is and what is wrong with it."""

    facts: dict[str, Any]
    found: tuple[str, ...]
    assumed: tuple[str, ...]
    problems: tuple[str, ...]
    usable: bool

    kind = "image set"

    def with_problem(self, text: str, usable: bool = True) -> ImageSetReport:
        """The report with one more problem, perhaps one that forbids using the set."""
        return replace(self, problems=(*self.problems, text), usable=usable)

    def with_found(self, text: str) -> ImageSetReport:
        """The report with one more thing that was found out."""
        return replace(self, found=(*self.found, text))

    def as_json(self) -> dict[str, Any]:
        """The report as a JSON object of the command line's contract."""
        return {
            "contract": 1,
            "kind": self.kind,
            "usable": self.usable,
            **self.facts,
            "found": list(self.found),
            "assumed": list(self.assumed),
            "problems": list(self.problems),
        }

    def lines(self) -> list[str]:
        """The report for people, one fact a line."""
        out = [f"kind: {self.kind}", f"usable: {'yes' if self.usable else 'no'}"]
        if self.facts:
            facts = self.facts
            out.append(f"layout: {facts['layout']}")
            out.append(f"views: {facts['views']} of {facts['width_px']} x {facts['height_px']} pixels")
            out.append(f"cameras: {facts['poses'] or 'unknown'}")
            out.append(f"scale: {'millimetres' if facts['metric'] else 'unknown'}")
            out += [f"{name}: {facts[key]} views" for name, key in _COUNTS if facts[key]]
        out += [f"found: {text}" for text in self.found]
        out += [f"assumed: {text}" for text in self.assumed]
        return out + [f"note: {p}" if self.usable else f"problem: {p}" for p in self.problems]


def shows_occluder(source: ImageSetSource) -> bool:
    """True if a mask of what hides the object has a marked pixel, in a few views spread over the set.

    Raises:
        InputError: a mask cannot be read.
    """
    files = [v.occluder for v in source.views if v.occluder is not None]
    some = files[:: max(1, len(files) // _MOST_LOOKED_AT)]
    return source.layout != "NeRF transforms" and any(foreground(read_picture(f)).any() for f in some)


_MOST_LOOKED_AT = 40
_COUNTS = (("object masks", "masks"), ("masks of what hides it", "occluders"), ("depth maps", "depth"))


def inspect_image_set(path: Path, options: InputOptions) -> ImageSetReport:
    """The report on an image set, from its headers and first picture; an unusable one gives a report too."""
    try:
        source = image_set_source(path, options)
        wanted = chosen_frames(len(source.views), options)
        views = [source.views[i] for i in wanted]
        height, width = read_picture(views[0].picture).shape[:2]
        crop = chosen_crop(width, height, options)
    except InputError as error:
        return ImageSetReport({}, (), (), (str(error),), False)
    facts: dict[str, Any] = {
        "layout": source.layout,
        "views": len(views),
        "width_px": crop[2] // options.bin,
        "height_px": crop[3] // options.bin,
        "poses": source.axes if source.is_placed else None,
        "metric": source.unit_mm is not None,
        "masks": sum(v.mask is not None for v in views),
        "occluders": sum(v.occluder is not None for v in views),
        "depth": sum(v.depth is not None for v in views),
        "object": source.name,
    }
    return ImageSetReport(facts, source.found, source.assumed, source.problems, True)
