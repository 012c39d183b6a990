PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: venv demo test test-matrix lint up soak clean

venv: $(STAMP)

# A Python without ensurepip (Debian's, without python3-venv) makes a bare environment, which its own pip then fills.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || $(PYTHON) -m venv --clear --without-pip $(VENV)
	if $(BIN)/python -m pip --version >/dev/null 2>&1; \
	then PIP="$(BIN)/python -m pip"; else PIP="$(PYTHON) -m pip --python $(BIN)/python"; fi; \
	$$PIP install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: venv
	$(BIN)/genqueue demo

up: venv
	$(BIN)/genqueue up

test: venv
	$(BIN)/python -m pytest

# The integration and acceptance tests again, on Debian's redis-server (apt-get install redis-server).
test-matrix: venv
	GENQUEUE_TEST_SERVER=redis-server $(BIN)/python -m pytest tests/integration tests/acceptance

# 10,000 random rounds of the ledger instead of 500, and a backlog of 10,000 jobs on one slow worker.
soak: venv
	GENQUEUE_TEST_ROUNDS=10000 $(BIN)/python -m pytest --timeout=3600 tests/integration/test_ledger_rounds.py
	GENQUEUE_TEST_BACKLOG=10000 $(BIN)/python -m pytest --timeout=3600 tests/acceptance/test_backlog.py

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy producers workers ops
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) .genqueue .pytest_cache .mypy_cache .ruff_cache
