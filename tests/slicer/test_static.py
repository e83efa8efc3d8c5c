"""The extension's files against each other: .ui, parameters, CMake lists, index entry, imports."""

from __future__ import annotations

import ast
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXTENSION = ROOT / "slicer_extension"
MODULES = ("SplatomyEndoscopy", "SplatomyAngiography", "SplatomySurface")
LIBRARY = EXTENSION / "SplatomyReaders" / "SplatomyLib"
# What the wheel-tested part may import beside Python's own; "slicer" is its MRML classes there.
BRIDGE_MAY_IMPORT = {"numpy", "vtk", "slicer", "SplatomyLib"}
ONLY_IN_SLICER = {
    "session.py", "panels.py", "module_panel.py", "live_panel.py", "actions.py", "angiography.py",
    "endoscopy.py", "surfaces.py", "settings.py", "dicom.py", "samples.py", "selftest.py",
}  # fmt: skip
PANELS = (LIBRARY / "panels.py", LIBRARY / "module_panel.py")
# Of the shared panel, which looks whether they are there.
NOT_IN_ALL = {"playWidget", "evidenceButton", "coloursButton"}
INSIDE = {"qt", "ctk", "SampleData", "DICOMLib"}


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def sources() -> list[Path]:
    return sorted(EXTENSION.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Top-level names of everything that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def ui(module: str) -> ElementTree.Element:
    return ElementTree.parse(EXTENSION / module / "Resources" / "UI" / f"{module}.ui").getroot()


def widgets(module: str) -> dict[str, str]:
    return {node.attrib["name"]: node.attrib["class"] for node in ui(module).iter("widget")}


def bound(module: str) -> dict[str, str]:
    """Widget -> the parameter that it is bound to."""
    found = {}
    for widget in ui(module).iter("widget"):
        for prop in widget.findall("property"):
            if prop.attrib["name"] == "SlicerParameterName":
                found[widget.attrib["name"]] = prop.findtext("string") or ""
    return found


def fields(module: str) -> dict[str, str]:
    """Parameter -> annotation."""
    nodes = [n for n in tree(EXTENSION / module / f"{module}.py").body if isinstance(n, ast.ClassDef)]
    wrapper = next(n for n in nodes if n.name == f"{module}ParameterNode")
    assert [ast.unparse(d) for d in wrapper.decorator_list] == ["parameterNodeWrapper"]
    return {n.target.id: ast.unparse(n.annotation) for n in wrapper.body if isinstance(n, ast.AnnAssign)}  # type: ignore[union-attr]


def scripts(module: str) -> tuple[set[str], set[str]]:
    """Scripts and resources of a module's CMake list."""
    text = (EXTENSION / module / "CMakeLists.txt").read_text().replace("${MODULE_NAME}", module)
    found = []
    for name in ("MODULE_PYTHON_SCRIPTS", "MODULE_PYTHON_RESOURCES"):
        body = re.search(rf"set\({name}(.*?)\)", text, re.S)
        assert body is not None, (module, name)
        found.append(set(body.group(1).split()))
    return found[0], found[1]


def test_the_extension_imports_nothing_of_the_engine() -> None:
    """It speaks the job protocol; no import, not even a lazy one."""
    for path in sources():
        assert not imported(path) & {"splatomy", "splatomy_gui"}, path.name


def test_the_bridge_needs_only_what_slicer_has() -> None:
    standard = sys.stdlib_module_names
    for path in sorted(LIBRARY.glob("*.py")):
        allowed = BRIDGE_MAY_IMPORT | (INSIDE if path.name in ONLY_IN_SLICER else set())
        assert imported(path) - standard <= allowed, path.name


def test_modules_import_nothing_heavy_at_start() -> None:
    """A slow or failing import there slows Slicer's start or hides the module."""
    for module in (*MODULES, "SplatomyReaders"):
        for node in tree(EXTENSION / module / f"{module}.py").body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                name = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                assert name.partition(".")[0] in {"__future__", "pathlib", "typing", "slicer", "vtk"}, (
                    module,
                    name,
                )  # type: ignore[union-attr]


@pytest.mark.parametrize("module", (*MODULES, "SplatomyReaders"))
def test_every_file_is_in_its_cmake_list(module: str) -> None:
    """A file that is not listed is silently absent from the installed extension."""
    listed_scripts, listed_resources = scripts(module)
    folder = EXTENSION / module
    on_disk = {str(p.relative_to(folder)) for p in folder.rglob("*.py") if "__pycache__" not in p.parts}
    assert listed_scripts == on_disk
    resources = {str(p.relative_to(folder)) for p in (folder / "Resources").rglob("*") if p.is_file()}
    assert listed_resources == resources


@pytest.mark.parametrize("module", MODULES)
def test_bound_widgets_are_parameters(module: str) -> None:
    found, known = bound(module), fields(module)
    assert set(found.values()) <= known.keys()
    kinds = {
        "QSpinBox": "int", "QCheckBox": "bool", "QComboBox": "str", "ctkPathLineEdit": "Path",
        "ctkDirectoryButton": "Path", "qMRMLNodeComboBox": "vtkMRML", "QLineEdit": "str",
    }  # fmt: skip
    classes = widgets(module)
    for widget, parameter in found.items():
        assert kinds[classes[widget]] in known[parameter], (widget, known[parameter])
    assert set(known) == set(found.values()), "a parameter that no widget shows"


@pytest.mark.parametrize("module", MODULES)
def test_code_uses_widgets_that_exist(module: str) -> None:
    names = set()
    paths = [EXTENSION / module / f"{module}.py", *PANELS]
    if module == "SplatomyEndoscopy":
        paths.append(LIBRARY / "live_panel.py")
    for path in paths:
        text = path.read_text()
        names |= set(re.findall(r"(?<!widget\.)\bui\.(\w+)", text))
        names |= set(re.findall(r'"(\w+(?:Button|CheckBox|Selector))"', text))
    missing = names - widgets(module).keys()
    assert missing <= NOT_IN_ALL, missing


@pytest.mark.parametrize("module", MODULES)
def test_every_button_does_something(module: str) -> None:
    text = "".join(path.read_text() for path in (EXTENSION / module / f"{module}.py", *PANELS))
    for name, kind in widgets(module).items():
        if kind == "QPushButton":
            assert re.search(rf"\b{name}\b", text), name


@pytest.mark.parametrize("module", MODULES)
def test_scene_widgets_get_the_scene(module: str) -> None:
    """Without this connection their lists stay empty."""
    connected = {
        node.findtext("receiver")
        for node in ui(module).iter("connection")
        if node.findtext("signal") == "mrmlSceneChanged(vtkMRMLScene*)"
        and node.findtext("slot") == "setMRMLScene(vtkMRMLScene*)"
    }
    scene_widgets = {n for n, kind in widgets(module).items() if kind.startswith("qMRML")} - {module}
    assert connected == scene_widgets


@pytest.mark.parametrize("module", MODULES)
def test_ui_files_follow_slicers_conventions(module: str) -> None:
    root = ui(module).find("widget")
    assert root is not None
    assert root.attrib["class"] == "qMRMLWidget"
    names = [node.attrib["name"] for node in ui(module).iter("widget")]
    assert len(names) == len(set(names))
    custom = {node.findtext("class") for node in ui(module).iter("customwidget")}
    used = {kind for kind in widgets(module).values() if not kind.startswith("Q")}
    assert custom == used
    for node in ui(module).iter("widget"):
        if node.attrib["class"] in ("QPushButton", "QSpinBox", "QComboBox", "QCheckBox", "ctkPathLineEdit"):
            tips = [p for p in node.findall("property") if p.attrib["name"] == "toolTip"]
            assert tips, node.attrib["name"]


@pytest.mark.parametrize("module", (*MODULES, "SplatomyReaders"))
def test_modules_have_what_slicer_looks_for(module: str) -> None:
    names = {n.name for n in tree(EXTENSION / module / f"{module}.py").body if isinstance(n, ast.ClassDef)}
    wanted = {module, f"{module}Test"}
    if module in MODULES:
        wanted |= {f"{module}Widget", f"{module}Logic", f"{module}ParameterNode"}
    else:
        wanted |= {f"{module}FileReader", f"{module}FileWriter", f"{module}FileDialog"}
    assert wanted <= names
    assert "Research use only" in (EXTENSION / module / f"{module}.py").read_text() or module not in MODULES


def test_index_entry_fits_the_schema_and_cmake() -> None:
    """Schema 1.0.2 of Slicer's catalogue: three required keys, no others than these."""
    entry = json.loads((EXTENSION / "Splatomy.json").read_text())
    kinds = {
        "$schema": str, "category": str, "scm_url": str, "scm_revision": str, "scm_type": str,
        "build_dependencies": list, "dicom_support_rule": str, "build_subdirectory": str, "enabled": bool,
        "tier": int,
    }  # fmt: skip
    assert {"$schema", "category", "scm_url"} <= entry.keys() <= kinds.keys()
    assert all(type(value) is kinds[key] for key, value in entry.items())
    assert entry["scm_type"] in ("git", "local")
    assert 1 <= entry["tier"] <= 5
    assert entry["$schema"].endswith("slicer-extension-catalog-entry-schema-v1.0.2.json#")
    cmake = (ROOT / "CMakeLists.txt").read_text()
    values = dict(re.findall(r'^set\((EXTENSION_\w+) "(.*)"\)', cmake, re.M))
    assert values["EXTENSION_CATEGORY"] == entry["category"]
    assert values["EXTENSION_DEPENDS"] == "NA" and entry["build_dependencies"] == []
    assert entry["scm_url"].removesuffix(".git") == values["EXTENSION_HOMEPAGE"]
    for url in (values["EXTENSION_ICONURL"], *values["EXTENSION_SCREENSHOTURLS"].split()):
        # Raw files of the repository's main branch: they must be there.
        assert (ROOT / url.partition("/main/")[2]).is_file(), url
    added = re.findall(r"add_subdirectory\(slicer_extension/(\w+)\)", cmake)
    assert sorted(added) == sorted((*MODULES, "SplatomyReaders"))


def test_the_dicom_rule_and_the_plugin_agree() -> None:
    from SplatomyLib import dicom

    rule = json.loads((EXTENSION / "Splatomy.json").read_text())["dicom_support_rule"]
    assert set(re.findall(r"'([\d.]+)'", rule)) <= set(dicom.XRAY_CLASSES)
    headers = {
        "xa": {dicom.SOP_CLASS: dicom.XRAY_CLASSES[0], dicom.FRAMES: "133"},
        "single": {dicom.SOP_CLASS: dicom.XRAY_CLASSES[0], dicom.FRAMES: "1"},
        "ct": {dicom.SOP_CLASS: "1.2.840.10008.5.1.4.1.1.2", dicom.FRAMES: ""},
    }
    assert dicom.xray_files(list(headers), lambda file, tag: headers[file][tag]) == ["xa"]


def test_icons_are_square_pictures() -> None:
    from SplatomyLib.bridge_frames import read_picture

    for path in [EXTENSION / "Splatomy.png", *(EXTENSION / m / f"Resources/Icons/{m}.png" for m in MODULES)]:
        assert read_picture(path).shape[:2] == (128, 128)
