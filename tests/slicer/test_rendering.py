"""What a person sees: Slicer's own views, off-screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mrml_scene import SlicerScene
from rendering import slice_view, three_d_view
from SplatomyLib import bridge_case, bridge_frames, bridge_models
from SplatomyLib.bridge_nodes import points_of


def hide_all(loaded: bridge_case.Loaded, *kept: str) -> None:
    for key, node in loaded.nodes.items():
        for one in node if isinstance(node, list) else [node]:
            display = one if one.IsA("vtkMRMLDisplayNode") else getattr(one, "GetDisplayNode", lambda: None)()
            if display is not None:
                display.SetVisibility(key in kept)


def drawn(picture: np.ndarray) -> np.ndarray:
    """Where something is on the white ground."""
    return picture.astype(int).sum(-1) < 740


def test_mesh_label_and_volume_are_drawn_in_one_place(slicer_scene: SlicerScene, dsa_run: Path) -> None:
    """Three independent ways into the scene overlap as seen from the front."""
    loaded = bridge_case.load_run(slicer_scene.scene, dsa_run)
    points = points_of(loaded.nodes["mesh"].GetPolyData())
    middle = points.mean(0)

    def front(camera: Any) -> None:
        camera.SetFocalPoint(*middle)
        camera.SetPosition(*(middle + [0, 400, 0]))
        camera.SetViewUp(0, 0, 1)
        camera.SetViewAngle(14)

    seen = {}
    loaded.nodes["vessels"].GetDisplayNode().SetVisibility3D(True)
    for key in ("mesh", "vessels", "rendering"):
        hide_all(loaded, key)
        seen[key] = drawn(three_d_view(slicer_scene, (240, 240), front))
        assert 200 < seen[key].sum() < 0.6 * seen[key].size, key
    for key in ("vessels", "rendering"):
        # The rendering shows less: vessels of little contrast are clear in it.
        inside = (seen["mesh"] & seen[key]).sum() / seen[key].sum()
        mirrored = (seen["mesh"] & seen[key][:, ::-1]).sum() / seen[key].sum()
        assert inside > 0.8, (key, inside)
        assert inside > mirrored + 0.1, (key, mirrored)


def test_evidence_is_seen_in_magenta(slicer_scene: SlicerScene, clip_run: Path) -> None:
    loaded = bridge_case.load_run(slicer_scene.scene, clip_run)
    hide_all(loaded, "mesh")
    mesh = loaded.nodes["mesh"]
    pictures = []
    for show in (bridge_models.show_evidence, lambda _scene, model: bridge_models.show_own_colours(model)):
        show(slicer_scene.scene, mesh)
        pictures.append(three_d_view(slicer_scene, (240, 200)).astype(int))
    magenta = [(p[..., 0] > 90) & (p[..., 2] > 90) & (p[..., 1] < 0.6 * p[..., 0]) for p in pictures]
    assert magenta[0].sum() > 20
    assert magenta[1].sum() < magenta[0].sum() / 4


def test_a_frame_stands_upright_with_its_mask(slicer_scene: SlicerScene, clip_frames: Path) -> None:
    loaded = bridge_case.load_input(slicer_scene.scene, clip_frames, "clip")
    # As many pixels as the frame has, so that both can be compared.
    shown = slice_view(slicer_scene, loaded.nodes["picture"], (64, 52)).astype(float)
    picture = bridge_frames.read_picture(clip_frames / "pictures" / "000000.png").astype(float)
    hidden = bridge_frames.read_picture(clip_frames / "occluded" / "000000.png") > 0
    tint = (shown - picture)[..., 2] - (shown - picture)[..., 0]
    upright = np.abs((shown - picture)[~hidden]).mean()
    for turned in (picture[::-1], picture[:, ::-1], picture[::-1, ::-1]):
        # Half a pixel of interpolation apart it is the picture itself.
        assert upright < 0.6 * np.abs((shown - turned)[~hidden]).mean()
    assert tint[hidden].mean() > 20 + tint[~hidden].mean()


def test_the_picture_changes_with_time(slicer_scene: SlicerScene, dsa_frames: Path) -> None:
    loaded = bridge_case.load_input(slicer_scene.scene, dsa_frames, "run")
    browser = loaded.nodes["browser"]
    means = []
    for number in (0, 12):
        browser.SetSelectedItemNumber(number)
        bridge_frames.refresh(slicer_scene.scene, browser)
        means.append(slice_view(slicer_scene, loaded.nodes["picture"], (128, 128)).mean())
    # Before the contrast the picture is white; vessels full of it are dark.
    assert means[0] > means[1] + 2
