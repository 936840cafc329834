# streamd: everything runs in .venv, which is made where it is missing.
#
#   make demo        a broker, the daemon and real data, in this terminal   (ARGS="--duration 60")
#   make test        every test
#   make test-fast   the tests that need no broker
#   make check       formatting, lint, types, import rules
#   make bench       speed, side by side with its peers
#   make quality     what the detectors find and do not find on real data
#   make chaos       kill, cut and pause until something gives   (HOURS=0.5: the long version; ARGS="--only kills")
#   make kafka       Apache Kafka's jars by Maven, for tests outside of CI
#   make clean       remove what was made
#
# TORCH_INDEX_URL=… takes torch from another index, for instance a CPU-only one.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
ARGS ?=
HOURS ?=

.PHONY: demo test test-fast check bench quality chaos kafka clean

# One stamp per set of extras: a second `make demo` installs nothing.
$(VENV)/.demo: pyproject.toml requirements.lock | $(BIN)/python
	@echo "Installing streamd and the demo's broker into $(VENV) (once, some minutes) …"
	@$(if $(TORCH_INDEX_URL),$(PIP) install -c requirements.lock torch --index-url $(TORCH_INDEX_URL))
	@$(PIP) install -c requirements.lock -e '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml requirements.lock | $(BIN)/python
	@echo "Installing streamd and what its tests need into $(VENV) (once, some minutes) …"
	@$(if $(TORCH_INDEX_URL),$(PIP) install -c requirements.lock torch --index-url $(TORCH_INDEX_URL))
	@$(PIP) install -c requirements.lock -e '.[dev]'
	@touch $@ $(VENV)/.demo

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "streamd needs Python 3.11 or newer; $$($(PYTHON) --version) is here. Say which: make PYTHON=python3.12 …"; exit 69; }
	@$(PYTHON) -m venv $(VENV)

demo: $(VENV)/.demo
	@$(BIN)/streamd demo $(ARGS)

test: $(VENV)/.dev
	$(BIN)/pytest $(ARGS)

test-fast: $(VENV)/.dev
	$(BIN)/pytest -m "not broker and not kafka and not slow" $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/python tests/bench/bench.py $(ARGS)

quality: $(VENV)/.dev
	$(BIN)/python tests/bench/quality.py $(ARGS)

chaos: $(VENV)/.dev
	$(BIN)/python tests/chaos/run.py $(if $(HOURS),--hours $(HOURS)) $(ARGS)

kafka:
	mvn -q -f tests/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory=libs -DincludeScope=runtime

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find streamd tests -name __pycache__ -type d -prune -exec rm -rf {} +
