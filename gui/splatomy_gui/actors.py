"""The table from our types to VTK: one function for each kind of thing that a scene view shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyvista as pv
from numpy.typing import NDArray

from splatomy.scene import Mesh, Volume


def polydata_of(mesh: Mesh) -> pv.PolyData:
    """The mesh with its point arrays ``colours`` (uint8) and ``evidence`` where it has them."""
    faces = np.empty((len(mesh.faces), 4), np.int64)
    faces[:, 0] = 3
    faces[:, 1:] = mesh.faces
    # A copy, since the points of what moves are changed in place.
    data = pv.PolyData(np.array(mesh.vertices_mm, np.float32), faces.ravel())
    if mesh.colours is not None:
        data.point_data["colours"] = np.rint(np.clip(mesh.colours, 0, 1) * 255).astype(np.uint8)
    if mesh.evidence is not None:
        data.point_data["evidence"] = np.asarray(mesh.evidence, np.float32)
    return data


def image_data_of(volume: Volume) -> pv.ImageData:
    """The volume in world millimetres; its direction, if any, goes with it."""
    spacing = np.linalg.norm(volume.affine_mm[:3, :3], axis=0)
    direction = volume.affine_mm[:3, :3] / spacing
    data = pv.ImageData(
        dimensions=volume.values.shape,
        spacing=spacing.tolist(),
        origin=volume.affine_mm[:3, 3].tolist(),
        direction_matrix=direction,
    )
    data.point_data["values"] = volume.values.ravel(order="F")
    return data


def add_mesh(plotter: Any, name: str, mesh: Mesh, **style: Any) -> Any:
    """A surface; in its own colours unless the style says ``color`` or ``scalars``."""
    data = polydata_of(mesh)
    if "color" not in style and "scalars" not in style:
        if mesh.colours is not None:
            style |= {"scalars": "colours", "rgb": True}
        else:
            style["color"] = "#d9a59a"
    return plotter.add_mesh(data, name=name, show_scalar_bar=False, reset_camera=False, **style)


def add_volume(plotter: Any, name: str, volume: Volume, **style: Any) -> Any:
    """A volume rendering; the style's ``clim``, ``cmap`` and ``opacity`` choose the look."""
    data = image_data_of(volume)
    return plotter.add_volume(
        data, scalars="values", name=name, show_scalar_bar=False, reset_camera=False, **style
    )


def add_points(plotter: Any, name: str, gaussians: Mapping[str, NDArray[Any]], **style: Any) -> Any:
    """Gaussians of a PLY as points; ``colours`` (N, 3) in [0, 1] are used when the mapping has them."""
    data = pv.PolyData(np.asarray(gaussians["means_mm"], np.float32))
    if "colours" in gaussians:
        data.point_data["colours"] = np.rint(np.clip(gaussians["colours"], 0, 1) * 255).astype(np.uint8)
        style |= {"scalars": "colours", "rgb": True}
    style = {"style": "points", "point_size": 3.0, **style}
    return plotter.add_mesh(data, name=name, show_scalar_bar=False, reset_camera=False, **style)


def add_lines(plotter: Any, name: str, points_mm: NDArray[np.float64], **style: Any) -> Any:
    """A polyline through points (N, 3)."""
    data = pv.lines_from_points(np.asarray(points_mm, np.float64))
    style = {"line_width": 3.0, **style}
    return plotter.add_mesh(data, name=name, show_scalar_bar=False, reset_camera=False, **style)


def add_tissue(plotter: Any, name: str, mesh: Mesh, **style: Any) -> Any:
    """A surface whose points, colours and normals change with the time; ``SceneView.move_thing`` moves it."""
    data = polydata_of(mesh)
    data.point_data["colours"] = np.full((len(mesh.vertices_mm), 3), 180, np.uint8)
    data.point_data["Normals"] = np.tile(np.array([0, 0, -1], np.float32), (len(mesh.vertices_mm), 1))
    data.GetPointData().SetActiveNormals("Normals")
    style = {"scalars": "colours", "rgb": True, "ambient": 0.25, "diffuse": 0.8, "specular": 0.05, **style}
    actor = plotter.add_mesh(data, name=name, show_scalar_bar=False, reset_camera=False, **style)
    actor.prop.interpolation = "Phong"
    return actor


def add_hatching(plotter: Any, name: str, mesh: Mesh, **style: Any) -> Any:
    """Diagonal lines over the faces of a mesh, drawn just in front of the surface that it is part of."""
    data = polydata_of(mesh)
    data.point_data.clear()
    places = np.asarray(mesh.vertices_mm, np.float64)
    _, _, axes = np.linalg.svd(places[:: max(1, len(places) // 5000)] - places.mean(0), full_matrices=False)
    flat = (places - places.mean(0)) @ axes[:2].T
    period = max(float(np.ptp(flat, axis=0).max()), 1e-9) / style.pop("lines", 45)
    data.active_texture_coordinates = flat / period
    texture = pv.Texture(_hatch())
    texture.repeat = True
    actor = plotter.add_mesh(
        data, name=name, texture=texture, show_scalar_bar=False, reset_camera=False, pickable=False, **style
    )
    actor.prop.lighting = False
    actor.mapper.SetResolveCoincidentTopologyToPolygonOffset()
    actor.mapper.SetRelativeCoincidentTopologyPolygonOffsetParameters(-2.0, -2.0)
    return actor


def _hatch() -> NDArray[np.uint8]:
    """One period of grey diagonal lines with nothing between them, RGBA."""
    rows, columns = np.indices((32, 32))
    out = np.zeros((32, 32, 4), np.uint8)
    out[(rows + columns) % 32 < 10] = (225, 225, 225, 255)
    return out


def add_segments(plotter: Any, name: str, points_mm: NDArray[np.floating], **style: Any) -> Any:
    """Separate lines, each between two points of (2 N, 3) that follow each other."""
    count = len(points_mm) // 2
    lines = np.empty((count, 3), np.int64)
    lines[:, 0] = 2
    lines[:, 1:] = np.arange(2 * count).reshape(-1, 2)
    data = pv.PolyData(np.asarray(points_mm, np.float32), lines=lines.ravel())
    style = {"line_width": 1.0, "pickable": False, **style}
    return plotter.add_mesh(data, name=name, show_scalar_bar=False, reset_camera=False, **style)


def add_live_points(plotter: Any, name: str, points: Mapping[str, NDArray[Any]]) -> Any:
    """Points xyz (N, 3) with colours (N, 3) uint8 that come again and again."""
    actor = pv.Actor(mapper=pv.DataSetMapper(_live_data(points)))
    actor.mapper.set_scalars(points["colours"], "colours", rgb=True)
    actor.prop.point_size = 4.0
    actor.prop.lighting = False
    plotter.add_actor(actor, name=name, reset_camera=False, render=False)
    return actor


def renew_live_points(actor: Any, points: Mapping[str, NDArray[Any]]) -> None:
    """Other points for an actor of ``add_live_points``."""
    actor.mapper.dataset = _live_data(points)


def _live_data(points: Mapping[str, NDArray[Any]]) -> Any:
    data = pv.PolyData(np.asarray(points["xyz"], np.float32))
    data.point_data["colours"] = points["colours"]
    return data


ACTORS: dict[str, Callable[..., Any]] = {
    "mesh": add_mesh,
    "volume": add_volume,
    "gaussians": add_points,
    "lines": add_lines,
    "tissue": add_tissue,
    "hatching": add_hatching,
    "segments": add_segments,
}
