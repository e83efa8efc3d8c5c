"""Filtered back-projection against analytic spheres and against RTK."""

from __future__ import annotations

import numpy as np
import pytest

from splatomy.capture import Capture, Grid, Modality
from splatomy.events import finish
from splatomy.geometry.conebeam import cone_beam, rays
from splatomy.prepare.fdk import fdk, source_arc

CENTRE_MM, RADIUS_MM, DENSITY = np.array([10.0, 5.0, -8.0]), 30.0, 0.02


def sphere_capture(arc_deg: float, frames: int = 100, reverse: bool = False) -> Capture:
    angles = np.linspace(0, np.deg2rad(arc_deg), frames)
    cameras = cone_beam(angles[::-1] if reverse else angles, 0.0, 750, 1200, 96, 96, (3.2, 3.2))
    images = np.zeros((frames, 96, 96, 1), np.float32)
    for i in range(frames):
        source, direction = rays(cameras, i)
        along = direction @ (CENTRE_MM - source)
        squared = RADIUS_MM**2 - ((CENTRE_MM - source) ** 2).sum() + along**2
        images[i, ..., 0] = DENSITY * 2 * np.sqrt(np.maximum(squared, 0))
    grid = Grid.centred((48, 48, 48), (2.0, 2.0, 2.0))
    return Capture(Modality.ATTENUATION, images, np.arange(frames) / 30, cameras=cameras, grid=grid)


@pytest.mark.parametrize(("arc_deg", "reverse"), [(200.0, False), (200.0, True), (358.0, False)])
def test_the_inside_of_a_sphere_has_its_density(arc_deg: float, reverse: bool) -> None:
    capture = sphere_capture(arc_deg, reverse=reverse)
    volume = finish(fdk(capture, window="ramp"))
    assert capture.grid is not None
    index = np.moveaxis(np.indices(capture.grid.shape), 0, -1)
    distance = np.linalg.norm(index * 2.0 + capture.grid.affine_mm[:3, 3] - CENTRE_MM, axis=-1)
    inside = volume.values[distance < RADIUS_MM - 5]
    # 2 %: the cone angle is small, the rest is interpolation.
    assert abs(float(np.median(inside)) / DENSITY - 1) < 0.02
    assert float(np.percentile(np.abs(inside - DENSITY), 95)) < 0.05 * DENSITY


def test_a_short_arc_is_noticed() -> None:
    assert source_arc(sphere_capture(120.0)).is_short_of_data
    assert not source_arc(sphere_capture(200.0)).is_short_of_data


def test_it_agrees_with_rtk() -> None:
    """RTK's axes: (X, Y, Z) = our (y, z, x), and its rows run the other way."""
    itk = pytest.importorskip("itk", reason="itk-rtk is part of the dev extra")
    from itk import RTK as rtk

    capture = sphere_capture(200.0)
    ours = finish(fdk(capture, window="ramp")).values
    geometry = rtk.ThreeDCircularProjectionGeometry.New()
    for angle in np.linspace(0, 200.0, len(capture)):
        geometry.AddProjection(750.0, 1200.0, float(angle))
    stack = itk.image_from_array(np.ascontiguousarray(capture.images[:, ::-1, :, 0]))
    stack.SetSpacing([3.2, 3.2, 1.0])
    stack.SetOrigin([-95 / 2 * 3.2, -95 / 2 * 3.2, 0.0])
    image_type = type(stack)
    parker = rtk.ParkerShortScanImageFilter[image_type].New()
    parker.SetInput(stack)
    parker.SetGeometry(geometry)
    parker.InPlaceOff()
    parker.Update()
    blank = rtk.ConstantImageSource[image_type].New()
    blank.SetSize([48, 48, 48])
    blank.SetSpacing([2.0] * 3)
    blank.SetOrigin([-47.0] * 3)
    blank.Update()
    filtered = rtk.FDKConeBeamReconstructionFilter[image_type].New()
    filtered.SetInput(0, blank.GetOutput())
    filtered.SetInput(1, parker.GetOutput())
    filtered.SetGeometry(geometry)
    filtered.Update()
    # Array order (Z, Y, X) of RTK is (x, z, y) of ours.
    theirs = np.moveaxis(itk.array_from_image(filtered.GetOutput()), (0, 1, 2), (0, 2, 1))
    inner = (slice(10, 38),) * 3
    difference = np.abs(ours[inner] - theirs[inner])
    # RTK weighs the arc's ends slightly differently; the sphere's edge interpolates differently.
    assert float(np.median(difference)) < 0.01 * DENSITY
    assert float(np.percentile(difference, 95)) < 0.15 * DENSITY
