# Every target makes .venv from the committed lock first; `make help` lists them.
# `make check test` runs no test twice. `make UV= …` uses plain pip also where uv is installed; PYTHON picks the interpreter.

PYTHON ?= python3
UV ?= $(shell command -v uv 2>/dev/null)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
OLDEST := $(VENV)-oldest

.DEFAULT_GOAL := help
.PHONY: help demo up test oldest faults chaos figures bench check lock audit sbom clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## Show real agents at work; needs no Redis, Docker or LLM
	@$(BIN)/celeriac demo

up: $(INSTALLED) ## Keep Redis, workers and Flower running on this machine
	@$(BIN)/celeriac up

# Much of a test is waiting: three processes keep two cores at work. A file's tests stay together.
PARALLEL = -n 3 --dist loadfile --no-loadscope-reorder

test: $(INSTALLED) ## Run all tests with branch coverage
	$(BIN)/pytest $(PARALLEL) --cov --cov-report=term:skip-covered --cov-fail-under=90

# Tools that these lack are not what is tested: the compose schema's checker, the locks' own tests.
oldest: $(OLDEST)/.installed ## Run the tests that a library's age may break with the oldest allowed
	$(OLDEST)/bin/pytest $(PARALLEL) --quiet --ignore tests/unit/test_packaging.py \
		--deselect tests/unit/test_compose.py::test_the_file_fits_the_compose_schema tests/unit \
		$(addprefix tests/integration/test_,cli.py endpoint_bodies.py llm_endpoint.py main_job.py odd_servers.py)

faults: $(INSTALLED) ## Kill, freeze, fill and cut everything once (some minutes)
	CELERIAC_FAULTS=all $(BIN)/pytest tests/faults

SEED ?= 1
SECONDS ?= 60
chaos: $(INSTALLED) ## Random faults, and the same over stock Celery: SEED=… SECONDS=…
	CELERIAC_FAULTS=all SEED=$(SEED) SECONDS=$(SECONDS) $(BIN)/pytest -s tests/faults/test_chaos.py

figures: $(INSTALLED) ## Measure recovery, kills, cancels, a flush, cost (20 minutes)
	$(BIN)/python -m tests.faults.figures

bench: $(INSTALLED) ## Measure beside hand-written Celery and a bare loop (under 10 minutes)
	$(BIN)/python -m benchmarks --plot bench.png

check: $(INSTALLED) ## Lint, types, architecture, and the tests without processes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(if $(filter test,$(MAKECMDGOALS)),,$(BIN)/pytest $(PARALLEL) --quiet tests/unit tests/conformance)

# Keeps the pins that still fit; `make lock UPGRADE=--upgrade` takes the newest.
LOCK = $(UV) pip compile --quiet --no-config --universal --python-version 3.11 \
	--generate-hashes --no-header --no-annotate --no-emit-index-url $(UPGRADE)
BUILD = $(PYTHON) -c 'import tomllib; \
	print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")'
TESTERS = grep -oE '^(pytest[a-z-]*|hypothesis)==[^ ]+' requirements-dev.lock

lock: ## Pin all dependencies with hashes again (needs uv)
	@test -n "$(UV)" || { echo "make lock needs uv; run: pip install uv"; exit 1; }
	$(BUILD) | $(LOCK) pyproject.toml - --output-file requirements.lock \
		--extra http --extra uvloop >/dev/null
	$(BUILD) | $(LOCK) pyproject.toml - --output-file requirements-dev.lock \
		--extra dev --constraints requirements.lock >/dev/null
	{ $(BUILD); $(TESTERS); } | $(LOCK) pyproject.toml - --output-file requirements-oldest.lock \
		--resolution lowest-direct --extra http --extra embedded >/dev/null

$(OLDEST)/.installed: requirements-oldest.lock pyproject.toml
	@$(PYTHON) -m venv $(OLDEST)
	@$(OLDEST)/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-oldest.lock
	@$(OLDEST)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Tools of their own, beside the lock: what they bring is nothing that is run or shipped here.
AUDIT := $(VENV)-audit
$(AUDIT)/.installed: Makefile
	@$(PYTHON) -m venv $(AUDIT)
	@$(AUDIT)/bin/pip install --quiet --disable-pip-version-check pip-audit==2.10.1 cyclonedx-bom==7.5.0
	@touch $@

audit: $(AUDIT)/.installed ## Look the locks up in the index's advisories (needs the network)
	$(AUDIT)/bin/pip-audit --require-hashes --disable-pip --strict -r requirements.lock
	$(AUDIT)/bin/pip-audit --require-hashes --disable-pip --strict -r requirements-dev.lock

sbom: $(AUDIT)/.installed ## Write the bill of materials of what is installed: sbom.json
	$(AUDIT)/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml \
		--output-reproducible --output-file sbom.json

clean: ## Remove everything that was made here
	rm -rf $(VENV) $(OLDEST) $(AUDIT) sbom.json bench.png build dist *.egg-info .coverage .coverage.* .mypy_cache .ruff_cache \
		.pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The lock is whole (a test says so) and holds the build tools too, so that nothing is resolved and
# nothing is installed that is not pinned. All is compiled at once: a worker that compiles its modules
# itself, since it may not write them (PYTHONDONTWRITEBYTECODE), keeps ten MiB for it.
$(INSTALLED): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) must be Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 1; }
ifeq ($(strip $(UV)),)
	@$(PYTHON) -m venv $(VENV) || { \
		echo "$(PYTHON) cannot make a virtualenv; on Debian: apt install python3-venv"; exit 1; }
	@echo "Installing into $(VENV) with pip (about a minute, once)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
else
	@echo "Installing into $(VENV) with uv"
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	@$(UV) pip install --quiet --python $(BIN)/python --compile-bytecode --no-deps --require-hashes -r requirements-dev.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
endif
	@$(BIN)/python -m compileall -q conversations orchestrator workers
	@touch $@
