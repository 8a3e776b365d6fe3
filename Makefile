# `make study` and `make test` are all that a fresh machine needs: Python 3.11 to 3.13 and make.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help study test test-all extras lint format clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 12

.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "make: $(PYTHON) is $$($(PYTHON) --version 2>&1); expected Python 3.11 to 3.13. Choose one: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/installed: .venv/python pyproject.toml constraints.txt
	$(PIP) --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	$(PIP) --editable '.[dev]'
	@touch $@

.venv/installed-extras: .venv/installed-dev
	$(PIP) --editable '.[torch,sweep,bench,export]'
	@touch $@

study: .venv/installed ## install, run ReLU against tanh on handwritten digits, print the table and the report's path
	$(BIN)/alexnet train experiment=relu_vs_tanh scale=smoke

test: .venv/installed-dev ## run the tests (at most 8 minutes on 2 cores)
	$(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist loadfile

test-all: test ## run the tests and then the long campaigns (about six times as long)
	$(BIN)/python -m pytest -m slow --numprocesses 2 --dist loadfile

extras: .venv/installed-extras ## install the extras torch, sweep, bench and export; the tests of PyTorch's nets, launchers and formats then run too

lint: .venv/installed-dev ## check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/installed-dev ## format the code and mend what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment, caches and build products; runs and sweeps stay
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
