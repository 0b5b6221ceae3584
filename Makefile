# `make demo` and `make test` are all a newcomer needs; Python 3.11+, its venv module and make suffice.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test soak lint compiled-tests bench bench-peers wheel lock clean

$(STAMP): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP)
	@$(BIN)/shopsync demo

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Compiled while the linters run, on the core that they leave, and not by each of the workers; written down
# even where Python is told not to. What is wrong with the tests is for the run itself to say.
compiled-tests: $(STAMP)
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --collect-only -q >/dev/null 2>&1 || true

test: $(STAMP)
	@$(MAKE) --no-print-directory -j2 lint compiled-tests
	$(BIN)/python -m pytest -n 4 --dist loadgroup

# Within an hour on two cores.
soak: $(STAMP)
	$(BIN)/python -m tests.soak.chaos --kills 2000
	$(BIN)/python -m tests.soak.ends
	$(BIN)/python -m tests.soak.leaks
	$(BIN)/python -m tests.soak.kills --kills 60
	$(BIN)/python -m tests.soak.tokens --minutes 5
	$(BIN)/python -m tests.soak.shapes --examples 100
	$(BIN)/python -m tests.soak.proof

bench: $(STAMP)
	$(BIN)/python -m tests.benchmarks --write
	$(BIN)/python -m tests.benchmarks.webhooks --write
	$(BIN)/python -m tests.benchmarks.isolation --write

bench-peers: $(STAMP)
	$(BIN)/python -m tests.benchmarks.peers --write

wheel: $(STAMP)
	$(BIN)/python -m hatchling build -t wheel

lock:
	uv pip compile --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
	  pyproject.toml -o requirements.lock
	uv pip compile --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
	  pyproject.toml --group dev -o requirements-dev.lock

clean:
	rm -rf $(VENV) .bench dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
