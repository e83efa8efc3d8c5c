# Set-up, demo and tests on a fresh machine. Everything lives in .venv; `make help` lists the targets.
#
#   PYTHON=python3.12       which interpreter makes the environment (3.11 or newer)
#   PIP_ARGS="..."          extra words for every `pip install`, for example an index that has CPU-only
#                           builds of torch, which are a tenth of the size of the CUDA builds
#   TEST_JOBS=N             worker processes of `make test`

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
PIP_ARGS ?=
# Where the tests look for the real recordings.
SHARED := ../shared
TEST_JOBS ?= 2

# Idle threads of torch must not spin; the package sets this too, but a test may load torch before it.
export OMP_WAIT_POLICY ?= PASSIVE

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
# The programs that look at the environment have one of their own, so that they are no part of what they see.
AUDIT := $(VENV)/audit
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-compile $(PIP_ARGS) -c constraints.txt
# On all cores, which pip does not. Files for other versions of Python do not compile, and need not.
COMPILE := $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib >/dev/null 2>&1 || true

# Library that must load : Debian package that brings it. VTK draws with the first three; the depth-camera
# reader of the surface extra links the last.
SYSTEM_LIBRARIES := libGL.so.1:libgl1 libXrender.so.1:libxrender1 libEGL.so.1:libegl1 libusb-1.0.so.0:libusb-1.0-0
# The same for the desktop app, which draws its window with Qt through X, and for its tests, whose screen is Xvfb.
GUI_LIBRARIES := libxcb-cursor.so.0:libxcb-cursor0 libxcb-icccm.so.4:libxcb-icccm4 \
  libxcb-keysyms.so.1:libxcb-keysyms1 libxcb-image.so.0:libxcb-image0 \
  libxcb-render-util.so.0:libxcb-render-util0 libxcb-shape.so.0:libxcb-shape0 libxcb-xkb.so.1:libxcb-xkb1 \
  libxkbcommon-x11.so.0:libxkbcommon-x11-0 libdbus-1.so.3:libdbus-1-3 libGL.so.1:libgl1 libEGL.so.1:libegl1 \
  libGLX_mesa.so.0:libgl1-mesa-dri
TEST_PROGRAMS := Xvfb:xvfb xauth:xauth

.PHONY: help env env-dev env-gui env-locked gui demo test verify soak reliability fuzz bench pictures lock supply-chain clean
.PHONY: system-libraries gui-libraries test-libraries

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' Makefile

env: $(STAMPS)/env ## make .venv with what the product needs

env-dev: $(STAMPS)/env-dev ## the same with what the tests need

env-gui: $(STAMPS)/env-gui ## the same with what the desktop app needs

gui: env-gui ## start the desktop app
	@$(BIN)/splatomy gui

demo: env ## reconstruct a synthetic angiography run, a clip, an object and a live stream, and write their reports
	@rm -rf out/demo
	@$(BIN)/splatomy demo all --out out/demo
	@reports=$$(find "$$PWD/out/demo" -path '*/run/report.html' | sort); \
	if [ -z "$$reports" ]; then echo "The demo wrote no report.html under out/demo." >&2; exit 1; fi; \
	echo; echo "Reports:"; echo "$$reports"

test: env-dev ## style, types, layers and every test that needs minutes at most
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy core/splatomy gui/splatomy_gui
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -m "not verify and not soak" -n $(TEST_JOBS)

# A file that passed for these very sources is skipped, so an interrupted run goes on where it stopped.
verify: env-dev ## the slow tests, on the real data in ../shared; resumable
	$(BIN)/python tests/run_verify.py --shared $(SHARED) --jobs $(TEST_JOBS)

soak: env-dev ## live sessions of an hour and on real videos, slow objects: tens of minutes
	$(BIN)/python -m pytest -q -m soak tests

reliability: env-dev ## inject the faults that the reliability table still wants, resumable; prints it and keeps it
	$(BIN)/python tests/reliability/table.py --published --publish

fuzz: env-dev ## ten minutes of hostile input for every reader, added to all before; prints the security table
	$(BIN)/python tests/security/table.py --seconds 600 --published

