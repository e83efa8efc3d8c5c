"""The table of workspaces: one entry adds a workspace to the bar, the start page and the stepper."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One step of a workspace. page: "module:Class" of a Page, imported when it is first shown.

    needs: what must be there: "" nothing, "case" an opened input, "result" a run or a volume.
    """

    key: str
    title: str
    page: str
    needs: str = ""
    timeline: bool = True


@dataclass(frozen=True)
class Sample:
    """A simulated input, made offline: the words after ``splatomy phantom``."""

    title: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Workspace:
    """One kind of work. modality: whose methods it offers. methods: their names, empty = all of them.

    picture: what people call one picture of its inputs.
    """

    key: str
    title: str
    icon: str
    about: str
    modality: str
    steps: tuple[Step, ...]
    samples: tuple[Sample, ...]
    methods: tuple[str, ...] = ()
    picture: str = "frame"


_PANELS = "splatomy_gui.panels"

WORKSPACES = (
    Workspace(
        "endoscopy",
        "Endoscopy",
        "endoscopy",
        "A surgical video becomes a moving tissue surface, with the instruments taken out.",
        "colour",
        (
            Step("load", "Load", f"{_PANELS}.load_endoscopy:LoadEndoscopyPage", timeline=False),
            Step("masks", "Check & mask", f"{_PANELS}.masks:MaskPage", "case"),
            Step("reconstruct", "Reconstruct", f"{_PANELS}.reconstruct:ReconstructPage", "case", False),
            Step("inspect", "Inspect", f"{_PANELS}.inspect_endoscopy:InspectEndoscopyPage", "result"),
            Step("export", "Export", f"{_PANELS}.export:ExportPage", "result", False),
            Step("live", "Live", f"{_PANELS}.live:LivePage", timeline=False),
        ),
        (Sample("Sample clip", ("tissue", "--preset", "demo")),),
        # The other methods of colour want still scenes, or a video while it is recorded.
        ("dynamic_tissue",),
    ),
    Workspace(
        "angiography",
        "Angiography",
        "angiography",
        "A DSA run becomes vessels in 3D over time: volume, surface, centrelines and arrival maps.",
        "attenuation",
        (
            Step("load", "Load", f"{_PANELS}.load_angiography:LoadAngiographyPage", timeline=False),
            Step("masks", "Check & mask", f"{_PANELS}.masks:MaskPage", "case"),
            Step("reconstruct", "Reconstruct", f"{_PANELS}.reconstruct:ReconstructPage", "case", False),
            Step("inspect", "Inspect", f"{_PANELS}.inspect_angiography:InspectAngiographyPage", "result"),
            Step("export", "Export", f"{_PANELS}.export:ExportPage", "result", False),
        ),
        (Sample("Sample run", ("vessels", "--preset", "demo")),),
    ),
    Workspace(
        "surface",
        "Surface",
        "cube",
        "Pictures of an object or a still scene become its surface; what hid the object is left out.",
        "colour",
        (
            Step("load", "Load", f"{_PANELS}.load_surface:LoadSurfacePage", timeline=False),
            Step("masks", "Check & mask", f"{_PANELS}.masks:MaskPage", "case"),
            Step("reconstruct", "Reconstruct", f"{_PANELS}.reconstruct:ReconstructPage", "case", False),
            Step("inspect", "Inspect", f"{_PANELS}.inspect_endoscopy:InspectEndoscopyPage", "result"),
            Step("export", "Export", f"{_PANELS}.export:ExportPage", "result", False),
        ),
        (Sample("Sample object", ("object", "--preset", "small")),),
        ("pulled_surface", "completed_object"),
        "view",
    ),
)


def workspace(key: str) -> Workspace:
    """The workspace of that key."""
    return next(w for w in WORKSPACES if w.key == key)
