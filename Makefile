# Two commands: `make up` runs the line on this machine, `make test` tests it.
PYTHON ?= $(shell command -v python3 || command -v python3.13 || command -v python3.12 || command -v python3.11)
DATA ?= ./data
PORT ?= 8080
WORKERS ?= 1
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
HELIOGRAPH := $(BIN)/heliograph

.PHONY: up test lint install install-dev lock clean

up: $(VENV)/.installed
	@exec $(HELIOGRAPH) up --data "$(DATA)" --port "$(PORT)" --workers "$(WORKERS)"

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(VENV)/.venv:
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh .ci/venv

$(VENV)/.installed: requirements.lock pyproject.toml | $(VENV)/.venv
	@echo "heliograph: installing the packages of requirements.lock into $(VENV) (about 350 MB, once) ..."
	@$(PIP) install --quiet --require-hashes -r requirements.lock
	@$(PIP) install --quiet --no-build-isolation --no-deps --editable .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	@echo "heliograph: installing the packages of requirements-dev.lock for the tests ..."
	@$(PIP) install --quiet --require-hashes -r requirements-dev.lock
	@touch $@

# Hashed requirements instead of uv.lock, which would name registry hosts.
lock: $(VENV)/.installed-dev

	$(BIN)/uv lock
	$(BIN)/uv export --frozen --no-emit-project --no-header --all-extras --group build -o requirements.lock >/dev/null
	$(BIN)/uv export --frozen --no-emit-project --no-header --all-extras --group dev -o requirements-dev.lock >/dev/null

clean:
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache
