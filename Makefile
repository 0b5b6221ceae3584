# `make demo` and `make test` are all a newcomer needs; Python 3.11+, its venv module and make suffice.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test soak lint bench bench-peers wheel lock clean

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

test: lint
	$(BIN)/python -m pytest -n 4 --dist loadgroup

soak: $(STAMP)
	$(BIN)/python -m tests.soak.kills
	$(BIN)/python -m tests.soak.tokens

bench: $(STAMP)
	$(BIN)/python -m tests.benchmarks --write
	$(BIN)/python -m tests.benchmarks.webhooks --write

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
