"""A scene file of 3D Slicer that names the files of a run: volumes, label, surfaces and centrelines."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import quoteattr

from splatomy.errors import InputError
from splatomy.io.atomic import write_text
from splatomy.io.options import relative_path

_MODELS = (".ply", ".stl", ".obj", ".vtp")
_VOLUMES = (".nii.gz", ".nrrd", ".mha")
_MOST_MODELS = 1
_COLOURS = {"mesh": "0.86 0.35 0.31", "centreline": "0.95 0.85 0.3"}


def write_slicer_scene(path: Path, result: Path) -> None:
    """Writes an MRML scene for a run folder, or for one volume file. Files are named relative to the scene.

    Raises:
        InputError: there is nothing that 3D Slicer could show.
    """
    volumes, models = _files(result)
    if not volumes and not models:
        raise InputError(
            f"{result.name} has no volume and no surface: expected a finished run. Let it finish first."
        )
    lines = ['<MRML version="Slicer 5" userTags="">']
    number = 0
    for file in volumes:
        number += 1
        lines += _volume(number, file, path.parent)
    for file in models:
        number += 1
        lines += _model(number, file, path.parent)
    write_text(path, "\n".join([*lines, "</MRML>"]) + "\n")


def _files(result: Path) -> tuple[list[Path], list[Path]]:
    if result.is_file():
        return [result], []
    volumes = [
        p
        for p in sorted((result / "volumes").glob("*"))
        if p.name.endswith(_VOLUMES) and not p.name.endswith(".seq.nrrd")
    ]
    meshes = [p for p in sorted((result / "meshes").glob("*")) if p.suffix in _MODELS][:_MOST_MODELS]
    lines = sorted((result / "volumes").glob("*.vtp"))
    return volumes, meshes + lines


def _volume(number: int, file: Path, start: Path) -> list[str]:
    name = file.name.split(".")[0]
    is_label = name == "vessels"
    kind = "LabelMapVolume" if is_label else "Volume"
    storage, display = f"vtkMRMLVolumeArchetypeStorageNode{number}", f"vtkMRML{kind}DisplayNode{number}"
    node = f"vtkMRML{'LabelMapVolume' if is_label else 'ScalarVolume'}Node{number}"
    if is_label:
        element, colours = "LabelMapVolumeDisplay", "vtkMRMLColorTableNodeFileGenericColors.txt"
    else:
        display = f"vtkMRMLScalarVolumeDisplayNode{number}"
        element, colours = "VolumeDisplay", "vtkMRMLColorTableNodeGrey"
    shown = (
        f"<{element} id={quoteattr(display)} name={quoteattr(name)} colorNodeID={quoteattr(colours)} "
        'autoWindowLevel="1"/>'
    )
    return [
        f"<VolumeArchetypeStorage id={quoteattr(storage)} name={quoteattr(name + 'Storage')} "
        f'fileName={quoteattr(relative_path(file, start))} useCompression="1" centerImage="0"/>',
        shown,
        f"<{kind} id={quoteattr(node)} name={quoteattr(name)} "
        f"references={quoteattr(f'display:{display};storage:{storage};')}/>",
    ]


def _model(number: int, file: Path, start: Path) -> list[str]:
    name = file.name.split(".")[0]
    storage, display = f"vtkMRMLModelStorageNode{number}", f"vtkMRMLModelDisplayNode{number}"
    colour = _COLOURS.get(name, _COLOURS["mesh"])
    return [
        f"<ModelStorage id={quoteattr(storage)} name={quoteattr(name + 'Storage')} "
        f'fileName={quoteattr(relative_path(file, start))} useCompression="1" coordinateSystem="LPS"/>',
        f'<ModelDisplay id={quoteattr(display)} name={quoteattr(name)} color="{colour}" visibility="true" '
        'lineWidth="3" backfaceCulling="0"/>',
        f'<Model id="vtkMRMLModelNode{number}" name={quoteattr(name)} '
        f"references={quoteattr(f'display:{display};storage:{storage};')}/>",
    ]
