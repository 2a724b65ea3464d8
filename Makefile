# Needs Python 3.11 or newer and make, nothing else. `make up`, then open http://127.0.0.1:8000
PYTHON ?= python3
PORT ?= 8000
WORKERS ?= 2
DATA ?= var/mnist
# Test processes: they wait more than they compute. One that dies ends the run: xdist, starting another, may wait for ever.
JOBS ?= 6
BIN := .venv/bin
# Stamps: what running needs is installed; what training needs too; what tests, lint and types need too.
INSTALLED := .venv/.installed
TRAINING := .venv/.training
TOOLS := .venv/.tools
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: up test test-unit test-rq mutants lint train bench compose-test hostile hostile-clients clean

up: $(INSTALLED)
	@exec $(BIN)/digitq up --port $(PORT) --workers $(WORKERS) --parent $$PPID

# Each of its processes would compile digitq and the tests again without bytecode.
test test-unit: export PYTHONDONTWRITEBYTECODE =
test: $(TOOLS)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0 $(ARGS)

# Without a server: store, API and worker on a Redis inside the test process. `make test` runs the same tests on a real one.
test-unit: $(TOOLS)
	FAKE_REDIS=1 $(BIN)/python -m pytest -n 4 --dist loadfile --max-worker-restart 0 tests/unit $(ARGS)

# Our worker against RQ's own, with another version of RQ: make test-rq RQ=3.0.1
RQ ?= 3.0.0
test-rq: $(TOOLS)
	@$(INSTALL) --no-deps --upgrade --target var/rq/$(RQ) rq==$(RQ)
	PYTHONPATH=var/rq/$(RQ) $(BIN)/python -m pytest \
		tests/unit/test_rq_equivalence.py tests/integration/test_rq_tools.py tests/unit/test_batch_worker.py $(ARGS)

# Mistakes made on purpose, which the tests have to find; ARGS="--sample 8" are some of them, ARGS="--only finish" those of a file.
mutants: $(TOOLS)
	$(BIN)/python -m tests.mutants $(ARGS)

lint: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

train: $(TRAINING)
	$(BIN)/digitq train --recipe seed --data $(DATA) --download

bench: $(INSTALLED) var/bench/packages/.installed var/bench/packages/.installed-mosec
	$(BIN)/digitq bench --out var/bench/report $(ARGS)

# In a folder of their own: what the others need must not change what we pin.
var/bench/packages/.installed: benchmarks/requirements.txt
	@$(INSTALL) --upgrade --target $(@D) -r $<
	@touch $@

# There is no mosec for every platform; without it the comparison goes on.
var/bench/packages/.installed-mosec: benchmarks/requirements-mosec.txt
	@$(INSTALL) --upgrade --target $(@D) -r $< || true
	@touch $@

compose-test: $(TOOLS)
	COMPOSE_TEST=1 $(BIN)/python -m pytest tests/compose $(ARGS)

# 20,000 damaged uploads through a live stack; ARGS="100000 7" are more of them, and other dice.
hostile: $(TOOLS)
	$(BIN)/python -m tests.hostile.run $(ARGS)

# Thousands of silent, slow and vanished clients; ARGS="0.1 silent" is a tenth of one kind.
hostile-clients: $(TOOLS)
	$(BIN)/python -m tests.hostile.clients $(ARGS)

$(INSTALLED): shared/standalone/requirements.txt producer/requirements.txt worker/requirements.txt pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "digitq needs Python 3.11 or newer")'
	@test -x $(BIN)/python || { echo "making .venv"; $(PYTHON) -m venv .venv; }
	@echo "installing (once, a few minutes)"
	@$(INSTALL) -r $< -e .
	@touch $@

$(TRAINING): worker/training/requirements.txt $(INSTALLED)
	@$(INSTALL) -r $<
	@touch $@

$(TOOLS): tests/requirements.txt shared/requirements.txt deploy/dashboard/requirements.txt $(TRAINING)
	@echo "installing what the tests need (once, a minute)"
	@$(INSTALL) -r $<
	@touch $@

clean:
	rm -rf .venv var build *.egg-info
