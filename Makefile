# `make repro` runs the chain, `make test` the tests, `make check` what a reviewer would look at first.
# Needs Python 3.11 or newer and make; everything else goes into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PATH := $(abspath $(BIN)):$(PATH)
# Two OpenMP threads on busy cores wait for each other: one thread a process where processes run in parallel.
export OMP_NUM_THREADS ?= 1
repro: export OMP_NUM_THREADS = 2  # one stage after the other

.PHONY: help repro test soak check lock clean

help:  ## this list
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/make \1: \2/p' $(MAKEFILE_LIST)

repro: in-git $(READY)  ## the whole chain at the scale of params.yaml
	dvc repro
	@echo "report: $(abspath reports/index.html)"

test: $(READY)  ## unit, property, golden and workflow tests
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

soak: $(READY)  ## kill, starve and feed junk to every stage and reader, about half an hour on two cores
	python -m tests.soak

check: $(READY)  ## style, types, import directions, workflow lint
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	codespell
	snakefmt --check Snakefile workflow
	snakemake --lint

.PHONY: in-git
in-git:
	@git rev-parse --is-inside-work-tree > /dev/null 2>&1 || \
	  { echo "not a Git repository, which DVC needs: clone the project, or type git init and commit it" >&2; exit 1; }

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	python -m pip install --quiet --upgrade pip
	python -m pip install --quiet -r requirements.lock
	python -m pip install --quiet --no-deps -e .
	@touch $@

lock:  ## write requirements.lock anew from pyproject.toml
	python -m pip install --quiet pip-tools
	pip-compile --quiet --strip-extras --extra dev --no-header --no-annotate --no-emit-index-url \
	  --no-emit-trusted-host --no-emit-find-links --output-file requirements.lock pyproject.toml
	sed -i.bak -E '/^(nvidia-|cuda-|triton|--)/d; s/^(torch==[0-9.]+)\+.*/\1/' requirements.lock
	rm requirements.lock.bak

clean:  ## logs and scratch; keeps results and caches
	rm -rf logs .scratch
