# Needs python3 (3.11 or later) and nothing else; everything is installed into .venv.
# A stamp file per set of extras: nothing is installed twice until the requirements change.

PYTHON ?= python3
BIN := .venv/bin
REQUIREMENTS := pyproject.toml constraints.txt
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: reproduce test lint bench clean

reproduce: .venv/installed-data
	$(BIN)/python -m experiments reproduce --preset quick

test: .venv/installed-test
	$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist worksteal

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: .venv/installed-data
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than 3.11; try make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv .venv

.venv/installed-data: $(REQUIREMENTS) | $(BIN)/python
	$(INSTALL) -e '.[data]'
	@touch $@

.venv/installed-test: $(REQUIREMENTS) | $(BIN)/python
	$(INSTALL) -e '.[data,test,dev]'
	@touch $@ .venv/installed-data
