# Everything that a developer or a CI machine runs. `make` alone lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALLED := $(VENV)/.installed
VENV_TIMM := .venv-timm
INSTALLED_TIMM := $(VENV_TIMM)/.installed
TORCH := $(shell grep '^torch==' constraints.txt)
ENVIRONMENTS := .venv-environments
DEMO := runs/demo
SAMPLES := sample_models

.DEFAULT_GOAL := help
.PHONY: help setup setup-timm setup-environments demo test check verify fix wheel clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 18

setup: $(INSTALLED)  ## make .venv with everything pinned in constraints.txt

# torch goes first and exact: chosen by a resolver it may come as another build, with gigabytes of GPU libraries
$(INSTALLED): pyproject.toml constraints.txt
	@echo "Installing nbedge and its tools into $(VENV); this takes some minutes and 4 GB of disk"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install -qq -c constraints.txt $(TORCH)
	@$(PIP) install -qq -c constraints.txt -e '.[dev]'
	@$(PIP) check
	@touch $@

setup-timm: $(INSTALLED_TIMM)  ## make .venv-timm: timm and torchvision, which break Lightning beside a torch without CUDA

$(INSTALLED_TIMM): pyproject.toml constraints.txt
	@echo "Installing nbedge, timm and torchvision into $(VENV_TIMM); this takes a minute and 1.2 GB of disk"
	@test -x $(VENV_TIMM)/bin/python || $(PYTHON) -m venv $(VENV_TIMM)
	@$(VENV_TIMM)/bin/python -m pip --disable-pip-version-check install -qq -c constraints.txt $(TORCH)
	@$(VENV_TIMM)/bin/python -m pip --disable-pip-version-check install -qq -c constraints.txt \
		-e . safetensors timm torchvision pytest hypothesis
	@$(VENV_TIMM)/bin/python -m pip --disable-pip-version-check check
	@touch $@

setup-environments: $(ENVIRONMENTS)/.installed $(ENVIRONMENTS)/.emulated $(ENVIRONMENTS)/.mcu $(ENVIRONMENTS)/sshd/ready $(ENVIRONMENTS)/.web $(ENVIRONMENTS)/chromium/ready  ## make .venv-environments: tools whose pins collide with others'

$(ENVIRONMENTS)/.installed: $(INSTALLED) nbedge/environments.py
	@echo "Installing litert-torch, tflite-runtime and ExecuTorch into $(ENVIRONMENTS); this takes three minutes and 5 GB of disk"
	@XDG_CACHE_HOME=$(CURDIR)/$(ENVIRONMENTS) $(BIN)/nbedge doctor --quiet --install litert > /dev/null
	@XDG_CACHE_HOME=$(CURDIR)/$(ENVIRONMENTS) $(BIN)/nbedge doctor --quiet --install tflite-runtime > /dev/null
	@XDG_CACHE_HOME=$(CURDIR)/$(ENVIRONMENTS) $(BIN)/nbedge doctor --quiet --install executorch > /dev/null
	@# holds the reader that Google generates of the schema of TFLite Metadata
	@$(PIP) download -q --no-deps --dest $(ENVIRONMENTS)/readers mediapipe==1.2.3
	@touch $@

# what cannot be fetched leaves its tests skipped, and pytest lists them as NOT CHECKED
$(ENVIRONMENTS)/.emulated: $(INSTALLED) $(addprefix nbedge/device/,emulated.py userland.py instructions.c plugin.h)
	@echo "Making an emulated Raspberry Pi in $(ENVIRONMENTS); this takes half a minute and 0.4 GB of disk"
	@export XDG_CACHE_HOME=$(CURDIR)/$(ENVIRONMENTS); \
		$(BIN)/nbedge doctor --quiet --install emulated-pi > /dev/null && \
		$(BIN)/python -c 'from nbedge.device.emulated import EmulatedPi; EmulatedPi().site_with("onnxruntime==1.21.0")' && \
		touch $@ || echo "No emulated Raspberry Pi could be made; it takes Debian 12, apt-get and gcc"

$(ENVIRONMENTS)/.mcu: $(INSTALLED) $(addprefix nbedge/device/,microcontroller.py userland.py cores.py marks.c plugin.h)
	@echo "Making compiler and emulator for microcontrollers in $(ENVIRONMENTS); this takes half a minute and 0.3 GB of disk"
	@export XDG_CACHE_HOME=$(CURDIR)/$(ENVIRONMENTS); \
		$(BIN)/nbedge doctor --quiet --install emulated-mcu > /dev/null && \
		touch $@ || echo "No compiler for microcontrollers could be fetched; it takes Debian 12, apt-get and gcc"

$(ENVIRONMENTS)/sshd/ready: | $(INSTALLED)
	@$(BIN)/python tests/device/sshd.py || echo "No sshd could be fetched into $(ENVIRONMENTS); tests/test_ssh.py needs apt-get"

$(ENVIRONMENTS)/.web: $(INSTALLED) nbedge/deployment/packages.py
	@echo "Fetching the runtimes of web pages into $(ENVIRONMENTS); this takes 33 MB of disk"
	@XDG_CACHE_HOME=$(CURDIR)/$(ENVIRONMENTS) $(BIN)/nbedge doctor --quiet --install web > /dev/null && touch $@ \
		|| echo "No runtimes of web pages could be fetched; it takes npm"

$(ENVIRONMENTS)/chromium/ready: | $(INSTALLED)
	@$(BIN)/python tests/device/browser.py || echo "No Chromium could be fetched into $(ENVIRONMENTS); it takes Debian 12 and apt-get"

demo: setup  ## the whole path on Fashion-MNIST, with a report
	$(BIN)/nbedge run sample_models/fashion_mnist/recipe.toml --out $(DEMO) --overwrite

test: setup setup-timm setup-environments  ## run every test, and the example in README.md
	$(VENV_TIMM)/bin/python -m pytest tests/timm
	$(BIN)/python -m pytest

check: setup  ## format, lint, types, order of imports
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

verify: setup  ## prove the merges of the sample models, as users prove theirs
	$(BIN)/nbedge verify $(SAMPLES)/fashion_mnist/linearized.safetensors $(SAMPLES)/fashion_mnist/contracted.safetensors \
		--data npz:$(SAMPLES)/fashion_mnist/data.npz
	$(BIN)/nbedge verify $(SAMPLES)/blood_cells/linearized.safetensors $(SAMPLES)/blood_cells/contracted.safetensors \
		--data folder:$(SAMPLES)/blood_cells/data

fix: setup  ## format, and repair what the linter can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

wheel: setup  ## build dist/nbedge-VERSION-py3-none-any.whl
	$(BIN)/python -m build --wheel --no-isolation

clean:  ## remove what the other targets made, except environments and runs
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
