"""Draws the README's pictures of the Slicer section by Slicer's own views.

    .venv/bin/python tests/slicer/make_pictures.py VESSEL_RUN CLIP_RUN CLIP_FRAMES [CASE]

The runs are those of ``splatomy demo``; CLIP_FRAMES is what ``splatomy frames`` wrote of the clip.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
IMAGES = ROOT / "resources" / "docs" / "images"


def _paths() -> None:
    importlib.import_module("slicer")
    for module in sorted((ROOT / "slicer_extension").glob("Splatomy*/")):
        sys.path.insert(0, str(module))


def only(loaded: Any, *keys: str) -> None:
    """Shows these parts alone."""
    for key, found in loaded.nodes.items():
        for node in found if isinstance(found, list) else [found]:
            display = (
                node if node.IsA("vtkMRMLDisplayNode") else getattr(node, "GetDisplayNode", lambda: None)()
            )
            if display is not None:
                display.SetVisibility(key in keys)


def vessels(made: Any, run: Path) -> np.ndarray:
    """Volume rendering, wall, and centrelines coloured by radius, side by side."""
    from rendering import three_d_view
    from SplatomyLib import bridge_case
    from SplatomyLib.bridge_nodes import points_of

    loaded = bridge_case.load_run(made.scene, run)
    middle = points_of(loaded.nodes["mesh"].GetPolyData()).mean(0)

    def front(camera: Any) -> None:
        camera.SetFocalPoint(*middle)
        camera.SetPosition(*(middle + [60, 330, 40]))
        camera.SetViewUp(0, 0, 1)
        camera.SetViewAngle(22)

    pictures = []
    for key in ("rendering", "mesh", "centreline"):
        only(loaded, key)
        pictures.append(three_d_view(made, (380, 420), front))
    return np.concatenate(pictures, 1)


def tissue(made: Any, run: Path) -> np.ndarray:
    """The surface by evidence and as seen, side by side."""
    from rendering import three_d_view
    from SplatomyLib import bridge_case, bridge_models
    from SplatomyLib.geometry import applied

    loaded = bridge_case.load_run(made.scene, run)
    only(loaded, "mesh")
    mesh = loaded.nodes["mesh"]
    from SplatomyLib.bridge_nodes import points_of

    middle = applied(loaded.world.scene_from_nodes(), points_of(mesh.GetPolyData())).mean(0)

    def look(camera: Any) -> None:
        far = np.linalg.norm(middle)
        camera.SetFocalPoint(*middle)
        camera.SetPosition(*(middle + np.array([0.2, 0.2, 1.05]) * far))
        camera.SetViewUp(0, 1, 0)
        camera.SetViewAngle(52)

    pictures = []
    bridge_models.show_evidence(made.scene, mesh)
    pictures.append(three_d_view(made, (560, 420), look))
    bridge_models.show_own_colours(mesh)
    pictures.append(three_d_view(made, (560, 420), look))
    return np.concatenate(pictures, 1)


def masks(made: Any, frames: Path, case: Path | None) -> np.ndarray:
    """A frame with its mask in the axial view."""
    from rendering import slice_view
    from SplatomyLib import bridge_case

    loaded = bridge_case.load_input(made.scene, frames, "clip", case)
    return slice_view(made, loaded.nodes["picture"], (560, 456))


def main() -> None:
    """Writes the pictures."""
    _paths()
    from mrml_scene import SlicerScene
    from rendering import save

    given = [Path(word) for word in sys.argv[1:]]
    case = given[3] if len(given) > 3 else None
    with tempfile.TemporaryDirectory() as folder:
        for name, draw, arguments in (
            ("slicer_vessels.png", vessels, (given[0],)), ("slicer_tissue.png", tissue, (given[1],)),
            ("slicer_masks.png", masks, (given[2], case)),
        ):  # fmt: skip
            made = SlicerScene(Path(folder) / name)
            save(draw(made, *arguments), IMAGES / name)
            made.close()


if __name__ == "__main__":
    main()
