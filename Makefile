# Two commands: `make up` runs the line on this machine, `make test` tests it.
DATA ?= ./data
PORT ?= 8080
WORKERS ?= 1
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
EXPORT := $(BIN)/uv export --frozen --no-emit-project --no-header --no-annotate --all-extras

.PHONY: up test lint measure install install-dev lock clean

up: install
	@exec $(BIN)/heliograph up --data "$(DATA)" --port "$(PORT)" --workers "$(WORKERS)"

test: install-dev
	$(BIN)/python -m pytest $(ARGS)

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The figures of the README, measured on this machine.
measure: install-dev
	$(BIN)/python -m loadtest.measure $(ARGS)

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(VENV)/bin/python:
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh .ci/venv

$(VENV)/.installed: requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "heliograph: installing requirements.lock into $(VENV): 350 MB to fetch, about a minute, once ..."
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	@echo "heliograph: installing requirements-dev.lock for the tests ..."
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@

# Hashed requirements instead of uv.lock, which names the hosts it was made with.
lock: install-dev
	@$(PIP) install uv
	$(BIN)/uv lock --upgrade
	$(EXPORT) --group build -o requirements.lock >/dev/null
	$(EXPORT) --group dev -o requirements-dev.lock >/dev/null

clean:
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache
