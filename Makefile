# Each target does all of its own set-up: a virtual environment in .venv and an install with tested versions.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet -c constraints.txt
SOURCES := pyproject.toml constraints.txt
# Our matrices are small: a second OpenMP thread only waits for the first.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test validate lint benchmarks docs clean help

demo: $(VENV)/installed  ## fit a bundled simulated experiment; table on screen, figures in demo/
	$(BIN)/hddm-sbi demo --out demo

test: $(VENV)/installed-test  ## the default test suite
	$(BIN)/python -m pytest -n 2 --durations=25

validate: $(VENV)/installed-test  ## the slow tests as well
	$(BIN)/python -m pytest -n 2 -m "slow or not slow"

lint: $(VENV)/installed-test  ## linter, formatter, type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmarks: $(VENV)/installed-test  ## print every figure of the README and docs
	$(BIN)/python -m benchmarks

# DOCS_EXECUTE=off leaves the tutorials unexecuted: their code without results, in a minute.
docs: $(VENV)/installed-docs  ## the site in build/docs: guide, API, models, tutorials with their figures
	$(BIN)/python -m sphinx -q -E -W --keep-going -b html docs build/docs

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The CPU build of torch by its exact version: an open range would bring gigabytes of CUDA.
$(VENV)/installed: $(VENV)/bin/python $(SOURCES)
	$(PIP) torch==2.13.0
	$(PIP) --editable .
	touch $@

$(VENV)/installed-test: $(VENV)/bin/python $(SOURCES)
	$(PIP) torch==2.13.0
	$(PIP) --editable ".[test,lint]"
	touch $@ $(VENV)/installed

$(VENV)/installed-docs: $(VENV)/bin/python $(SOURCES)
	$(PIP) torch==2.13.0
	$(PIP) --editable ".[docs]"
	touch $@ $(VENV)/installed

clean:  ## remove the environment and everything that was built
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache docs/api docs/models.md docs/tutorials

help:  ## this list
	@sed -nE 's/^([a-z]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14
