# Everything that a developer or a CI machine runs. `make` alone lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALLED := $(VENV)/.installed
TORCH := $(shell grep '^torch==' constraints.txt)
DEMO := runs/demo

.DEFAULT_GOAL := help
.PHONY: help setup demo test check fix wheel clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 14

setup: $(INSTALLED)  ## make .venv with everything pinned in constraints.txt

# torch goes first and exact: chosen by a resolver it may come as another build, with gigabytes of GPU libraries
$(INSTALLED): pyproject.toml constraints.txt
	@echo "Installing nbedge and its tools into $(VENV); this takes some minutes and 4 GB of disk"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install -qq -c constraints.txt $(TORCH)
	@$(PIP) install -qq -c constraints.txt -e '.[dev]'
	@$(PIP) check
	@touch $@

demo: setup  ## the whole path on Fashion-MNIST, with a report
	$(BIN)/nbedge run sample_models/fashion_mnist/recipe.toml --out $(DEMO) --overwrite

test: setup  ## run every test, and the example in README.md
	$(BIN)/python -m pytest

check: setup  ## format, lint, types, order of imports
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: setup  ## format, and repair what the linter can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

wheel: setup  ## build dist/nbedge-VERSION-py3-none-any.whl
	$(BIN)/python -m build --wheel --no-isolation

clean:  ## remove what the other targets made, except .venv and runs
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
