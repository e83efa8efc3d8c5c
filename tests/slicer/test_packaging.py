"""The extension configured, built and packed by CMake, with a stand-in for Slicer's own macros."""

from __future__ import annotations

import compileall
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLACE = "lib/Slicer-5.13/qt-scripted-modules"
# What Slicer's SlicerConfig.cmake brings, as far as a scripted extension uses it: listed files must exist,
# scripts and resources are copied with their paths, and cpack packs them.
STAND_IN = r"""
set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/UseSlicer.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_DIR}/Generate.cmake")
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_DIR}/Pack.cmake")
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR "@PLACE@")
"""
USE = r"""
include(CMakeParseArguments)
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(M "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(M_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "Unknown keywords: ${M_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT M_NAME OR NOT M_SCRIPTS)
    message(FATAL_ERROR "NAME and SCRIPTS are mandatory")
  endif()
  set(copied)
  foreach(file ${M_SCRIPTS} ${M_RESOURCES})
    set(from "${CMAKE_CURRENT_SOURCE_DIR}/${file}")
    if(NOT EXISTS "${from}")
      message(FATAL_ERROR "${M_NAME} lists a file that does not exist: ${file}")
    endif()
    set(to "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}/${file}")
    add_custom_command(OUTPUT "${to}" COMMAND ${CMAKE_COMMAND} -E copy "${from}" "${to}" DEPENDS "${from}")
    list(APPEND copied "${to}")
    get_filename_component(folder "${file}" DIRECTORY)
    install(FILES "${from}" DESTINATION "${Slicer_QTSCRIPTEDMODULES_LIB_DIR}/${folder}")
  endforeach()
  add_custom_target(${M_NAME} ALL DEPENDS ${copied})
endfunction()
function(slicer_add_python_unittest)
  cmake_parse_arguments(T "" "SCRIPT" "SLICER_ARGS" ${ARGN})
  if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${T_SCRIPT}")
    message(FATAL_ERROR "No such test: ${T_SCRIPT}")
  endif()
  get_filename_component(name "${T_SCRIPT}" NAME_WE)
  add_test(NAME py_${name} COMMAND ${CMAKE_COMMAND} -E true)
endfunction()
enable_testing()
"""
GENERATE = r"""
foreach(name HOMEPAGE CATEGORY CONTRIBUTORS DESCRIPTION ICONURL SCREENSHOTURLS DEPENDS)
  if(NOT EXTENSION_${name})
    message(FATAL_ERROR "EXTENSION_${name} is not set")
  endif()
endforeach()
file(WRITE "${CMAKE_BINARY_DIR}/${PROJECT_NAME}.s4ext" "homepage ${EXTENSION_HOMEPAGE}\n")
install(FILES "${CMAKE_BINARY_DIR}/${PROJECT_NAME}.s4ext" DESTINATION share)
"""
PACK = r"""
set(CPACK_GENERATOR TGZ)
set(CPACK_PACKAGE_FILE_NAME "${PROJECT_NAME}-package")
set(CPACK_INCLUDE_TOPLEVEL_DIRECTORY OFF)
include(CPack)
"""

pytestmark = pytest.mark.skipif(
    shutil.which("cmake") is None, reason="NOT TESTED: the extension cannot be packed without cmake"
)


def called(*words: str | Path, folder: Path) -> str:
    done = subprocess.run([str(w) for w in words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def stand_in(folder: Path) -> Path:
    folder.mkdir()
    (folder / "SlicerConfig.cmake").write_text(STAND_IN.replace("@PLACE@", PLACE))
    (folder / "UseSlicer.cmake").write_text(USE)
    (folder / "Generate.cmake").write_text(GENERATE)
    (folder / "Pack.cmake").write_text(PACK)
    return folder


def test_the_package_holds_every_module_and_its_library(tmp_path: Path) -> None:
    build = tmp_path / "build"
    build.mkdir()
    called(
        "cmake", "-S", ROOT, "-B", build, f"-DSlicer_DIR={stand_in(tmp_path / 'slicer')}",
        "-DBUILD_TESTING=ON", folder=tmp_path,
    )  # fmt: skip
    called("cmake", "--build", build, folder=tmp_path)
    listed = called("ctest", "-N", folder=build)
    for module in ("SplatomyEndoscopy", "SplatomyAngiography", "SplatomySurface", "SplatomyReaders"):
        assert f"py_{module}" in listed
    called("cpack", folder=build)
    with tarfile.open(build / "Splatomy-package.tar.gz") as package:
        package.extractall(tmp_path / "installed", filter="data")
    modules = tmp_path / "installed" / PLACE
    for name in ("SplatomyEndoscopy.py", "SplatomyAngiography.py", "SplatomyReaders.py",
                 "SplatomySurface.py", "Resources/UI/SplatomySurface.ui",
                 "Resources/UI/SplatomyEndoscopy.ui", "Resources/UI/SplatomyAngiography.ui",
                 "Resources/Icons/SplatomyEndoscopy.png", "SplatomyLib/bridge_case.py"):  # fmt: skip
        assert (modules / name).is_file(), name
    # As installed, without the source tree: everything compiles, and the library is whole.
    assert compileall.compile_dir(modules, quiet=1, force=True)
    code = "import sys; sys.path.insert(0, sys.argv[1]); import SplatomyLib.logic, SplatomyLib.reading"
    import sys

    called(sys.executable, "-c", code, modules, folder=tmp_path)


def test_a_forgotten_file_stops_the_configuration(tmp_path: Path) -> None:
    """The stand-in is as strict as Slicer's own macro."""
    copy = tmp_path / "source"
    shutil.copytree(ROOT / "slicer_extension", copy / "slicer_extension")
    shutil.copy(ROOT / "CMakeLists.txt", copy)
    (copy / "slicer_extension" / "SplatomyReaders" / "SplatomyLib" / "logic.py").unlink()
    words = [
        "cmake",
        "-S",
        str(copy),
        "-B",
        str(tmp_path / "b"),
        f"-DSlicer_DIR={stand_in(tmp_path / 'slicer')}",
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "logic.py" in done.stderr
