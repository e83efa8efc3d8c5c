"""The start of a training on tissue: work shared by threads gives what one frame after the other gives."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from splatomy.capture import Capture, Modality
from splatomy.events import Progress, finish
from splatomy.method import find_method, make_config
from splatomy.methods.dynamic_tissue.footage import Footage
from splatomy.methods.dynamic_tissue.seeding import seed
from splatomy.methods.dynamic_tissue.tracking import Tracks, reference_frame, track
from splatomy.phantoms.tissue import PRESETS, TissuePhantom, make_tissue
from splatomy.prepare.inpaint.fields import composed, read_at, spread
from splatomy.prepare.inpaint.motion import Motion, completed, small_frame

SPACING = 0.05


@pytest.fixture(scope="module")
def phantom() -> TissuePhantom:
    return finish(make_tissue(replace(PRESETS["tiny"], baseline_mm=0.0), 3))


def footage_of(p: TissuePhantom) -> Footage:
    images = np.where(p.occluded[..., None], p.rgb, p.images)
    capture = Capture(
        Modality.COLOUR,
        images,
        p.times_s,
        cameras=p.cameras,
        occluded=p.occluded,
        synthetic=p.occluded & p.never_seen,
        depth_mm=p.observed_depth_mm,
    )
    config = make_config(find_method("dynamic_tissue"), "draft", {})
    return Footage(capture, config, torch.device("cpu"))


def tracked(p: TissuePhantom) -> Tracks:
    return finish(track(footage_of(p), SPACING, True))


@pytest.fixture(scope="module")
def expected(phantom: TissuePhantom) -> Tracks:
    """The same tracks as plain loops: first all frames after the reference, then all before it."""
    footage = footage_of(phantom)
    reference = finish(reference_frame(footage))
    width, height = footage.width_px, footage.height_px
    step = max(3.0, SPACING * width)
    columns = np.linspace(0, width - 1, max(2, round((width - 1) / step) + 1))
    rows = np.linspace(0, height - 1, max(2, round((height - 1) / step) + 1))
    x, y = (a.ravel().astype(np.float32) for a in np.meshgrid(columns, rows))
    size = (width, height)
    u, v = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    synthetic = footage.capture.synthetic
    assert synthetic is not None
    motion = Motion(lambda t: small_frame(footage.capture.images[t], synthetic[t], size), 6)

    def world(frame: int, depth: np.ndarray, at_x: np.ndarray, at_y: np.ndarray) -> np.ndarray:
        at = (np.stack([at_x.ravel(), at_y.ravel()], -1)[None] + 0.5) / 1.0 - 0.5
        z = read_at(depth, at_x.ravel(), at_y.ravel())
        points = footage.cameras[frame].unproject(at, z[None])[0]
        return np.asarray(points.reshape(*at_x.shape, 3), np.float32)

    rest_depth, rest_known = footage.bare_depth(reference, size=size)
    rest = world(reference, rest_depth, u, v)
    whole_depth, _ = footage.bare_depth(reference)
    at = np.stack([x, y], -1)[None]
    nodes = footage.cameras[reference].unproject(at, read_at(whole_depth, x, y)[None])[0]
    displacement = np.zeros((len(nodes), len(footage), 3), np.float32)
    weight = np.zeros((len(nodes), len(footage)), np.float32)
    weight[:, reference] = 1.0
    for direction in (1, -1):
        flow = np.zeros((height, width, 2), np.float32)
        frame = reference + direction
        while 0 <= frame < len(footage):
            flow = composed(flow, motion.step((frame - direction, frame)))
            flow, seen = motion.refined(reference, frame, flow)
            depth, known = footage.bare_depth(frame, size=size)
            to_x, to_y = u + flow[..., 0], v + flow[..., 1]
            share = cv2.erode(known, np.ones((3, 3), np.uint8))
            share = read_at(share, to_x.ravel(), to_y.ravel(), outside=0.0).reshape(u.shape)
            moved = world(frame, depth, to_x, to_y) - rest
            mean, mass = spread(moved, seen * share * rest_known, max(1.0, 0.35 * step))
            whole = completed(np.where(mass[..., None] > 0.05, mean, 0), (mass > 0.05).astype(np.float32))
            displacement[:, frame], weight[:, frame] = read_at(whole, x, y), read_at(mass, x, y).clip(0.02, 1)
            frame += direction
    return Tracks(reference, nodes.astype(np.float32), displacement, weight, 0.0)


@pytest.mark.parametrize("cores", [1, 4, 32])
def test_tracks_are_those_of_one_frame_after_the_other_to_the_last_bit(
    phantom: TissuePhantom, expected: Tracks, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    found = tracked(phantom)
    assert found.reference == expected.reference
    assert np.array_equal(found.nodes_mm, expected.nodes_mm)
    assert np.array_equal(found.displacement_mm, expected.displacement_mm)
    assert np.array_equal(found.weight, expected.weight)


def test_tracking_goes_on_from_a_reference_at_either_end(phantom: TissuePhantom) -> None:
    """The frame that shows most is the first or the last one: all others lie on one side."""
    for end in (0, len(phantom.times_s) - 1):
        occluded = phantom.occluded.copy()
        others = np.arange(len(occluded)) != end
        occluded[others, :, :20] = True
        occluded[end] = False
        found = tracked(replace(phantom, occluded=occluded))
        assert found.reference == end
        assert np.isfinite(found.displacement_mm).all() and (found.weight > 0).all()
        assert np.abs(found.displacement_mm[:, others]).max() > 0.1


def test_tracking_tells_of_every_frame_and_can_be_closed(phantom: TissuePhantom) -> None:
    task = track(footage_of(phantom), SPACING, True)
    steps = [event.step for event in task if isinstance(event, Progress)]
    assert steps[-1] == len(phantom.times_s) - 1 and steps == sorted(steps)
    task = track(footage_of(phantom), SPACING, True)
    while not isinstance(event := next(task), Progress) or event.step < 2:
        pass
    task.close()


@pytest.mark.parametrize("spacing_px", [1.0, 2.0, 2.5, 7.0])
def test_seeds_lie_on_a_lattice_where_nothing_covers_tissue_that_is_seen(
    phantom: TissuePhantom, spacing_px: float
) -> None:
    footage = footage_of(phantom)
    frame = 4
    carried = np.zeros((footage.height_px, footage.width_px), np.float32)
    carried[10:30, 5:40] = 70.0
    depth, known = footage.depth_known(frame)
    found = seed(footage, frame, carried, spacing_px, hidden=False)
    first = 0.5 * (spacing_px - 1)
    chosen = np.zeros(carried.shape, bool)
    for row in np.arange(first, footage.height_px, spacing_px).astype(int):
        for column in np.arange(first, footage.width_px, spacing_px).astype(int):
            chosen[row, column] = True
    chosen &= (carried == 0) & (known > 0) & ~phantom.occluded[frame]
    rows, columns = chosen.nonzero()
    at = np.stack([columns, rows], -1)[None].astype(np.float64)
    expected = footage.cameras[frame].unproject(at, depth[rows, columns][None])[0]
    assert len(rows) > 20
    assert np.allclose(found.means_mm, expected, atol=1e-3)
    assert np.array_equal(found.colours, footage.capture.images[frame][rows, columns])
    assert np.all(found.evidence == 1)
