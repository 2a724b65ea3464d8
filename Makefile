# Needs Python 3.11 or newer and make, nothing else. `make up`, then open http://127.0.0.1:8000
PYTHON ?= python3
PORT ?= 8000
WORKERS ?= 2
DATA ?= var/mnist
BIN := .venv/bin
INSTALLED := .venv/.installed
REQUIREMENTS := requirements.txt $(wildcard */requirements.txt */*/requirements.txt) pyproject.toml

.PHONY: up test lint train bench compose-test clean

up: $(INSTALLED)
	@exec $(BIN)/digitq up --port $(PORT) --workers $(WORKERS)

test: $(INSTALLED)
	$(BIN)/python -m pytest $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

train: $(INSTALLED)
	$(BIN)/digitq train --recipe seed --data $(DATA) --download

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks.worker_throughput
	$(BIN)/python -m benchmarks.pipeline

compose-test: $(INSTALLED)
	COMPOSE_TEST=1 $(BIN)/python -m pytest tests/compose $(ARGS)

$(INSTALLED): $(REQUIREMENTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "digitq needs Python 3.11 or newer")'
	@test -x $(BIN)/python || { echo "making .venv"; $(PYTHON) -m venv .venv; }
	@echo "installing (once, a few minutes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -e .
	@touch $@

clean:
	rm -rf .venv var build *.egg-info