bench: env-dev ## measure speed, memory and quality into resources/benchmarks
	@shopt -s nullglob; scripts=(tests/benchmarks/bench_*.py); \
	if [ $${#scripts[@]} -eq 0 ]; then echo "There is no tests/benchmarks/bench_*.py." >&2; exit 1; fi; \
	for script in "$${scripts[@]}"; do echo "bench: $$script"; $(BIN)/python "$$script"; done

lock: $(AUDIT) ## write requirements.lock anew from constraints.txt: every file of every platform, by its hash
	$(AUDIT)/bin/uv pip compile pyproject.toml constraints.txt --all-extras --universal --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header -q -o requirements.lock

# For sites that install only what was looked at: nothing is taken whose hash is not in the lock.
env-locked: | $(BIN)/python ## make .venv from requirements.lock, every file checked by its hash
	$(INSTALL) -q --require-hashes --no-deps -r requirements.lock
	$(INSTALL) -q --no-deps -e .
	@mkdir -p $(STAMPS) && touch $(STAMPS)/env $(STAMPS)/env-gui $(STAMPS)/env-dev

supply-chain: env-dev $(AUDIT) ## write the software bill of materials and the licence report of .venv
	$(AUDIT)/bin/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --output-reproducible \
	  --of JSON -o resources/supply_chain/sbom.cdx.json
	$(BIN)/python resources/supply_chain/make_report.py resources/supply_chain/sbom.cdx.json \
	  resources/supply_chain/licences.md "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

pictures: demo ## remake the README's pictures from the demo
	$(BIN)/python resources/docs/make_pictures.py out/demo

clean: ## remove what was built and made, but not .venv
	rm -rf out dist build .mypy_cache .ruff_cache .import_linter_cache .hypothesis .pytest_cache
	find core gui tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# Never fails: where a library cannot be installed, the rest still works, and the line to run is shown.
define install_missing
	@missing=""; \
	for pair in $(LIBRARIES); do \
	  $(PYTHON) -c "import ctypes, sys; ctypes.CDLL(sys.argv[1])" "$${pair%%:*}" 2>/dev/null \
	    || missing="$$missing $${pair##*:}"; \
	done; \
	for pair in $(PROGRAMS); do \
	  command -v "$${pair%%:*}" >/dev/null || missing="$$missing $${pair##*:}"; \
	done; \
	if ! $(PYTHON) -c "import ensurepip, venv" 2>/dev/null; then missing="$$missing python3-venv"; fi; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(uname)" != Linux ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing system libraries:$$missing"; \
	  if { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
	    --no-install-recommends $$missing; } >/dev/null; then exit 0; fi; \
	fi; \
	echo "System libraries are missing; $(LACK) may not work until you run:" >&2; \
	echo "    sudo apt-get install -y$$missing" >&2
endef

system-libraries: LIBRARIES = $(SYSTEM_LIBRARIES)
system-libraries: LACK = meshes or pictures
system-libraries: ## check the system's libraries; install the missing ones where that is allowed
	$(install_missing)

gui-libraries: LIBRARIES = $(GUI_LIBRARIES)
gui-libraries: LACK = the desktop app
gui-libraries: ## the same for the desktop app
	$(install_missing)

test-libraries: LIBRARIES = $(GUI_LIBRARIES)
test-libraries: PROGRAMS = $(TEST_PROGRAMS)
test-libraries: LACK = the tests of the desktop app
test-libraries:
	$(install_missing)

$(BIN)/python: | system-libraries
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { \
	  echo "Python 3.11 or newer is needed, but $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(AUDIT): | $(BIN)/python
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install -q --disable-pip-version-check uv==0.13.9 cyclonedx-bom==7.5.0

# torch goes first and alone: it is by far the largest, and its failure is then easy to see.
$(STAMPS)/env: pyproject.toml constraints.txt | $(BIN)/python
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(INSTALL) -q torch
	$(INSTALL) -q -e .
	@$(COMPILE)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/env-gui: $(STAMPS)/env | gui-libraries
	$(INSTALL) -q -e ".[gui]"
	@$(COMPILE)
	@touch $@

$(STAMPS)/env-dev: $(STAMPS)/env | test-libraries
	$(INSTALL) -q -e ".[dev,gui,diffusion,surface,cluster]"
	@$(COMPILE)
	@touch $@
