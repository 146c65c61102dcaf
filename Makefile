# Two commands: `make up` runs the line on this machine, `make test` tests it.
ARGS ?=
# What is not given is left to the HELIOGRAPH_* variables and the defaults.
UP := $(if $(DATA),--data "$(DATA)") $(if $(PORT),--port "$(PORT)") $(if $(WORKERS),--workers "$(WORKERS)")

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Made anew when what is compiled into the edge has changed; without a compiler, or with
# HELIOGRAPH_COMPILE=0, the edge runs as it is.
BUILT := $(VENV)/.built$(HELIOGRAPH_COMPILE)
HOT := $(wildcard collector/*.py schemas/*.py schemas/journal/*.py)
EXPORT := $(BIN)/uv export --frozen --no-emit-project --no-header --no-annotate --all-extras

.PHONY: up test lint bench load faults install install-dev lock clean

up: install
	@exec $(BIN)/heliograph up $(UP)

# Three processes share the tests; the fault experiments, which hold a load, have the machine alone.
EXPERIMENTS := tests/faults/test_experiments.py
test: install-dev
	$(BIN)/python $(if $(ARGS),-m pytest $(ARGS),tests/alone.py -n 3 --ignore=$(EXPERIMENTS))
	$(if $(ARGS),,$(BIN)/python tests/alone.py $(EXPERIMENTS))

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The figures of the README, measured on this machine; what can't be compared is left out.
bench: install-dev
	@sh .ci/need nginx nginx-light wrk wrk || true
	$(BIN)/python -m loadtest.bench $(ARGS)

# Two minutes of a newsletter just sent, against the `make up` that runs, and a verdict.
load: install-dev
	@exec $(BIN)/python -m loadtest $(if $(DATA),--data "$(DATA)") $(ARGS)

# Every fault that is promised to do no harm, done to real processes; hours, or SHORT=1 for minutes.
# ONLY=3,9 runs some; a run that was broken off goes on.
faults: install-dev
	@sh .ci/need java default-jre-headless mvn maven faketime faketime slowhttptest slowhttptest
	@exec setpriv --pdeathsig TERM $(BIN)/python -m loadtest.faults $(if $(ONLY),--only "$(ONLY)") $(if $(SHORT),--short)

install: $(BUILT)
install-dev: $(VENV)/.installed-dev $(BUILT)

$(VENV)/.made:
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh .ci/venv
	@touch $@

$(VENV)/.installed: requirements.lock | $(VENV)/.made
	@echo "heliograph: installing requirements.lock into $(VENV): 350 MB to fetch, about a minute, once ..."
	@$(PIP) install --require-hashes -r requirements.lock
	@touch $@

$(BUILT): $(VENV)/.installed pyproject.toml hatch_build.py $(HOT)
	@rm -f $(VENV)/.built*
	@touch $(VENV)/.building
	@echo "heliograph: compiling the edge, 20 seconds ..."
	@$(PIP) install --no-build-isolation --no-deps --editable .
	@cat .mypyc/outcome
	@mv $(VENV)/.building $@

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
	rm -rf $(VENV) dist .mypyc .pytest_cache .mypy_cache .ruff_cache
	find collector schemas -name "*.so" -delete
