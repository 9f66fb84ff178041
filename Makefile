# Two commands: `make demo` and `make test`. Both set up what they need, once.
# `make test-nightly` tries 500 odd data sets, drawn anew each time, where `make test` tries 40.
# `make test-slurm` is the whole matrix of failures on a small real Slurm, which it installs (root).
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-nightly test-slurm setup check

demo: setup
	$(BIN)/snakemake

test: setup check
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "not slurm_full"

test-nightly: setup
	$(BIN)/python -m pytest --hypothesis-profile nightly tests/data/odd/test_odd_data_sets.py

test-slurm: setup
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile tests/slurm

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --no-deps --requirement requirements.lock
	$(BIN)/python -m pip install --no-deps --editable .
	touch $@
