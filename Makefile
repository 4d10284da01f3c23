# `make repro` runs the chain, `make test` the tests, `make check` what a reviewer would look at first.
# Needs Python 3.11 or newer and make; everything else goes into .venv.
PYTHON ?= python3
VENV ?= .venv
CORES ?= 2
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PATH := $(abspath $(BIN)):$(PATH)
# Two OpenMP threads on busy cores wait for each other, and tests run in parallel. Stages obey their scale's threads.
export OMP_NUM_THREADS ?= 1

.PHONY: help repro study test soak check docs results lock clean in-git teacher

help:  ## this list
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/make \1: \2/p' $(MAKEFILE_LIST)

repro: in-git teacher $(READY)  ## the whole chain at the scale of params.yaml
	dvc repro
	@echo "report: $(abspath reports/index.html)"

study: in-git teacher $(READY)  ## every claim of the paper by the grids of workflow/study.yaml, hours on two cores
	snakemake --snakefile workflow/study.smk --cores $(CORES)
	@echo "page: $(abspath reports/study/index.html)"

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
	snakemake --lint --snakefile workflow/study.smk

docs: $(READY)  ## the pages of docs/ and of every package as a site: site/index.html
	NO_MKDOCS_2_WARNING=1 mkdocs build --quiet
	@echo "site: $(abspath site/index.html)"

results:  ## the pages of the last run as the committed ones: docs/results, with grid and study if they were run
	@test -f reports/index.html || { echo "reports/index.html is missing: run make repro first" >&2; exit 1; }
	@mkdir -p docs/results
	@find docs/results -mindepth 1 -maxdepth 1 ! -name ablation ! -name study -exec rm -rf {} +
	@for page in ablation study; do test ! -f reports/$$page/index.html || rm -rf docs/results/$$page; done
	@cp -RL reports/. docs/results
	@chmod -R u+w docs/results
	@find docs/results -name .snakemake_timestamp -delete

in-git:
	@git rev-parse --is-inside-work-tree > /dev/null 2>&1 || \
	  { echo "not a Git repository, which DVC needs: clone the project, or type git init and commit it" >&2; exit 1; }

teacher:
	@test -f teachers/tiny/model.safetensors || \
	  { echo "teachers/tiny is missing or incomplete: restore it with git checkout HEAD -- teachers/tiny" >&2; exit 1; }

# One small package is fetched first: without an index, pip would try for minutes and fill the screen.
$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || \
	  { echo "$(PYTHON) is not Python 3.11 or newer: name one, as in make repro PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@python -m pip download --quiet --no-deps --retries 0 --timeout 15 --dest $(VENV)/probe "$$(head -n 1 $(word 2,$^))" \
	  > /dev/null 2>&1 && rm -r $(VENV)/probe || \
	  { echo "no package index answers: check the network, or set PIP_INDEX_URL to a mirror" >&2; exit 1; }
	python -m pip install --quiet --upgrade pip
	python -m pip install --quiet -r requirements.lock
	python -m pip install --quiet --no-deps -e .
	@touch $@

lock:  ## write requirements.lock anew from pyproject.toml
	python -m pip install --quiet pip-tools
	pip-compile --quiet --strip-extras --extra dev --extra docs --no-header --no-annotate --no-emit-index-url \
	  --no-emit-trusted-host --no-emit-find-links --output-file requirements.lock pyproject.toml
	sed -i.bak -E '/^(nvidia-[^m]|cuda-|triton|--)/d; s/^(torch==[0-9.]+)\+.*/\1/' requirements.lock
	rm requirements.lock.bak

clean:  ## logs, live curves and scratch; keeps results and caches
	rm -rf logs dvclive/*/ .scratch
