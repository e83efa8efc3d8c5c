"""The extension configured, built and packed with 3D Slicer's own CMake macros.

SLICER_SOURCE_DIR names a source tree of Slicer 5.10 or newer; nothing of it is built. Its macros of
scripted modules and their tests are used as they are; what needs a built Slicer or CTK stands in for it.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.verify
ROOT = Path(__file__).resolve().parents[2]
CONFIG = r"""
set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/UseSlicer.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_DIR}/Nothing.cmake")
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_DIR}/Pack.cmake")
set(Slicer_USE_PYTHONQT ON)
set(Slicer_LAUNCHER_EXECUTABLE "${CMAKE_COMMAND}")
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR lib/Slicer/qt-scripted-modules)
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR lib/Slicer/qt-scripted-modules)
list(PREPEND CMAKE_MODULE_PATH "${CMAKE_CURRENT_LIST_DIR}" "@TREE@/CMake" "@TREE@/Extensions/CMake")
"""
USE = r"""
include(CMakeParseArguments)
include("@TREE@/CMake/SlicerMacroBuildScriptedModule.cmake")
include("@TREE@/CMake/SlicerMacroPythonTesting.cmake")
# Of CTK: the same arguments, and the same copies and installation.
function(ctkMacroCompilePythonScript)
  set(single TARGET_NAME DESTINATION_DIR INSTALL_DIR)
  cmake_parse_arguments(C "NO_INSTALL_SUBDIR" "${single}" "SCRIPTS;RESOURCES" ${ARGN})
  foreach(file ${C_SCRIPTS} ${C_RESOURCES})
    get_filename_component(folder "${file}" DIRECTORY)
    install(FILES "${file}" DESTINATION "${C_INSTALL_DIR}/${folder}")
  endforeach()
  add_custom_target(${C_TARGET_NAME} ALL)
endfunction()
macro(SlicerMacroConfigureGenericPythonModuleTests name scripts)
  set(${scripts})
endmacro()
enable_testing()
"""
PACK = "set(CPACK_GENERATOR TGZ)\nset(CPACK_PACKAGE_FILE_NAME package)\ninclude(CPack)\n"
TRANSLATION = "macro(SlicerMacroTranslation)\nendmacro()\n"


def test_slicers_own_macros_pack_the_extension(tmp_path: Path) -> None:
    given = os.environ.get("SLICER_SOURCE_DIR", "")
    if not given:
        pytest.skip("NOT TESTED: packaging with Slicer's own macros needs SLICER_SOURCE_DIR")
    tree = Path(given).resolve()
    stand_in = tmp_path / "slicer"
    stand_in.mkdir()
    files = {
        "SlicerConfig.cmake": CONFIG, "UseSlicer.cmake": USE, "Nothing.cmake": "", "Pack.cmake": PACK,
        "SlicerMacroTranslation.cmake": TRANSLATION,
    }  # fmt: skip
    for name, text in files.items():
        (stand_in / name).write_text(text.replace("@TREE@", tree.as_posix()))
    build = tmp_path / "build"
    for words in (
        ["cmake", "-S", str(ROOT), "-B", str(build), f"-DSlicer_DIR={stand_in}", "-DBUILD_TESTING=ON"],
        ["cmake", "--build", str(build)],
        ["cmake", "--build", str(build), "--target", "package"],
    ):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    listed = subprocess.run(["ctest", "-N"], cwd=build, capture_output=True, text=True, check=True).stdout
    with tarfile.open(build / "package.tar.gz") as package:
        names = package.getnames()
    for module in ("SplatomyReaders", "SplatomyEndoscopy", "SplatomyAngiography"):
        assert f"py_{module}" in listed
        assert any(name.endswith(f"qt-scripted-modules/{module}.py") for name in names), module
    for wanted in ("SplatomyLib/bridge_case.py", "Resources/UI/SplatomyAngiography.ui"):
        assert any(name.endswith(f"qt-scripted-modules/{wanted}") for name in names), wanted
