# Every target does its own set-up: it needs Python >= 3.11, make and git, nothing else.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
DEMO := sc asc esc parallel_probe cmc

.PHONY: demo test lint format types check bench wheel clean help

help:  ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/core  ## published controllers on the shipped pool: the frontier as a table and as demo.json
	$(BIN)/tts-gym evaluate --controller $(DEMO) --beta 0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1 --json demo.json

test: $(VENV)/dev  ## the whole test suite
	$(BIN)/python -m pytest

lint: $(VENV)/dev  ## ruff
	$(BIN)/ruff check .

format: $(VENV)/dev  ## is the code formatted?
	$(BIN)/ruff format --check .

types: $(VENV)/dev  ## mypy
	$(BIN)/mypy

check: lint format types  ## lint, format and types

bench: $(VENV)/core  ## speed and memory on this machine
	$(BIN)/tts-gym bench

wheel: $(VENV)/core  ## build the wheel into dist/
	$(PIP) wheel --no-deps --wheel-dir dist .

clean:  ## remove what make made
	rm -rf $(VENV) .cache build dist *.egg-info demo.json

$(VENV)/core: pyproject.toml setup.cfg constraints.txt
	@test -n "$(PYTHON)" || { echo "tts-gym needs Python 3.11 or newer; none was found"; exit 1; }
	@echo "setting up $(VENV) (once)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/dev: $(VENV)/core
	@echo "adding what the tests need to $(VENV) (once)"
	@$(PIP) install --constraint constraints.txt --editable ".[dev]"
	@touch $@
